"""Rules of Apple's bundle reader and of its search for stop tokens: metadata and tokenizer files."""

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from gemma4_mm.coreai.bundle.bundle import METADATA_VERSION, Bundle
from gemma4_mm.coreai.bundle.contract_rule import FileRule, Finding, is_count, section


def _value(*path: str, fits: Callable[[Any], bool]) -> Callable[[Bundle], Finding]:
    def look(bundle: Bundle) -> Finding:
        value = section(bundle, *path)
        return Finding(found=repr(value), holds=fits(value))

    return look


def _asset(bundle: Bundle) -> Finding:
    entry = section(bundle, "assets", "main")
    inside = isinstance(entry, str) and bool(entry) and ".." not in PurePosixPath(entry).parts
    there = inside and (bundle.path / str(entry)).exists()
    return Finding(found=f"{entry!r}{'' if there else ', which is not there'}", holds=there)


def _vision(bundle: Bundle) -> Finding:
    """Only kind `vlm` asks for it. Its images are square: one number, or two that are equal."""
    if section(bundle, "kind") != "vlm":
        return Finding(found="not asked for", holds=True)
    blocks = (section(bundle, "vision"), section(bundle, "language", "vision"))
    vision = next((block for block in blocks if isinstance(block, Mapping)), None)
    if vision is None:
        return Finding(found="missing", holds=False)
    size = vision.get("image_size")
    square = is_count(size) or (isinstance(size, list) and len(size) == 2 and is_count(size[0]) and size[0] == size[1])
    counts = all(is_count(vision.get(key)) for key in ("patch_size", "image_token_count", "image_token_id"))
    return Finding(found=repr(dict(vision)), holds=square and counts)


def _function_map(value: Any) -> bool:
    """Role to list of function names; it may be left out, and `main` is then meant."""
    return value is None or (
        isinstance(value, Mapping)
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in value.values())
    )


def _eos_ids(bundle: Bundle) -> Finding:
    ids = section(bundle, "language", "eos_token_ids")
    stated = isinstance(ids, list) and bool(ids) and all(isinstance(item, int) and item >= 0 for item in ids)
    return Finding(found=repr(ids), holds=stated)


def _eos_agree(bundle: Bundle) -> Finding:
    """Apple's engines must stop where this package does, or a reply runs on past the end of the turn."""
    ids = section(bundle, "language", "eos_token_ids")
    stop_ids = bundle.constants.stop_ids
    if not isinstance(ids, list):
        return Finding(found="not stated", holds=True)  # the rule before this one says so
    missing = [stop for stop in stop_ids if stop not in ids]
    found = f"without {', '.join(map(str, missing))}" if missing else "all of them"
    return Finding(found=found, holds=not missing)


def _file(name: str) -> Callable[[Bundle], Finding]:
    def look(bundle: Bundle) -> Finding:
        there = (bundle.tokenizer_path / name).is_file()
        return Finding(found="there" if there else "missing", holds=there)

    return look


FILE_RULES: Final = (
    FileRule(
        name="metadata-version",
        what="metadata_version",
        wanted=repr(METADATA_VERSION),
        engine="bundle reader",
        look=_value("metadata_version", fits=lambda value: value == METADATA_VERSION),
    ),
    FileRule(
        name="kind",
        what="kind",
        wanted="'llm' or 'vlm'",
        engine="bundle reader",
        look=_value("kind", fits=lambda value: value in ("llm", "vlm")),
    ),
    FileRule(
        name="vision-block",
        what="vision",
        wanted="for kind 'vlm': image_size of square images, patch_size, image_token_count, image_token_id",
        engine="bundle reader",
        look=_vision,
    ),
    FileRule(
        name="assets-main",
        what="assets.main",
        wanted="the path of a model inside the bundle",
        engine="bundle reader",
        look=_asset,
    ),
    FileRule(
        name="language-tokenizer",
        what="language.tokenizer",
        wanted="the id of the tokenizer, a string",
        engine="bundle reader",
        look=_value("language", "tokenizer", fits=lambda value: isinstance(value, str) and bool(value)),
    ),
    FileRule(
        name="language-vocab-size",
        what="language.vocab_size",
        wanted="a whole number above 0",
        engine="bundle reader",
        look=_value("language", "vocab_size", fits=is_count),
    ),
    FileRule(
        name="language-max-context-length",
        what="language.max_context_length",
        wanted="a whole number above 0",
        engine="bundle reader",
        look=_value("language", "max_context_length", fits=is_count),
    ),
    FileRule(
        name="language-embedded-tokenizer",
        what="language.embedded_tokenizer",
        wanted="true: the tokenizer is in the bundle",
        engine="bundle reader",
        look=_value("language", "embedded_tokenizer", fits=lambda value: value is True),
    ),
    FileRule(
        name="function-map",
        what="language.function_map",
        wanted="an object of lists, role to function names",
        engine="bundle reader",
        look=_value("language", "function_map", fits=_function_map),
    ),
    FileRule(
        name="eos-token-ids",
        what="language.eos_token_ids",
        wanted="the list of ids that end a reply; without it they are guessed from the tokenizer's texts",
        engine="stop-token reader",
        look=_eos_ids,
        failure="advice",
    ),
    FileRule(
        name="eos-token-ids-complete",
        what="language.eos_token_ids",
        wanted="every stop id of the multimodal constants",
        engine="stop-token reader",
        look=_eos_agree,
        failure="advice",
    ),
    FileRule(
        name="tokenizer-json",
        what="tokenizer/tokenizer.json",
        wanted="the tokenizer",
        engine="bundle reader",
        look=_file("tokenizer.json"),
    ),
    FileRule(
        name="tokenizer-config",
        what="tokenizer/tokenizer_config.json",
        wanted="the tokenizer's configuration, from which end-of-turn tokens are read",
        engine="stop-token reader",
        look=_file("tokenizer_config.json"),
    ),
)
