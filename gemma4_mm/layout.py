"""Prompt layout: texts and planned media to padded token rows, without a pixel or a sample."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.padding import padded_length
from gemma4_mm.core.tokens.placeholders import Expansion, SoftRun, expand_placeholders, video_text
from gemma4_mm.core.tokens.segments import build_segments
from gemma4_mm.core.video.sampling import format_timestamp
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid, Segment
from gemma4_mm.prompt.control_tokens import MARK_START, without_marked
from gemma4_mm.request.batch import Batch
from gemma4_mm.request.options import LengthOptions
from gemma4_mm.spec import AUDIO_TOKEN, IMAGE_TOKEN, VIDEO_TOKEN, MediaKind, TokenIds

# A marked placeholder was typed by a user: it stands for nothing.
_PLACEHOLDER: Final = re.compile(
    f"(?<!{MARK_START})({re.escape(IMAGE_TOKEN)}|{re.escape(VIDEO_TOKEN)}|{re.escape(AUDIO_TOKEN)})"
)
Encode = Callable[[str], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """Which frames of a video are used, and how.

    Attributes:
        grid: patch grid of each frame.
        frame_indices: the sampled frames, counted in the source.
        timestamps_s: their times in seconds, as the prompt tells them.
    """

    grid: PatchGrid
    frame_indices: tuple[int, ...]
    timestamps_s: tuple[float, ...]

    @property
    def n_tokens(self) -> int:
        """Soft tokens of all frames together."""
        return self.grid.n_tokens * len(self.frame_indices)


@dataclass(frozen=True, kw_only=True)
class MediaPlan:
    """Sizes of all media of a batch, in order of appearance: what the token layout follows from.

    Attributes:
        images: the grid of each image.
        videos: grid, frames and timestamps of each video.
        audio_tokens: soft tokens of each audio, one per 640 samples.
        audio_width: frames of each row of `input_features`, padding included.
    """

    images: tuple[PatchGrid, ...] = ()
    videos: tuple[VideoPlan, ...] = ()
    audio_tokens: tuple[int, ...] = ()
    audio_width: int = 0

    @property
    def frame_counts(self) -> tuple[int, ...]:
        """Frames taken of each video."""
        return tuple(len(video.frame_indices) for video in self.videos)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The exact token layout of a batch; the tensors of the same call agree with it.

    Attributes:
        input_ids: int64 `(batch, length)`.
        attention_mask: int64 `(batch, length)`, 0 for padding.
        mm_token_type_ids: int64 `(batch, length)`.
        segments: what each token is, row by row.
        media: grids, frames, timestamps and counts per item.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    mm_token_type_ids: NDArray[np.int64]
    segments: tuple[Segment, ...]
    media: MediaPlan

    @property
    def n_tokens(self) -> tuple[int, ...]:
        """Tokens of each row without padding: what a server admits or bills."""
        return tuple(int(row.sum()) for row in self.attention_mask)

    @property
    def token_counts(self) -> dict[MediaKind, tuple[int, ...]]:
        """Soft tokens per item and kind, in order of appearance."""
        return {
            "image": tuple(grid.n_tokens for grid in self.media.images),
            "video": tuple(video.n_tokens for video in self.media.videos),
            "audio": self.media.audio_tokens,
        }


def check_placeholders(batch: Batch) -> None:
    """Check that the prompts ask for the media that were given, before any of them is decoded.

    Raises:
        InputError: a count differs, where transformers 5.23 and later raise ValueError.
    """
    texts = [without_marked(text) for text in batch.texts] if batch.marked else batch.texts
    found, given = [text.count(IMAGE_TOKEN) for text in texts], [len(images) for images in batch.images]
    if found != given:
        raise InputError(
            f"the prompts hold {found} {IMAGE_TOKEN} placeholders, the images given per prompt are {given}; give one "
            "image per placeholder, nested per prompt: images=[[a, b], [c]]"
        )
    for token, what, media in ((VIDEO_TOKEN, "videos", batch.videos), (AUDIO_TOKEN, "audios", batch.audio)):
        total = sum(text.count(token) for text in texts)
        if total != len(media):
            raise InputError(
                f"the prompts hold {total} {token} placeholders, the {what} given are {len(media)}; give one per "
                "placeholder"
            )


def lay_out(texts: Sequence[str], media: MediaPlan, *, encode: Encode, tokens: TokenIds, length: LengthOptions) -> Plan:
    """Tokenise prompts, expand their placeholders, and pad them to one array.

    Args:
        texts: the prompts, with `<|image|>`, `<|video|>` and `<|audio|>` where media stand.
        media: what stands there, in order of appearance over the whole batch.
        encode: text to int64 ids, special tokens recognised, none added.
        tokens: ids of the special tokens.
        length: padding and truncation of the rows.

    Raises:
        InputError: media and placeholders disagree, truncation would cut soft tokens, or unpadded rows differ.
    """
    images = iter(_image_runs(media))
    videos = iter(_video_runs(media))
    audio = iter(_audio_runs(media))
    expansions = []
    for text in texts:
        pieces: list[str] = []
        runs: list[SoftRun] = []
        for piece in _PLACEHOLDER.split(text):
            if piece == IMAGE_TOKEN:
                runs.append(next(images))
            elif piece == AUDIO_TOKEN:
                runs.append(next(audio))
            elif piece == VIDEO_TOKEN:
                video = next(videos)
                runs.extend(video.runs)
                piece = video.text
            pieces.append(piece)
        expansion = expand_placeholders(encode("".join(pieces)), runs, tokens=tokens)
        expansions.append(_truncate(expansion, length) if length.truncation else expansion)
    return _pad(expansions, media, tokens=tokens, length=length)


@dataclass(frozen=True, kw_only=True)
class _VideoText:
    text: str
    runs: tuple[SoftRun, ...]


def _image_runs(media: MediaPlan) -> Iterator[SoftRun]:
    for item, grid in enumerate(media.images):
        yield SoftRun(kind="image", item=item, n_tokens=grid.n_tokens, grid=grid)


def _audio_runs(media: MediaPlan) -> Iterator[SoftRun]:
    for item, n_tokens in enumerate(media.audio_tokens):
        yield SoftRun(kind="audio", item=item, n_tokens=n_tokens)


def _video_runs(media: MediaPlan) -> Iterator[_VideoText]:
    for item, video in enumerate(media.videos):
        text = video_text([format_timestamp(timestamp_s) for timestamp_s in video.timestamps_s])
        frames = range(len(video.frame_indices))
        grid = video.grid
        yield _VideoText(
            text=text,
            runs=tuple(
                SoftRun(kind="video", item=item, n_tokens=grid.n_tokens, frame=frame, grid=grid) for frame in frames
            ),
        )


def _truncate(expansion: Expansion, length: LengthOptions) -> Expansion:
    """Cut a row at its end; soft tokens cannot be cut, since their tensor rows would have no place."""
    limit = length.max_length or len(expansion.ids)
    stops = expansion.starts + [run.n_tokens for run in expansion.runs]
    if (stops > limit).any():
        item = expansion.runs[int(np.argmax(stops > limit))]
        raise InputError(
            f"truncation to {limit} tokens would cut {item.kind} {item.item}, whose soft tokens end at "
            f"{int(stops[stops > limit][0])}; raise max_length or leave truncation out"
        )
    return Expansion(
        ids=expansion.ids[:limit], types=expansion.types[:limit], runs=expansion.runs, starts=expansion.starts
    )


def _pad(expansions: Sequence[Expansion], media: MediaPlan, *, tokens: TokenIds, length: LengthOptions) -> Plan:
    lengths = [len(expansion.ids) for expansion in expansions]
    width = padded_length(
        lengths,
        padding=length.padding,
        max_length=length.max_length,
        multiple=length.pad_to_multiple_of,
        what="prompts",
        unit="tokens",
    )
    ids = np.full((len(expansions), width), tokens.pad, np.int64)
    attention = np.zeros_like(ids)
    types = np.zeros_like(ids)
    segments: list[Segment] = []
    for row, expansion in enumerate(expansions):
        padding = width - lengths[row]
        place = slice(padding, width) if length.side == "left" else slice(0, lengths[row])
        ids[row, place] = expansion.ids
        types[row, place] = expansion.types
        attention[row, place] = 1
        segments.extend(build_segments(expansion, row=row, padding=padding, side=length.side))
    return Plan(input_ids=ids, attention_mask=attention, mm_token_type_ids=types, segments=tuple(segments), media=media)
