"""Hot functions of images and video under pytest-benchmark: `pytest benchmarks/test_vision.py`.

Ours only, every result compared with the loop-free plain form before it is timed; `benchmarks.compare` has both sides.
"""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.vision import clip, encode_images_with, encode_video_with, photograph
from gemma4_mm.core.vision.bands import HorizontalBand, VerticalBand
from gemma4_mm.core.vision.exact import CENTRE, ExactResize
from gemma4_mm.core.vision.geometry import plan_image
from gemma4_mm.core.vision.kernels.accelerated import AcceleratedEncoder
from gemma4_mm.core.vision.kernels.kernel import load_kernel
from gemma4_mm.core.vision.patches import encode_image, merge_patches
from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.core.vision.weights import axis_weights
from gemma4_mm.execution import Execution, Kernel
from gemma4_mm.spec import PATCH_VALUES

SIZES = [(480, 640), (1080, 1920), (3000, 4000), (6000, 8000)]
EXECUTIONS = [
    pytest.param(Execution(kernel=kernel, threads=threads), id=f"{kernel}-{threads}")
    for kernel in ("numpy", "numba")
    for threads in (1, 2)
]


@pytest.mark.parametrize(("n_in", "n_out"), [(640, 912), (1920, 1056), (4000, 912)])
def test_weights(benchmark: BenchmarkFixture, n_in: int, n_out: int) -> None:
    """Weights of one axis."""
    weights = benchmark(axis_weights, n_in, n_out)
    assert weights.taps.shape[0] == n_out


@pytest.mark.parametrize("n_in", [640, 1920, 4000])
def test_pass_along_the_row(benchmark: BenchmarkFixture, n_in: int) -> None:
    """96 rows to 912 columns."""
    step = ExactResize(HorizontalBand(axis_weights(n_in, 912), range(912)), centred=True)
    pixels = photograph(height_px=96, width_px=n_in).reshape(96, -1).astype(np.float32) - CENTRE
    chunk = np.ascontiguousarray(pixels[: step.band.max_rows])  # type: ignore[attr-defined]
    out = np.empty((len(chunk), 912 * 3), np.float32)
    workspace = np.empty(step.workspace_size(*out.shape), np.float32)
    benchmark(step.resize, chunk, out=out, workspace=workspace)
    assert out.min() >= -CENTRE
    assert out.max() < CENTRE


@pytest.mark.parametrize("n_in", [480, 1080, 3000])
def test_pass_down_the_columns(benchmark: BenchmarkFixture, n_in: int) -> None:
    """48 rows of 912 pixels, from as many as they need."""
    band = VerticalBand(axis_weights(n_in, 672), range(48))
    step = ExactResize(band, centred=False)
    rows = photograph(height_px=len(band.inputs), width_px=912).reshape(-1, 912 * 3).astype(np.float32) - CENTRE
    out = np.empty((48, 912 * 3), np.float32)
    workspace = np.empty(step.workspace_size(*out.shape), np.float32)
    benchmark(step.resize, rows, out=out, workspace=workspace)
    assert out.min() >= 0
    assert out.max() < 256


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_compiled_kernel(benchmark: BenchmarkFixture, height_px: int, width_px: int) -> None:
    """Resize, rescale and patches of one image on one thread, into memory that is there."""
    rgb = photograph(height_px=height_px, width_px=width_px)
    grid = plan_image(height_px=height_px, width_px=width_px)
    encoder = AcceleratedEncoder(height_px=height_px, width_px=width_px, grid=grid, resize=load_kernel())
    out = np.empty((grid.n_tokens, PATCH_VALUES), np.float32)
    arguments = {"strips": range(grid.rows), "divide": False}
    encoder.encode(ArrayRows(rgb), out, **arguments)  # type: ignore[arg-type]
    assert np.array_equal(out, merge_patches(resize_rgb(ArrayRows(rgb), grid=grid)))
    benchmark(encoder.encode, ArrayRows(rgb), out, **arguments)


def test_merge_patches(benchmark: BenchmarkFixture) -> None:
    """Rescale and cut an image of 14×19 patches."""
    assert benchmark(merge_patches, photograph(height_px=672, width_px=912)).shape == (266, PATCH_VALUES)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_encode_image(benchmark: BenchmarkFixture, execution: Execution, height_px: int, width_px: int) -> None:
    """One array, as the processor encodes it."""
    images = [photograph(height_px=height_px, width_px=width_px)]
    expected = encode_images_with(Execution(), images)
    tensors = benchmark(encode_images_with, execution, images)
    assert all(np.array_equal(tensors[key], expected[key]) for key in expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_encode_into_given_memory(benchmark: BenchmarkFixture, kernel: Kernel, dtype: str) -> None:
    """A 640×480 image into an array that is there, in two dtypes."""
    rgb = photograph(height_px=480, width_px=640)
    grid = plan_image(height_px=480, width_px=640)
    out = np.empty((grid.n_tokens, PATCH_VALUES), dtype)
    benchmark(encode_image, ArrayRows(rgb), out, grid=grid, execution=Execution(kernel=kernel))
    assert np.array_equal(out, merge_patches(resize_rgb(ArrayRows(rgb), grid=grid)).astype(dtype))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_encode_video(benchmark: BenchmarkFixture, execution: Execution) -> None:
    """32 frames of 1280×720."""
    frames = clip(height_px=720, width_px=1280)
    expected = encode_video_with(Execution(), frames)
    tensors = benchmark(encode_video_with, execution, frames)
    assert all(np.array_equal(tensors[key], expected[key]) for key in expected)
