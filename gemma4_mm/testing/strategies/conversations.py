"""Conversations whose media are real arrays and Pillow images, ready for a whole processor."""

from typing import Any

from hypothesis import strategies as st

from gemma4_mm.testing.strategies.images import images
from gemma4_mm.testing.strategies.texts import texts
from gemma4_mm.testing.strategies.videos import clips
from gemma4_mm.testing.strategies.waveforms import waveforms


@st.composite
def conversations(draw: st.DrawFn, *, min_frames: int = 1, media: bool = True) -> list[dict[str, Any]]:
    """Messages in Hugging Face's form with every kind of part mixed; media small, so that hundreds can be encoded.

    One to three user turns of one to four parts, perhaps after a system or developer message, perhaps answered.

    Args:
        draw: supplied by Hypothesis.
        min_frames: at least as many frames has each video, as a call with `num_frames` needs.
        media: whether parts may be images, audios and videos.
    """
    text = texts(max_pieces=4)
    parts = [st.fixed_dictionaries({"type": st.just("text"), "text": text})]
    if media:
        kinds: dict[str, st.SearchStrategy[Any]] = {
            "image": images(),
            "audio": waveforms(),
            "video": clips(min_frames=min_frames),
        }
        parts += [st.fixed_dictionaries({"type": st.just(kind), kind: values}) for kind, values in kinds.items()]
    turns: list[dict[str, Any]] = []
    if draw(st.booleans()):
        turns.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(text)})
    for _ in range(draw(st.integers(1, 3))):
        turns.append({"role": "user", "content": draw(st.lists(st.one_of(parts), min_size=1, max_size=4))})
        if draw(st.booleans()):
            turns.append({"role": "assistant", "content": draw(text)})
    return turns
