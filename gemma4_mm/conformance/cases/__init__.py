"""The named corpus: every case by closed formulas and seeds, nothing stored.

Options by kind, all JSON values:

* image: `mode` (Pillow's, RGB by default), `given_as` (`picture`, decoded, by default; `file`, a PNG; `array`),
  `exif_orientation` of a file, `transparency` (a palette index, gray level or colour that is transparent),
  `max_soft_tokens` (280 by default).
* video: `fps` (none: unknown), `num_frames` (32 by default), `do_sample_frames`, `frames_indices`, `max_soft_tokens`
  (70 by default).
* audio: `given_as` (`samples`, 16 kHz mono, by default; `file`, a WAV), `rate_hz` and `subtype` of a file, `max_length`
  in frames.
* conversation: `messages`, one conversation or a list of them; a medium is `{"$input": name}` or, as text,
  `{"$data_uri": name}`. `arguments` of `apply_chat_template`; `since` is the release that brought one of them.
* masks: `sliding_window`, and `max_chunk` of the prefill plan.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from gemma4_mm.conformance.cases.audio import audio_cases
from gemma4_mm.conformance.cases.conversations import conversation_cases
from gemma4_mm.conformance.cases.images import image_cases
from gemma4_mm.conformance.cases.masks import mask_cases
from gemma4_mm.conformance.cases.sampled import random_case, random_cases
from gemma4_mm.conformance.cases.videos import video_cases
from gemma4_mm.conformance.records import Case
from gemma4_mm.errors import InputError

__all__ = ["all_cases", "random_case", "random_cases", "select_cases"]


def all_cases() -> Iterator[Case]:
    """The corpus, made case by case: images, videos, audio, conversations, masks."""
    yield from image_cases()
    yield from video_cases()
    yield from audio_cases()
    yield from conversation_cases()
    yield from mask_cases()


def select_cases(patterns: Sequence[str] = ()) -> tuple[Case, ...]:
    """The cases whose name or kind matches one of the shell-style patterns; all of them where there is no pattern.

    Raises:
        InputError: a pattern matches no case.
    """
    cases = tuple(all_cases())
    for pattern in patterns:
        if not any(_matches(case, pattern) for case in cases):
            raise InputError(
                f"no case is named like {pattern!r}; kinds are image, video, audio, conversation, masks, and "
                f"names are such as {', '.join(case.name for case in cases[:: len(cases) // 6])}; --list shows all"
            )
    return tuple(case for case in cases if not patterns or any(_matches(case, pattern) for pattern in patterns))


def _matches(case: Case, pattern: str) -> bool:
    return fnmatchcase(case.name, pattern) or pattern == case.kind
