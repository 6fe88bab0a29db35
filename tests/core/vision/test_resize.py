"""The exact resize: weights, bits, independence of strips and of the BLAS, and errors."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemma4_mm.core.vision import bands, exact
from gemma4_mm.core.vision import resize as resample
from gemma4_mm.core.vision.exact import ExactResize, exact_dtype
from gemma4_mm.core.vision.resize import ArrayRows, StripResizer, resize_rgb
from gemma4_mm.core.vision.weights import axis_weights
from gemma4_mm.errors import InputError, InvariantError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.testing.strategies import PATTERNS, make_picture
from tests.core.pictures import resized
from tests.core.twins import slow_resize, slow_taps

CORNERS = [  # height, width → rows, columns
    (1, 1, 8, 8),
    (1, 70, 1, 70),
    (900, 1, 30, 1),
    (96, 96, 2, 2),  # nothing to do
    (96, 500, 2, 3),  # only along the rows
    (500, 144, 2, 3),  # only down the columns
    (97, 145, 2, 3),
    (2000, 1500, 1, 1),  # 41 inputs to an output, precision 20
    (300, 1700, 2, 6),
    (47, 49, 9, 10),
]


@pytest.fixture
def fresh():
    """Forget plans and the BLAS check before and after."""
    exact_dtype.cache_clear()
    resample._recent_plan.cache_clear()
    yield
    exact_dtype.cache_clear()
    resample._recent_plan.cache_clear()


@given(n_in=st.integers(1, 4000), patches=st.integers(1, 24))
@settings(max_examples=150)
@example(n_in=96, patches=2)
@example(n_in=1, patches=70)
@example(n_in=16_000, patches=1)
def test_weights_equal_the_slow_twin(n_in, patches):
    weights = axis_weights(n_in, patches * 48)
    taps, precision = slow_taps(n_in, patches * 48)
    assert weights.precision == precision
    ours = [
        [(int(start + j), int(tap)) for j, tap in enumerate(row[:size])]
        for start, size, row in zip(weights.starts, weights.sizes, weights.taps, strict=True)
    ]
    assert ours == taps
    assert not np.any(weights.taps[np.arange(weights.taps.shape[1]) >= weights.sizes[:, None]])


@pytest.mark.parity
@given(n_in=st.integers(1, 1500), patches=st.integers(1, 24))
@settings(max_examples=100)
def test_weights_are_those_of_torch(n_in, patches):
    """torch's float64 kernel tells its weights when it resizes the unit matrix; ours quantise to the same integers."""
    import torch

    weights = axis_weights(n_in, patches * 48)
    unit = torch.eye(n_in, dtype=torch.float64)[None, None]
    real = torch.ops.aten._upsample_bicubic2d_aa(unit, [n_in, patches * 48], False, None, None)[0, 0].numpy().T
    wanted = np.trunc(real * 2.0**weights.precision + np.copysign(0.5, real)).astype(np.int64)
    ours = np.zeros_like(wanted)
    for output, (start, size, taps) in enumerate(zip(weights.starts, weights.sizes, weights.taps, strict=True)):
        ours[output, start : start + size] = taps[:size]
    assert np.array_equal(ours, wanted)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("corner", CORNERS)
def test_corners_equal_the_slow_twin(corner, pattern):
    height_px, width_px, rows, columns = corner
    rgb = make_picture(pattern, height_px=height_px, width_px=width_px, seed=3)
    expected = slow_resize(rgb, height_px=rows * 48, width_px=columns * 48)
    assert np.array_equal(resized(rgb, rows=rows, columns=columns), expected)


@given(
    height_px=st.integers(1, 400),
    width_px=st.integers(1, 400),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    pattern=st.sampled_from(PATTERNS),
)
@settings(max_examples=60)
def test_any_size_equals_the_slow_twin(height_px, width_px, rows, columns, pattern):
    rgb = make_picture(pattern, height_px=height_px, width_px=width_px, seed=height_px)
    expected = slow_resize(rgb, height_px=rows * 48, width_px=columns * 48)
    assert np.array_equal(resized(rgb, rows=rows, columns=columns), expected)


@pytest.mark.parity
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("height_px", "width_px", "rows", "columns"),
    [*CORNERS, (1500, 2000, 14, 19), (720, 1280, 6, 11), (480, 640, 14, 19)],
)
def test_equal_to_torchvision(height_px, width_px, rows, columns, pattern):
    import torch
    from torchvision.transforms.v2 import functional

    rgb = make_picture(pattern, height_px=height_px, width_px=width_px, seed=5)
    image = torch.from_numpy(rgb).permute(2, 0, 1)
    bicubic = functional.InterpolationMode.BICUBIC
    oracle = functional.resize(image, [rows * 48, columns * 48], interpolation=bicubic, antialias=True)
    assert np.array_equal(resized(rgb, rows=rows, columns=columns), oracle.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("shape", [(500, 700, 3, 4), (90, 120, 6, 9), (288, 700, 6, 3), (700, 144, 4, 3)])
@pytest.mark.parametrize(
    ("strip_rows", "strip_bytes", "read_bytes"), [(1, 1, 1), (7, 20_000, 5_000), (4000, 1 << 30, 1 << 30)]
)
@pytest.mark.usefixtures("fresh")
def test_strips_do_not_change_a_bit(shape, strip_rows, strip_bytes, read_bytes, monkeypatch):
    height_px, width_px, rows, columns = shape
    rgb = make_picture("noise", height_px=height_px, width_px=width_px)
    expected = resized(rgb, rows=rows, columns=columns)
    resample._recent_plan.cache_clear()
    monkeypatch.setattr(resample, "_STRIP_ROWS", strip_rows)
    monkeypatch.setattr(resample, "_STRIP_BYTES", strip_bytes)
    monkeypatch.setattr(resample, "_READ_BYTES", read_bytes)
    assert np.array_equal(resized(rgb, rows=rows, columns=columns), expected)


def test_every_row_is_read_once_and_in_order():
    class Recorder(ArrayRows):
        def __init__(self, rgb):
            super().__init__(rgb)
            self.reads = []

        def rows(self, start, stop):
            self.reads.extend(range(start, stop))
            return super().rows(start, stop)

    source = Recorder(make_picture("noise", height_px=1000, width_px=400))
    resize_rgb(source, grid=PatchGrid(rows=9, columns=3))
    assert source.reads == list(range(1000))


@pytest.mark.parametrize(
    ("size", "most_calls"), [((480, 640, 14, 19), 350), ((1080, 1920, 12, 22), 200), ((3000, 4000, 14, 19), 420)]
)
def test_products_are_stacked_and_stay_on_the_calling_thread(size, most_calls, monkeypatch):
    """OpenBLAS starts its threads above a product of the sides, and numpy's calls cost more than small products do."""
    height_px, width_px, rows, columns = size
    products = []
    matmul = np.matmul

    def recorded(a, b, out=None):
        products.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", recorded)
    resized(make_picture("flat", height_px=height_px, width_px=width_px), rows=rows, columns=columns)
    assert 0 < max(products) <= bands.MAX_PRODUCT
    assert len(products) <= most_calls


# --- float32 that is exact, and what guards it


def sums_and_truth(band, pixels):
    """Float32 sums of a horizontal band as it computes them, and the same in Python's arithmetic."""
    sums = np.empty(band.padded_shape((len(pixels), len(band.outputs) * 3)), np.float32)
    band.multiply(pixels, band.matrices, out=sums)
    truth = np.empty((len(pixels), len(band.outputs) * 3))
    starts = axis_weights(band.inputs.stop, band.outputs.stop).starts
    for output, taps in enumerate(band.taps):
        window = pixels.reshape(len(pixels), -1, 3)[:, starts[output] :][:, : len(taps)].astype(np.int64)
        whole = np.einsum("rkc,k->rc", window, taps[: window.shape[1]])
        truth[:, output * 3 : output * 3 + 3] = whole / 2**band.precision
    return sums[:, : truth.shape[1]], truth


@pytest.mark.parametrize("pattern", ["noise", "extremes", "flat", "columns"])
@pytest.mark.parametrize("n_in", [30, 200, 400, 700, 1500, 4000, 9000])
def test_sums_are_within_their_bound(n_in, pattern):
    band = bands.HorizontalBand(axis_weights(n_in, 144), range(144))
    seed = 255  # flat: every pixel at the end of the range, the largest sums
    pixels = (
        make_picture(pattern, height_px=16, width_px=n_in, seed=seed).reshape(16, -1).astype(np.float32) - exact.CENTRE
    )
    bound = exact.error_bound(band.taps, precision=band.precision)
    assert (bound == 0.0) == (band.precision <= 16)
    sums, truth = sums_and_truth(band, pixels)
    assert np.abs(sums.astype(np.float64) - truth).max() <= bound


def paths_taken(rgb, *, rows, columns, monkeypatch):
    """How many results were summed again, and how many strips were done in float64."""
    again, double = [], []
    sum_again, resize_double = ExactResize._sum_again, ExactResize._resize_double
    monkeypatch.setattr(
        ExactResize, "_sum_again", lambda self, d, p, o: (again.append(d.size), sum_again(self, d, p, o))
    )
    monkeypatch.setattr(ExactResize, "_resize_double", lambda self, p, o: (double.append(1), resize_double(self, p, o)))
    resized(rgb, rows=rows, columns=columns)
    return sum(again), len(double)


def test_a_photograph_has_few_doubtful_results_and_a_checkerboard_many(monkeypatch):
    photo = make_picture("photo", height_px=1500, width_px=2000)
    again, double = paths_taken(photo, rows=5, columns=7, monkeypatch=monkeypatch)
    assert 0 < again < 0.002 * 1500 * 7 * 48 * 3
    assert double == 0
    board = make_picture("checkerboard", height_px=1500, width_px=2000)
    assert paths_taken(board, rows=5, columns=7, monkeypatch=monkeypatch)[1] > 0


def test_shrinking_less_than_fourfold_needs_no_second_look(monkeypatch):
    board = make_picture("checkerboard", height_px=900, width_px=900)
    assert paths_taken(board, rows=5, columns=5, monkeypatch=monkeypatch) == (0, 0)


def reduced_precision(matmul, kept_bits=8):
    """A matmul that reads float32 operands with `kept_bits` bits, as bfloat16 and TF32 units do."""

    def rounded(a):
        return (a.view(np.uint32) & np.uint32(0xFFFFFFFF << (24 - kept_bits) & 0xFFFFFFFF)).view(np.float32)

    def multiply(a, b, out=None):
        if a.dtype == np.float32:
            a, b = rounded(np.ascontiguousarray(a)), rounded(np.ascontiguousarray(b))
        return matmul(a, b, out=out)

    return multiply


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("kept_bits", [8, 11])
@pytest.mark.parametrize(("height_px", "width_px"), [(700, 500), (80, 100)])
def test_a_reduced_precision_blas_is_found_and_float64_used(kept_bits, height_px, width_px, monkeypatch):
    rgb = make_picture("extremes", height_px=height_px, width_px=width_px)
    expected = resized(rgb, rows=2, columns=3)
    monkeypatch.setattr(np, "matmul", reduced_precision(np.matmul, kept_bits))
    assert not np.array_equal(resized(rgb, rows=2, columns=3), expected), "the planted matmul must do harm"
    exact_dtype.cache_clear()
    assert exact_dtype() is np.float64
    assert np.array_equal(resized(rgb, rows=2, columns=3), expected)


@pytest.mark.usefixtures("fresh")
def test_a_blas_that_is_wrong_in_float64_too_is_refused(monkeypatch):
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, out=None: matmul(a, b, out=out) + 1)
    with pytest.raises(InvariantError, match="inexact even in float64"):
        exact_dtype()


def test_this_machine_uses_float32():
    assert exact_dtype() is np.float32


DIGEST_SIZES = [(480, 640, 14, 19), (1080, 1920, 12, 22), (1500, 2000, 5, 7), (3000, 1000, 2, 1), (100, 90, 9, 8)]


def digest():
    """SHA-256 over the resized noise and checkerboard of several sizes."""
    result = hashlib.sha256()
    for height_px, width_px, rows, columns in DIGEST_SIZES:
        for pattern in ("noise", "checkerboard"):
            result.update(
                resized(make_picture(pattern, height_px=height_px, width_px=width_px), rows=rows, columns=columns)
            )
    return result.hexdigest()


@pytest.fixture(scope="module")
def own_digest():
    return digest()


@pytest.mark.parametrize("kernel", [None, "Haswell", "Nehalem"])
def test_every_blas_kernel_gives_the_same_bits(kernel, own_digest):
    """None is OpenBLAS' own choice for this processor; other BLAS builds ignore the variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    if kernel is not None:
        environment |= {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_L2_SIZE": "512"}
    code = "from tests.core.vision.test_resize import digest; print(digest())"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == own_digest


# --- sources and errors


@pytest.mark.parametrize(
    "view",
    [
        lambda rgb: rgb[::-1],
        lambda rgb: rgb[:, ::-1],
        lambda rgb: rgb[..., ::-1],
        lambda rgb: rgb[::2, ::3],
        lambda rgb: rgb.transpose(1, 0, 2),
        lambda rgb: np.ascontiguousarray(rgb.transpose(2, 0, 1)).transpose(1, 2, 0),
        lambda rgb: np.broadcast_to(rgb[:1], rgb.shape),
    ],
)
def test_strides_do_not_matter(view):
    rgb = view(make_picture("noise", height_px=300, width_px=250))
    rgb.flags.writeable = False
    assert np.array_equal(resized(rgb, rows=3, columns=2), resized(rgb.copy(), rows=3, columns=2))


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.int16)]
)
def test_arrays_that_are_not_rgb_are_refused_in_words(wrong):
    with pytest.raises(InputError, match=r"it must be uint8 \(height, width, 3\)"):
        ArrayRows(wrong)


def test_empty_sources_are_refused_in_words():
    with pytest.raises(InputError, match="each side must be at least 1 px"):
        resized(np.zeros((0, 5, 3), np.uint8), rows=1, columns=1)


def test_a_source_of_another_size_is_refused_in_words():
    resizer = StripResizer(height_px=50, width_px=60, grid=PatchGrid(rows=1, columns=1))
    with pytest.raises(InputError, match="source is 61×50 px, but the resize was planned for 60×50 px"):
        next(resizer.strips(ArrayRows(np.zeros((50, 61, 3), np.uint8))))


def test_a_resizer_serves_many_sources():
    resizer = StripResizer(height_px=300, width_px=250, grid=PatchGrid(rows=3, columns=2))
    for seed in range(3):
        rgb = make_picture("noise", height_px=300, width_px=250, seed=seed)
        levels = np.concatenate([strip.levels for strip in map(kept, resizer.strips(ArrayRows(rgb)))])
        assert np.array_equal(levels.reshape(144, 96, 3), resized(rgb, rows=3, columns=2))


def kept(strip):
    """A strip's levels are overwritten by the next one."""
    return resample.Strip(first_row=strip.first_row, levels=strip.levels.copy())
