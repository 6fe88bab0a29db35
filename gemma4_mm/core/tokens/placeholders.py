"""Placeholders to soft tokens: one placeholder id becomes begin + n × soft token + end, and every token gets a type."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import TYPE_AUDIO, TYPE_IMAGE, TYPE_VIDEO, VIDEO_TOKEN, MediaKind, TokenIds


@dataclass(frozen=True, kw_only=True)
class SoftRun:
    """What one placeholder stands for: the soft tokens of one image, one video frame or one audio.

    Attributes:
        kind: image, video or audio.
        item: index among the media of this kind in the whole batch.
        n_tokens: soft tokens between begin and end.
        frame: index of the sampled frame within its video; None for images and audio.
        grid: patch grid of an image or frame; None for audio.
    """

    kind: MediaKind
    item: int
    n_tokens: int
    frame: int | None = None
    grid: PatchGrid | None = None


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """Token ids with all placeholders expanded.

    Attributes:
        ids: int64 `(length,)`.
        types: int64 `(length,)`, see `token_types`.
        runs: the soft runs in order of appearance.
        starts: int64 `(len(runs),)`, where each run's soft tokens start (after its begin token).
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    runs: tuple[SoftRun, ...]
    starts: NDArray[np.int64]


def video_text(timestamps: Sequence[str]) -> str:
    """Text that stands for one video before tokenisation: `mm:ss ` and a placeholder per frame, joined by one space.

    Example: `00:00 <|video|> 00:01 <|video|>`. The timestamps are text, so they must be there when the prompt is
    tokenised; the frames' soft tokens are added by `expand_placeholders`.
    Source: transformers 5.24 `Gemma4UnifiedProcessor.replace_video_token`.
    """
    return " ".join(f"{timestamp} {VIDEO_TOKEN}" for timestamp in timestamps)


def expand_placeholders(
    ids: NDArray[np.int64], runs: Sequence[SoftRun], *, tokens: TokenIds | None = None
) -> Expansion:
    """Replace each placeholder by begin + n × soft token + end, in order of appearance.

    For an image of two soft tokens: `… image …` becomes `… boi image image eoi …`. Since placeholders are special
    tokens, this equals tokenising the expanded text, as Hugging Face does, without tokenising every soft token.

    Args:
        ids: int64 `(length,)`, a tokenised prompt with one placeholder id per image, audio and video frame.
        runs: what the placeholders stand for, in the same order.
        tokens: ids of the special tokens; None for google/gemma-4-12B-it's.

    Raises:
        InputError: placeholders and runs disagree in number or kind.
    """
    tokens = tokens or TokenIds()
    soft: dict[MediaKind, int] = {"image": tokens.image, "video": tokens.video, "audio": tokens.audio}
    begin: dict[MediaKind, int] = {"image": tokens.boi, "video": tokens.boi, "audio": tokens.boa}
    end: dict[MediaKind, int] = {"image": tokens.eoi, "video": tokens.eoi, "audio": tokens.eoa}
    places = np.flatnonzero(np.isin(ids, list(soft.values())))
    if ids[places].tolist() != [soft[run.kind] for run in runs]:
        names = {token: kind for kind, token in soft.items()}
        raise InputError(
            f"the prompt's placeholders are {_count(names[int(token)] for token in ids[places])}, the media are "
            f"{_count(run.kind for run in runs)}; give one medium per placeholder, in the same order"
        )
    lengths = np.array([run.n_tokens for run in runs], np.int64)
    repeats = np.ones(len(ids), np.int64)
    repeats[places] = lengths + 2
    expanded = np.repeat(ids, repeats)
    starts = places + 1 + np.cumsum(lengths + 1) - (lengths + 1)
    expanded[starts - 1] = [begin[run.kind] for run in runs]
    expanded[starts + lengths] = [end[run.kind] for run in runs]
    return Expansion(ids=expanded, types=token_types(expanded, tokens=tokens), runs=tuple(runs), starts=starts)


def token_types(ids: NDArray[np.int64], *, tokens: TokenIds | None = None) -> NDArray[np.int64]:
    """Return `mm_token_type_ids`: 1 for image, 2 for video, 3 for audio soft tokens, else 0; same shape as `ids`.

    Source: transformers 5.24 `ProcessorMixin.create_mm_token_type_ids`.
    """
    tokens = tokens or TokenIds()
    types = np.zeros(ids.shape, np.int64)
    types[ids == tokens.image] = TYPE_IMAGE
    types[ids == tokens.video] = TYPE_VIDEO
    types[ids == tokens.audio] = TYPE_AUDIO
    return types


def _count(kinds: Iterable[str]) -> str:
    names = Counter(kinds)
    return ", ".join(f"{number} {kind}" for kind, number in names.items()) or "none"
