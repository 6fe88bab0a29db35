"""Assets by path and SHA-256: how a processor travels to another process without the 32 MB that it has read."""

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

from gemma4_mm.assets.find import Assets
from gemma4_mm.errors import AssetError

Stamps = tuple[tuple[Path, int, int], ...]
"""Path, modification time in nanoseconds and size of each file: whether one was replaced since."""


@dataclass(frozen=True, kw_only=True)
class PinnedAssets:
    """Where the files are, and what must be in them.

    Attributes:
        assets: the paths, absolute: another process may stand in another directory.
        sha256: digest of each file, in the order of `files_of`.
    """

    assets: Assets
    sha256: tuple[str, ...]

    @classmethod
    def pin(cls, assets: Assets) -> Self:
        """Read the files once, for their digests.

        Raises:
            AssetError: one cannot be read.
        """
        paths = {field.name: getattr(assets, field.name) for field in fields(assets)}
        absolute = replace(assets, **{name: path.absolute() for name, path in paths.items() if path is not None})
        return cls(assets=absolute, sha256=tuple(_digest(path) for path in files_of(absolute)))

    def verified(self) -> Assets:
        """The paths, after a check that each file is here with the same content.

        Raises:
            AssetError: one is missing or another file.
        """
        for path, expected in zip(files_of(self.assets), self.sha256, strict=True):
            if not path.is_file():
                raise AssetError(
                    f"{path} is not on this machine; a pickled Processor holds the paths of its files, not their "
                    f"content: put {path.parent} at the same place here (gemma4-mm assets --cache {path.parent} fills "
                    "it), or build the Processor here with from_pretrained"
                )
            if (digest := _digest(path)) != expected:
                raise AssetError(
                    f"{path} is another file than where the Processor was pickled: SHA-256 {digest}, expected "
                    f"{expected}; copy that one here, or build the Processor here with from_pretrained"
                )
        return self.assets


def files_of(assets: Assets) -> tuple[Path, ...]:
    """The files that there are, in a fixed order."""
    paths = (getattr(assets, field.name) for field in fields(assets))
    return tuple(path for path in paths if path is not None)


def stamps_of(assets: Assets) -> Stamps:
    """Time and size of each file, cheap enough for every start."""
    stamps = []
    for path in files_of(assets):
        try:
            status = path.stat()
        except OSError as error:
            raise AssetError(f"cannot read {path}: {error}; restore the file") from error
        stamps.append((path, status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AssetError(f"cannot read {path}: {error}; restore the file") from error
