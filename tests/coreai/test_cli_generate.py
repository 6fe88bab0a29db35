"""`gemma4-mm generate` and `chat` as processes of their own, on the tiny bundle."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gemma4_mm.cli.demo_media import write_photo, write_sound
from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import GenerationOptions, Session

STATISTICS = re.compile(
    r"prompt (\d+) tokens(?: \((\d+) reused\))?, prefill \d+\.\d tokens/s, first token after \d+\.\d\d s; "
    r"reply (\d+) tokens, decode \d+\.\d tokens/s, ended by (\w+); mask rule (\w+)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chat_bundle: Bundle) -> Path:
    path = tmp_path_factory.mktemp("generate")
    write_photo(path / "photo.jpg", width_px=160, height_px=120)
    write_sound(path / "sound.wav", duration_s=0.5)
    (path / "bundle").symlink_to(chat_bundle.path)
    return path


def command(folder: Path, *words: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gemma4_mm", *words],
        cwd=folder,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def messages(*files: tuple[str, Path], text: str) -> list[dict]:
    parts = [{"type": kind, kind: str(path)} for kind, path in files]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def test_generate_streams_the_sessions_reply_and_puts_statistics_on_stderr(folder: Path, chat_runtime: Runtime) -> None:
    words = ("photo.jpg", "sound.wav", "--prompt", "what is this?", "--max-tokens", "12")
    result = command(folder, "generate", "bundle", *words)
    assert result.returncode == 0, result.stderr
    files = (("image", folder / "photo.jpg"), ("audio", folder / "sound.wav"))
    expected = Session(chat_runtime).generate(
        messages(*files, text="what is this?"), GenerationOptions(max_tokens=12), enable_thinking=False
    )
    assert result.stdout == expected.text + "\n"
    loading, line = result.stderr.splitlines()
    assert loading == "loading bundle"
    prompt, reused, generated, ended, rule = STATISTICS.fullmatch(line).groups()
    assert (int(prompt), reused) == (expected.statistics.prompt_tokens, None)
    assert (int(generated), ended, rule) == (len(expected.ids), expected.finish_reason, "forward")


def test_generate_as_json_with_sampling_and_another_rule(folder: Path, chat_runtime: Runtime) -> None:
    sampling = ("--temperature", "1.5", "--top-p", "0.9", "--top-k", "40", "--min-p", "0.01", "--seed", "7")
    words = (*sampling, "--repetition-penalty", "1.2", "--max-tokens", "6", "--mask-rule", "static", "--json")
    result = command(folder, "generate", "bundle", "photo.jpg", "-p", "hello", "--thinking", *words)
    assert result.returncode == 0, result.stderr
    options = GenerationOptions(
        max_tokens=6,
        temperature=1.5,
        top_p=0.9,
        top_k=40,
        min_p=0.01,
        seed=7,
        repetition_penalty=1.2,
        skip_special_tokens=False,
    )
    session = Session(chat_runtime, mask_rule="static")
    conversation = messages(("image", folder / "photo.jpg"), text="hello")
    expected = session.generate(conversation, options, enable_thinking=True)
    report = json.loads(result.stdout)
    assert report["ids"] == expected.ids
    assert report["text"] == expected.text
    assert (report["finish_reason"], report["mask_rule"]) == (expected.finish_reason, "static")
    assert report["statistics"]["prompt_tokens"] == expected.statistics.prompt_tokens
    assert report["statistics"]["decode_tokens_per_s"] > 0


def test_a_reader_that_goes_away_ends_the_reply_quietly(folder: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "gemma4_mm",
        "generate",
        "bundle",
        "-p",
        "hello",
        "--temperature",
        "2",
        "--seed",
        "1",
    ]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read().decode().splitlines() == ["loading bundle"]
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bundle",), "nothing to encode; give files, --prompt TEXT"),
        (("bundle", "-p", "x", "--mask-rule", "round"), "--mask-rule is 'round'; it must be one of forward, static"),
        (("bundle", "-p", "x", "--top-p", "2"), "top_p is 2.0; it must be above 0"),
        (("bundle", "missing.png", "-p", "x"), "missing.png"),
        (("nowhere", "-p", "x"), "give the directory of a Core AI bundle"),
        (("bundle", "-p", "hello " * 2000), "tokens; the context takes 1023; shorten it"),
    ],
)
def test_a_fault_is_one_line_and_exit_code_1(folder: Path, words: tuple[str, ...], message: str) -> None:
    result = command(folder, "generate", *words)
    assert result.returncode == 1
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_chat_through_a_pipe(folder: Path, chat_runtime: Runtime) -> None:
    """Attachments go with the next turn, faults are said and leave no trace, a later turn reuses the earlier ones."""
    lines = [
        "/image photo.jpg",
        "what is this?",
        "/nope",
        "/image missing.png",
        "",
        "and the colour?",
        "/reset",
        " /hello",
        "/exit",
        "not read",
    ]
    result = command(folder, "chat", "bundle", "--max-tokens", "5", typed="\n".join(lines))
    assert result.returncode == 0, result.stderr
    options = GenerationOptions(max_tokens=5)
    session = Session(chat_runtime)
    conversation = messages(("image", folder / "photo.jpg"), text="what is this?")
    replies = [session.generate(conversation, options)]
    conversation += [{"role": "assistant", "content": replies[0].text}, *messages(text="and the colour?")]
    replies.append(session.generate(conversation, options))
    session.reset()
    replies.append(session.generate(messages(text="/hello"), options))
    assert result.stdout == "".join(reply.text + "\n" for reply in replies)
    found = [line for line in map(STATISTICS.fullmatch, result.stderr.splitlines()) if line]
    reused = [reply.statistics.reused_tokens for reply in replies]
    assert [int(line[2] or 0) for line in found] == reused
    assert reused[1] > 0 == reused[2]
    assert "gemma4-mm: there is no command /nope: a line is a turn" in result.stderr
    assert "gemma4-mm: missing.png is no file; write /image PATH" in result.stderr


def test_chat_keeps_its_system_turn_and_ends_with_its_input(folder: Path, chat_runtime: Runtime) -> None:
    result = command(folder, "chat", "bundle", "--system", "answer", "--max-tokens", "4", typed="/reset\nhello")
    assert result.returncode == 0, result.stderr
    conversation = [{"role": "system", "content": "answer"}, *messages(text="hello")]
    expected = Session(chat_runtime).generate(conversation, GenerationOptions(max_tokens=4))
    assert result.stdout == expected.text + "\n"
    assert command(folder, "chat", "bundle", typed="").stdout == ""


@pytest.mark.parametrize("used", [False, True])
def test_a_process_that_used_the_runtime_ends_without_taking_the_interpreter_down(used: bool) -> None:
    """A native thread that came back later would abort it; handlers run and output arrives all the same."""
    code = (
        "import atexit, sys\n"
        "class Last:\n"  # of what the interpreter takes down
        "    def __del__(self, write=sys.stderr.write): write('taken down')\n"
        "sys.modules['last'] = Last()\n"
        f"{'import coreai' if used else ''}\n"
        "from gemma4_mm.__main__ import main\n"
        "atexit.register(print, 'handler')\n"
        "sys.argv[1:] = ['plan', '--nonsense']\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == "handler\n"
    assert "No such option" in result.stderr
    assert ("taken down" in result.stderr) != used
