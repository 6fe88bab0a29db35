"""`gemma4-mm masks`: what it draws and counts is what the dense masks hold."""

import json
import re
from functools import partial
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gemma4_mm import ModelInputs
from gemma4_mm.cli.app import run
from gemma4_mm.cli.mask_picture import BLOCK_COLOUR, paint_mask
from gemma4_mm.cli.mask_report import LAYERS, LETTERS, MOST_DRAWN_TOKENS, describe_differences, draw_text
from gemma4_mm.core.attention.kinds import KIND_COLOURS, token_kinds
from gemma4_mm.core.attention.masks import describe_masks
from gemma4_mm.spec import MaskRule
from gemma4_mm.testing.strategies import padded_rows

RULE_NAMES = get_args(MaskRule)


prompts = partial(padded_rows, max_tokens=9)


def describe(types, attention, *, rule, window):
    return describe_masks(types[None], attention_mask=attention[None], rule=rule, sliding_window=window)


@given(prompts(), st.integers(1, 20), st.sampled_from(RULE_NAMES), st.sampled_from(LAYERS))
@settings(max_examples=80)
def test_the_drawing_is_the_dense_mask(prompt, window, rule, layer):
    types, attention = prompt
    mask = getattr(describe(types, attention, rule=rule, window=window), layer)
    title, keys, *lines = draw_text(mask, token_kinds(types, attention)).splitlines()
    assert title == f"{layer} ({rule}" + (f", W = {window})" if layer == "sliding_attention" else ")")
    letters = ["p" if not kept else LETTERS[kind] for kind, kept in zip(types, attention, strict=True)]
    assert keys.split() == ["".join(letters)]
    for query, line in enumerate(lines):
        number, letter, row = line.split()
        assert (int(number), letter) == (query, letters[query])
        for key, drawn in enumerate(row):
            assert drawn == (letters[key] if mask.visible(query, key) else "·")
    assert len(lines) == len(types)


@given(prompts(), st.integers(1, 20), st.sampled_from(RULE_NAMES))
@settings(max_examples=80)
def test_the_counts_and_ranges_are_those_of_the_dense_masks(prompt, window, rule):
    specs = {name: describe(*prompt, rule=name, window=window) for name in RULE_NAMES}
    report = describe_differences(specs, rule=rule)
    for layer in LAYERS:
        base = getattr(specs[rule], layer).dense()[0, 0]
        for name in RULE_NAMES:
            dense = getattr(specs[name], layer).dense()[0, 0]
            entry = report["layers"][layer][name]
            assert entry["visible_keys"] == dense.sum()
            told = np.zeros(len(dense), bool)
            for start, stop in entry["differs_at"]:
                assert not told[start:stop].any()
                told[start:stop] = True
            assert np.array_equal(told, (dense != base).any(axis=1))


def paint_slowly(dense, block_ids, kinds, side):
    """The picture's twin: every query and key has a colour, and a pixel is the mean of its own."""
    n_tokens = len(kinds)
    colours = np.full((n_tokens, n_tokens, 3), 255, np.float64)
    for query, key in zip(*np.nonzero(dense), strict=True):
        own = block_ids[query] >= 0 and block_ids[query] == block_ids[key]
        colours[query, key] = BLOCK_COLOUR if own else KIND_COLOURS[kinds[key]]
    edges = [pixel * n_tokens // side for pixel in range(side + 1)]
    pixels = [
        [colours[top:bottom, left:right].mean(axis=(0, 1)) for left, right in pairwise(edges)]
        for top, bottom in pairwise(edges)
    ]
    return np.array(pixels)


@given(prompts(), st.integers(1, 20), st.sampled_from(RULE_NAMES), st.sampled_from(LAYERS), st.integers(7, 70))
@settings(max_examples=80)
def test_the_picture_is_the_dense_mask(prompt, window, rule, layer, side_px):
    types, attention = prompt
    kinds = token_kinds(types, attention)
    mask = getattr(describe(types, attention, rule=rule, window=window), layer)
    painted = paint_mask(mask, kinds, side_px=side_px)
    expected = paint_slowly(mask.dense()[0, 0], mask.block_ids[0], kinds, min(len(types), side_px))
    # uint8 rounds a mean of up to 100 colours: half a level, and float32's own error at a tie.
    assert np.abs(painted - expected).max() <= 0.5 + 1e-3
    if side_px >= len(types):
        assert np.array_equal(painted, expected)


def test_a_long_prompt_is_painted_from_its_specification():
    types = np.repeat([0, 1, 0, 3, 0], [10_000, 280, 60_000, 750, 100_000])
    kinds = token_kinds(types, np.ones_like(types))
    mask = describe(types, np.ones_like(types), rule="forward", window=1024).full_attention
    painted = paint_mask(mask, kinds, side_px=100)
    text, audio = KIND_COLOURS[0], KIND_COLOURS[3]
    assert np.array_equal(painted[99, 50], text)
    assert np.array_equal(painted[10, 90], [255, 255, 255])
    column = 100 * 70_500 // len(types)
    assert painted[99, column, 1] > text[1]  # some of the audio's green among the text
    assert np.abs(painted[99, column].astype(int) - audio).sum() < np.abs(text - audio).sum()


@pytest.fixture
def folder(tmp_path, monkeypatch, assets):  # noqa: ARG001 (fills the cache)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (320, 240), "teal").save("photo.png")
    return tmp_path


PHOTO = ["photo.png", "-p", "Hi", "--max-soft-tokens", "70"]


def test_a_short_prompt_is_drawn_and_counted(folder, capfd):  # noqa: ARG001 (the files)
    assert run(["masks", *PHOTO, "--sliding-window", "16"]) == 0
    out = capfd.readouterr().out
    assert "sliding_attention (forward, W = 16)" in out
    assert re.search(r"^ +5 I tttttI{63}·{11}$", out, re.MULTILINE)
    assert re.search(r"^ +78 t ·{63}I{5}t{11}$", out, re.MULTILINE)
    assert re.search(r"static .* visible keys \(-[\d,]+\), other than forward at queries \[", out)


def test_a_saved_prompt_gives_what_its_messages_give(folder, capfd):
    assert run(["encode", *PHOTO, "-o", "inputs.safetensors", "--json"]) == 0
    capfd.readouterr()
    assert run(["masks", "--inputs", "inputs.safetensors", "--json", "--mask-rule", "static"]) == 0
    saved = json.loads(capfd.readouterr().out)
    assert run(["masks", *PHOTO, "--json", "--mask-rule", "static"]) == 0
    assert json.loads(capfd.readouterr().out) == saved
    inputs = ModelInputs.load(folder / "inputs.safetensors")
    specs = describe_masks(inputs["mm_token_type_ids"], rule="deepmind")
    assert saved["layers"]["full_attention"]["deepmind"]["visible_keys"] == specs.full_attention.dense().sum()
    assert saved["mask_rule"] == "static"
    assert saved["tokens"] == inputs["input_ids"].shape[1]


def test_a_row_of_a_padded_batch(folder, processor, capfd):  # noqa: ARG001 (the working directory)
    batch = processor(text=["a", "a much longer prompt than the other"], padding=True)
    batch.save("batch.safetensors")
    length = batch["input_ids"].shape[1]
    for row, n_valid in enumerate(batch["attention_mask"].sum(axis=1).tolist()):
        assert run(["masks", "--inputs", "batch.safetensors", "--row", str(row), "--json"]) == 0
        report = json.loads(capfd.readouterr().out)
        assert report["tokens"] == length
        # Left padding sees nothing, and nobody sees it.
        assert report["layers"]["full_attention"]["forward"]["visible_keys"] == n_valid * (n_valid + 1) // 2


def test_a_long_prompt_is_not_drawn_as_text_but_as_a_picture(folder, capfd):
    words = ["masks", "photo.png", "-p", "Hi"]
    assert run(words) == 0
    assert f"at most {MOST_DRAWN_TOKENS}" in capfd.readouterr().out
    assert run([*words, "--png", "masks.png"]) == 0
    out = capfd.readouterr().out
    assert "wrote masks.png" in out
    assert "too many" not in out
    with Image.open(folder / "masks.png") as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 16)}
    assert {tuple(map(int, BLOCK_COLOUR)), tuple(map(int, KIND_COLOURS[0])), (255, 255, 255)} <= colours


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*PHOTO, "--inputs", "inputs.safetensors"], "leave FILES"),
        (["--inputs", "nowhere.safetensors"], "No such file"),
        ([*PHOTO, "--mask-rule", "eager"], "forward, static, deepmind"),
        ([*PHOTO, "--sliding-window", "0"], "at least 1"),
        ([*PHOTO, "--row", "1"], "counted from 0"),
        ([*PHOTO, "--png", "masks.nope"], "ends in .png"),
        ([*PHOTO, "--png", "no/folder/masks.png"], "choose a writable path"),
        ([], "nothing to encode"),
    ],
)
def test_a_bad_command_line_is_refused_in_words(folder, capfd, words, message):  # noqa: ARG001 (the files)
    assert run(["masks", *words]) == 1
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.out == ""
