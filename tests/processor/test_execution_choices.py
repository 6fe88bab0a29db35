"""Threads, kernels, dtypes and the caller's arrays, through the whole processor: never another bit."""

import copy
import io

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from gemma4_mm import Execution, Processor
from gemma4_mm.errors import InputError
from gemma4_mm.testing.strategies import make_picture

EXECUTIONS = [
    Execution(threads=2),
    Execution(kernel="numba"),
    Execution(kernel="numba", threads=3),
    Execution(kernel="auto", threads=2),
]


@pytest.fixture(scope="module")
def media():
    sizes = [(480, 640), (90, 33), (700, 500), (48, 48), (300, 1200)]
    images = [make_picture("photo", height_px=height, width_px=width, seed=width) for height, width in sizes]
    files = []
    for rgb in images[:3]:
        file = io.BytesIO()
        Image.fromarray(rgb).save(file, "PNG")
        files.append(file.getvalue())
    images = [*images, *files, Image.fromarray(images[0]), Image.fromarray(images[1]).convert("RGBA")]
    video = np.stack([np.roll(images[1], shift, axis=0) for shift in range(5)])
    sound = np.sin(np.arange(4000, dtype=np.float32))
    text = "<|image|>" * len(images) + "<|video|><|audio|>what?"
    call = {"text": text, "images": [images], "videos": [video], "audio": [sound], "num_frames": 5}
    return {**call, "max_soft_tokens": 70}


@pytest.fixture(scope="module")
def expected(processor, media):
    return processor(**media)


def with_execution(processor, execution):
    processor = copy.copy(processor)
    processor.execution = execution
    return processor


def assert_same(inputs, expected):
    assert list(inputs) == list(expected)
    for key, value in expected.items():
        assert inputs[key].dtype == value.dtype
        assert np.array_equal(inputs[key], value), key
    assert inputs.segments == expected.segments


@pytest.mark.parametrize("execution", EXECUTIONS, ids=lambda execution: f"{execution.kernel}-{execution.threads}")
def test_no_execution_changes_a_bit(execution, processor, media, expected):
    assert_same(with_execution(processor, execution)(**media), expected)


def test_a_processor_is_built_with_its_execution(assets, media, expected):
    processor = Processor.from_pretrained(assets.tokenizer.parent, execution=EXECUTIONS[0])
    assert processor.execution == EXECUTIONS[0]
    assert_same(processor(**media), expected)


@pytest.mark.parity  # torch rounds
@pytest.mark.parametrize("execution", [Execution(), EXECUTIONS[2]], ids=["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_the_rounded_float32(execution, dtype, processor, media, expected):
    import torch

    inputs = with_execution(processor, execution)(**media, dtype=dtype)
    for key, value in expected.items():
        if value.dtype != np.float32:
            assert np.array_equal(inputs[key], value)
            continue
        assert inputs[key].dtype.name == dtype
        rounded = torch.from_numpy(value).to(getattr(torch, dtype)).view(torch.int16).numpy()
        assert np.array_equal(inputs[key].view(np.int16), rounded), key


def buffers(expected, *, dtype=np.float32, spare=1):
    """Arrays with room to spare, full of what an earlier batch left."""
    arrays = {}
    for key in ("pixel_values", "image_position_ids", "pixel_values_videos", "video_position_ids", "input_features"):
        shape = (len(expected[key]) + spare, *expected[key].shape[1:])
        arrays[key] = np.full(shape, 77, dtype if expected[key].dtype == np.float32 else expected[key].dtype)
    return arrays


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_tensors_are_written_into_the_callers_arrays(processor, media, expected, dtype):
    out = buffers(expected, dtype=dtype)
    inputs = processor(**media, out=out, dtype=dtype)
    for key, array in out.items():
        assert inputs[key].ctypes.data == array.ctypes.data
        assert np.array_equal(array[:-1], expected[key].astype(array.dtype)), key
        assert (array[-1] == 77).all(), "entries beyond the batch are left alone"
    assert inputs.content_keys.keys() == expected.content_keys.keys()
    if dtype is np.float32:
        assert_same(inputs, expected)
        assert inputs.content_keys == expected.content_keys


def test_a_buffer_that_is_too_short_is_refused_in_words(processor, media, expected):
    out = buffers(expected, spare=-1)
    with pytest.raises(InputError, match=r"out\['pixel_values'\] is float32 .*this call needs it writeable"):
        processor(**media, out=out)


def test_a_conversation_takes_them_too(processor, media):
    rgb = media["images"][0][0]
    conversation = [{"role": "user", "content": [{"type": "image", "image": rgb}, {"type": "text", "text": "?"}]}]
    out = {"pixel_values": np.empty((1, 280, 6912), np.float16)}
    inputs = processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, processor_kwargs={"dtype": "float16", "out": out}
    )
    assert inputs["pixel_values"].ctypes.data == out["pixel_values"].ctypes.data


def test_the_same_lazy_image_may_be_passed_several_times(processor, media, expected):
    file = io.BytesIO(media["images"][0][5])
    lazy = Image.open(io.BytesIO(media["images"][0][5]))
    inputs = with_execution(processor, Execution(threads=4))(images=[[lazy, file] * 8], max_soft_tokens=70)
    for item in range(16):
        assert np.array_equal(inputs["pixel_values"][item], expected["pixel_values"][0])


def test_an_error_names_the_first_bad_image_on_any_number_of_threads(processor, media):
    images = [media["images"][0][0], b"no image", np.zeros((2, 2), np.int64), b"neither"]
    for threads in (1, 4):
        with pytest.raises(ValueError, match="image 1"):
            with_execution(processor, Execution(threads=threads))(images=[images])
