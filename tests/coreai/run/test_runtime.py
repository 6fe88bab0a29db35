"""The live runtime behind `Runtime`: faults, states, concurrency, closing. Nothing here may end the process."""

import asyncio
import gc
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.convert.tiny import CONTEXT_LENGTH
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.errors import AssetError, ExecutionError, Gemma4MMError, InputError
from tests.coreai import drive

IDS = [2, 300, 301, 302]
VISION = {"pixel_values": np.zeros((4, 6912), np.float32), "image_position_ids": np.zeros((4, 2), np.int64)}
AUDIO = {"input_features": np.zeros((4, 640), np.float32)}
PREFILL = {
    "input_ids": IDS,
    "mm_embeds": np.zeros((4, 64), np.float32),
    "mm_mask": np.zeros(4, np.bool_),
    "mask_sliding": np.tri(4, dtype=np.bool_),
    "mask_global": np.tri(4, dtype=np.bool_),
}


def test_functions_are_read_from_the_descriptors(runtime: Runtime) -> None:
    assert list(runtime.functions) == ["main", "prefill_multimodal", "embed_vision", "embed_audio"]
    assert runtime.problems == ()
    assert runtime.vocabulary == drive.VOCABULARY
    assert str(runtime.functions["prefill_multimodal"].inputs["mask_global"]) == "bool [1, 1, ?, ?]"
    assert str(runtime.functions["main"].states["keyCache"]) == f"float32 [6, 1, 2, {CONTEXT_LENGTH}, 16]"


# What the runtime itself does with each of these is in COREAI's fault table: an error, a dead process, or silence.
FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "wrong int type": ("main", {"input_ids": np.ones(4, np.float32)}, "main.input_ids is float32"),
    "wrong bool type": ("prefill_multimodal", PREFILL | {"mm_mask": np.ones(4, np.float32)}, "it must be bool"),
    "unknown input": ("main", {"input_ids": IDS, "extra": 1}, "main does not know extra"),
    "missing input": ("embed_vision", {"pixel_values": VISION["pixel_values"]}, "needs image_position_ids"),
    "batch of two": ("main", {"input_ids": np.ones((2, 4), int)}, r"it must be int32 \[1, \?\]"),
    "mask too narrow": (
        "prefill_multimodal",
        PREFILL | {"mask_global": np.ones((4, 3), bool)},
        "axis -1 is 3; it must",
    ),
    "mask too wide": ("prefill_multimodal", PREFILL | {"mask_global": np.ones((4, 5), bool)}, "axis -1 is 5; it must"),
    "mask rows": ("prefill_multimodal", PREFILL | {"mask_sliding": np.ones((3, 4), bool)}, "axis -2 is 3; it must"),
    "not a float": ("embed_audio", {"input_features": np.zeros((4, 640), np.int16)}, "int16 .* it must be float"),
    "last axis 639": (
        "embed_audio",
        {"input_features": np.zeros((4, 639), np.float32)},
        r"it must be .* \[1, \?, 640\]",
    ),
    "hidden 63": ("prefill_multimodal", PREFILL | {"mm_embeds": np.zeros((4, 63), np.float32)}, r"\[1, \?, 64\]"),
    "id too high": ("main", {"input_ids": [drive.VOCABULARY]}, "a token id runs from 0 to"),
    "id negative": ("main", {"input_ids": [-1]}, "holds -1 .* a token id runs from 0 to"),
    "beyond the table": ("embed_vision", VISION | {"image_position_ids": np.full((4, 2), 1120)}, "from -1 to 1119"),
    "positions of another image": (
        "embed_vision",
        VISION | {"image_position_ids": np.zeros((5, 2), int)},
        "as in pixel",
    ),
    "short ramp": ("main", {"input_ids": IDS, "position_ids": [0, 1, 2]}, "has 3 entries; it must have 4"),
    "gap in the ramp": ("main", {"input_ids": IDS, "position_ids": [0, 1, 2, 4]}, "holds 4 at"),
    "past the capacity": ("main", {"input_ids": np.ones(CONTEXT_LENGTH, int)}, f"takes {CONTEXT_LENGTH - 1}"),
    "no tokens": ("main", {"input_ids": np.ones(0, int)}, "which is empty"),
    "rank": ("embed_audio", {"input_features": np.zeros((2, 2, 2, 640), np.float32)}, "it must be float32"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_a_typed_error_and_leaves_the_state_usable(runtime: Runtime, fault: str) -> None:
    function, inputs, message = FAULTS[fault]
    state = runtime.new_state() if function in {"main", "prefill_multimodal"} else None
    with pytest.raises(InputError, match=message):
        runtime.run(function, inputs, state=state)
    if state is not None:
        assert state.length == 0
        assert np.isfinite(runtime.run("main", {"input_ids": IDS}, state=state)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_float_widths_are_converted_not_passed_on(runtime: Runtime, dtype: Any) -> None:
    frames = (0.1 * np.random.default_rng(0).standard_normal((3, 640))).astype(dtype)
    expected = runtime.run("embed_audio", {"input_features": frames.astype(np.float32)})
    assert np.array_equal(runtime.run("embed_audio", {"input_features": frames}), expected)


def test_faults_of_the_call_itself(runtime: Runtime) -> None:
    state = runtime.new_state()
    for function, given, message in (
        ("decode", state, "there is no function 'decode'; the functions are main, prefill_multimodal"),
        ("main", None, "main needs the KVState of its sequence, from new_state"),
        ("main", {"keyCache": np.zeros(3)}, "main needs the KVState of its sequence"),
        ("embed_audio", state, "embed_audio takes no state; state is KVState"),
    ):
        call: Callable[..., Any] = runtime.run
        with pytest.raises(InputError, match=message):
            call(function, AUDIO, state=given)
    with pytest.raises(InputError, match="rows is 'first'; it must be 'last' or 'all'"):
        call("main", {"input_ids": IDS}, state=state, rows="first")


def test_rows_and_shapes_of_the_outputs(runtime: Runtime) -> None:
    every = runtime.run("main", {"input_ids": IDS}, state=runtime.new_state(), rows="all")
    last = runtime.run("main", {"input_ids": IDS}, state=runtime.new_state())
    assert every.shape == (4, drive.VOCABULARY)
    assert last.dtype == np.float32
    assert np.array_equal(every[-1], last)
    assert last.base is None  # a copy: nothing holds the other rows
    assert runtime.run("embed_vision", VISION).shape == (4, 64)
    assert runtime.run("embed_audio", {"input_features": np.zeros((1, 640))}).shape == (1, 64)


def test_the_last_place_of_a_state_can_be_filled(runtime: Runtime) -> None:
    state = runtime.new_state()
    runtime.run("main", {"input_ids": np.full(CONTEXT_LENGTH - 2, 300)}, state=state)
    assert np.isfinite(runtime.run("main", {"input_ids": [300]}, state=state)).all()
    with pytest.raises(InputError, match=f"has 1 tokens after {CONTEXT_LENGTH - 1}; the KV state takes"):
        runtime.run("main", {"input_ids": [300]}, state=state)


def test_padding_is_neither_kept_nor_among_the_logits(runtime: Runtime) -> None:
    plain, padded = runtime.new_state(), runtime.new_state()
    expected = runtime.run("main", {"input_ids": IDS}, state=plain, rows="all")
    filled = {"input_ids": [*IDS, 0, 0, 0]}
    rows = runtime.run("main", filled, state=padded, rows="all", padding=3)
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < 1e-4
    assert padded.length == 4
    last = runtime.run("main", filled, state=runtime.new_state(), padding=3)
    assert np.array_equal(last, rows[-1])
    further = [runtime.run("main", {"input_ids": [303]}, state=state) for state in (plain, padded)]
    assert np.abs(further[0] - further[1]).max() < 1e-4


@pytest.mark.parametrize("padding", [-1, 4, True, 1.0, None])
def test_padding_is_less_than_the_tokens(runtime: Runtime, padding: Any) -> None:
    state = runtime.new_state()
    with pytest.raises(InputError, match=f"padding is {padding} of 4 input_ids; it must be from 0 to 3"):
        runtime.run("main", {"input_ids": IDS}, state=state, padding=padding)
    assert state.length == 0


@pytest.mark.parametrize("length", [-1, 5, True, 1.0, None])
def test_a_state_rewinds_only_to_what_it_holds(runtime: Runtime, length: Any) -> None:
    state = runtime.new_state()
    runtime.run("main", {"input_ids": IDS}, state=state)
    with pytest.raises(InputError, match="the state holds 4; give 0 to 4"):
        state.rewind(length)
    state.rewind(np.int64(2))
    assert state.length == 2


def test_a_state_of_another_runtime_is_refused(runtime: Runtime, tiny_bundle: Bundle) -> None:
    with Runtime.open(tiny_bundle) as other, pytest.raises(InputError, match="was made by another Runtime"):
        runtime.run("main", {"input_ids": IDS}, state=other.new_state())


def test_rows_may_not_be_given_where_the_asset_fixes_them(runtime: Runtime) -> None:
    with pytest.raises(InputError, match="it cannot have 64 rows"):
        runtime.new_state(rows=64)
    assert runtime.new_state(rows=CONTEXT_LENGTH).capacity == CONTEXT_LENGTH - 1


def test_one_state_serves_one_call_at_a_time(runtime: Runtime) -> None:
    state = runtime.new_state()

    async def both() -> list[Any]:
        calls = [runtime.run_async("main", {"input_ids": IDS}, state=state) for _ in range(2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second = asyncio.run(both())
    assert np.isfinite(first).all()
    assert isinstance(second, InputError)
    assert "is in use by another call" in str(second)
    assert state.length == 4


def test_concurrent_sequences_do_not_touch_each_other(runtime: Runtime) -> None:
    """Threads and one loop's tasks at once, against the same sequences one after the other."""
    prompts = [drive.make_prompt("tit", seed=seed) for seed in range(4)]

    def run(prompt: drive.Prompt) -> list[int]:
        state = runtime.new_state()
        logits = drive.prefill(runtime, prompt, state, rule="forward")
        return drive.decode(runtime, logits, state, n_tokens=8)[0]

    expected = [run(prompt) for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, prompts)) == expected

    async def texts() -> list[Any]:
        calls = [runtime.run_async("main", {"input_ids": IDS[: n + 1]}, state=runtime.new_state()) for n in range(4)]
        return await asyncio.gather(*calls)

    for n, logits in enumerate(asyncio.run(texts())):
        assert np.array_equal(logits, runtime.run("main", {"input_ids": IDS[: n + 1]}, state=runtime.new_state()))


def test_sync_calls_work_inside_a_running_loop(runtime: Runtime) -> None:
    async def notebook_cell() -> Any:
        return runtime.run("embed_audio", AUDIO)

    assert asyncio.run(notebook_cell()).shape == (4, 64)


def test_a_cancelled_caller_leaves_the_call_to_finish_and_its_state_in_use(runtime: Runtime) -> None:
    state = runtime.new_state()
    long = {"input_ids": np.full(900, 300)}

    async def give_up() -> None:
        task = asyncio.create_task(runtime.run_async("main", long, state=state))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(InputError, match="is in use by another call"):
            await runtime.run_async("main", {"input_ids": IDS}, state=state)

    asyncio.run(give_up())
    deadline = time.monotonic() + 60
    while state.length == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state.length == 900
    assert np.isfinite(runtime.run("main", {"input_ids": IDS}, state=state)).all()


def test_a_closed_runtime_says_so_and_closing_again_is_nothing(tiny_bundle: Bundle) -> None:
    opened = Runtime.open(tiny_bundle)
    state = opened.new_state()
    opened.close()
    opened.close()
    with pytest.raises(InputError, match="the Core AI runtime is closed; open it again"):
        opened.run("main", {"input_ids": IDS}, state=state)


def test_closing_waits_for_running_calls(tiny_bundle: Bundle) -> None:
    async def use() -> Any:
        async with await Runtime.open_async(tiny_bundle) as opened:
            call = asyncio.create_task(opened.run_async("embed_audio", AUDIO))
            await asyncio.sleep(0)
        return await call

    assert asyncio.run(use()).shape == (4, 64)


def test_a_runtime_that_is_dropped_ends_its_thread(tiny_bundle: Bundle) -> None:
    before = set(threading.enumerate())
    opened = Runtime.open(tiny_bundle)
    opened.run("embed_audio", AUDIO)
    assert "gemma4-mm-coreai" in {thread.name for thread in set(threading.enumerate()) - before}
    del opened
    gc.collect()
    assert set(threading.enumerate()) == before


def test_the_process_ends_well_although_a_native_thread_comes_back_late(tiny_bundle: Bundle) -> None:
    """The thread that delivers a result is held in the wake-up call; at the end it would abort the process."""
    code = (
        "import os, select, sys, threading, time\n"
        "from gemma4_mm.coreai.run.runtime import Runtime\n"
        "read, write = os.pipe()\n"
        "class Last:\n"  # of what the interpreter takes down: tells that thread to come back, and waits for it
        "    def __del__(self, tell=os.write, to=write, sleep=time.sleep): tell(to, b'.'); sleep(1)\n"
        "sys.modules['last'] = Last()\n"
        "runtime = Runtime.open(sys.argv[1])\n"
        "loop = runtime._host._loop\n"
        "wake = loop._write_to_self\n"
        "ours = {thread.ident for thread in threading.enumerate()}\n"
        "def hold():\n"
        "    wake()\n"
        "    if threading.get_ident() not in ours: select.select([read], [], [], 4)\n"
        "loop._write_to_self = hold\n"
        "runtime.run('embed_audio', {'input_features': [[0.0] * 640]})\n"
        "loop._write_to_self = wake\n"
        "print('done', flush=True)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle.path)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_what_the_runtime_refuses_after_all_checks_is_an_execution_error(tiny_bundle: Bundle) -> None:
    """A metadata that claims a larger position table than the weights have: the gather fails at run time."""
    constants = replace(tiny_bundle.constants, position_table=5000).to_json()
    metadata = dict(tiny_bundle.metadata) | {"multimodal": constants}
    with Runtime.open(replace(tiny_bundle, metadata=metadata)) as opened:
        beyond = VISION | {"image_position_ids": np.full((4, 2), 1200)}
        with pytest.raises(ExecutionError, match="refused embed_vision after its inputs had passed every check"):
            opened.run("embed_vision", beyond)
    assert issubclass(ExecutionError, Gemma4MMError)


def test_loading_is_quiet_on_stderr_and_in_the_debug_log(
    tiny_bundle: Bundle, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "gemma4_mm.coreai"), Runtime.open(tiny_bundle):
        pass
    assert capfd.readouterr().err == ""
    assert "Loading function 'embed_vision'" in caplog.text


def test_what_is_not_chatter_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    from gemma4_mm.coreai.run.stderr import chatter_to_log

    def load() -> None:
        with chatter_to_log():
            os.write(2, b"ODIE [default]: Loading function 'x'\nCoreAIRuntime/Kernel.swift:1: Fatal error\npartial")
            raise ValueError("inner")

    with pytest.raises(ValueError, match="inner"):
        load()
    assert capfd.readouterr().err == "CoreAIRuntime/Kernel.swift:1: Fatal error\npartial"


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_program_is_an_error_where_the_runtime_would_end_the_process(
    tiny_bundle: Bundle, tmp_path: Path, damage: str
) -> None:
    copy = Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))
    program = Bundle.read(copy).asset_path / "main.mlirb"
    content = program.read_bytes()
    if damage == "gone":
        program.unlink()
    else:
        program.write_bytes(content[: len(content) // 2] if damage == "cut" else content[:-9] + b"\xff" + content[-8:])
    code = (
        "import sys; from gemma4_mm.coreai.run.runtime import Runtime; from gemma4_mm.errors import AssetError\n"
        "try: Runtime.open(sys.argv[1])\n"
        "except AssetError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True)
    assert "incomplete, repeat it" in result.stdout or "cut short or altered" in result.stdout


def test_an_asset_without_some_functions_offers_the_others(tiny_bundle: Bundle) -> None:
    """Fake the loss of a function; the real descriptors stay."""
    from gemma4_mm.coreai.run.host import AssetHost

    host = AssetHost()
    host.load(tiny_bundle.asset_path, ("main", "embed_audio")).result()
    with Runtime(host, bundle=tiny_bundle) as partial:
        assert partial.problems == (
            "the asset has no function prefill_multimodal",
            "the asset has no function embed_vision",
        )
        assert partial.run("embed_audio", AUDIO).shape == (4, 64)
        with pytest.raises(AssetError, match="embed_vision cannot be run: the asset has no function embed_vision"):
            partial.run("embed_vision", VISION)
        assert partial.new_state().length == 0
