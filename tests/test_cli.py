"""The command line: exit codes, one-line errors, no partial files, nothing from libraries on stderr."""

import json

import numpy as np
import pytest

from gemma4_mm import Gemma4MMError, ModelInputs
from gemma4_mm.cli.app import run
from gemma4_mm.cli.demo_media import write_photo, write_sound


@pytest.fixture
def folder(tmp_path, monkeypatch, assets):  # noqa: ARG001 (fills the cache)
    monkeypatch.chdir(tmp_path)
    write_photo(tmp_path / "photo.jpg", width_px=320, height_px=240)
    write_sound(tmp_path / "sound.wav", duration_s=0.5)
    return tmp_path


def test_encode_writes_what_it_reports(folder, capfd):
    assert run(["encode", "photo.jpg", "sound.wav", "-p", "Hi", "-o", "out.safetensors", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    inputs = ModelInputs.load(folder / "out.safetensors")
    assert report["tokens"] == [inputs["input_ids"].shape[1]]
    assert [item["tokens"] for item in report["items"]] == [
        *inputs.token_counts["image"],
        *inputs.token_counts["audio"],
    ]


def test_plan_counts_what_encode_gives(folder, capfd):  # noqa: ARG001 (the files)
    assert run(["encode", "photo.jpg", "sound.wav", "-p", "Hi", "--json"]) == 0
    encoded = json.loads(capfd.readouterr().out)
    assert run(["plan", "photo.jpg", "sound.wav", "-p", "Hi", "--json"]) == 0
    planned = json.loads(capfd.readouterr().out)
    assert planned["items"] == encoded["items"]
    assert planned["tokens"] == encoded["tokens"]


def test_kernel_and_threads_change_no_bit_and_dtype_rounds(folder, capfd):
    command = ["encode", "photo.jpg", "sound.wav", "-p", "Hi", "-o"]
    assert run([*command, "plain.safetensors"]) == 0
    assert "bit-identical to transformers-5.24\n" in capfd.readouterr().out
    assert run([*command, "fast.safetensors", "--kernel", "numba", "--threads", "2"]) == 0
    assert (folder / "fast.safetensors").read_bytes() == (folder / "plain.safetensors").read_bytes()
    capfd.readouterr()
    assert run([*command, "half.safetensors", "--dtype", "float16"]) == 0
    assert "bit-identical to transformers-5.24, its float32 values rounded to float16\n" in capfd.readouterr().out
    plain, half = (ModelInputs.load(folder / f"{name}.safetensors") for name in ("plain", "half"))
    for name in ("pixel_values", "input_features"):
        assert np.array_equal(half[name], plain[name].astype(np.float16)), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kernel", "cuda"], "kernel is 'cuda'; it must be one of numpy, numba, auto"),
        (["--threads", "0"], "threads is 0; it must be a whole number of 1 to 256"),
        (["--dtype", "int8"], "dtype is 'int8'"),
    ],
)
def test_what_cannot_be_computed_with_is_refused(folder, capfd, words, message):  # noqa: ARG001 (the files)
    assert run(["encode", "photo.jpg", *words]) == 1
    assert message in capfd.readouterr().err


def test_messages_come_from_a_file(folder, capfd):
    turn = {"role": "user", "content": [{"type": "image", "path": "photo.jpg"}, {"type": "text", "text": "Hi"}]}
    (folder / "chat.json").write_text(json.dumps({"messages": [turn]}), encoding="utf-8")
    assert run(["encode", "--messages", "chat.json", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["items"][0]["kind"] == "image"


BAD_FILES = {
    "missing.jpg": None,
    "empty.wav": b"",
    "text.png": b"this is text, whatever its name says",
    "cut.jpg": "cut",
    "forged.wav": b"RIFF\xff\xff\xff\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00"
    b"\x02\x00\x10\x00data\xff\xff\xff\x00\x00\x00",
    "noise.mp4": b"\x00\x00\x00\x18ftypisom" + bytes(200),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_and_no_output(folder, capfd, name):
    content = BAD_FILES[name]
    if content == "cut":
        content = (folder / "photo.jpg").read_bytes()[:2000]
    if content is not None:
        (folder / name).write_bytes(content)
    before = sorted(path.name for path in folder.iterdir())
    assert run(["encode", name, "-p", "Hi", "-o", "out.safetensors"]) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gemma4-mm: ")
    assert captured.err.count("\n") == 1
    assert name in captured.err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_empty_file_is_called_empty(folder, capfd):
    (folder / "empty.wav").touch()
    assert run(["encode", "empty.wav"]) == 1
    assert "empty (0 bytes)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["encode"], 1, "nothing to encode"),
        (["encode", "-p", "<|image|>"], 1, "sanitize_control_tokens"),
        (["encode", "-p", "Hi", "--messages", "chat.json"], 1, "leave FILES"),
        (["encode", "--messages", "no.json"], 1, "no such file"),
        (["encode", "photo.jpg", "--max-soft-tokens", "99"], 1, "must be one of"),
        (["encode", "-p", "Hi", "-o", "no/folder/out.safetensors"], 1, "choose a writable path"),
        (["encode", "-p", "Hi", "--model", "nowhere"], 1, "tokenizer.json is missing"),
        (["encode", "--no-such-option"], 2, "No such option"),
    ],
)
def test_a_bad_command_line_is_refused_in_words(folder, capfd, words, code, message):  # noqa: ARG001 (the files)
    assert run(words) == code
    assert message in capfd.readouterr().err


def test_debug_shows_the_traceback(folder):  # noqa: ARG001 (the files)
    with pytest.raises(Gemma4MMError):
        run(["encode", "missing.jpg", "--debug"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "no placeholder", "images": [np.zeros((9, 9, 3), np.uint8)]}, "placeholders"),
        ({"text": "<|image|>"}, "placeholders"),
        ({"text": "<|audio|>", "audio": [np.array([0.0, np.nan], np.float32)]}, "audio 0"),
        ({"text": "<|audio|>", "audio": [np.array([1, 2], np.int16)]}, "audio 0"),
        ({"text": "<|image|>", "images": [np.zeros((9, 9, 3), np.float32)]}, "image 0"),
        ({"text": "<|image|>", "images": [np.zeros((0, 9, 3), np.uint8)]}, "image 0"),
        ({"text": "<|video|>", "videos": np.zeros((3, 9, 9, 3), np.uint8)}, "32 frames"),
        ({}, "nothing to encode"),
        ({"text": 5}, "text is int"),
    ],
)
def test_a_bad_call_names_the_item_and_the_next_step(processor, arguments, message):
    with pytest.raises(Gemma4MMError, match=message):
        processor(**arguments)
