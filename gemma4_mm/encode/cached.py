"""Media through a cache: what was encoded before takes the place of its source, and what was not is kept.

A file is known by the SHA-256 of its bytes, before anything is decoded. What is decoded already (Pillow images, arrays,
frames) is known by the pixels that the resize would read, after EXIF rules, palettes, transparency, channel order and
layout have had their say: none of them can be forgotten in the key. Audio samples are not cached; taking them is
cheaper than any digest of them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.cache import Entry, MediaCache
from gemma4_mm.encode.access import Access
from gemma4_mm.encode.items import EncodedAudio, EncodedImage, EncodedVideo, pack
from gemma4_mm.encode.videos import metadata_per_video, sampling_arguments
from gemma4_mm.errors import MediaError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.layout import VideoPlan
from gemma4_mm.media.audio import load_audio
from gemma4_mm.media.image import load_image
from gemma4_mm.media.source import Source, is_encoded, open_source
from gemma4_mm.media.versions import decoder_versions
from gemma4_mm.media.video import load_video
from gemma4_mm.options import VideoOptions
from gemma4_mm.spec import MediaKind
from gemma4_mm.version import __version__

_FORMAT: Final = 1  # raise it with every change of what an entry holds or of what is encoded
_STRIP_ROWS: Final = 256


@dataclass(frozen=True, kw_only=True)
class Item:
    """One medium, looked up.

    Attributes:
        value: what to encode: the encoded item where the cache had it, else the source, opened once.
        key: under which to keep the result; None where it came from the cache, or cannot be kept.
        source: the file that the key was made of.
        file_key: SHA-256 of its bytes.
    """

    value: Any
    key: str | None = None
    source: Source | None = None
    file_key: str | None = None

    def is_unchanged(self) -> bool:
        """Whether the file still holds what the key says, now that it was decoded: another process may write to it."""
        if self.source is None or self.source.path is None:
            return True
        try:
            return _file_digest(self.source) == self.file_key
        except MediaError:
            return False


def find_images(values: Sequence[Any], *, max_soft_tokens: int, access: Access) -> list[Item]:
    """Look images up."""
    options = {"max_soft_tokens": max_soft_tokens}
    return [_find_image(value, access, options, label=f"image {item}") for item, value in enumerate(values)]


def keep_images(items: Sequence[Item], pixels: NDArray[Any], grids: Sequence[PatchGrid], *, cache: MediaCache) -> None:
    """Keep images that were encoded just now."""
    for item, rows, grid in zip(items, pixels, grids, strict=True):
        if item.key is not None and rows.dtype == np.float32 and item.is_unchanged():
            entry = Entry(values=pack(rows[: grid.n_tokens], rescale="multiply"), plan={"grid": asdict(grid)})
            cache.put(item.key, entry)


def find_videos(values: Sequence[Any], *, options: VideoOptions, access: Access) -> list[Item]:
    """Look videos up."""
    given = metadata_per_video(options.video_metadata, n_videos=len(values)) if values else []
    return [
        _find_video(value, access, options, metadata, label=f"video {item}")
        for item, (value, metadata) in enumerate(zip(values, given, strict=True))
    ]


def keep_videos(items: Sequence[Item], pixels: NDArray[Any], plans: Sequence[VideoPlan], *, cache: MediaCache) -> None:
    """Keep videos that were encoded just now; `pixels` holds the frames of all of them."""
    frames = pixels.reshape(-1, *pixels.shape[-2:])  # also those of the stacked layout
    first = 0
    for item, plan in zip(items, plans, strict=True):
        rows = frames[first : first + len(plan.frame_indices), : plan.grid.n_tokens]
        first += len(plan.frame_indices)
        if item.key is not None and rows.dtype == np.float32 and item.is_unchanged():
            cache.put(item.key, Entry(values=pack(rows, rescale="divide"), plan=asdict(plan)))


def find_audio(values: Sequence[Any], *, access: Access, cache: MediaCache) -> list[Any]:
    """Look audio files up, and decode and keep those that are not there: what is kept are the samples."""
    return [_find_audio(value, access, cache, label=f"audio {item}") for item, value in enumerate(values)]


def _find_image(value: Any, access: Access, options: dict[str, Any], *, label: str) -> Item:
    if is_encoded(value):
        item = _file_item(value, access, label=label, kind="image", options=options)
    else:
        rows = load_image(value, profile=access.profile, **access.arguments(label))
        digest = hashlib.sha256(f"{rows.height_px}x{rows.width_px}".encode())
        for start in range(0, rows.height_px, _STRIP_ROWS):
            strip = rows.rows(start, min(start + _STRIP_ROWS, rows.height_px))
            digest.update(np.ascontiguousarray(strip).data)
        item = Item(value=value, key=_key("image", "pixels", digest.hexdigest(), access=access, options=options))
    entry = _look_up(item, access)
    if entry is None:
        return item
    grid = PatchGrid(**entry.plan["grid"])
    return Item(value=EncodedImage(packed=entry.values, grid=grid))


def _find_video(value: Any, access: Access, options: VideoOptions, metadata: Any, *, label: str) -> Item:
    spec: dict[str, Any] = {"max_soft_tokens": options.max_soft_tokens, **sampling_arguments(options)}
    if is_encoded(value):
        item = _file_item(value, access, label=label, kind="video", options=spec)
    else:
        video = load_video(
            value,
            **sampling_arguments(options),
            video_metadata=metadata,
            profile=access.profile,
            **access.arguments(label),
        )
        spec |= {
            "frame_indices": list(video.metadata.frame_indices),
            "timestamps_s": list(video.metadata.timestamps_s),
            "size": [video.metadata.height_px, video.metadata.width_px],
        }
        digest = hashlib.sha256()
        for frame in video.frames:
            digest.update(np.ascontiguousarray(frame).data)
        item = Item(value=value, key=_key("video", "frames", digest.hexdigest(), access=access, options=spec))
    entry = _look_up(item, access)
    if entry is None:
        return item
    plan = VideoPlan(
        grid=PatchGrid(**entry.plan["grid"]),
        frame_indices=tuple(entry.plan["frame_indices"]),
        timestamps_s=tuple(entry.plan["timestamps_s"]),
    )
    return Item(value=EncodedVideo(packed=entry.values, plan=plan))


def _find_audio(value: Any, access: Access, cache: MediaCache, *, label: str) -> Any:
    if not is_encoded(value):
        return value
    item = _file_item(value, access, label=label, kind="audio", options={})
    entry = _look_up(item, access)
    if entry is not None:
        return EncodedAudio(samples=entry.values)
    samples = load_audio(item.value, **access.arguments(label))
    if item.key is not None and item.is_unchanged():
        cache.put(item.key, Entry(values=samples, plan={}))
    return EncodedAudio(samples=samples)


def _file_item(value: Any, access: Access, *, label: str, kind: MediaKind, options: dict[str, Any]) -> Item:
    source = open_source(value, **{**access.arguments(label), "label": label})
    digest = _file_digest(source)
    # Decoders of sound and video look at the end of a file's name too; it is no part of an image's key.
    suffix = source.path.suffix.lower() if source.path is not None and kind != "image" else None
    key = _key(kind, "file", digest, access=access, options={**options, "suffix": suffix})
    return Item(value=source, key=key, source=source, file_key=digest)


def _look_up(item: Item, access: Access) -> Entry | None:
    return access.cache.get(item.key) if access.cache is not None and item.key is not None else None


def _file_digest(source: Source) -> str:
    with source.open() as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _key(kind: MediaKind, form: str, content: str, *, access: Access, options: dict[str, Any]) -> str:
    """SHA-256 of everything that a result follows from, and of the limits, which decide whether there is one."""
    record = {
        "format": _FORMAT,
        "package": __version__,
        "decoders": decoder_versions(kind),
        "kind": kind,
        "form": form,
        "content": content,
        "options": options,
        "profile": asdict(access.profile),
        "limits": asdict(access.limits),
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
