"""Schema 0.2 of a bundle directory, and what is missing, malformed or unknown in one, in words."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gemma4_mm.coreai.bundle.bundle import METADATA_FILE, METADATA_VERSION, TOKENIZER_DIR, Bundle
from gemma4_mm.coreai.bundle.constants import BLOCK
from gemma4_mm.errors import AssetError

_KINDS: Final = ("llm", "vlm")
_LANGUAGE_KEYS: Final[Mapping[str, type]] = {"tokenizer": str, "vocab_size": int, "max_context_length": int}
_VISION_KEYS: Final = ("image_size", "patch_size", "image_token_count", "image_token_id")
_KNOWN_KEYS: Final = frozenset(
    {
        *("metadata_version", "kind", "name", "assets", "language", "source", "compression", "compilation"),
        *("vision", "user_data", BLOCK),
    }
)

Level = Literal["error", "note"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding about a bundle.

    Attributes:
        level: `error` if Apple's readers or this package cannot run the bundle, else `note`.
        message: what it is and what it must be.
    """

    level: Level
    message: str


def find_problems(bundle: Bundle) -> tuple[Problem, ...]:
    """Say what is missing, malformed or unknown; errors first, empty for a bundle that this package wrote."""
    found = [*_schema(bundle), *_files(bundle), *_constants(bundle)]
    return tuple(sorted(found, key=lambda problem: problem.level))


def check_bundle(bundle: Bundle) -> None:
    """Refuse a bundle that cannot be run.

    Raises:
        AssetError: all errors that `find_problems` names.
    """
    errors = [problem.message for problem in find_problems(bundle) if problem.level == "error"]
    if errors:
        raise AssetError(f"{bundle.path} is not a complete Core AI bundle: {'; '.join(errors)}")


def _schema(bundle: Bundle) -> Iterator[Problem]:
    version, kind, name = (bundle.metadata.get(key) for key in ("metadata_version", "kind", "name"))
    if version != METADATA_VERSION:
        yield _error(f"metadata_version is {version!r}; it must be {METADATA_VERSION!r}")
    if kind not in _KINDS:
        yield _error(f"kind is {kind!r}; it must be one of {', '.join(_KINDS)}")
    if not isinstance(name, str) or not name:
        yield _error(f"name is {name!r}; it must be a non-empty string")
    assets = bundle.metadata.get("assets")
    if assets is not None and not _is_string_map(assets):
        yield _error(f"assets is {assets!r}; it must map strings to strings, e.g. 'main' to a file name")
    yield from _language(bundle)
    if kind == "vlm":
        yield from _vision(bundle)
    for key in bundle.metadata.keys() - _KNOWN_KEYS:
        yield _note(f"{key} is not a key of schema {METADATA_VERSION}; it is ignored unless it holds constants")


def _language(bundle: Bundle) -> Iterator[Problem]:
    language = bundle.metadata.get("language")
    if not isinstance(language, Mapping):
        yield _error(f"language is {language!r}; it must be an object with {', '.join(_LANGUAGE_KEYS)}")
        return
    for key, kind in _LANGUAGE_KEYS.items():
        value = language.get(key)
        if not isinstance(value, kind) or isinstance(value, bool) or not value:
            yield _error(f"language.{key} is {value!r}; it must be a non-empty {kind.__name__}")
    functions = language.get("function_map")
    if isinstance(functions, Mapping) and functions.get("main", "main") not in ("main", ["main"]):
        yield _note(f"language.function_map maps main to {functions['main']!r}; this package calls it by its own name")


def _vision(bundle: Bundle) -> Iterator[Problem]:
    language = bundle.metadata.get("language")
    nested = language.get("vision") if isinstance(language, Mapping) else None  # where newer readers look
    vision = next((block for block in (bundle.metadata.get("vision"), nested) if isinstance(block, Mapping)), {})
    for key in _VISION_KEYS:
        if not isinstance(vision.get(key), int):
            yield _error(f"vision.{key} is {vision.get(key)!r}; kind 'vlm' needs it as a whole number")


def _files(bundle: Bundle) -> Iterator[Problem]:
    try:
        asset = bundle.asset_path
    except AssetError as error:
        yield _error(str(error))
    else:
        if not asset.is_dir():
            yield _error(f"{asset.name} is missing or not a directory; the metadata names it as the model")
    if not (bundle.tokenizer_path / "tokenizer.json").is_file():
        yield _error(f"{TOKENIZER_DIR}/tokenizer.json is missing; copy the model's own there")
    if not _has_template(bundle.tokenizer_path):
        yield _note(f"{TOKENIZER_DIR} has no chat_template.jinja; give a template to format messages")


def _constants(bundle: Bundle) -> Iterator[Problem]:
    found = bundle.found_constants
    yield from (_error(message) for message in found.malformed)
    if found.missing:
        yield _note(f"not in {METADATA_FILE}, so google/gemma-4-12B-it's are used: {', '.join(found.missing)}")
    if bundle.vocabulary is not None:
        ids = (*vars(found.constants.tokens).items(), *(("a stop id", stop) for stop in found.constants.stop_ids))
        for name, token in ids:
            if token >= bundle.vocabulary:
                yield _error(f"{name} is {token}; language.vocab_size is {bundle.vocabulary}")


def _has_template(tokenizer_path: Path) -> bool:
    """A chat template of its own, or inside `tokenizer_config.json` as older tokenizers have it."""
    if (tokenizer_path / "chat_template.jinja").is_file():
        return True
    try:
        config = json.loads((tokenizer_path / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))


def _error(message: str) -> Problem:
    return Problem(level="error", message=message)


def _note(message: str) -> Problem:
    return Problem(level="note", message=message)


def _is_string_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair)
