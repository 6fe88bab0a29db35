"""Mistakes with pictures, up to the resize.

Each deviates at one step of the way: source, size or resize. The steps after it are then taken as they should be, so
that it is recognised in every stage from there on.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.conformance.cases.defaults import IMAGE_SOFT_TOKENS, VIDEO_SOFT_TOKENS
from gemma4_mm.conformance.oracle import given
from gemma4_mm.conformance.records import CaseKind
from gemma4_mm.conformance.suspects.resizes import RESIZES
from gemma4_mm.conformance.suspects.scene import Scene, Theory
from gemma4_mm.core.vision.geometry import plan_image, position_ids
from gemma4_mm.core.vision.patches import Rescale, merge_patches
from gemma4_mm.core.vision.resize import ArrayRows, resize_rgb
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import PatchGrid
from gemma4_mm.optional import require
from gemma4_mm.spec import MERGED_PATCH_PX, PATCH_VALUES, SOFT_TOKEN_BUDGETS

Rgb = NDArray[np.uint8]
_VISION: Final[tuple[CaseKind, ...]] = ("image", "video")
_RGBA: Final = 4  # channels
NO_NEW_MISTAKE: Final = "no new mistake"
_SIZED: Final = ("target_size", "resized_rgb", "patches", "position_ids", "soft_tokens")
_TURNS: Final = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
                 7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
_WRONG_TURNS: Final = {6: 8, 8: 6, 5: 7, 7: 5}


# Steps. A source is one picture, or all sampled frames of a video.


def _budget(scene: Scene) -> int:
    default = IMAGE_SOFT_TOKENS if scene.case.kind == "image" else VIDEO_SOFT_TOKENS
    budget: int = scene.case.options.get("max_soft_tokens", default)
    return budget


def _sources(scene: Scene) -> NDArray[np.uint8] | None:
    """The pictures before the resize, uint8 `(pictures, height, width, 3)`."""
    if scene.case.kind == "image":
        source = scene.expected.get("source_rgb")
        return None if source is None else source[None]
    frames, right, own = scene.case.inputs["frames"], scene.expected["frame_indices"], scene.actual.get("frame_indices")
    if not scene.case.options.get("do_sample_frames", True):
        return frames
    # Which frames are taken is a stage of its own: the others are judged by the subject's choice.
    usable = own is not None and own.shape == right.shape and own.min() >= 0 and own.max() < len(frames)
    return frames[own if usable else right]


def _grid(scene: Scene) -> PatchGrid:
    height, width = scene.expected["target_size"].tolist()
    return PatchGrid(rows=height // MERGED_PATCH_PX, columns=width // MERGED_PATCH_PX)


def _resize_right(pictures: NDArray[np.uint8], grid: PatchGrid) -> Rgb:
    return np.stack([resize_rgb(ArrayRows(np.ascontiguousarray(picture)), grid=grid) for picture in pictures])


def _finish(
    scene: Scene, stage: str, *, resized: Rgb, budget: int, rescale: Rescale | None = None
) -> NDArray[Any] | None:
    """The stage that follows from resized pictures, uint8 `(pictures, height, width, 3)`; rescaled right by default."""
    grid = PatchGrid(rows=resized.shape[1] // MERGED_PATCH_PX, columns=resized.shape[2] // MERGED_PATCH_PX)
    is_image = scene.case.kind == "image"
    if stage == "resized_rgb":
        return np.asarray(resized[0] if is_image else resized)
    if stage == "target_size":
        return np.array([grid.height_px, grid.width_px], np.int32)
    if stage == "soft_tokens":
        return np.full(len(resized), grid.n_tokens, np.int32)
    if stage == "position_ids":
        ids = np.full((len(resized), budget, 2), -1, np.int32)
        ids[:, : grid.n_tokens] = position_ids(grid)
        return ids[0] if is_image else ids
    rescale = rescale or ("multiply" if is_image else "divide")
    patches = np.zeros((len(resized), budget, PATCH_VALUES), np.float32)
    for rows, picture in zip(patches, resized, strict=True):
        rows[: grid.n_tokens] = merge_patches(picture, rescale=rescale)
    return patches[0] if is_image else patches


def _from_sources(scene: Scene, stage: str, pictures: NDArray[np.uint8], *, key: str) -> NDArray[Any] | None:
    """The stage that follows from other pictures, all further steps right."""
    if stage == "source_rgb":
        return np.asarray(pictures[0])
    height, width = pictures.shape[1:3]
    grid = plan_image(height_px=height, width_px=width, max_soft_tokens=_budget(scene))
    resized = scene.once(key, lambda: _resize_right(pictures, grid))
    return _finish(scene, stage, resized=resized, budget=_budget(scene))


# Other sources.


def _composite(colour: tuple[int, int, int, int]) -> Callable[[Scene], Rgb | None]:
    def compute(scene: Scene) -> Rgb | None:
        if (rgba := _with_alpha(scene)) is None:
            return None
        pillow = require("PIL.Image")
        return np.array(pillow.alpha_composite(pillow.new("RGBA", rgba.size, colour), rgba).convert("RGB"))

    return compute


def _drop_alpha(scene: Scene) -> Rgb | None:
    rgba = _with_alpha(scene)
    return None if rgba is None else np.array(rgba)[..., :3]


def _with_alpha(scene: Scene) -> Any:
    """The picture in Pillow's mode RGBA; None if nothing of it is transparent."""
    if scene.case.options.get("given_as") == "array":
        pixels = scene.case.inputs["pixels"]
        return require("PIL.Image").fromarray(pixels) if pixels.ndim == 3 and pixels.shape[2] == _RGBA else None
    picture = given.make_picture(scene.case.inputs, scene.case.options)
    return picture.convert("RGBA") if "A" in picture.getbands() or "transparency" in picture.info else None


def _turned(wrong: Mapping[int, int] | None) -> Callable[[Scene], Rgb | None]:
    """The file's picture without its EXIF orientation, or turned by a wrong one."""

    def compute(scene: Scene) -> Rgb | None:
        orientation = scene.case.options.get("exif_orientation")
        if orientation is None or (wrong is not None and orientation not in wrong):
            return None
        picture = given.make_picture(scene.case.inputs, scene.case.options).convert("RGB")
        if wrong is not None:
            picture = picture.transpose(require("PIL.Image").Transpose[_TURNS[wrong[orientation]]])
        return np.array(picture)

    return compute


def _apply_profile(scene: Scene) -> Rgb | None:
    if "icc_profile" not in scene.case.inputs:
        return None
    colours, io = require("PIL.ImageCms"), require("io")
    profile = colours.ImageCmsProfile(io.BytesIO(scene.case.inputs["icc_profile"].tobytes()))
    picture = given.make_picture(scene.case.inputs, scene.case.options).convert("RGB")
    return np.array(colours.profileToProfile(picture, profile, colours.createProfile("sRGB"), outputMode="RGB"))


def _rearranged(rearrange: Callable[[Rgb], Rgb]) -> Callable[[Scene], Rgb | None]:
    def compute(scene: Scene) -> Rgb | None:
        sources = _sources(scene)
        return None if sources is None else rearrange(sources)

    return compute


def _planes_as_pixels(pictures: Rgb) -> Rgb:
    """Bytes of planes (3, height, width) read as interleaved pixels."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(pictures.shape)


_SOURCES: Final[Mapping[str, tuple[str, Callable[[Scene], Rgb | None]]]] = {
    "alpha-on-black": ("alpha composited on black instead of white", _composite((0, 0, 0, 255))),
    "alpha-dropped": ("alpha dropped, so that hidden colours show", _drop_alpha),
    "exif-ignored": ("EXIF orientation ignored", _turned(None)),
    "exif-backwards": ("EXIF orientation applied the wrong way round", _turned(_WRONG_TURNS)),
    "icc-applied": ("the embedded colour profile applied", _apply_profile),
    "bgr": ("red and blue exchanged (BGR)", _rearranged(lambda pictures: pictures[..., ::-1])),
    "chw-as-hwc": ("planes (CHW) read as interleaved pixels (HWC)", _rearranged(_planes_as_pixels)),
    "rows-as-columns": ("rows and columns exchanged", _rearranged(lambda pictures: pictures.swapaxes(1, 2))),
}


def _source_theory(name: str, words: str, make: Callable[[Scene], Rgb | None]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        if scene.case.kind == "video" and (stage == "source_rgb" or make in _IMAGE_ONLY):
            return None
        source = make(scene)
        if source is None:
            return None
        return _from_sources(scene, stage, source[None] if source.ndim == 3 else source, key=name)

    return Theory(name=name, words=words, kinds=_VISION, stages=("source_rgb", *_SIZED), compute=compute)


_IMAGE_ONLY: Final = tuple(
    _SOURCES[name][1] for name in ("alpha-on-black", "alpha-dropped", "exif-ignored", "exif-backwards", "icc-applied")
)


# Other sizes.


def _scaled_down_only(height: int, width: int, grid: PatchGrid, budget: int) -> PatchGrid | None:  # noqa: ARG001
    if height >= grid.height_px and width >= grid.width_px:
        return None
    return PatchGrid(rows=max(height // MERGED_PATCH_PX, 1), columns=max(width // MERGED_PATCH_PX, 1))


def _rounded_to_nearest(height: int, width: int, grid: PatchGrid, budget: int) -> PatchGrid | None:  # noqa: ARG001
    factor = (budget * MERGED_PATCH_PX**2 / (height * width)) ** 0.5
    rows, columns = (max(round(factor * side / MERGED_PATCH_PX), 1) for side in (height, width))
    return PatchGrid(rows=rows, columns=columns)


_SIZES: Final[Mapping[str, tuple[str, Callable[[int, int, PatchGrid, int], PatchGrid | None]]]] = {
    "not-scaled-up": ("a small picture that is not scaled up to fill the budget", _scaled_down_only),
    "size-rounded": ("sides rounded to the nearest multiple of 48 instead of down", _rounded_to_nearest),
    "height-as-width": (
        "height and width exchanged",
        lambda _height, _width, grid, _budget: PatchGrid(rows=grid.columns, columns=grid.rows),
    ),
}


def _size_theory(name: str, words: str, make: Callable[[int, int, PatchGrid, int], PatchGrid | None]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        sources, budget = _sources(scene), _budget(scene)
        if sources is None:
            return None
        grid = make(sources.shape[1], sources.shape[2], _grid(scene), budget)
        if grid is None or grid.n_tokens > budget:
            return None
        resized = scene.once(name, lambda: _resize_right(sources, grid))
        return _finish(scene, stage, resized=resized, budget=budget)

    return Theory(name=name, words=words, kinds=_VISION, stages=_SIZED, compute=compute)


def _budget_theory(budget: int) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        sources = _sources(scene)
        if sources is None or budget == _budget(scene):
            return None
        try:
            grid = plan_image(height_px=sources.shape[1], width_px=sources.shape[2], max_soft_tokens=budget)
        except InputError:
            return None
        resized = scene.once(("budget", budget), lambda: _resize_right(sources, grid))
        return _finish(scene, stage, resized=resized, budget=budget)

    words = f"a budget of {budget} soft tokens instead of the one asked for"
    return Theory(name=f"budget-{budget}", words=words, kinds=_VISION, stages=_SIZED, compute=compute)


# Other resizes.


def _resize_theory(name: str, words: str, resize: Callable[[Rgb, PatchGrid], Rgb]) -> Theory:
    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        sources = _sources(scene)
        if sources is None:
            return None
        grid = _grid(scene)
        resized = scene.once(name, lambda: np.stack([resize(np.ascontiguousarray(s), grid) for s in sources]))
        return _finish(scene, stage, resized=resized, budget=_budget(scene))

    return Theory(name=name, words=words, kinds=_VISION, stages=("resized_rgb", "patches"), compute=compute)


def _column_major(scene: Scene, stage: str) -> NDArray[Any] | None:
    """Patches, or their positions, of one grid column after the other."""
    values, grid = scene.expected[stage].copy(), _grid(scene)
    order = np.arange(grid.n_tokens).reshape(grid.rows, grid.columns).T.ravel()
    values[..., : grid.n_tokens, :] = values[..., order, :]
    return values


# Consequences: the subject's own earlier stage, taken further as it should be.


def _follows(step: Literal["source_rgb", "resized_rgb"]) -> Theory:
    later = _SIZED if step == "source_rgb" else ("patches",)

    def compute(scene: Scene, stage: str) -> NDArray[Any] | None:
        own, right = scene.actual.get(step), scene.expected.get(step)
        if own is None or own.dtype != np.uint8 or own.shape[-1:] != (3,):
            return None
        if right is not None and own.shape == right.shape and (own == right).all():
            return None
        pictures = own[None] if own.ndim == 3 else own
        try:
            if step == "source_rgb":
                return _from_sources(scene, stage, pictures, key=f"own {step}")
            return _finish(scene, stage, resized=pictures, budget=_budget(scene))
        except InputError:
            return None

    words = f"{NO_NEW_MISTAKE}: it follows from {step}, which differs already"
    return Theory(
        name=f"follows-from-{step.replace('_', '-')}", words=words, kinds=_VISION, stages=later, compute=compute
    )


def _follows_multiplied(scene: Scene, stage: str) -> NDArray[Any] | None:
    """Frames that differ already, and are rescaled as an image besides."""
    own, right = scene.actual["resized_rgb"], scene.expected["resized_rgb"]
    if own.dtype != np.uint8 or own.shape != right.shape or (own == right).all():
        return None
    return _finish(scene, stage, resized=own, budget=_budget(scene), rescale="multiply")


PICTURE_THEORIES: Final = (
    *(_source_theory(name, *row) for name, row in _SOURCES.items()),
    *(_size_theory(name, *row) for name, row in _SIZES.items()),
    *map(_budget_theory, SOFT_TOKEN_BUDGETS),
    *(_resize_theory(name, *row) for name, row in RESIZES.items()),
    Theory(
        name="column-major-patches",
        words="patches taken column by column instead of row by row",
        kinds=_VISION,
        stages=("patches", "position_ids"),
        compute=_column_major,
    ),
    _follows("source_rgb"),
    _follows("resized_rgb"),
    Theory(
        name="follows-multiplied",
        words="resized_rgb taken as it is, but levels multiplied by 1/255, where a video's are divided by 255",
        kinds=("video",),
        stages=("patches",),
        compute=_follows_multiplied,
    ),
)
