"""Which packets of a video must be decoded for some of its frames: key frames let the others be skipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

# A decoder that is emptied and filled again idles for about as long as it decodes this many frames on its threads.
_LEAST_SKIPPED_PACKETS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Packets:
    """The packets of one video stream, in the order of the file, which is that of decoding.

    Attributes:
        times: int64 `(packets,)`, when the frame of each is shown, in units of `time_base`.
        shown: bool `(packets,)`, False where an edit list hides the frame.
        entries: bool `(packets,)`, whether decoding may begin there: every later packet whose frame is not shown before
            this one gives the same pixels as if all had been decoded.
        time_base: seconds of one unit of `times`.
        complete: whether every packet has a time; where False, `times` mean nothing.
    """

    times: NDArray[np.int64]
    shown: NDArray[np.bool_]
    entries: NDArray[np.bool_]
    time_base: Fraction
    complete: bool

    @property
    def n_frames(self) -> int:
        """Frames that are shown."""
        return int(self.shown.sum())

    @property
    def frame_times(self) -> NDArray[np.int64]:
        """When each frame is shown, int64 `(n_frames,)`, in the order of being shown."""
        return np.sort(self.times[self.shown])


@dataclass(frozen=True, kw_only=True)
class Run:
    """Packets that are decoded in a row, on their own.

    Attributes:
        start: position of the first packet, an entry.
        stop: one past the last.
        first_frame: index of the frame that the first packet holds; frames shown before it are dropped.
        frames: the frames that are wanted of this run, increasing.
    """

    start: int
    stop: int
    first_frame: int
    frames: tuple[int, ...]


def plan_runs(packets: Packets, frame_indices: Sequence[int], *, total_frames: int) -> tuple[Run, ...]:
    """Choose the packets to decode for some frames: from the last entry before each, and no further than needed.

    Sixteen packets, entries in capitals; of frames 1 and 13:

        packet   0 1 2 3 4 5 6 7 8 9 . . . . . .
                 I p p p p p p p p p p p I p p p
        decoded  x x                     x x

    Args:
        packets: of the whole file.
        frame_indices: frames in the order of being shown, increasing.
        total_frames: frames of the video, as its header says.

    Returns:
        Runs from the start of the file to its end. None of them where nothing can be skipped: the file does not begin
        with an entry, a packet has no time or that of another, or there are more or fewer packets than frames.
    """
    times, frame_times, entries = packets.times, packets.frame_times, _sound_entries(packets)
    known = packets.complete and len(frame_times) == total_frames and (np.diff(frame_times) > 0).all()
    if not known or not entries.size or entries[0] > 0 or frame_times[0] < times[0]:
        return ()
    indices = np.asarray(frame_indices)
    positions = np.flatnonzero(packets.shown)[np.argsort(times[packets.shown])]
    starts = entries[np.searchsorted(times[entries], frame_times[indices], side="right") - 1]
    stops = np.maximum.accumulate(positions)[indices] + 1  # with all frames shown before, so that they can be counted
    skipped = starts - np.concatenate([[0], stops[:-1]])
    breaks = np.flatnonzero(skipped >= _LEAST_SKIPPED_PACKETS)
    if not breaks.size:
        return ()
    runs = []
    for first, last in pairwise(sorted({0, *breaks.tolist(), len(indices)})):
        start = int(starts[first]) if first in breaks else 0
        runs.append(
            Run(
                start=start,
                stop=int(stops[last - 1]),
                first_frame=int(np.searchsorted(frame_times, times[start])),
                frames=tuple(indices[first:last].tolist()),
            )
        )
    return tuple(runs)


def _sound_entries(packets: Packets) -> NDArray[np.intp]:
    """Positions of the entries whose every earlier packet is shown earlier; others are no points to begin at."""
    positions = np.flatnonzero(packets.entries)
    latest = np.maximum.accumulate(packets.times)
    sound = (positions == 0) | (packets.times[positions] > latest[positions - 1])
    return np.compress(sound, positions)
