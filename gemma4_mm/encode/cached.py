"""Opened items with a cache behind them: entries that stand in the place of a source, and sources that become entries.

The cache of a file is asked when it is opened, so that a hit decodes nothing. Decoded pixels have no name but
themselves: their cache is asked when they are written.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.cache import Entry, MediaCache
from gemma4_mm.core.audio.waveform import write_blocks
from gemma4_mm.core.vision.geometry import fill_grid
from gemma4_mm.encode.packing import pack, unpack
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.layout import VideoPlan
from gemma4_mm.media.audio import AudioSource


class _Image(Protocol):
    @property
    def grid(self) -> PatchGrid: ...
    def write(self, pixels: NDArray[Any]) -> None: ...


class _Video(Protocol):
    @property
    def plan(self) -> VideoPlan: ...
    def write(self, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class CachedImage:
    """An image's merged patches, from the cache."""

    entry: Entry
    is_size_only: bool = field(default=False, init=False)

    @property
    def grid(self) -> PatchGrid:
        """Of the patches."""
        return PatchGrid(**self.entry.plan["grid"])

    def write(self, pixels: NDArray[Any]) -> None:
        """Unpack."""
        unpack(self.entry.values, pixels[: self.grid.n_tokens], rescale="multiply")


@dataclass(frozen=True, kw_only=True)
class KeptImage:
    """An image that is kept once it is encoded, or found when its pixels are read.

    Attributes:
        image: to write where the cache has nothing.
        find_key: its key.
        still: whether it is still what the key says, asked after writing.
        cache: to keep it in.
    """

    image: _Image
    find_key: Callable[[], str]
    cache: MediaCache
    still: Callable[[], bool] | None = None
    is_size_only: bool = field(default=False, init=False)

    @property
    def grid(self) -> PatchGrid:
        """Of the patches."""
        return self.image.grid

    def write(self, pixels: NDArray[Any]) -> None:
        """Unpack what is found under the key of pixels; else encode, and keep float32 patches."""
        key = self.find_key()
        entry = self.cache.get(key) if self.still is None else None
        if entry is not None:
            CachedImage(entry=entry).write(pixels)
            return
        self.image.write(pixels)
        if pixels.dtype == np.float32 and (self.still is None or self.still()):
            packed = pack(pixels[: self.grid.n_tokens], rescale="multiply")
            self.cache.put(key, Entry(values=packed, plan={"grid": asdict(self.grid)}))


@dataclass(frozen=True, kw_only=True)
class CachedVideo:
    """A video's merged patches, from the cache."""

    entry: Entry
    is_size_only: bool = field(default=False, init=False)

    @property
    def plan(self) -> VideoPlan:
        """Which frames they are."""
        plan = self.entry.plan
        return VideoPlan(
            grid=PatchGrid(**plan["grid"]),
            frame_indices=tuple(plan["frame_indices"]),
            timestamps_s=tuple(plan["timestamps_s"]),
        )

    def write(self, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
        """Unpack all frames into `(frames, max_soft_tokens, …)`."""
        grid = self.plan.grid
        unpack(self.entry.values, pixels[:, : grid.n_tokens], rescale="divide")
        fill_grid(grid, pixels=pixels, positions=positions)


@dataclass(frozen=True, kw_only=True)
class KeptVideo:
    """A video that is kept once it is encoded, or found when its frames are read; attributes as of `KeptImage`."""

    video: _Video
    find_key: Callable[[], str]
    cache: MediaCache
    still: Callable[[], bool] | None = None
    is_size_only: bool = field(default=False, init=False)

    @property
    def plan(self) -> VideoPlan:
        """Which frames are taken."""
        return self.video.plan

    def write(self, pixels: NDArray[Any], positions: NDArray[np.int64]) -> None:
        """Unpack what is found under the key of frames; else encode, and keep float32 patches."""
        key = self.find_key()
        entry = self.cache.get(key) if self.still is None else None
        if entry is not None:
            CachedVideo(entry=entry).write(pixels, positions)
            return
        self.video.write(pixels, positions)
        if pixels.dtype == np.float32 and (self.still is None or self.still()):
            packed = pack(pixels[:, : self.plan.grid.n_tokens], rescale="divide")
            self.cache.put(key, Entry(values=packed, plan=asdict(self.plan)))


@dataclass(frozen=True, kw_only=True)
class CachedAudio:
    """A decoded audio: its samples, not its frames, float32 `(samples,)` at 16 kHz."""

    entry: Entry
    is_size_only: bool = field(default=False, init=False)

    @property
    def n_samples(self) -> int:
        """Its length."""
        return len(self.entry.values)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All samples, as the only block."""
        yield self.entry.values


@dataclass(frozen=True, kw_only=True)
class KeptAudio:
    """A file whose samples are kept once they are decoded; attributes as of `KeptImage`."""

    audio: AudioSource
    key: str
    cache: MediaCache
    still: Callable[[], bool]
    is_size_only: bool = field(default=False, init=False)

    @property
    def n_samples(self) -> int:
        """Its length."""
        return self.audio.n_samples

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Decode all samples, keep them, and give them as the only block."""
        samples = np.empty(self.n_samples, np.float32)
        write_blocks(self.audio.blocks(), samples)
        if self.still():
            self.cache.put(self.key, Entry(values=samples, plan={}))
        yield samples
