"""The compiled kernel: every bit numpy's, on any processor, inside its memory, and refused where it is not exact."""

import ctypes
import hashlib
import mmap
import os
import platform
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.core.vision.geometry import plan_image
from gemma4_mm.core.vision.kernels import accelerated, kernel
from gemma4_mm.core.vision.kernels.accelerated import AcceleratedEncoder, check_range, pair_weights
from gemma4_mm.core.vision.kernels.kernel import check_kernel, choose_kernel, load_kernel
from gemma4_mm.core.vision.patches import PatchEncoder, encode_frames, encode_image
from gemma4_mm.core.vision.resize import ArrayRows
from gemma4_mm.core.vision.weights import AxisWeights, axis_weights
from gemma4_mm.errors import InputError, InvariantError, MissingDependencyError
from gemma4_mm.execution import Execution
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.spec import PATCH_VALUES
from gemma4_mm.testing.strategies import PATTERNS, budgets, make_picture, pictures
from tests.core.twins import slow_patches, slow_resize
from tests.core.vision.test_resize import CORNERS

NUMBA = Execution(kernel="numba")
DTYPES = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
VIEWS = {
    "plain": lambda rgb: rgb,
    "four bytes a pixel": lambda rgb: np.concatenate([rgb, rgb[..., :1]], axis=2)[..., :3],
    "the last three of four": lambda rgb: np.concatenate([rgb[..., :1], rgb], axis=2)[..., 1:],
    "upside down": lambda rgb: rgb[::-1],
    "mirrored": lambda rgb: rgb[:, ::-1],
    "BGR": lambda rgb: rgb[..., ::-1],
    "every other row": lambda rgb: rgb[::2],
    "every third column": lambda rgb: rgb[:, ::3],
    "transposed": lambda rgb: rgb.transpose(1, 0, 2),
    "planes": lambda rgb: np.ascontiguousarray(rgb.transpose(2, 0, 1)).transpose(1, 2, 0),
    "one row": lambda rgb: np.broadcast_to(rgb[:1], rgb.shape),
    "gray": lambda rgb: np.broadcast_to(rgb[..., :1], rgb.shape),
    "cropped": lambda rgb: rgb[rgb.shape[0] // 5 :, rgb.shape[1] // 7 :],
}


@pytest.fixture
def fresh():
    """Forget the kernel and what `auto` has seen, before and after."""
    caches = (load_kernel, kernel._auto, accelerated._recent_plan)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def encoded(rgb, grid, *, execution=NUMBA, rescale="multiply", dtype=np.float32):
    """Patches, written between two rows that must stay as they are."""
    memory = np.full((grid.n_tokens + 2, PATCH_VALUES), 7, dtype)
    encode_image(ArrayRows(rgb), memory[1:-1], grid=grid, rescale=rescale, execution=execution)
    assert (memory[0] == 7).all()
    assert (memory[-1] == 7).all()
    return memory[1:-1]


def same_bits(ours, theirs):
    return np.array_equal(ours.view(np.uint8), np.ascontiguousarray(theirs).view(np.uint8))


# --- every bit numpy's


@given(
    rgb=pictures(max_side_px=1600),
    view=st.sampled_from(sorted(VIEWS)),
    budget=budgets(),
    rescale=st.sampled_from(["multiply", "divide"]),
    dtype=st.sampled_from(DTYPES),
    threads=st.sampled_from([1, 2]),
)
@settings(max_examples=500)
def test_any_image_equals_numpy(rgb, view, budget, rescale, dtype, threads):
    rgb = VIEWS[view](rgb)
    try:
        grid = plan_image(height_px=rgb.shape[0], width_px=rgb.shape[1], max_soft_tokens=budget)
    except InputError:
        return
    numpy = encoded(rgb, grid, rescale=rescale, execution=Execution())
    execution = Execution(kernel="numba", threads=threads)
    assert same_bits(encoded(rgb, grid, rescale=rescale, dtype=dtype, execution=execution), numpy.astype(dtype))


@given(
    height_px=st.sampled_from([1, 2, 47, 48, 49, 95, 96, 97, 144, 145, 191, 192, 193, 288, 400]),
    width_px=st.sampled_from([1, 2, 47, 48, 49, 95, 96, 97, 143, 144, 192, 240, 241, 288, 400]),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    pattern=st.sampled_from(PATTERNS),
    threads=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=200)
def test_any_grid_equals_numpy(height_px, width_px, rows, columns, pattern, threads):
    """Not only the grids that `plan_image` chooses: axes of equal length, and both directions in one image."""
    rgb = make_picture(pattern, height_px=height_px, width_px=width_px, seed=width_px)
    grid = PatchGrid(rows=rows, columns=columns)
    numpy = encoded(rgb, grid, execution=Execution())
    assert same_bits(encoded(rgb, grid, execution=Execution(kernel="numba", threads=threads)), numpy)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("corner", CORNERS)
def test_corners_equal_the_slow_twin(corner, pattern):
    height_px, width_px, rows, columns = corner
    rgb = make_picture(pattern, height_px=height_px, width_px=width_px, seed=3)
    levels = slow_resize(rgb, height_px=rows * 48, width_px=columns * 48)
    assert same_bits(encoded(rgb, PatchGrid(rows=rows, columns=columns)), slow_patches(levels, "multiply"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rescale", ["multiply", "divide"])
def test_all_levels_in_every_dtype(rescale, dtype):
    ramp = np.resize(np.arange(256, dtype=np.uint8), (48, 96, 3))
    ours = encoded(ramp, PatchGrid(rows=1, columns=2), rescale=rescale, dtype=dtype)
    assert same_bits(ours, slow_patches(ramp, rescale).astype(dtype))


@pytest.mark.parametrize(
    ("height_px", "width_px", "rows", "columns"), [(500, 700, 3, 4), (90, 120, 6, 9), (1200, 50, 4, 1)]
)
@pytest.mark.parametrize(
    ("read_bytes", "block_px", "block_outputs"), [(1, 1, 1), (40_000, 64, 3), (1 << 30, 1 << 30, 1)]
)
@pytest.mark.usefixtures("fresh")
def test_strips_and_blocks_do_not_change_a_bit(
    height_px, width_px, rows, columns, read_bytes, block_px, block_outputs, monkeypatch
):
    rgb, grid = make_picture("noise", height_px=height_px, width_px=width_px), PatchGrid(rows=rows, columns=columns)
    expected = encoded(rgb, grid, execution=Execution())
    monkeypatch.setattr(accelerated, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(accelerated, "_BLOCK_PX", block_px)
    monkeypatch.setattr(accelerated, "_BLOCK_OUTPUTS", block_outputs)
    assert same_bits(encoded(rgb, grid), expected)
    assert same_bits(encoded(rgb[:, ::-1].copy()[:, ::-1], grid), expected), "copied strip by strip"


@pytest.mark.parametrize("threads", [1, 2, 5, 40])
def test_frames_on_threads_equal_numpy(threads):
    frames = np.stack([make_picture("noise", height_px=300, width_px=401, seed=seed) for seed in range(7)])
    grid = PatchGrid(rows=4, columns=5)
    expected = np.zeros((7, 20, PATCH_VALUES), np.float32)
    encode_frames(frames, expected, grid=grid)
    out = np.zeros_like(expected)
    encode_frames((frame for frame in frames), out, grid=grid, execution=Execution(kernel="numba", threads=threads))
    assert same_bits(out, expected)
    encode_frames(frames, out, grid=grid, execution=Execution(threads=threads))
    assert same_bits(out, expected)


# --- the live oracle


@pytest.mark.parity
@given(rgb=pictures(), budget=budgets())
@settings(max_examples=60)
def test_images_equal_the_oracle(rgb, budget):
    from PIL import Image
    from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor

    try:
        grid = plan_image(height_px=rgb.shape[0], width_px=rgb.shape[1], max_soft_tokens=budget)
    except InputError:
        return
    theirs = Gemma4UnifiedImageProcessor()(Image.fromarray(rgb), max_soft_tokens=budget, return_tensors="np")
    assert same_bits(encoded(rgb, grid), theirs["pixel_values"][0, : grid.n_tokens])


@pytest.mark.parity
@given(rgb=pictures(max_side_px=1300), budget=budgets())
@settings(max_examples=20)
def test_frames_equal_the_oracle(rgb, budget):
    from transformers.models.gemma4_unified.video_processing_gemma4_unified import Gemma4UnifiedVideoProcessor

    grid = plan_image(height_px=rgb.shape[0], width_px=rgb.shape[1], max_soft_tokens=budget)
    theirs = Gemma4UnifiedVideoProcessor()(
        [rgb.transpose(2, 0, 1)[None]],
        input_data_format="channels_first",
        max_soft_tokens=budget,
        do_sample_frames=False,
        return_tensors="np",
    )
    assert same_bits(encoded(rgb, grid, rescale="divide"), theirs["pixel_values_videos"][0, : grid.n_tokens])


@pytest.mark.parity
@pytest.mark.parametrize("pattern", ["photo", "checkerboard"])
def test_a_large_image_equals_the_oracle(pattern):
    from PIL import Image
    from transformers.models.gemma4_unified.image_processing_gemma4_unified import Gemma4UnifiedImageProcessor

    from tests.media.loading import load_image

    image = Image.fromarray(make_picture(pattern, height_px=3000, width_px=4000))
    theirs = Gemma4UnifiedImageProcessor()(image, return_tensors="np")["pixel_values"][0]
    grid = plan_image(height_px=3000, width_px=4000)
    ours = np.zeros_like(theirs)
    encode_image(load_image(image), ours, grid=grid, execution=Execution(kernel="numba", threads=2))
    assert same_bits(ours, theirs)


# --- no sum overflows


@given(n_in=st.integers(1, 200_000), patches=st.integers(1, 1120))
@settings(max_examples=300)
def test_weights_of_any_axis_are_within_the_range(n_in, patches):
    pair_weights(n_in, patches * 48)


@pytest.mark.parametrize("n_in", [1, 2, 3, 47, 49, 48 * 2**10 + 1, 48 * 2**15, 9_000_000])
def test_the_stated_bound_holds_at_the_ends(n_in):
    """The magnitudes of one output's weights add up to less than 1.3; precision 22 is the largest."""
    weights = axis_weights(n_in, 48)
    total = int(np.abs(weights.taps).sum(axis=1).max())
    assert total < 1.3 * 2**weights.precision
    assert 255 * total + 2**weights.precision // 2 < 255 * 1.3 * 2**22 + 2**21 < 2**30.4
    check_range(weights.taps, precision=weights.precision)


def extreme_weights(n_taps, largest):
    """48 outputs of the same `n_taps` inputs, weighted at the limit of int16, with every pattern of signs."""
    generator = np.random.default_rng(n_taps)
    signs = generator.choice([-1, 1], (48, n_taps))
    signs[0], signs[1], signs[2] = 1, -1, np.resize([1, -1], n_taps)
    taps = signs * largest
    return AxisWeights(
        n_in=n_taps, n_out=48, starts=np.zeros(48, int), sizes=np.full(48, n_taps), taps=taps, precision=22
    )


@pytest.mark.usefixtures("fresh")
def test_sums_are_right_up_to_the_last_value_of_int32(monkeypatch):
    """The largest sum that the check admits: 256 weights of 2^15 - 1 on pixels of 255."""
    n_taps = 256
    weights = extreme_weights(n_taps, (1 << 15) - 1)
    assert (1 << 31) - (1 << 24) < 255 * n_taps * ((1 << 15) - 1) + (1 << 21) < 1 << 31
    load_kernel()  # its check needs true weights
    monkeypatch.setattr(accelerated, "axis_weights", lambda _n_in, _n_out: weights)
    rgb = np.full((n_taps, n_taps, 3), 255, np.uint8)
    rgb[:, :, 1] = 254
    sums = np.einsum("ok,kc->oc", weights.taps, rgb[0].astype(np.int64))
    across = np.clip(sums + (1 << 21) >> 22, 0, 255)
    down = np.clip(weights.taps.sum(axis=1)[:, None, None] * across[None] + (1 << 21) >> 22, 0, 255)
    ours = encoded(rgb, PatchGrid(rows=1, columns=1)).reshape(48, 48, 3)
    assert set(np.unique(across)) >= {0, 255}
    assert np.array_equal(ours, down.astype(np.float32) * np.float32(1 / 255))


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("n_taps", "largest"), [(257, (1 << 15) - 1), (4, 1 << 15)])
def test_weights_beyond_the_range_are_refused(n_taps, largest, monkeypatch):
    monkeypatch.setattr(accelerated, "axis_weights", lambda _n_in, _n_out: extreme_weights(n_taps, largest))
    with pytest.raises(InvariantError, match="weights of precision 22 could sum to"):
        pair_weights(n_taps, 48)


# --- memory


def guarded(n_bytes, *, at_end):
    """`n_bytes` next to a page that may not be touched; reading it ends the process."""
    page = mmap.PAGESIZE
    n_pages = -(-n_bytes // page)
    memory = mmap.mmap(-1, (n_pages + 1) * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    guard = address + n_pages * page if at_end else address
    assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    start = n_pages * page - n_bytes if at_end else page
    return np.frombuffer(memory, np.uint8, n_bytes, start)


def touch_the_ends():
    """Encode images whose first or last byte lies beside a guard page, into patches that do, too."""
    for height_px, width_px in [(100, 130), (100, 131), (17, 1), (17, 2), (17, 3), (1, 50), (49, 48), (300, 600)]:
        rgb = make_picture("noise", height_px=height_px, width_px=width_px)
        grid = PatchGrid(rows=2, columns=3)
        expected = encoded(rgb, grid, execution=Execution())
        for at_end in (False, True):
            for pixel_bytes in (3, 4):
                size = height_px * width_px * pixel_bytes
                source = guarded(size, at_end=at_end).reshape(height_px, width_px, pixel_bytes)[..., -3:]
                source[...] = rgb
                for dtype in DTYPES:
                    n_values = grid.n_tokens * PATCH_VALUES
                    out = guarded(n_values * dtype.itemsize, at_end=at_end).view(dtype).reshape(-1, PATCH_VALUES)
                    encode_image(ArrayRows(source), out, grid=grid, execution=NUMBA)
                    assert same_bits(out, expected.astype(dtype))


@pytest.mark.skipif(sys.platform == "win32", reason="a system without mprotect")
def test_nothing_is_touched_beyond_either_end():
    code = "from tests.core.vision.test_kernel import touch_the_ends; touch_the_ends(); print('whole')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "whole", f"exit code {run.returncode}\n{run.stderr}"


# --- any processor


def digest():
    """SHA-256 over patches of several sizes."""
    result = hashlib.sha256()
    for height_px, width_px, rows, columns in [
        (480, 640, 14, 19),
        (720, 1280, 6, 11),
        (3000, 1000, 2, 1),
        (100, 90, 9, 8),
    ]:
        rgb, grid = make_picture("noise", height_px=height_px, width_px=width_px), PatchGrid(rows=rows, columns=columns)
        result.update(encoded(rgb, grid).tobytes())
        result.update(encoded(rgb, grid, dtype=np.float16, rescale="divide").tobytes())
    return result.hexdigest()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 features")
@pytest.mark.parametrize("features", ["", "+avx2", "portable"])
def test_other_instructions_give_the_same_bits(features, tmp_path):
    """As numba compiles for processors without AVX-512, without AVX2, and of other makes."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features.replace("portable", "")}
    portable = "import gemma4_mm.core.vision.kernels.compiled as c; c.x86_pair_sums = lambda *_: None; "
    patch = portable if features == "portable" else ""
    code = f"{patch}from tests.core.vision.test_kernel import digest; print(digest())"
    # A folder of its own: numba's cache knows the processor, but not that a function was exchanged.
    environment["NUMBA_CACHE_DIR"] = str(tmp_path)
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


# --- what is refused, and what is chosen


@pytest.mark.usefixtures("fresh")
def test_a_kernel_that_is_off_by_one_level_is_found(monkeypatch):
    exact = load_kernel()

    def off(*arguments):
        stopped = exact(*arguments)
        ctypes.c_float.from_address(arguments[7] + 492).value += 1 / 255
        return stopped

    check_kernel(exact)
    with pytest.raises(InvariantError, match="is not exact; use Execution"):
        check_kernel(off)
    load_kernel.cache_clear()
    monkeypatch.setattr("gemma4_mm.core.vision.kernels.compiled.resize_strip", off)
    rgb, grid = make_picture("noise", height_px=60, width_px=70), PatchGrid(rows=1, columns=1)
    with pytest.raises(InvariantError, match="is not exact"):
        encoded(rgb, grid)
    # `auto` goes on with numpy, and does not ask again
    monkeypatch.setattr(kernel, "_LOADING_PX_IMPORTED", 0)
    assert same_bits(encoded(rgb, grid, execution=Execution(kernel="auto")), encoded(rgb, grid, execution=Execution()))
    monkeypatch.undo()
    assert choose_kernel("auto", grid=grid, height_px=10**5, width_px=10**5) is None


@pytest.mark.usefixtures("fresh")
def test_a_kernel_that_stops_early_is_found():
    encoder = AcceleratedEncoder(height_px=60, width_px=70, grid=PatchGrid(rows=1, columns=1), resize=lambda *_: 47)
    source = ArrayRows(np.zeros((60, 70, 3), np.uint8))
    with pytest.raises(InvariantError, match="stopped at row 47 of 48"):
        encoder.encode(source, np.zeros((1, PATCH_VALUES), np.float32), strips=range(1), divide=False)


@pytest.mark.usefixtures("fresh")
def test_without_numba_the_install_command_is_named_and_auto_is_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gemma4-mm\[fast\]'"):
        Execution(kernel="numba")
    with pytest.raises(MissingDependencyError, match=r"pip install 'gemma4-mm\[fast\]'"):
        load_kernel()
    assert choose_kernel("auto", grid=PatchGrid(rows=1, columns=1), height_px=10**6, width_px=10**6) is None


@pytest.mark.usefixtures("fresh")
def test_a_numba_that_cannot_run_here_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "gemma4_mm.core.vision.kernels.compiled", raising=False)
    monkeypatch.setitem(sys.modules, "llvmlite.ir", None)
    monkeypatch.setattr("importlib.import_module", refuse(sys.modules["importlib"].import_module))
    with pytest.raises(MissingDependencyError, match=r"Numba needs NumPy 2.0 or less.*pip install -U"):
        load_kernel()


def refuse(import_module):
    def wrapped(name, *rest):
        if name == "gemma4_mm.core.vision.kernels.compiled":
            raise ImportError("Numba needs NumPy 2.0 or less")
        return import_module(name, *rest)

    return wrapped


@pytest.mark.usefixtures("fresh")
def test_auto_begins_with_numpy_and_goes_over_when_loading_has_paid():
    grid = PatchGrid(rows=1, columns=1)
    shape = {"grid": grid, "height_px": 1000, "width_px": kernel._LOADING_PX_IMPORTED // 3000}
    assert choose_kernel("auto", **shape) is None
    assert choose_kernel("auto", **shape) is None
    assert choose_kernel("auto", **shape) is load_kernel()
    assert choose_kernel("auto", grid=grid, height_px=1, width_px=1) is load_kernel()
    assert choose_kernel("numpy", **shape) is None


@pytest.mark.usefixtures("fresh")
def test_auto_uses_a_kernel_that_is_there_and_sees_many_frames_at_once():
    grid = PatchGrid(rows=1, columns=1)
    frames = {"grid": grid, "height_px": 1000, "width_px": 1000, "n_sources": 200}
    assert choose_kernel("auto", **frames) is load_kernel()
    kernel._auto.cache_clear()
    assert choose_kernel("auto", grid=grid, height_px=1, width_px=1) is load_kernel()


def test_a_source_of_another_size_is_refused_in_words():
    encoder = PatchEncoder(
        height_px=50, width_px=60, grid=PatchGrid(rows=1, columns=1), rescale="multiply", execution=NUMBA
    )
    with pytest.raises(InputError, match="source is 61×50 px, but the resize was planned for 60×50 px"):
        encoder.encode(ArrayRows(np.zeros((50, 61, 3), np.uint8)), np.zeros((1, PATCH_VALUES), np.float32))


def test_numba_without_a_folder_for_its_cache_compiles_anew():
    environment = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}  # none that fits a plain file
    code = "from gemma4_mm.core.vision.kernels.kernel import load_kernel; print(load_kernel().stats.cache_path)"
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "None", run.stderr
