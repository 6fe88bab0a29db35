"""A bundle directory: `metadata.json` schema 0.2, the `.aimodel`, `tokenizer/`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self

from gemma4_mm.coreai.bundle.constants import BLOCK, FoundConstants, MultimodalConstants
from gemma4_mm.errors import AssetError

METADATA_FILE: Final = "metadata.json"
METADATA_VERSION: Final = "0.2"
TOKENIZER_DIR: Final = "tokenizer"
MAIN_ASSET: Final = "main"
_ASSET_SUFFIX: Final = ".aimodel"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle as it lies on disk. Reading is lenient: `schema.find_problems` names all that is wrong.

    Attributes:
        path: the directory.
        metadata: parsed `metadata.json`, unchanged.
    """

    path: Path
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a bundle directory.

        Raises:
            AssetError: not a directory with a `metadata.json` that holds a JSON object.
        """
        path = Path(path)
        file = path / METADATA_FILE
        if path.suffix == _ASSET_SUFFIX:
            raise AssetError(f"{path} is a model; give the bundle, the directory that holds it and {METADATA_FILE}")
        try:
            metadata = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise AssetError(f"cannot read {file}: {error}; give the directory of a Core AI bundle") from error
        if not isinstance(metadata, dict):
            raise AssetError(f"{file} holds a {type(metadata).__name__}; it must hold an object of schema 0.2")
        return cls(path=path, metadata=metadata)

    @property
    def name(self) -> str:
        """The bundle's own name, or its directory's."""
        name = self.metadata.get("name")
        return name if isinstance(name, str) and name else self.path.name

    @property
    def asset_path(self) -> Path:
        """The `.aimodel`: `assets.main`, or the only one in the directory.

        Raises:
            AssetError: there is none, or its path leaves the bundle.
        """
        assets = self.metadata.get("assets")
        entry = assets.get(MAIN_ASSET) if isinstance(assets, Mapping) else None
        if isinstance(entry, str) and entry:
            parts = PurePosixPath(entry)
            if parts.is_absolute() or ".." in parts.parts:
                raise AssetError(f"assets.{MAIN_ASSET} is {entry!r}, outside the bundle; it must be a path inside it")
            return self.path / parts
        found = sorted(self.path.glob(f"*{_ASSET_SUFFIX}"))
        if len(found) != 1:
            raise AssetError(
                f"{METADATA_FILE} names no assets.{MAIN_ASSET}, and {self.path} holds {len(found)} {_ASSET_SUFFIX}; "
                "name one"
            )
        return found[0]

    @property
    def tokenizer_path(self) -> Path:
        """Directory of `tokenizer.json` and what belongs to it."""
        return self.path / TOKENIZER_DIR

    @property
    def vocabulary(self) -> int | None:
        """`language.vocab_size`, None if it is missing."""
        return self._language_int("vocab_size")

    @property
    def max_context(self) -> int | None:
        """`language.max_context_length` in tokens, None if it is missing."""
        return self._language_int("max_context_length")

    @property
    def constants(self) -> MultimodalConstants:
        """The multimodal constants, google/gemma-4-12B-it's where the bundle does not say."""
        return self.found_constants.constants

    @cached_property
    def found_constants(self) -> FoundConstants:
        """The constants and where each was found."""
        return MultimodalConstants.from_json(self.metadata)

    def _language_int(self, key: str) -> int | None:
        language = self.metadata.get("language")
        value = language.get(key) if isinstance(language, Mapping) else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def build_metadata(
    *,
    name: str,
    asset_name: str,
    vocabulary: int,
    max_context: int,
    constants: MultimodalConstants,
    hf_model_id: str,
    compression: str | None,
    date: str,
) -> dict[str, Any]:
    """The `metadata.json` of a bundle with the four functions, schema 0.2.

    Its kind is `llm`: Apple's own text runner then takes it through `main`, while kind `vlm` would make it look for a
    separate vision asset. The multimodal constants are one more block, which those readers ignore.

    Args:
        name: the bundle's name.
        asset_name: file name of the `.aimodel`.
        vocabulary: number of token ids.
        max_context: rows of the KV states.
        constants: written as the `multimodal` block.
        hf_model_id: where the weights and the tokenizer come from.
        compression: e.g. `int4-block32`; None for none.
        date: of the conversion, ISO 8601 with offset.
    """
    return {
        "metadata_version": METADATA_VERSION,
        "kind": "llm",
        "name": name,
        "assets": {MAIN_ASSET: asset_name},
        "language": {
            "tokenizer": hf_model_id,
            "vocab_size": vocabulary,
            "max_context_length": max_context,
            "embedded_tokenizer": True,
            "eos_token_ids": list(constants.stop_ids),  # Apple's newer readers; a search by text misses `<turn|>`
            "function_map": {MAIN_ASSET: ["main"]},
        },
        "source": {"model_definition": "torch", "hf_model_id": hf_model_id},
        "compression": compression,
        "compilation": {"date": date, "targets": []},
        BLOCK: constants.to_json(),
    }


def write_metadata(path: Path, metadata: Mapping[str, Any]) -> None:
    """Write `metadata.json` into the directory `path`."""
    text = json.dumps(metadata, ensure_ascii=False, indent=2)
    (path / METADATA_FILE).write_text(text + "\n", "utf-8")
