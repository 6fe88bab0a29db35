"""Embeddings of media: computed once per item and session, and laid to their places in a chunk."""

from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.prefill.chunk import Chunk
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.inputs import ModelInputs
from gemma4_mm.spec import MediaKind

Embeddings = Mapping[tuple[MediaKind, int], NDArray[np.float32]]


class EmbeddingCache:
    """Embeddings by content key; the least recently used ones go first.

    Args:
        max_bytes: bound on all arrays together. An item beyond it is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._arrays: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.nbytes = 0

    def get(self, key: str) -> NDArray[np.float32] | None:
        """The array of `key`, or None."""
        if key in self._arrays:
            self._arrays.move_to_end(key)
        return self._arrays.get(key)

    def put(self, key: str, embeds: NDArray[np.float32]) -> None:
        """Keep an array, and let go of as many as the bound asks for."""
        if key in self._arrays:
            self.nbytes -= self._arrays.pop(key).nbytes
        if embeds.nbytes > self._max_bytes:
            return
        self._arrays[key] = embeds
        self.nbytes += embeds.nbytes
        while self.nbytes > self._max_bytes:
            self.nbytes -= self._arrays.popitem(last=False)[1].nbytes


def embed_media(
    inputs: ModelInputs, *, runtime: Runtime, cache: EmbeddingCache, first: int
) -> Generator[Future[NDArray[np.float32]], NDArray[np.float32], Embeddings]:
    """Embed every item that has soft tokens at token `first` or later, one call an image, frame or audio.

    Yields each call as a future, and is sent its result.

    Returns:
        Per kind and item: float32 `(tokens, hidden)`, for a video `(frames, tokens per frame, hidden)`.
    """
    keys = inputs.content_keys
    found: dict[tuple[MediaKind, int], NDArray[np.float32]] = {}
    for segment in inputs.segments:
        if segment.kind == "text" or segment.kind == "padding" or segment.item is None:
            continue
        name = (segment.kind, segment.item)
        if segment.stop <= max(first, segment.start) or name in found:
            continue
        key = keys[segment.kind][segment.item]
        embeds = cache.get(key)
        if embeds is None:
            embeds = yield from _embed_item(inputs, segment.kind, segment.item, runtime=runtime)
            cache.put(key, embeds)
        found[name] = embeds
    return found


def splice(chunk: Chunk, embeddings: Embeddings) -> dict[str, NDArray[Any]]:
    """`mm_embeds` float32 `(length, hidden)` and `mm_mask` bool `(length,)` of a prefill call that has soft tokens."""
    hidden = next(iter(embeddings.values())).shape[-1]
    mm_embeds = np.zeros((chunk.length, hidden), np.float32)
    mm_mask = np.zeros(chunk.length, np.bool_)
    for part in chunk.embeddings:
        item = embeddings[part.kind, part.item]
        rows = item if part.frame is None else item[part.frame]
        mm_embeds[part.tokens] = rows[part.rows]
        mm_mask[part.tokens] = True
    return {"mm_embeds": mm_embeds, "mm_mask": mm_mask}


def _embed_item(
    inputs: ModelInputs, kind: MediaKind, item: int, *, runtime: Runtime
) -> Generator[Future[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float32]]:
    """Vision goes in as the tensors hold it, padded to its budget, so that a budget is one compiled shape."""
    if kind == "audio":
        return (yield runtime.submit("embed_audio", {"input_features": inputs.audio_frames(item)}))
    if kind == "image":
        pixels, positions = inputs["pixel_values"][item], inputs["image_position_ids"][item]
        embeds = yield runtime.submit("embed_vision", {"pixel_values": pixels, "image_position_ids": positions})
        return embeds[: len(inputs.image_patches(item))].copy()
    frames: list[NDArray[np.float32]] = []
    for pixels, positions in _frames(inputs, item):
        frames.append((yield runtime.submit("embed_vision", {"pixel_values": pixels, "image_position_ids": positions})))
    return np.stack([frame[: inputs.video_patches(item).shape[1]] for frame in frames])


def _frames(inputs: ModelInputs, item: int) -> Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Padded patches and positions of each frame of a video, in either layout."""
    pixels, positions = inputs["pixel_values_videos"], inputs["video_position_ids"]
    if pixels.ndim == 4:  # the stacked layout before transformers 5.19
        return zip(pixels[item], positions[item], strict=True)
    stop = int(np.cumsum(inputs["num_frames_per_video"])[item])
    frames = slice(stop - int(inputs["num_frames_per_video"][item]), stop)
    return zip(pixels[frames], positions[frames], strict=True)
