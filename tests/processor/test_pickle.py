"""A pickled processor: small, equal in another process, and in words where its files are not the same."""

import inspect
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest

from gemma4_mm import AssetError, Execution, Limits, MediaCache, Processor, Profile
from gemma4_mm.assets.processor_config import ProcessorConfig

MESSAGES = [
    {
        "role": "user",
        "content": [
            {"type": "image", "image": np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)},
            {"type": "audio", "audio": np.linspace(-1, 1, 2000, dtype=np.float32)},
            {"type": "text", "text": "What is this? 数は 12 345 です"},
        ],
    }
]
MOST_BYTES = 20_000  # the tokenizer alone has 32 MB


def encode(processor):
    return processor.apply_chat_template(MESSAGES, tokenize=True, return_dict=True, add_generation_prompt=True)


def _encode_elsewhere(connection):
    """In a new process: unpickle what comes, encode, send the tensors back."""
    inputs = encode(pickle.loads(connection.recv_bytes()))  # noqa: S301 (our own)
    connection.send((dict(inputs), inputs.segments))


@pytest.fixture
def folder(tmp_path, assets):
    """The assets without the big tokenizer's cost twice: a copy that a test may damage."""
    for path in assets.tokenizer.parent.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, tmp_path)
    return tmp_path


def test_another_process_gives_the_same_tensors(processor):
    data = pickle.dumps(processor)
    assert len(data) < MOST_BYTES
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_encode_elsewhere, args=(there,))
    child.start()
    there.close()  # so that a child that dies ends the wait
    here.send_bytes(data)
    tensors, segments = here.recv()
    child.join()
    expected = encode(processor)
    assert list(tensors) == list(expected)
    for key, value in expected.items():
        assert tensors[key].dtype == value.dtype
        assert np.array_equal(tensors[key], value), key
    assert segments == expected.segments


def test_every_setting_travels(assets):
    settings = {
        "config": ProcessorConfig(video_frames=7),
        "profile": Profile.transformers("5.12"),
        "limits": Limits(max_pixels=1234),
        "allow_network": True,
        "cache": MediaCache(max_memory_bytes=1234),
        "execution": Execution(threads=2),
    }
    taken = {
        name
        for name, parameter in inspect.signature(Processor).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert set(settings) == taken, "a new setting must be pickled too, and be tried here"
    restored = pickle.loads(pickle.dumps(Processor(assets, **settings)))  # noqa: S301 (our own)
    assert restored.cache.max_memory_bytes == settings.pop("cache").max_memory_bytes
    for name, value in settings.items():
        assert getattr(restored, name) == value


def test_a_missing_folder_is_an_error_in_words(folder):
    data = pickle.dumps(Processor.from_pretrained(folder))
    shutil.rmtree(folder)
    with pytest.raises(AssetError, match=r"not on this machine; .* put .* at the same place"):
        pickle.loads(data)  # noqa: S301 (our own)


def test_another_file_is_an_error_in_words(folder):
    data = pickle.dumps(Processor.from_pretrained(folder))
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(AssetError, match="another file than where the Processor was pickled"):
        pickle.loads(data)  # noqa: S301 (our own)


def test_files_that_changed_since_they_were_read_are_not_pickled(folder):
    processor = Processor.from_pretrained(folder)
    with (folder / "chat_template.jinja").open("a", encoding="utf-8") as file:
        file.write(" ")
    with pytest.raises(AssetError, match="changed after this Processor read them"):
        pickle.dumps(processor)
