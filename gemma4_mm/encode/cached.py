"""Media through a cache: what was encoded before takes the place of its source, and what was not is kept.

A file is known by the SHA-256 of its bytes, before anything is decoded. What is decoded already (Pillow images, arrays,
frames) is known by the pixels that the resize would read, after EXIF rules, palettes, transparency, channel order and
layout have had their say: none of them can be forgotten in the key. Audio samples are not cached; taking them is
cheaper than any digest of them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.batch import Batch
from gemma4_mm.cache import Entry, MediaCache
from gemma4_mm.encode.access import Access, Encoded
from gemma4_mm.encode.items import EncodedAudio, EncodedImage, EncodedVideo, pack
from gemma4_mm.encode.videos import metadata_per_video, sampling_arguments
from gemma4_mm.errors import MediaError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.layout import VideoPlan
from gemma4_mm.media.audio import load_audio
from gemma4_mm.media.image import load_image
from gemma4_mm.media.source import Source, is_encoded, open_source
from gemma4_mm.media.versions import decoder_versions
from gemma4_mm.media.video import open_video
from gemma4_mm.options import CallOptions, VideoOptions
from gemma4_mm.spec import MediaKind
from gemma4_mm.version import __version__

_FORMAT: Final = 1  # raise it with every change of what an entry holds or of what is encoded
_STRIP_ROWS: Final = 256


@dataclass(frozen=True, kw_only=True)
class Item:
    """One medium, looked up.

    Attributes:
        value: what to encode: the encoded item where the cache had it, else the source, opened once.
        key: under which to keep the result; empty where it came from the cache.
        source: the file that the key was made of.
        file_key: SHA-256 of its bytes.
    """

    value: Any
    key: str = ""
    source: Source | None = None
    file_key: str | None = None

    def may_be_kept(self, values: NDArray[Any]) -> bool:
        """Whether this is what the key says: float32, of a file that holds the same bytes now that it was decoded.

        Another process may have written to it between its digest and its decoding.
        """
        if not self.key or values.dtype != np.float32:
            return False
        if self.source is None or self.source.path is None:
            return True
        try:
            return _file_digest(self.source) == self.file_key
        except MediaError:
            return False


@dataclass(frozen=True, kw_only=True)
class FoundMedia:
    """All media of a batch, looked up.

    Attributes:
        images: in order.
        videos: in order.
        audio: what to frame: decoded samples in place of files.
        cache: where the rest goes.
    """

    images: list[Item]
    videos: list[Item]
    audio: list[Any]
    cache: MediaCache

    def keep(self, images: Encoded[PatchGrid], videos: Encoded[VideoPlan]) -> None:
        """Keep what was encoded just now, in float32."""
        pixels = images.tensors.get("pixel_values")
        for index, (item, grid) in enumerate(zip(self.images, images.plans, strict=True)):
            if pixels is not None and item.may_be_kept(pixels):
                packed = pack(pixels[index, : grid.n_tokens], rescale="multiply")
                self.cache.put(item.key, Entry(values=packed, plan={"grid": asdict(grid)}))
        pixels = videos.tensors.get("pixel_values_videos")
        first = 0
        for item, plan in zip(self.videos, videos.plans, strict=True):
            stop = first + len(plan.frame_indices)
            if pixels is not None and item.may_be_kept(pixels):
                frames = pixels.reshape(-1, *pixels.shape[-2:])  # also those of the stacked layout
                packed = pack(frames[first:stop, : plan.grid.n_tokens], rescale="divide")
                self.cache.put(item.key, Entry(values=packed, plan=asdict(plan)))
            first = stop


def find_media(batch: Batch, options: CallOptions, access: Access, cache: MediaCache) -> FoundMedia:
    """Look all media of a batch up. Audio that is not there is decoded and kept here: its samples, not its frames.

    Raises:
        InputError: as encoding it would.
        MediaError: a file that cannot be read, or of audio, decoded.
        LimitError: a medium over the limits.
    """
    given = metadata_per_video(options.video.video_metadata, n_videos=len(batch.videos)) if batch.videos else []
    spec = {"max_soft_tokens": options.image_soft_tokens}
    return FoundMedia(
        images=[_find_image(value, access, spec, label=f"image {item}") for item, value in enumerate(batch.all_images)],
        videos=[
            _find_video(value, access, options.video, metadata, label=f"video {item}")
            for item, (value, metadata) in enumerate(zip(batch.videos, given, strict=True))
        ],
        audio=[_find_audio(value, access, cache, label=f"audio {item}") for item, value in enumerate(batch.audio)],
        cache=cache,
    )


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
        video = open_video(
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
        for frame in video.frames():
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
    if item.may_be_kept(samples):
        cache.put(item.key, Entry(values=samples, plan={}))
    return EncodedAudio(samples=samples)


def _file_item(value: Any, access: Access, *, label: str, kind: MediaKind, options: dict[str, Any]) -> Item:
    source = open_source(value, **access.arguments(label))
    digest = _file_digest(source)
    # Decoders of sound and video look at the end of a file's name too; it is no part of an image's key.
    suffix = source.path.suffix.lower() if source.path is not None and kind != "image" else None
    key = _key(kind, "file", digest, access=access, options={**options, "suffix": suffix})
    return Item(value=source, key=key, source=source, file_key=digest)


def _look_up(item: Item, access: Access) -> Entry | None:
    return None if access.cache is None else access.cache.get(item.key)


def _file_digest(source: Source) -> str:
    with source.open() as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _key(kind: MediaKind, form: str, content: str, *, access: Access, options: dict[str, Any]) -> str:
    """SHA-256 of everything that a result follows from, and of the limits, which decide whether there is one."""
    record = {
        "format": _FORMAT,
        "package": __version__,
        "decoders": decoder_versions(kind) if form == "file" else None,
        "kind": kind,
        "form": form,
        "content": content,
        "options": options,
        "profile": asdict(access.profile),
        "limits": asdict(access.limits),
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
