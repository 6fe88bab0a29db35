"""The public strategies keep what their docstrings say, and reach what they exist for."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gemma4_mm import testing
from gemma4_mm.core.attention.masks import describe_masks
from gemma4_mm.errors import InputError
from gemma4_mm.testing import strategies as own
from tests.media.loading import load_image


def reached(strategy, look, *, max_examples=400):
    """What `look` says of each example."""
    seen = set()

    @given(strategy)
    @settings(max_examples=max_examples)
    def collect(example):
        seen.update(look(example))

    collect()
    return seen


@given(st.data(), st.integers(1, 60), st.integers(0, 20) | st.integers(0, 2000))
@settings(max_examples=150)
def test_pictures_keep_to_their_sides(data, least, more):
    rgb = data.draw(own.pictures(min_side_px=least, max_side_px=least + more))
    assert rgb.dtype == np.uint8
    assert rgb.shape[2:] == (3,)
    assert least <= min(rgb.shape[:2])
    assert max(rgb.shape[:2]) <= least + more


def test_pictures_reach_every_shape():
    def look(rgb):
        height_px, width_px, _ = rgb.shape
        yield "tall" if height_px > 50 * width_px else "wide" if width_px > 50 * height_px else "moderate"
        if min(height_px, width_px) > 900:
            yield "large"
        if 1 in (height_px, width_px):
            yield "line"

    assert reached(own.pictures(), look, max_examples=200) == {"tall", "wide", "moderate", "large", "line"}


def test_images_reach_every_mode_and_the_reader_takes_them_all():
    def look(image):
        rows = load_image(image)
        assert min(rows.height_px, rows.width_px) >= 1
        assert max(rows.height_px, rows.width_px) <= 90
        assert rows.rows(0, 1).shape == (1, rows.width_px, 3)
        yield image.mode if isinstance(image, Image.Image) else "array"

    assert reached(own.images(), look) == {*own.IMAGE_MODES, "array"}


def test_arrays_are_ambiguous_and_some_are_refused():
    def look(array):
        assert array.dtype == np.uint8
        first, last = array.shape[0] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
        yield "both" if first and last else "one" if first or last else "neither"
        try:
            load_image(array)
        except InputError:
            yield "refused"
        if not array.flags.c_contiguous:
            yield "view"

    assert reached(own.ambiguous_arrays(), look) == {"both", "one", "neither", "refused", "view"}


@pytest.mark.parametrize("pattern", own.PATTERNS)
def test_a_pattern_is_its_arguments(pattern):
    made = [own.make_picture(pattern, height_px=7, width_px=9, seed=seed) for seed in (1, 1, 2)]
    assert made[0].shape == (7, 9, 3)
    assert made[0].dtype == np.uint8
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2]) == (pattern in ("checkerboard", "columns"))


@pytest.mark.parametrize("wave", own.WAVES)
def test_a_wave_is_its_arguments(wave):
    made = [own.make_wave(wave, n_samples=700, seed=seed) for seed in (1, 1, 2)]
    assert made[0].shape == (700,)
    assert made[0].dtype == np.float32
    assert made[0].tobytes() == made[1].tobytes() != made[2].tobytes()


def test_unknown_names_are_errors_that_list_the_known():
    with pytest.raises(InputError, match="pattern is 'sky'; known are: noise, photo"):
        own.make_picture("sky", height_px=1, width_px=1)
    with pytest.raises(InputError, match="wave is 'sea'; known are: noise, tone"):
        own.make_wave("sea", n_samples=1)


@given(st.data(), st.integers(0, 2000), st.integers(0, 5000))
@settings(max_examples=150)
def test_sample_counts_keep_to_their_bounds(data, least, more):
    assert least <= data.draw(own.sample_counts(min_samples=least, max_samples=least + more)) <= least + more
    assert len(data.draw(own.waveforms(min_samples=least, max_samples=least + more))) in range(least, least + more + 1)


def test_waveforms_reach_the_edges_of_frames_and_odd_values():
    def look(samples):
        assert samples.dtype == np.float32
        assert 1 <= len(samples) <= 3000
        yield {0: "whole frames", 1: "one over", 639: "one short"}.get(len(samples) % 640, "remainder")
        yield "loud" if np.abs(samples).max() > 1 else "within"
        yield from ["silence"] * (not samples.any())
        yield from ["denormal"] * bool(samples.any() and np.abs(samples).max() < np.finfo(np.float32).tiny)
        yield from ["minus zero"] * bool((np.signbit(samples) & (samples == 0)).any())

    expected = {
        "whole frames",
        "one over",
        "one short",
        "remainder",
        "loud",
        "within",
        "silence",
        "denormal",
        "minus zero",
    }
    assert reached(own.waveforms(), look) == expected
    assert max(reached(own.sample_counts(), lambda n_samples: [n_samples > 30 * 16_000])) is True


@given(own.clips(min_frames=2))
@settings(max_examples=150)
def test_the_frames_of_a_clip_differ_unless_it_is_flat(clip):
    n_frames, height_px, width_px, channels = clip.shape
    assert (clip.dtype, channels) == (np.uint8, 3)
    assert 2 <= n_frames <= 7
    assert min(height_px, width_px) >= 5
    assert max(height_px, width_px) <= 60
    if clip[0].std() > 0:
        assert not np.array_equal(clip[0], clip[1])


def test_decoded_videos_come_in_every_form():
    def look(video):
        if isinstance(video, list):
            yield f"list of {type(video[0]).__name__}"
        else:
            yield f"array {video.ndim}" if isinstance(video, np.ndarray) else type(video).__name__

    assert reached(own.decoded_videos(), look) == {"array 4", "array 3", "list of ndarray", "list of Image", "Image"}


def test_texts_hold_media_tokens_on_request_only():
    def look(text):
        return (token for token in own.MEDIA_TOKENS if token in text)

    assert reached(own.texts(*own.CONTROL_TOKENS), look) == set()
    assert reached(own.texts(*own.MEDIA_TOKENS), look) == set(own.MEDIA_TOKENS)


def test_conversations_mix_every_kind_of_part():
    def look(conversation):
        for turn in conversation:
            yield turn["role"]
            for part in turn["content"] if turn["role"] == "user" else []:
                yield part["type"]
                if part["type"] == "video":
                    assert len(part["video"]) >= 3

    everything = {"system", "developer", "user", "assistant", "text", "image", "audio", "video"}
    assert reached(own.conversations(min_frames=3), look, max_examples=100) == everything
    assert reached(own.conversations(media=False), look, max_examples=50) == everything - {"image", "audio", "video"}


def test_template_conversations_have_tools_reasoning_and_every_reference():
    def look(conversation):
        for turn in conversation:
            yield from turn.keys() - {"role", "content", "name"}
            for part in turn["content"] if isinstance(turn.get("content"), list) else []:
                yield part["type"]

    seen = reached(own.template_conversations(), look)
    assert {"tool_calls", "tool_responses", "tool_call_id", "reasoning_content", "reasoning", "thinking"} <= seen
    assert {"text", "image", "image_url", "audio", "video"} <= seen


@given(own.mask_layouts(), own.padded_rows(), own.token_runs(kinds=["audio"], max_runs=3, max_tokens=2))
@settings(max_examples=100)
def test_layouts_and_rows_describe_masks(layout, row, runs):
    types, attention = row
    describe_masks(**layout.arguments)
    describe_masks(types[None], attention_mask=attention[None])
    assert (types.dtype, attention.dtype) == (np.int64, np.int64)
    assert {kind for kind, _ in runs} == {"audio"}
    assert len(runs) <= 3
    assert all(1 <= n_tokens <= 2 for _, n_tokens in runs)


def test_every_public_name_is_documented():
    for name in own.__all__:
        assert (getattr(own, name).__doc__ or "").strip(), name
    assert "strategies" in testing.__doc__


def test_without_hypothesis_the_install_command_is_named():
    code = "import sys; sys.modules['hypothesis'] = None; import gemma4_mm.testing.strategies"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert re.search(r"MissingDependencyError: .*pip install 'gemma4-mm\[testing\]'", result.stderr)
