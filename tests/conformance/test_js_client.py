"""The JavaScript port: it passes from the inputs alone, and every fault planted in it is found and named."""

import os
import shutil
from dataclasses import dataclass

import pytest

from gemma4_mm.cli.app import run
from gemma4_mm.conformance.golden import Fixtures, build_fixtures, verify_fixtures
from gemma4_mm.conformance.subject import OwnSubject
from tests.conformance.ports import CLIENT, FIXTURES, require_node, run_client


def test_the_port_conforms_without_having_seen_what_is_expected(tmp_path, capsys):
    blind = tmp_path / "fixtures"
    shutil.copytree(FIXTURES, blind, ignore=shutil.ignore_patterns("expected", "expected.safetensors", "clients"))
    out = tmp_path / "out"
    assert "wrote 128 cases" in run_client(out, fixtures=blind)
    assert len(list(out.glob("*.safetensors"))) == 128
    assert run(["conform", str(FIXTURES), str(out)]) == 0
    assert "128 cases" in capsys.readouterr().out


def test_the_port_conforms_in_npy_too(tmp_path):
    cases = ["exif-6", "video-uneven", "audio-chirp", "media-two-sounds", "masks-left-padded"]
    run_client(tmp_path, *cases, npy=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(cases)
    arguments = [word for case in cases for word in ("--cases", case)]
    assert run(["conform", str(FIXTURES), str(tmp_path), *arguments]) == 0


def test_the_port_conforms_on_random_cases_too(tmp_path, processor, capsys):
    """Nothing that it was written against: what it passes on, `SCHEMA.md` says."""
    fixtures, out = tmp_path / "fixtures", tmp_path / "out"
    build_fixtures(fixtures, subject=OwnSubject(processor), n_random=24, seed=11)
    names = [name for name in Fixtures.open(fixtures).manifest.cases if name.startswith("random-")]
    assert len(names) >= 15
    assert verify_fixtures(fixtures) == []
    run_client(out, *names, fixtures=fixtures)
    assert run(["conform", str(fixtures), str(out), "--cases", "random-*"]) == 0
    assert "all zero" in capsys.readouterr().out


@dataclass(frozen=True)
class Fault:
    """A change of one line of the port, the case that shows it, the stage that must be named first, and how."""

    file: str
    right: str
    wrong: str
    case: str
    stage: str
    looks_like: str = ""


FAULTS = {
    "x and y exchanged": Fault(
        "vision.mjs",
        "out[place++] = x;\n      out[place++] = y;",
        "out[place++] = y;\n      out[place++] = x;",
        "budget-140",
        "position_ids",
        looks_like="position ids as (y, x)",
    ),
    "images divided by 255": Fault(
        "vision.mjs",
        "image: (z) => Math.fround(z * FACTOR)",
        "image: (z) => Math.fround(z / 255)",
        "mode-alpha",
        "patches",
        looks_like="levels divided by 255",
    ),
    "frames multiplied by 1/255": Fault(
        "vision.mjs",
        "video: (z) => Math.fround(z / 255)",
        "video: (z) => Math.fround(z * FACTOR)",
        "pitfall-rescale-of-frames",
        "patches",
        looks_like="levels multiplied by 1/255",
    ),
    "weights of 22 bits, as Pillow's": Fault(
        "resize.mjs",
        "let precision = 0;",
        "let precision = 22;",
        "pitfall-pillow-resize",
        "resized_rgb",
        looks_like="Pillow's bicubic",
    ),
    "not scaled up to the budget": Fault(
        "vision.mjs",
        "let rows = Math.floor((f * height) / SIDE);",
        "let rows = Math.floor((Math.min(f, 1) * height) / SIDE);",
        "pitfall-letterbox",
        "target_size",
    ),
    "orientation ignored": Fault(
        "vision.mjs",
        "places[orientation](y, x)",
        "places[1](y, x)",
        "exif-3",
        "source_rgb",
        looks_like="EXIF orientation ignored",
    ),
    "alpha on black": Fault(
        "vision.mjs",
        "255 * (255 - alpha)",
        "0 * (255 - alpha)",
        "pitfall-alpha-on-black",
        "source_rgb",
        looks_like="alpha composited on black",
    ),
    "timestamps of 00:00": Fault(
        "vision.mjs",
        "const t = index / fps;",
        "const t = 0 / fps;",
        "pitfall-timestamps-zero",
        "timestamps",
        looks_like="00:00 for every frame",
    ),
    "rate inverted": Fault(
        "vision.mjs",
        "const t = index / fps;",
        "const t = index * fps;",
        "pitfall-fps-inverted",
        "timestamps",
        looks_like="seconds per frame taken for frames per second",
    ),
    "one frame short": Fault(
        "audio.mjs",
        "const n = Math.ceil(data.length / SAMPLES);",
        "const n = Math.floor(data.length / SAMPLES);\n  data = data.subarray(0, n * SAMPLES);",
        "pitfall-audio-off-by-one",
        "frames",
        looks_like="partial frame left out",
    ),
    "30 s at most": Fault(
        "audio.mjs",
        'tensor("I32", [1], [n])',
        'tensor("I32", [1], [Math.min(n, 750)])',
        "pitfall-audio-cap-bytes",
        "soft_tokens",
        looks_like="a cap of 30 s",
    ),
    "no end of image": Fault(
        "conversation.mjs", "fill(id), end[kind]]", "fill(id)]", "pitfall-image-ignored", "token_ids"
    ),
    "padded on the right": Fault(
        "conversation.mjs",
        "(r + 1) * length - row.length",
        "r * length",
        "talk-batch",
        "token_ids",
        looks_like="padding on the right",
    ),
    "audio typed as an image": Fault("conversation.mjs", "audio: 3 };", "audio: 1 };", "media-mixed", "token_types"),
    "audio in a vision block": Fault(
        "masks.mjs",
        "types[t] === 1 || types[t] === 2",
        "types[t] >= 1",
        "masks-audio-beside-image",
        "mask_sliding_forward",
        looks_like="audio tokens in vision blocks",
    ),
    "window off by one": Fault(
        "masks.mjs",
        "(k <= q && k > q - window) || block(q, k)",
        "(k <= q && k >= q - window) || block(q, k)",
        "masks-text-over-window",
        "mask_sliding_forward",
        looks_like="window off by one",
    ),
    "blocks on sliding layers only": Fault(
        "masks.mjs",
        "mask_global_forward: (q, k, window, block) => k <= q || block(q, k)",
        "mask_global_forward: (q, k) => k <= q",
        "pitfall-mask-on-wrong-layers",
        "mask_global_forward",
    ),
    "a chunk ends inside a block": Fault(
        "masks.mjs", "if (end < types.length) end = start[end];", "", "pitfall-chunk-inside-block", "chunk_plan"
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_its_stage_named(tmp_path, capsys, name):
    fault = FAULTS[name]
    client = tmp_path / "client"
    shutil.copytree(CLIENT, client)
    source = (client / fault.file).read_text(encoding="utf-8")
    assert source.count(fault.right) == 1
    arguments = ["conform", str(FIXTURES), str(tmp_path / "out"), "--cases", fault.case]
    run_client(tmp_path / "out", fault.case, client=client)
    assert run(arguments) == 0
    (client / fault.file).write_text(source.replace(fault.right, fault.wrong), encoding="utf-8")
    run_client(tmp_path / "out", fault.case, client=client)
    capsys.readouterr()
    assert run(arguments) == 1
    out = capsys.readouterr().out
    first = next(line for line in out.splitlines() if f"case {fault.case}, stage " in line)
    assert f"case {fault.case}, stage {fault.stage}" in first
    assert fault.looks_like in first


def test_the_port_holds_no_code_but_its_own():
    """No packages, and no way to what is expected: only Node's own modules and the files beside it are imported."""
    for path in CLIENT.glob("*.mjs"):
        text = path.read_text(encoding="utf-8")
        sources = [line.rsplit('"', 2)[1] for line in text.splitlines() if line.startswith("import ")]
        assert all(source.startswith(("node:", "./")) for source in sources), path.name
    assert sorted(path.name for path in CLIENT.glob("*.mjs")) == [
        "audio.mjs",
        "client.mjs",
        "conversation.mjs",
        "masks.mjs",
        "png.mjs",
        "resize.mjs",
        "tensors.mjs",
        "vision.mjs",
    ]


def test_without_node_a_test_is_skipped_with_its_reason_and_fails_in_ci(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"Node\.js is not installed"):
        require_node()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"Node\.js is not installed"):
        require_node()
