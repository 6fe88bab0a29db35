"""Patches: a slow twin, the whole of HF's image and video processors, errors and memory."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemma4_mm.core.vision import resize as resample
from gemma4_mm.core.vision.geometry import plan_image, position_ids
from gemma4_mm.core.vision.patches import encode_frames, encode_image, merge_patches
from gemma4_mm.core.vision.resize import ArrayRows
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import PATCH_VALUES, SOFT_TOKEN_BUDGETS
from gemma4_mm.testing.strategies import PATTERNS, budgets, clips, make_picture, pictures
from tests.core.pictures import resized
from tests.core.twins import slow_patches


def planned(rgb, budget):
    return plan_image(height_px=rgb.shape[0], width_px=rgb.shape[1], max_soft_tokens=budget)


def padded_positions(grid, budget):
    positions = np.full((budget, 2), -1)
    positions[: grid.n_tokens] = position_ids(grid)
    return positions


# --- against the live oracle


def assert_equal_to_image_processor(rgb, budget, *, as_array=False):
    from PIL import Image
    from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor

    processor = Gemma4UnifiedImageProcessor()
    image = rgb if as_array else Image.fromarray(rgb)
    layout = {"input_data_format": "channels_last"} if as_array else {}
    try:
        theirs = processor(image, max_soft_tokens=budget, return_tensors="np", **layout)
    except ValueError:
        with pytest.raises(InputError):
            planned(rgb, budget)
        return
    grid = planned(rgb, budget)
    ours = np.zeros((budget, PATCH_VALUES), np.float32)
    encode_image(ArrayRows(rgb), ours, grid=grid)
    assert theirs["num_soft_tokens_per_image"].tolist() == [grid.n_tokens]
    assert np.array_equal(theirs["image_position_ids"], padded_positions(grid, budget)[None])
    assert theirs["pixel_values"].dtype == ours.dtype
    assert np.array_equal(theirs["pixel_values"], ours[None])


@pytest.mark.parity
@given(rgb=pictures(), budget=budgets(), as_array=st.booleans())
@settings(max_examples=320)
def test_images_equal_the_oracle(rgb, budget, as_array):
    assert_equal_to_image_processor(rgb, budget, as_array=as_array)


@pytest.mark.parity
@pytest.mark.parametrize("budget", SOFT_TOKEN_BUDGETS)
@pytest.mark.parametrize(("height_px", "width_px"), [(1, 1), (1, 3000), (3000, 1), (2, 2999), (48, 48), (672, 912)])
def test_edge_sizes_equal_the_oracle(height_px, width_px, budget):
    assert_equal_to_image_processor(make_picture("extremes", height_px=height_px, width_px=width_px), budget)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("pattern", "height_px", "width_px"),
    [("photo", 6000, 8000), ("extremes", 3000, 4000), ("checkerboard", 3000, 4000), ("noise", 400, 12_000)],
)
def test_large_images_equal_the_oracle(pattern, height_px, width_px):
    assert_equal_to_image_processor(make_picture(pattern, height_px=height_px, width_px=width_px), 280)


@pytest.mark.parity
@pytest.mark.parametrize("budget", [0, 1, 100, 1121])
def test_budgets_that_the_oracle_refuses_are_refused(budget):
    from PIL import Image
    from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor

    with pytest.raises(ValueError, match="must be one of"):
        Gemma4UnifiedImageProcessor()(Image.new("RGB", (60, 50)), max_soft_tokens=budget)
    with pytest.raises(InputError, match="must be one of"):
        plan_image(height_px=50, width_px=60, max_soft_tokens=budget)


@pytest.mark.parity
@given(frames=clips(max_frames=4, min_side_px=1, max_side_px=1300), budget=budgets())
@settings(max_examples=80)
def test_videos_equal_the_oracle(frames, budget):
    from transformers.models.gemma4_unified.video_processing_gemma4_unified import Gemma4UnifiedVideoProcessor

    grid = planned(frames[0], budget)
    ours = np.zeros((len(frames), budget, PATCH_VALUES), np.float32)
    encode_frames(frames, ours, grid=grid)
    theirs = Gemma4UnifiedVideoProcessor()(
        [frames.transpose(0, 3, 1, 2)],
        input_data_format="channels_first",
        max_soft_tokens=budget,
        do_sample_frames=False,
        return_tensors="np",
    )
    assert theirs["num_frames_per_video"].tolist() == [len(frames)]
    assert theirs["num_soft_tokens_per_video"].tolist() == [grid.n_tokens]
    positions = np.broadcast_to(padded_positions(grid, budget), (len(frames), budget, 2))
    assert np.array_equal(theirs["video_position_ids"], positions)
    assert theirs["pixel_values_videos"].dtype == ours.dtype
    assert np.array_equal(theirs["pixel_values_videos"], ours)


# --- against the slow twin, and against each other


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    pattern=st.sampled_from(PATTERNS),
    rescale=st.sampled_from(["multiply", "divide"]),
)
@settings(max_examples=30)
@example(rows=1, columns=1, pattern="noise", rescale="divide")
def test_merged_patches_equal_the_slow_twin(rows, columns, pattern, rescale):
    rgb = make_picture(pattern, height_px=rows * 48, width_px=columns * 48, seed=9)
    merged = merge_patches(rgb, rescale=rescale)
    assert merged.dtype == np.float32
    assert np.array_equal(merged, slow_patches(rgb, rescale))


@given(rgb=pictures(max_side_px=1000), budget=budgets(), rescale=st.sampled_from(["multiply", "divide"]))
@settings(max_examples=60)
def test_the_fused_form_equals_resize_then_merge(rgb, budget, rescale):
    grid = planned(rgb, budget)
    fused = np.empty((grid.n_tokens, PATCH_VALUES), np.float32)
    encode_image(ArrayRows(rgb), fused, grid=grid, rescale=rescale)
    plain = merge_patches(resized(rgb, rows=grid.rows, columns=grid.columns), rescale=rescale)
    assert np.array_equal(fused, plain)


def test_multiplying_and_dividing_differ_in_the_last_bit_of_126_levels():
    ramp = np.resize(np.arange(256, dtype=np.uint8), (48, 48, 3))
    levels = merge_patches(ramp, rescale="multiply")[0, :256]
    assert int((levels != merge_patches(ramp, rescale="divide")[0, :256]).sum()) == 126


def test_frames_may_be_sources():
    frames = np.stack([make_picture("noise", height_px=60, width_px=80, seed=seed) for seed in range(3)])
    grid = PatchGrid(rows=2, columns=3)
    from_array = np.zeros((3, 6, PATCH_VALUES), np.float32)
    from_sources = np.zeros_like(from_array)
    encode_frames(frames, from_array, grid=grid)
    encode_frames([ArrayRows(frame) for frame in frames], from_sources, grid=grid)
    assert np.array_equal(from_array, from_sources)
    one = np.zeros((6, PATCH_VALUES), np.float32)
    encode_image(ArrayRows(frames[2]), one, grid=grid, rescale="divide")
    assert np.array_equal(from_array[2], one)


def test_threads_may_share_a_size():
    frames = np.stack([make_picture("photo", height_px=700, width_px=900, seed=seed) for seed in range(8)])
    grid = planned(frames[0], 280)

    def encode(frame):
        out = np.zeros((280, PATCH_VALUES), np.float32)
        encode_image(ArrayRows(frame), out, grid=grid)
        return out

    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(encode, frames))
    assert all(np.array_equal(ours, encode(frame)) for ours, frame in zip(threaded, frames, strict=True))


# --- what is written, and what is refused


def test_padding_rows_are_left_to_the_caller():
    out = np.full((9, PATCH_VALUES), 7, np.float32)
    encode_image(ArrayRows(np.zeros((50, 90, 3), np.uint8)), out, grid=PatchGrid(rows=1, columns=2))
    assert not out[:2].any()
    assert (out[2:] == 7).all()


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((3, PATCH_VALUES), np.float32),
        np.zeros((4, PATCH_VALUES - 1), np.float32),
        np.zeros((4, PATCH_VALUES), np.float64),
        np.zeros((1, 4, PATCH_VALUES), np.float32),
        np.zeros((8, PATCH_VALUES), np.float32)[::2],
        read_only(np.zeros((4, PATCH_VALUES), np.float32)),
    ],
)
def test_an_output_that_cannot_be_written_in_place_is_refused_in_words(out):
    with pytest.raises(InputError, match="at least 4 rows of 6912 values; allocate"):
        encode_image(ArrayRows(np.zeros((50, 90, 3), np.uint8)), out, grid=PatchGrid(rows=2, columns=2))


def test_frames_and_output_must_agree():
    with pytest.raises(InputError, match="2 frames do not fit an output for 3"):
        encode_frames(
            np.zeros((2, 9, 9, 3), np.uint8), np.zeros((3, 4, 6912), np.float32), grid=PatchGrid(rows=2, columns=2)
        )


def test_frames_of_two_sizes_are_refused():
    frames = [ArrayRows(np.zeros((50, width, 3), np.uint8)) for width in (60, 61)]
    with pytest.raises(InputError, match="plan each size on its own"):
        encode_frames(frames, np.zeros((2, 4, 6912), np.float32), grid=PatchGrid(rows=2, columns=2))


@pytest.mark.parametrize("shape", [(47, 48, 3), (48, 50, 3), (0, 48, 3)])
def test_only_whole_patches_are_merged(shape):
    with pytest.raises(InputError, match="both sides must be multiples of 48; resize it first"):
        merge_patches(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(("height_px", "width_px"), [(3000, 4000), (6000, 2000), (1000, 12_000)])
def test_memory_over_the_decoded_image_at_12_megapixels(height_px, width_px):
    """At most 40 MB for plan, scratch and output together."""
    from PIL import Image

    from tests.media.loading import load_image

    rows = load_image(Image.new("RGB", (width_px, height_px), (10, 200, 30)))
    resample._recent_plan.cache_clear()
    tracemalloc.start()
    grid = plan_image(height_px=height_px, width_px=width_px)
    encode_image(rows, np.zeros((280, PATCH_VALUES), np.float32), grid=grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 40e6, f"{peak / 1e6:.1f} MB"
