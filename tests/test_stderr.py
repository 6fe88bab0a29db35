"""One owner of file descriptor 2: whoever holds it, in whichever order, stderr is the original file afterwards."""

import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemma4_mm.coreai.run.stderr import chatter_to_log
from gemma4_mm.media.quiet import ignore_decoder_notes
from gemma4_mm.stderr import hold_stderr
from tests.media.files import write_sound
from tests.media.loading import load_image

CHATTER = b"ODIE [default]: Loading function 'x'\n"
NOTE = b"Note: Trying to resync...\n"
Holder = Callable[[], AbstractContextManager[None]]


def _file_of_stderr() -> tuple[int, int]:
    found = os.fstat(2)
    return found.st_dev, found.st_ino


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    pixels = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw")
    return tmp_path / "a.tif"


@pytest.mark.parametrize("holders", [(ignore_decoder_notes, chatter_to_log), (chatter_to_log, ignore_decoder_notes)])
@pytest.mark.parametrize("first_out", [0, 1])
def test_two_uses_that_overlap_leave_the_original_file(
    holders: tuple[Holder, Holder], first_out: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = _file_of_stderr()
    entered = [holder() for holder in holders]
    with caplog.at_level(logging.DEBUG, "gemma4_mm.coreai"):
        for context in entered:
            context.__enter__()
        os.write(2, CHATTER + NOTE + b"a line of somebody else\n")
        entered[first_out].__exit__(None, None, None)
        os.write(2, NOTE + CHATTER)
        entered[1 - first_out].__exit__(None, None, None)
    assert _file_of_stderr() == before
    assert capfd.readouterr().err == "a line of somebody else\n"
    assert caplog.messages == [CHATTER.decode().strip()] * 2


def test_tiffs_decoded_in_threads_while_a_bundle_loads_leave_the_original_file(
    tiff: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = _file_of_stderr()
    n_rounds = 200
    start = threading.Barrier(3)

    def decode() -> None:
        start.wait()
        for _ in range(n_rounds):
            load_image(tiff)

    def load() -> None:
        start.wait()
        for _ in range(n_rounds):
            with chatter_to_log():
                os.write(2, CHATTER)

    threads = [threading.Thread(target=work) for work in (decode, decode, load)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _file_of_stderr() == before
    assert capfd.readouterr().err == ""


def test_what_is_held_comes_out_where_a_body_raises(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with hold_stderr(lambda line: line == b"drop\n"):
            os.write(2, b"drop\nkeep\nno line feed")
            raise ValueError("inner")

    with pytest.raises(ValueError, match="inner"):
        fail()
    assert capfd.readouterr().err == "keep\nno line feed"


def _run_without_stderr(code: str, *arguments: object) -> str:
    """Run `code` in an interpreter that is started with descriptor 2 closed."""
    words = [sys.executable, "-c", "import sys; sys.stderr = sys.stdout\n" + code, *map(str, arguments)]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *words], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def test_with_stderr_closed_at_the_start_a_good_tiff_is_decoded(tiff: Path) -> None:
    code = (
        "import sys\nfrom hashlib import sha256\nfrom gemma4_mm.media.image import open_image\n"
        "def show(source): print(sha256(open_image(source).decode().rows(0, 48).tobytes()).hexdigest())\n"
        "show(sys.argv[1])\nshow(open(sys.argv[1], 'rb'))"
    )
    expected = hashlib.sha256(np.asarray(Image.open(tiff)).tobytes()).hexdigest()
    assert _run_without_stderr(code, tiff) == f"{expected}\n{expected}\n"


def test_with_stderr_closed_at_the_start_a_good_mp3_is_decoded(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp3", rate_hz=16_000, n_samples=20_000, form="MP3", subtype="MPEG_LAYER_III")
    code = (
        "import sys\nfrom gemma4_mm.media.audio import open_audio\n"
        "def count(source): return sum(map(len, open_audio(source).blocks()))\n"
        "print(count(sys.argv[1]), count(open(sys.argv[1], 'rb')))"
    )
    assert _run_without_stderr(code, path) == "20000 20000\n"


def test_a_file_that_got_the_number_of_stderr_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    code = (
        "import os, sys\nfrom gemma4_mm.stderr import hold_stderr\n"
        "with hold_stderr(lambda line: False):\n    assert os.fstat(2).st_rdev == os.stat(os.devnull).st_rdev\n"
        "os.close(2)\nfile = open(sys.argv[1], 'r+b')\nassert file.fileno() == 2\n"
        "with hold_stderr(lambda line: False):\n    print(file.read())"
    )
    assert _run_without_stderr(code, tmp_path / "a") == "b'content'\n"
    code = (
        "import os, sys\nfrom gemma4_mm.stderr import hold_stderr\n"
        "os.close(2)\nfile = open(sys.argv[1], 'rb')\nassert file.fileno() == 2\n"
        "with hold_stderr(lambda line: False):\n    print(file.read())"
    )
    closed_later = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    assert closed_later.stdout == "b'content'\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_forked_meanwhile_has_the_original_file() -> None:
    code = (
        "import os, sys, threading\nfrom gemma4_mm.stderr import hold_stderr\n"
        "def drops(line): return line == b'drop\\n'\n"
        "entered, leave = threading.Event(), threading.Event()\n"
        "def hold():\n    with hold_stderr(drops):\n        entered.set()\n        leave.wait()\n"
        "thread = threading.Thread(target=hold)\nthread.start()\nentered.wait()\n"
        "import warnings\nwarnings.simplefilter('ignore')\n"
        "child = os.fork()\n"
        "if child == 0:\n    os.write(2, b'child\\n')\n"
        "    with hold_stderr(drops):\n        os.write(2, b'drop\\nheld by the child\\n')\n    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "os.write(2, b'drop\\nparent\\n')\nleave.set()\nthread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "child\nheld by the child\nparent\n"
