"""The four published files of google/gemma-4-12B-it that this package reads, and the check of a copy."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma4_mm.errors import AssetError

MODEL_ID: Final = "google/gemma-4-12B-it"
TOKENIZER: Final = "tokenizer.json"
CHAT_TEMPLATE: Final = "chat_template.jinja"
PROCESSOR_CONFIG: Final = "processor_config.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of the model's repository.

    Attributes:
        name: its name there.
        size_bytes: its size.
        sha256: its SHA-256 as lower-case hex.
    """

    name: str
    size_bytes: int
    sha256: str


# Smallest first: the first file that a slow or silent host is asked for is a small one.
PUBLISHED: Final = (
    PublishedFile(
        name=PROCESSOR_CONFIG,
        size_bytes=1_382,
        sha256="6b938e76555b3e9946890770e1abcd442a4718f34041a58e8139dc8ad34545c9",
    ),
    PublishedFile(
        name=TOKENIZER_CONFIG,
        size_bytes=888,
        sha256="522a38334973725dba8f7c645195b19dda0c284f403f43273f77837679ba2eab",
    ),
    PublishedFile(
        name=CHAT_TEMPLATE,
        size_bytes=18_683,
        sha256="ae53464bf3be25802b3a5b37def7fd89667067d7577049b3b2d74c4d8de4c6d4",
    ),
    PublishedFile(
        name=TOKENIZER,
        size_bytes=32_169_626,
        sha256="cc8d3a0ce36466ccc1278bf987df5f71db1719b9ca6b4118264f45cb627bfe0f",
    ),
)


def check_published(file: PublishedFile, data: bytes, *, source: str) -> bytes:
    """Return `data` if it is the published file, byte for byte.

    Args:
        file: the file that `data` claims to be.
        data: its content.
        source: where it came from, for the message.

    Raises:
        AssetError: size or SHA-256 differ.
    """
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise AssetError(
            f"{file.name} from {source} is not the published file of {MODEL_ID}: {len(data)} bytes with SHA-256 "
            f"{digest}, expected {file.size_bytes} bytes with {file.sha256}; it was not used; try another source"
        )
    return data


def has_published_size(file: PublishedFile, path: Path) -> bool:
    """Whether `path` exists and has the published file's size: enough for what was checked when it was written."""
    try:
        return path.stat().st_size == file.size_bytes
    except OSError:
        return False


def is_published(file: PublishedFile, path: Path) -> bool:
    """Whether `path` exists and holds the published file, by size and SHA-256."""
    if not has_published_size(file, path):
        return False
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False
