"""The dtype of media tensors, and the caller's own arrays."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from gemma4_mm.core.outputs import Outputs, resolve_outputs
from gemma4_mm.errors import InputError, MissingDependencyError


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (None, np.float32),
        ("float32", np.float32),
        ("float16", np.float16),
        (np.float16, np.float16),
        (np.dtype(np.float16), np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
    ],
)
def test_dtypes_by_name_and_by_type(value, dtype):
    assert resolve_outputs(dtype=value).dtype == dtype


@pytest.mark.parametrize("value", ["float64", "int8", "bf16", np.float64, 3, object()])
def test_other_dtypes_are_refused_in_words(value):
    with pytest.raises(InputError, match="it must be one of float32, float16, bfloat16"):
        resolve_outputs(dtype=value)


def test_bfloat16_without_ml_dtypes_names_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'gemma4-mm\[fast\]'"):
        resolve_outputs(dtype="bfloat16")


def test_memory_is_the_callers_where_there_is_some():
    array = np.ones((5, 3, 2), np.float32)
    outputs = resolve_outputs(out={"pixel_values": array})
    place = outputs.allocate("pixel_values", (4, 3, 2))
    assert place.shape == (4, 3, 2)
    assert np.shares_memory(place, array)
    assert place.ctypes.data == array.ctypes.data
    assert not np.shares_memory(outputs.allocate("input_features", (4, 3, 2)), array)


def test_finished_tensors_are_rounded_and_brought_to_their_place():
    features = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 3, 2)
    mask = np.ones((2, 3), bool)
    memory = np.zeros((4, 3, 2), np.float16)
    outputs = resolve_outputs(dtype="float16", out={"input_features": memory})
    settled = outputs.settle({"input_features": features, "input_features_mask": mask})
    assert np.array_equal(memory[:2], features.astype(np.float16))
    assert settled["input_features"].ctypes.data == memory.ctypes.data
    assert settled["input_features_mask"] is mask
    again = outputs.settle(settled)
    assert again["input_features"].ctypes.data == memory.ctypes.data
    plain = Outputs().settle({"input_features": features})
    assert plain["input_features"] is features


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 3, 2), np.float32),
        np.zeros((2, 3, 3), np.float32),
        np.zeros((2, 6), np.float32),
        np.zeros((2, 3, 2), np.float64),
        np.zeros((4, 3, 2), np.float32)[::2],
        read_only(np.zeros((2, 3, 2), np.float32)),
    ],
)
def test_an_array_that_does_not_fit_is_refused_in_words(array):
    outputs = resolve_outputs(out={"pixel_values": array})
    with pytest.raises(InputError, match=r"this call needs it writeable, C-contiguous, float32 \(2, 3, 2\)"):
        outputs.allocate("pixel_values", (2, 3, 2))


def test_what_is_no_output_is_refused_in_words():
    array = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="an array for 'pixels'; known are: pixel_values"):
        resolve_outputs(out={"pixels": array})
    with pytest.raises(InputError, match="is list; it must be a numpy array"):
        resolve_outputs(out={"pixel_values": [1]})
    with pytest.raises(InputError, match="out is ndarray; it must be a mapping"):
        resolve_outputs(out=array)
    with pytest.raises(InputError, match=r"out\['pixel_values'\] and out\['input_features'\] share memory"):
        resolve_outputs(out={"pixel_values": array, "input_features": array[1:]})


def test_a_saved_bfloat16_tensor_is_read_in_a_process_that_does_not_know_the_type(tmp_path):
    from gemma4_mm.inputs import ModelInputs

    values = np.arange(4, dtype=np.float32).astype(ml_dtypes.bfloat16)
    ModelInputs({"pixel_values": values}, segments=(), profile="p").save(tmp_path / "x.safetensors")
    code = "import sys; from gemma4_mm import ModelInputs; print(ModelInputs.load(sys.argv[1])['pixel_values'])"
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "x.safetensors")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[0 1 2 3]"
