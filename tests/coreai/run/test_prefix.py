"""What two prompts share, against a slow twin that compares token by token what stands behind each."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.coreai.run.embeds import EmbeddingCache
from gemma4_mm.coreai.run.prefix import MediaSpan, PromptTokens, shared_prefix
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import ModelInputs, PatchGrid, Segment

KINDS = {"i": ("image", 1), "v": ("video", 2), "a": ("audio", 3)}


def tokens(layout: str) -> PromptTokens:
    """Build one from pieces: `x` one text token, `i2A` two tokens of image A, `v2A`, `a3B`."""
    ids, types, spans = [], [], []
    for piece in layout.split():
        if piece[0] in KINDS and len(piece) > 1:
            kind, number = KINDS[piece[0]]
            length = int(piece[1])
            span = MediaSpan(start=len(ids), stop=len(ids) + length, kind=kind, key=piece[2], frame=None)
            spans.append(span)
            ids += [100 + number] * length
            types += [number] * length
        else:
            ids.append(ord(piece))
            types.append(0)
    return PromptTokens(ids=np.array(ids), types=np.array(types), spans=tuple(spans))


@pytest.mark.parametrize(
    ("held", "wanted", "shared"),
    [
        ("a b c", "a b c d", 3),
        ("a b c", "a b c", 2),  # the last token's logits are needed
        ("a b c d", "a b", 1),
        ("a b c", "a x c", 1),
        ("", "a b", 0),
        ("a i3A b", "a i3A b c", 5),
        ("a i3A b", "a i3B b c", 1),  # another picture of the same size: the ids are equal
        ("a i3A b i3B c", "a i3A b i3X c d", 5),
        ("a i3A b", "a i4A b c", 1),
        ("a i3A b", "a v3A b c", 1),
        ("a a3A b", "a a3B b c", 1),
        ("a i3A", "a i3A i3B c", 1),  # the block grew: its first tokens saw less
        ("a i3A i3B c", "a i3A x y", 1),  # the block shrank: its first tokens saw more
        ("a i3A i3B c", "a i3A i3X c", 1),
        ("a i3A a3B c", "a i3A a3X c", 4),  # audio is in no block
        ("a i3A", "a i3A", 1),  # the last token lies in a block
        ("a a3A", "a a3A", 3),
    ],
)
def test_known_pairs(held: str, wanted: str, shared: int) -> None:
    assert shared_prefix(tokens(held), tokens(wanted)) == shared


pieces = st.sampled_from(["x", "y", "i2A", "i2B", "i1A", "v2A", "a2A", "a2B"])
layouts = st.lists(pieces, min_size=1, max_size=8).map(" ".join)


def meanings(prompt: PromptTokens) -> list[tuple]:
    """Per token: its id, and the medium, place in it and whole extent of the block that stand behind it."""
    behind: list[tuple] = [()] * len(prompt.ids)
    for span in prompt.spans:
        for place in range(span.start, min(span.stop, len(behind))):
            behind[place] = (span.kind, span.key, span.start, span.stop)
    blocks: list[tuple] = []
    for place, kind in enumerate(prompt.types):
        first = last = place
        if kind in (1, 2):
            while first and prompt.types[first - 1] in (1, 2):
                first -= 1
            while last + 1 < len(prompt.types) and prompt.types[last + 1] in (1, 2):
                last += 1
        blocks.append((first, last, tuple(behind[first : last + 1])))
    return list(zip(prompt.ids.tolist(), behind, blocks, strict=True))


@given(common=layouts, held=layouts, wanted=layouts)
@settings(max_examples=500)
def test_the_prefix_is_the_longest_whose_tokens_mean_and_see_the_same(common: str, held: str, wanted: str) -> None:
    first, second = tokens(f"{common} {held}"), tokens(f"{common} {wanted}")
    pairs = list(zip(meanings(first), meanings(second), strict=False))
    equal = next((place for place, (one, other) in enumerate(pairs) if one != other), len(pairs))
    longest = min(equal, len(second.ids) - 1)
    types = second.types
    while longest and types[longest] in (1, 2) and types[longest - 1] in (1, 2):
        longest -= 1  # it may not end within a block of the new prompt
    assert shared_prefix(first, second) == longest


@given(layout=layouts, length=st.integers(0, 20))
@settings(max_examples=100)
def test_a_cut_sequence_shares_no_more_than_it_holds(layout: str, length: int) -> None:
    whole = tokens(layout)
    length = min(length, len(whole.ids))
    held = whole.followed_by([7, 8], length=length)
    assert len(held.ids) == length
    assert shared_prefix(held, whole) <= length


def test_appended_tokens_are_text() -> None:
    grown = tokens("a i2A").followed_by([101, 7], length=4)
    assert grown.ids.tolist() == [97, 101, 101, 101]
    assert grown.types.tolist() == [0, 1, 1, 0]  # a placeholder that was sampled stands for nothing


def one_image(**changed: object) -> ModelInputs:
    grid = PatchGrid(rows=1, columns=2)
    tensors = {
        "input_ids": np.array([[5, 19, 19, 6]]),
        "attention_mask": np.ones((1, 4), np.int64),
        "mm_token_type_ids": np.array([[0, 1, 1, 0]]),
        "pixel_values": np.zeros((1, 3, 6912), np.float32),
        "image_position_ids": np.array([[[0, 0], [1, 0], [-1, -1]]]),
    }
    segments = [
        Segment(kind="text", row=0, start=0, stop=1),
        Segment(kind="image", row=0, start=1, stop=3, item=0, grid=grid),
        Segment(kind="text", row=0, start=3, stop=4),
    ]
    given_segments = changed.pop("segments", segments)
    merged = {name: value for name, value in (tensors | changed).items() if value is not None}
    return ModelInputs(merged, segments=given_segments, profile="test")


def test_an_encoded_prompt_is_read() -> None:
    prompt = PromptTokens.from_inputs(one_image())
    assert prompt.ids.tolist() == [5, 19, 19, 6]
    (span,) = prompt.spans
    assert (span.start, span.stop, span.kind, span.key) == (1, 3, "image", one_image().content_keys["image"][0])
    other = np.zeros((1, 3, 6912), np.float32)
    other[0, 1, 0] = 1
    changed = PromptTokens.from_inputs(one_image(pixel_values=other))
    assert shared_prefix(prompt, changed) == 1
    padded = other * 0
    padded[0, 2] = 1  # a padding row, which the model does not see
    assert shared_prefix(prompt, PromptTokens.from_inputs(one_image(pixel_values=padded))) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_ids": np.ones((2, 4), int)}, r"input_ids are \[2, 4\]; a session runs one prompt at a time"),
        ({"input_ids": np.ones((1, 0), int)}, "a session runs one prompt at a time"),
        ({"mm_token_type_ids": None}, "does not fit together"),
        ({"pixel_values": None}, "does not fit together"),
        ({"image_position_ids": np.zeros((1, 3, 2), int)}, "does not fit together"),
        ({"mm_token_type_ids": np.zeros((1, 4), int)}, "does not fit together"),
        ({"input_ids": np.ones((1, 4))}, "input_ids are float64, mm_token_type_ids int64; both must be integers"),
        ({"segments": [Segment(kind="odour", row=0, start=0, stop=4)]}, "segments of the unknown kind odour"),  # type: ignore[arg-type]
        ({"segments": []}, "does not fit together"),
        (
            {"segments": [Segment(kind="padding", row=0, start=0, stop=4)]},
            "the prompt holds padding; encode it alone",
        ),
    ],
)
def test_a_prompt_that_does_not_fit_its_tensors_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptTokens.from_inputs(one_image(**changed))


@pytest.mark.parametrize("frames", [(0, 2), (1, 0), (0, None)])
def test_frames_of_a_video_come_in_order(frames: tuple[int | None, ...]) -> None:
    tensors = {
        "input_ids": np.array([[9, 9]]),
        "mm_token_type_ids": np.array([[2, 2]]),
        "pixel_values_videos": np.zeros((2, 1, 6912), np.float32),
        "video_position_ids": np.zeros((2, 1, 2), np.int64),
        "num_frames_per_video": np.array([2]),
    }
    places = [Segment(kind="video", row=0, start=i, stop=i + 1, item=0, frame=frame) for i, frame in enumerate(frames)]
    with pytest.raises(InputError, match=r"is not frame [01], of 1 tokens, of its video"):
        PromptTokens.from_inputs(ModelInputs(tensors, segments=places, profile="test"))
    segments = [replace(place, frame=0) if place.kind == "image" else place for place in one_image().segments]
    with pytest.raises(InputError, match="has a frame, and is no video"):
        PromptTokens.from_inputs(one_image(segments=segments))


def test_embeddings_are_kept_up_to_a_bound_and_the_least_used_go_first() -> None:
    cache = EmbeddingCache(3 * 400)
    arrays = {key: np.full(100, index, np.float32) for index, key in enumerate("abcd")}
    for key in "abc":
        cache.put(key, arrays[key])
    assert cache.get("a") is arrays["a"]
    cache.put("d", arrays["d"])
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    cache.put("d", arrays["b"])
    assert cache.nbytes == 1200
    cache.put("big", np.zeros(10_000, np.float32))
    assert cache.get("big") is None
    assert cache.nbytes == 1200


def test_spans_are_records_that_compare() -> None:
    span = MediaSpan(start=1, stop=2, kind="video", key="k", frame=0)
    assert span != replace(span, frame=1)
