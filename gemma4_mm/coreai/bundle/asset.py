"""The files of an `.aimodel`, checked before the runtime reads them: it ends the process on a damaged program."""

import hashlib
import sys
from pathlib import Path
from typing import Final

from gemma4_mm.errors import AssetError

PROGRAM: Final = "main.mlirb"  # as AIProgram.save_asset of coreai-core writes them
PROGRAM_HASH: Final = "main.hash"  # 32 bytes: SHA-256 of the program


def verify_asset(path: Path, *, compare_hash: bool = True) -> None:
    """Refuse an asset whose program is missing, cut short or altered.

    Args:
        path: the `.aimodel` directory.
        compare_hash: read the whole program and compare its SHA-256, seconds for several GB; False checks presence.

    Raises:
        AssetError: which file, and what is wrong with it.
    """
    program = path / PROGRAM
    if not program.is_file():
        # macOS only, not exercised elsewhere: the system framework also takes assets that hold compiled artefacts
        # alone, and checks them itself.
        if sys.platform == "darwin" and path.is_dir() and any(path.iterdir()):
            return
        raise AssetError(f"{path} has no program ({PROGRAM}); the download or conversion is incomplete, repeat it")
    if not compare_hash:
        return
    try:
        wanted = (path / PROGRAM_HASH).read_bytes()
        with program.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise AssetError(
            f"cannot compare {program} with its {PROGRAM_HASH}: {error.strerror or error}; download the asset again, "
            "or pass verify=False if you know that it is whole"
        ) from error
    if actual != wanted:
        raise AssetError(
            f"{program} has SHA-256 {actual.hex()}, {PROGRAM_HASH} says {wanted.hex()}; the file is cut short or "
            "altered; download or convert it again"
        )
