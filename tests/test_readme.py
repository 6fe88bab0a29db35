"""The README's code blocks run as they stand, in one folder with the files that they name."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gemma4_mm.cli.demo_media import write_clip, write_photo, write_sound
from tests.conformance.ports import require_node

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    write_photo(folder / "photo.jpg")
    write_sound(folder / "sound.wav")
    write_clip(folder / "clip.mp4")
    (folder / "requests.jsonl").write_text(blocks("json")[0], encoding="utf-8")
    shutil.copytree(README.parent / "fixtures", folder / "fixtures")
    return folder


def test_python_blocks_run_one_after_the_other(folder, monkeypatch, assets, capsys):  # noqa: ARG001 (fills the cache)
    monkeypatch.chdir(folder)
    namespace = {}
    code = blocks("python")
    assert len(code) >= 3
    for block in code:
        exec(compile(block, str(README), "exec"), namespace)  # noqa: S102 (our own README)
    assert "(1, 280, 6912)" in capsys.readouterr().out


CONSOLE = [[line[2:] for line in block.splitlines() if line.startswith("$ ")] for block in blocks("console")]


def test_there_are_commands_to_run():
    assert sum(map(len, CONSOLE)) >= 3


@pytest.mark.parametrize("commands", CONSOLE, ids=lambda commands: commands[0].split()[1])
def test_the_commands_of_a_console_block_run_in_order(commands, folder, assets):  # noqa: ARG001 (fills the cache)
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program in ("gemma4-mm", "node")
        words = [require_node()] if program == "node" else [sys.executable, "-m", "gemma4_mm"]
        result = subprocess.run([*words, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stderr}"


def test_the_first_command_ends_in_the_demo():
    first, test = blocks("bash")
    assert first.strip().endswith("pip install '.[all]' && gemma4-mm demo")
    assert test.strip().endswith("pytest -n 2")


def test_the_demo_runs(assets):  # noqa: ARG001 (fills the cache)
    result = subprocess.run([sys.executable, "-m", "gemma4_mm", "demo"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"image 0 +14×19 patches +266 tokens", result.stdout)
    assert "pixel_values_videos" in result.stdout
