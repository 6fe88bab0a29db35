"""Media and arguments beside the common ones: equal in bits, types and errors, whoever computes them."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gemma4_mm.testing.strategies.images import IMAGE_MODES, ambiguous_arrays, budgets, images, in_mode, make_picture
from tests.hf.same import compare

pytestmark = pytest.mark.parity

PHOTO = make_picture("photo", height_px=60, width_px=83)
RGBA = np.concatenate([PHOTO, PHOTO[..., :1][::-1]], axis=2)
PLANES = np.ascontiguousarray(PHOTO.transpose(2, 0, 1))
NORMALIZED = {"do_normalize": True, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


def tensor(array):
    import torch

    return torch.from_numpy(array.copy())


class Marked(np.ndarray):
    """A subclass that torch would take for its memory alone."""


def gif():
    frames = [Image.fromarray(PHOTO).convert("P"), Image.fromarray(PHOTO[::-1]).convert("P")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], transparency=3)
    return Image.open(io.BytesIO(file.getvalue()))


def cut_off():
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:900]))


OURS = {
    "array": lambda: PHOTO,
    "array, every other row and column": lambda: np.repeat(np.repeat(PHOTO, 2, 0), 2, 1)[::2, ::2],
    "array, Fortran order": lambda: np.asfortranarray(PHOTO),
    "array, read-only": lambda: np.frombuffer(PHOTO.tobytes(), np.uint8).reshape(PHOTO.shape),
    "array of planes": lambda: PLANES,
    "array with alpha": lambda: RGBA,
    "array, grey": lambda: PHOTO[..., :1],
    "arrays in one": lambda: np.stack([PHOTO, PHOTO]),
    "tensor": lambda: tensor(PHOTO),
    "tensor of planes": lambda: tensor(PLANES),
    "tensor with alpha": lambda: tensor(RGBA.transpose(2, 0, 1)),
    "tensors in one": lambda: tensor(np.stack([PLANES, PLANES])),
    "nested lists": lambda: [[PHOTO], [Image.fromarray(PHOTO), PHOTO]],
    "tuple": lambda: (PHOTO, PHOTO),
    "3 pixels tall, ambiguous": lambda: PHOTO[:3],
    "very thin": lambda: np.resize(PHOTO, (2, 9000, 3)),
    "one pixel": lambda: Image.fromarray(PHOTO[:1, :1]),
    "animation": gif,
}
THEIRS = {
    "floats": lambda: PHOTO / 255,
    "float tensor": lambda: tensor(PLANES) / 255,
    "16 bits": lambda: PHOTO.astype(np.uint16),
    "a float among bytes": lambda: [PHOTO, PHOTO / 255],
    "reversed rows": lambda: PHOTO[::-1],
    "subclass of an array": lambda: PHOTO.view(Marked),
    "no channels": lambda: np.zeros((20, 21, 5), np.uint8),
    "no pixels": lambda: np.zeros((0, 20, 3), np.uint8),
    "five axes": lambda: np.zeros((1, 1, 9, 9, 3), np.uint8),
    "cut off": cut_off,
    "premultiplied alpha": lambda: Image.fromarray(RGBA).convert("RGBa"),
    "no images": list,
    "text": lambda: "no such file",
    "None": lambda: None,
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("options", [{}, NORMALIZED], ids=["multiplied", "divided"])
def test_plain_media_are_ours(name, options, theirs, fast, ours):
    compare(theirs, fast, lambda p: p.image_processor(OURS[name](), return_tensors="pt", **options))
    assert ours.images == 1


@pytest.mark.parametrize("name", THEIRS)
def test_other_media_are_left_to_transformers(name, theirs, fast, ours):
    compare(theirs, fast, lambda p: p.image_processor(THEIRS[name](), return_tensors="pt"))
    assert ours.images == 0


@pytest.mark.parametrize("mode", IMAGE_MODES)
def test_pillow_modes(mode, theirs, fast):
    compare(theirs, fast, lambda p: p.image_processor(in_mode(RGBA, mode), return_tensors="pt"))


def test_a_file_by_its_path(theirs, fast, ours, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    compare(theirs, fast, lambda p: p.image_processor(str(tmp_path / "photo.png"), return_tensors="pt"))
    assert ours.images == 1


@pytest.mark.parametrize(
    "options",
    [
        {"do_resize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"do_normalize": True, "image_mean": [0.0] * 3, "image_std": [2.0] * 3},
        {"resample": Image.Resampling.BILINEAR},
        {"patch_size": 8},
        {"pooling_kernel_size": 1},
        {"do_convert_rgb": False},
        {"device": "meta"},
        {"max_soft_tokens": 71},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_other_arguments_are_left_to_transformers(options, theirs, fast, ours):
    picture = np.ascontiguousarray(PHOTO[:48, :48])
    compare(theirs, fast, lambda p: p.image_processor(picture, **options).data.keys())
    if options != {"device": "meta"}:
        compare(theirs, fast, lambda p: p.image_processor(picture, **options))
    assert ours.images == 0


def test_another_default_dtype_is_left_to_transformers(theirs, fast, ours):
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        compare(theirs, fast, lambda p: p.image_processor(PHOTO))
    finally:
        torch.set_default_dtype(torch.float32)
    assert ours.images == 0


def test_a_default_device_is_left_to_transformers(theirs, fast, ours):
    import torch

    with torch.device("cpu"):
        compare(theirs, fast, lambda p: p.image_processor(PHOTO))
    assert ours.images == 0


def test_a_tensor_subclass_is_left_to_transformers(theirs, fast, ours):
    import torch

    class Named(torch.Tensor):
        pass

    compare(theirs, fast, lambda p: list(p.image_processor(tensor(PLANES).as_subclass(Named))))
    assert ours.images == 0


@pytest.mark.parametrize("way", ["subclass", "instance", "transformers"])
def test_replaced_hooks_are_used(way, fast, ours, monkeypatch):
    import torch

    from gemma4_mm.hf import Gemma4UnifiedImageProcessorFast
    from gemma4_mm.hf.theirs import HFImageProcessor

    def rescale(image, scale):
        return torch.zeros_like(image, dtype=torch.float32) + scale

    if way == "subclass":
        processor = type("Mine", (Gemma4UnifiedImageProcessorFast,), {"rescale": lambda _, *a: rescale(*a)})()
    elif way == "instance":
        processor = Gemma4UnifiedImageProcessorFast()
        processor.rescale = rescale
    else:
        monkeypatch.setattr(HFImageProcessor, "rescale", lambda _, *a: rescale(*a))
        processor = fast.image_processor
    values = processor(PHOTO, return_tensors="np")["pixel_values"]
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 255)}
    assert ours.images == 0


@pytest.mark.parametrize("kernel", ["numpy", "numba"])
def test_planes_are_ours_only_where_a_kernel_reads_them_fast(kernel, theirs, ours):
    from gemma4_mm import Execution
    from gemma4_mm.hf import Gemma4UnifiedProcessorFast

    fast = Gemma4UnifiedProcessorFast.from_hf(theirs, execution=Execution(kernel=kernel))
    compare(theirs, fast, lambda p: p.image_processor(tensor(PLANES)))
    clip = tensor(np.stack([PLANES, PLANES]))
    compare(theirs, fast, lambda p: p.video_processor(clip, do_sample_frames=False))
    assert (ours.images, ours.videos) == ((1, 1) if kernel == "numba" else (0, 0))


def test_limits_of_this_package_do_not_apply(fast, ours):
    from gemma4_mm.limits import Limits

    wide = np.broadcast_to(PHOTO[:1, :1], (9500, 9500, 3))
    assert Limits().max_pixels < 9500 * 9500
    assert fast.image_processor(wide, max_soft_tokens=70, return_tensors="np")["pixel_values"].shape == (1, 70, 6912)
    assert ours.images == 1


CLIP = np.stack([PHOTO, PHOTO[::-1], 255 - PHOTO])
VIDEOS = {
    "array": (lambda: CLIP, True),
    "array of planes": (lambda: CLIP.transpose(0, 3, 1, 2), True),
    "tensor": (lambda: tensor(CLIP), True),
    "list of frames": (lambda: [PHOTO, PHOTO], True),
    "Pillow frames": (lambda: [Image.fromarray(PHOTO)] * 2, True),
    "two of other sizes": (lambda: [CLIP, CLIP[:2, :40]], True),
    "mixed axes: the first decides": (lambda: [CLIP[:, :3, :3], CLIP[:, :3, :3]], True),
    "every other frame and row": (lambda: np.repeat(np.repeat(CLIP, 2, 0), 2, 1)[::2, ::2], True),
    "floats": (lambda: CLIP / 255, False),
    "with alpha": (lambda: np.stack([RGBA, RGBA]), False),
    "grey, made RGB by transformers": (lambda: CLIP[..., :1], True),
    "reversed": (lambda: CLIP[:, ::-1], False),
    "no frames": (lambda: CLIP[:0], False),
}


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("options", [{}, {"do_normalize": False}, {"do_resize": False}], ids=["", "multiplied", "kept"])
def test_videos(name, options, theirs, fast, ours):
    make, is_ours = VIDEOS[name]
    compare(theirs, fast, lambda p: p.video_processor(make(), do_sample_frames=False, return_tensors="pt", **options))
    assert ours.videos == (is_ours and options != {"do_resize": False})


@settings(max_examples=60)
@given(
    image=images() | ambiguous_arrays(),
    layout=st.sampled_from(["as it is", "tensor", "planes"]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "max_soft_tokens": budgets(),
            "do_resize": st.booleans(),
            "do_normalize": st.booleans(),
            "do_convert_rgb": st.booleans(),
            "input_data_format": st.sampled_from(["channels_first", "channels_last"]),
            "return_tensors": st.sampled_from(["pt", "np"]),
        },
    ),
)
def test_any_image_with_any_options(image, layout, options, theirs, fast):
    if isinstance(image, np.ndarray) and layout == "tensor":
        image = tensor(image)
    elif isinstance(image, np.ndarray) and layout == "planes" and image.ndim == 3:
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
    compare(theirs, fast, lambda p: p.image_processor(image, **options))
