"""Batches: what they write, that it follows from the requests alone, and what a bad sample or a dead process does."""

import json
import multiprocessing
import os
import pickle
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from gemma4_mm import AssetError, Execution, InputError, Limits, MediaCache, MediaError, Processor
from gemma4_mm.assets.find import find_assets
from gemma4_mm.assets.pinned import PinnedAssets
from gemma4_mm.dataset import read_shards, run_batch
from gemma4_mm.dataset.pool import encode_locally
from gemma4_mm.dataset.requests import scan_requests
from gemma4_mm.dataset.shard import Shard, is_finished, shard_path
from gemma4_mm.dataset.worker import Job, ShardReport
from gemma4_mm.releases import DEFAULT_PROFILE
from tests.dataset.files import OPTIONS, contents, read_lines, request, write_requests

SHARD_SIZE = 3


def run(folder, records, *, model, out="out", **arguments):
    requests = write_requests(folder / "requests.jsonl", records)
    arguments = {"options": OPTIONS, "shard_size": SHARD_SIZE, "workers": 1, **arguments}
    return run_batch(requests, folder / out, model=model, **arguments)


def test_every_request_gives_what_the_processor_gives(folder, model, monkeypatch):
    records = [request(index) for index in range(8)]
    report = run(folder, records, model=model)
    assert (report.n_requests, report.n_failed, report.n_shards, report.n_resumed) == (8, 0, 3, 0)
    processor = Processor.from_pretrained(model)
    shards = read_shards(folder / "out", verify=True)
    assert len(shards) == 8
    samples = list(shards)
    assert [(sample.index, sample.id) for sample in samples] == [(index, f"r{index}") for index in range(8)]
    monkeypatch.chdir(folder)
    for record, sample in zip(records, samples, strict=True):
        expected = processor.apply_chat_template(
            record["messages"], tokenize=True, return_dict=True, add_generation_prompt=True, **OPTIONS
        )
        for inputs in (sample.inputs, shards[sample.index]):
            assert list(inputs) == list(expected)
            for key, value in expected.items():
                assert inputs[key].dtype == value.dtype
                assert np.array_equal(inputs[key], value), key
            assert inputs.segments == expected.segments
            assert inputs.profile == expected.profile
    rows = read_lines(folder / "out/index.jsonl")
    assert [row["shard"] for row in rows] == [0, 0, 0, 1, 1, 1, 2, 2]
    for row, sample in zip(rows, samples, strict=True):
        assert row["tokens"] == sample.inputs["input_ids"].size
        assert {kind: tuple(row[kind]) for kind in ("image", "video", "audio")} == sample.inputs.token_counts


def test_the_output_depends_neither_on_workers_nor_on_kernel_and_threads(folder, model):
    records = [request(index) for index in range(14)]
    records[4]["messages"][0]["content"][0] = {"type": "image", "image": "media/none.jpg"}
    for workers in (1, 2):
        run(folder, records, model=model, out=f"out{workers}", workers=workers)
    assert contents(folder / "out1") == contents(folder / "out2")
    assert len(contents(folder / "out1")) == 5 + 3
    run(folder, records, model=model, out="fast", workers=2, execution=Execution(kernel="numba", threads=2))
    assert contents(folder / "fast") == contents(folder / "out1")


def test_a_cache_changes_no_byte_and_is_used(folder, model):
    records = [request(index) for index in range(8)]
    run(folder, records, model=model)
    expected = contents(folder / "out")
    for out in ("filling", "using"):
        run(folder, records, model=model, out=out, workers=2, cache=MediaCache(folder / "cache", max_memory_bytes=0))
        assert contents(folder / out) == expected
    kept = list((folder / "cache").rglob("*.safetensors"))
    assert len(kept) == 3  # the photograph, the sound and the clip, each of them once
    for path in kept:
        os.utime(path, ns=(0, 0))
    run(folder, records, model=model, out="again", cache=MediaCache(folder / "cache"))
    assert all(path.stat().st_mtime_ns > 0 for path in kept)  # a hit counts as use


BAD = {
    "not json": ("{", "not JSON"),
    "no object": ("[1]", "a line holds list"),
    "unknown key": ({**request(0), "massages": []}, "unknown key 'massages'"),
    "bad id": ({**request(0), "id": 1.5}, "id is 1.5"),
    "no messages": ({"id": "x"}, "messages must be one conversation"),
    "two conversations": ({"messages": [request(0)["messages"]]}, "messages must be one conversation"),
    "unknown option": (request(0, options={"max_soft_token": 70}), "max_soft_token"),
    "refused option": (request(0, options={"tokenize": False}), "cannot be set in options"),
    "options no object": (request(0, options=[1]), "options is list"),
    "missing file": (request(0, part={"type": "image", "image": "media/none.jpg"}), "no such file"),
    "wrong kind": (request(0, part={"type": "audio", "audio": "media/photo.jpg"}), "is not audio"),
    "deep": ('{"id": "deep", "messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "network": (request(0, part={"type": "image", "image": "http://127.0.0.1/x.png"}), "network is not allowed"),
}


def test_bad_samples_stop_nothing_and_are_said_in_order(folder, model):
    records = [entry for bad, _ in BAD.values() for entry in (bad, request(2), "", request(2, options={}))]
    report = run(folder, records, model=model, workers=2)
    assert (report.n_requests, report.n_failed) == (3 * len(BAD), len(BAD))
    errors = read_lines(folder / "out/errors.jsonl")
    assert [error["index"] for error in errors] == list(range(0, 3 * len(BAD), 3))
    assert [error["line"] for error in errors] == list(range(1, 4 * len(BAD), 4))
    for error, (name, (bad, message)) in zip(errors, BAD.items(), strict=True):
        assert message in error["message"], name
        assert error["type"] in ("InputError", "MediaError"), name
        named = isinstance(bad, dict) and isinstance(bad.get("id"), str)
        assert error["id"] == (bad["id"] if named else None), name
    assert [row["index"] for row in read_lines(folder / "out/index.jsonl") if "error" in row] == [
        error["index"] for error in errors
    ]
    shards = read_shards(folder / "out")
    assert [sample.index for sample in shards] == [index for index in range(3 * len(BAD)) if index % 3]
    with pytest.raises(InputError, match="request 0 has no tensors: InputError: not JSON"):
        shards[0]
    with pytest.raises(IndexError):
        shards[3 * len(BAD)]
    assert np.array_equal(shards[-1]["input_ids"], shards[3 * len(BAD) - 1]["input_ids"])
    copy = pickle.loads(pickle.dumps(shards))  # noqa: S301 (our own)
    assert np.array_equal(copy[1]["input_ids"], shards[1]["input_ids"])


def test_fail_fast_stops_in_words_and_goes_on_later(folder, model):
    records = [request(2, part={"type": "text", "text": "Hi"}) for _ in range(9)]
    records[4] = "{"
    with pytest.raises(InputError, match=r"line 5: not JSON: .* leave --fail-fast out"):
        run(folder, records, model=model, fail_fast=True)
    assert not (folder / "out/index.jsonl").exists()
    with pytest.raises(InputError, match="is not finished; run the same gemma4-mm batch again"):
        read_shards(folder / "out")
    assert run(folder, records, model=model).n_failed == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"options": {**OPTIONS, "max_soft_tokens": 140}}, "settings.options.max_soft_tokens was 70 and is 140"),
        ({"shard_size": 4}, "shard_size was 3 and is 4"),
        ({"limits": Limits(max_pixels=7)}, "settings.limits.max_pixels was 89478485 and is 7"),
        ({"records": [request(0), request(1)]}, "requests_sha256 was"),
    ],
)
def test_other_requests_or_settings_are_refused_in_words(folder, model, changed, message):
    records = [request(2), request(1)]
    run(folder, records, model=model)
    before = contents(folder / "out")
    with pytest.raises(InputError, match=message):
        run(folder, changed.pop("records", records), model=model, **changed)
    assert contents(folder / "out") == before
    assert run(folder, records, model=model).n_resumed == 1


def test_folders_that_are_no_output_are_refused(folder, model):
    with pytest.raises(InputError, match="not of a run; give a new or empty folder"):
        run(folder, [request(0)], model=model, out="media")
    with pytest.raises(InputError, match="holds no request"):
        run(folder, ["", ""], model=model)
    with pytest.raises(MediaError, match=r"holds no run\.json"):
        read_shards(folder)
    with pytest.raises(InputError, match="options must be JSON values"):
        run(folder, [request(0)], model=model, options={"max_soft_tokens": {70}})
    with pytest.raises(InputError, match="must be at least 1"):
        run(folder, [request(0)], model=model, workers=0)


def test_damaged_shards_are_found_and_made_anew(folder, model):
    records = [request(index) for index in range(6)]
    run(folder, records, model=model)
    before = contents(folder / "out")
    first, second = shard_path(folder / "out", 0), shard_path(folder / "out", 1)

    first.write_bytes(first.read_bytes()[:-10])  # cut off: seen without reading it all
    assert run(folder, records, model=model).n_resumed == 1
    assert contents(folder / "out") == before

    data = bytearray(second.read_bytes())
    data[-2000] ^= 1  # one bit of one patch: seen where it is asked for
    second.write_bytes(data)
    assert run(folder, records, model=model).n_resumed == 2
    with pytest.raises(MediaError, match="is damaged: request"):
        list(read_shards(folder / "out", verify=True))
    assert run(folder, records, model=model, verify=True).n_resumed == 1
    assert contents(folder / "out") == before


def test_shards_are_plain_safetensors_and_aligned(folder, model):
    run(folder, [request(index) for index in range(3)], model=model)
    path = shard_path(folder / "out", 0)
    data = path.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n_header])
    header.pop("__metadata__")
    sizes = {"I64": 8, "F32": 4, "BOOL": 1}
    for name, tensor in header.items():
        assert (8 + n_header + tensor["data_offsets"][0]) % sizes[tensor["dtype"]] == 0, name
    with safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == set(header)
        assert file.get_tensor("1/input_features_mask").dtype == np.bool_


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_written_and_read(folder, model, dtype):
    records = [request(index) for index in range(4)]
    run(folder, records, model=model)
    run(folder, records, model=model, out="half", options={**OPTIONS, "dtype": dtype})
    halves = read_shards(folder / "half", verify=True)
    for sample in read_shards(folder / "out"):
        for key, value in sample.inputs.items():
            half = halves[sample.index][key]
            assert half.dtype.name == (dtype if value.dtype == np.float32 else value.dtype.name)
            assert np.array_equal(half, value.astype(half.dtype)), key


def test_a_header_that_outgrows_its_room_moves_the_tensors(folder, model):
    """A long name needs more room than is left per request, and ten pictures are moved in two steps."""
    record = request(0, id="x" * 9000)
    record["messages"][0]["content"] *= 10
    run(folder, [record, request(1)], model=model, shard_size=2)
    path = shard_path(folder / "out", 0)
    assert int.from_bytes(path.read_bytes()[:8], "little") > 8192
    assert path.stat().st_size > 2**24
    Shard(path).check()
    alone = write_requests(folder / "alone.jsonl", [{**record, "id": "short"}])
    run_batch(alone, folder / "short", model=model, options=OPTIONS, workers=1)
    short = read_shards(folder / "short")[0]
    for key, value in Shard(path).inputs(0, verify=True).items():
        assert np.array_equal(value, short[key]), key


def job_for(folder, records, model):
    requests = scan_requests(write_requests(folder / "requests.jsonl", records), shard_size=SHARD_SIZE)
    (folder / "out").mkdir()
    job = Job(
        requests=requests.path,
        folder=folder / "out",
        pinned=PinnedAssets.pin(find_assets(model)),
        settings={"profile": DEFAULT_PROFILE, "limits": Limits()},
        defaults=OPTIONS,
    )
    return job, requests.shards


def encode_and_kill(job, plans, *, index, n_kills, fork):
    """Encode; end the process that begins a request, at its first `n_kills` attempts, as a crashing decoder would."""
    kills, reports = 0, []
    for event in encode_locally(job, plans, n_workers=1, fork=fork):
        if isinstance(event, ShardReport):
            reports.append((event.number, event.n_failed))
        elif event.index == index and kills < n_kills:
            kills += 1
            os.kill(event.pid, signal.SIGKILL)
    assert kills == n_kills
    return reports


@pytest.mark.parametrize("fork", [True, False])
@pytest.mark.parametrize("n_kills", [0, 1, 2])
def test_a_request_that_kills_its_process_twice_fails_alone(folder, model, fork, n_kills):
    """The slow picture gives time to end the process in the middle of it."""
    Image.effect_noise((6000, 4000), 40).save(folder / "media/large.jpg")
    records = [request(2) for _ in range(9)]
    records[4] = request(0, part={"type": "image", "image": "media/large.jpg"})
    job, plans = job_for(folder, records, model)
    reports = encode_and_kill(job, plans, index=4, n_kills=n_kills, fork=fork)
    assert reports == [(0, 0), (1, n_kills == 2), (2, 0)]
    assert all(is_finished(job.folder, plan, verify=True) for plan in plans)
    answer = Shard(shard_path(job.folder, 1)).requests[1]
    assert answer.get("error") == (
        {"type": "Crash", "message": "the worker process died twice while it encoded this request (SIGKILL)"}
        if n_kills == 2
        else None
    )


def test_what_ends_a_run_is_raised_here_and_leaves_no_process(folder, model):
    job, plans = job_for(folder, [request(2)], model)
    gone = replace(job, pinned=replace(job.pinned, sha256=("0" * 64, *job.pinned.sha256[1:])))
    for fork in (True, False):
        with pytest.raises(AssetError, match="another file than where the Processor was pickled"):
            list(encode_locally(gone, plans, n_workers=2, fork=fork))
    job.requests.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="changed while it was read"):
        list(encode_locally(job, plans, n_workers=2))
    assert multiprocessing.active_children() == []
