"""What a cached item is known by: the bytes of a file, or the pixels of what is decoded already.

A file is known by the SHA-256 of its bytes, before anything is decoded. What is decoded already (Pillow images, arrays,
frames) is known by the pixels that the resize would read, after EXIF rules, palettes, transparency, channel order and
layout have had their say: none of them can be forgotten in the key. Audio samples are not cached; taking them is
cheaper than any digest of them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from gemma4_mm.cache import Entry
from gemma4_mm.core.vision.resize import RowSource
from gemma4_mm.encode.access import Access
from gemma4_mm.errors import MediaError
from gemma4_mm.media.source import Source, open_source
from gemma4_mm.media.versions import decoder_versions
from gemma4_mm.media.video import VideoSource
from gemma4_mm.spec import MediaKind
from gemma4_mm.version import __version__

_FORMAT: Final = 1  # raise it with every change of what an entry holds or of what is encoded
_STRIP_ROWS: Final = 256


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A file, looked up.

    Attributes:
        source: the file, opened once.
        key: under which its result is kept.
        entry: the cache's; None where it has none.
        digest: SHA-256 of the file's bytes.
    """

    source: Source
    key: str
    entry: Entry | None
    digest: str

    def still_holds(self) -> bool:
        """Whether the file has the same bytes now that it was decoded; another process may have written to it."""
        try:
            return self.source.path is None or _file_digest(self.source) == self.digest
        except MediaError:
            return False


def find_file(value: Any, *, kind: MediaKind, options: Mapping[str, Any], label: str, access: Access) -> FoundFile:
    """Look a file up in `access.cache`.

    Raises:
        MediaError: it cannot be read.
        LimitError: over `limits.max_bytes`.
    """
    source = open_source(value, label=label, limits=access.limits, allow_network=access.allow_network)
    digest = _file_digest(source)
    # Decoders of sound and video look at the end of a file's name too; it is no part of an image's key.
    suffix = source.path.suffix.lower() if source.path is not None and kind != "image" else None
    key = _key(kind, "file", digest, access=access, options={**options, "suffix": suffix})
    entry = None if access.cache is None else access.cache.get(key)
    return FoundFile(source=source, key=key, entry=entry, digest=digest)


def pixels_key(rows: RowSource, *, options: Mapping[str, Any], access: Access) -> str:
    """Key of a decoded image: of its pixels as rows of RGB."""
    digest = hashlib.sha256(f"{rows.height_px}x{rows.width_px}".encode())
    for start in range(0, rows.height_px, _STRIP_ROWS):
        strip = rows.rows(start, min(start + _STRIP_ROWS, rows.height_px))
        digest.update(np.ascontiguousarray(strip).data)
    return _key("image", "pixels", digest.hexdigest(), access=access, options=options)


def frames_key(video: VideoSource, *, options: Mapping[str, Any], access: Access) -> str:
    """Key of decoded frames: of the pixels of those that are taken, and of their places in the video."""
    spec = {
        **options,
        "frame_indices": list(video.metadata.frame_indices),
        "timestamps_s": list(video.metadata.timestamps_s),
        "size": [video.metadata.height_px, video.metadata.width_px],
    }
    digest = hashlib.sha256()
    for frame in video.frames():
        digest.update(np.ascontiguousarray(frame).data)
    return _key("video", "frames", digest.hexdigest(), access=access, options=spec)


def _file_digest(source: Source) -> str:
    with source.open() as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a raw file is read, no more


def _key(kind: MediaKind, form: str, content: str, *, access: Access, options: Mapping[str, Any]) -> str:
    """SHA-256 of everything that a result follows from, and of the limits, which decide whether there is one."""
    record = {
        "format": _FORMAT,
        "package": __version__,
        "decoders": decoder_versions(kind) if form == "file" else None,
        "kind": kind,
        "form": form,
        "content": content,
        "options": dict(options),
        "profile": asdict(access.profile),
        "limits": asdict(access.limits),
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
