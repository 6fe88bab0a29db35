"""What a command line asks for: its shared options, the messages they make, and the processor that answers."""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gemma4_mm.assets.find import find_or_fetch_assets
from gemma4_mm.cli.console import status
from gemma4_mm.errors import InputError
from gemma4_mm.execution import DEFAULT_EXECUTION, Execution, Kernel
from gemma4_mm.media.kind import media_kind
from gemma4_mm.processor import Processor
from gemma4_mm.releases import DEFAULT_PROFILE, Profile

FilesArgument = Annotated[
    list[Path] | None, typer.Argument(help="Image, audio and video files, in the order in which the prompt shows them.")
]
PromptOption = Annotated[str | None, typer.Option("--prompt", "-p", help="The user's text, after the files.")]
MessagesOption = Annotated[
    Path | None, typer.Option("--messages", help="A JSON file with a whole conversation, in HF or OpenAI form.")
]
SystemOption = Annotated[str | None, typer.Option("--system", help="A system turn before the user's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A folder with tokenizer.json and chat_template.jinja, or a Core AI bundle. [default: the cache]",
    ),
]
MaxSoftTokensOption = Annotated[
    int | None, typer.Option(help="Soft tokens per image and frame: 70, 140, 280, 560 or 1120.")
]
NumFramesOption = Annotated[int | None, typer.Option(help="Frames per video.")]
KernelOption = Annotated[
    str, typer.Option("--kernel", help="What resizes: numpy, numba (extra fast) or auto. The tensors are the same.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", help="Most threads that images and frames are resized on.")]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help="Media tensors as float16 or bfloat16, the float32 values rounded.")
]
ThinkingOption = Annotated[bool, typer.Option("--thinking", help="Let the model think before it answers.")]


def open_processor(
    model: str | None,
    *,
    allow_network: bool = False,
    profile: Profile = DEFAULT_PROFILE,
    execution: Execution = DEFAULT_EXECUTION,
) -> Processor:
    """Load the processor; fills the cache first where it is empty, and says so on stderr."""
    with status() as report:
        return Processor.from_pretrained(
            model, profile=profile, allow_network=allow_network, execution=execution, progress=report
        )


def choose_execution(kernel: str, threads: int) -> Execution:
    """What `--kernel` and `--threads` ask for.

    Raises:
        InputError: an unknown kernel, or a number of threads out of range.
    """
    return Execution(kernel=cast(Kernel, kernel), threads=threads)


def ready_assets(model: str | None) -> None:
    """Fill the cache where it is empty and needed, and say so on stderr; the tokenizer is not loaded."""
    with status() as report:
        find_or_fetch_assets(model, progress=report)


def template_arguments(*, max_soft_tokens: int | None, num_frames: int | None, thinking: bool) -> dict[str, Any]:
    """Keyword arguments of `apply_chat_template` and `plan` for the shared options."""
    options = {"max_soft_tokens": max_soft_tokens, "num_frames": num_frames}
    return {
        "add_generation_prompt": True,
        "enable_thinking": thinking,
        "processor_kwargs": {name: value for name, value in options.items() if value is not None},
    }


def build_messages(files: list[Path], *, prompt: str | None, messages: Path | None, system: str | None) -> Any:
    """One user turn of the files in order and then the prompt, or the conversation of a JSON file.

    Raises:
        InputError: both or neither were given, or the file holds no conversation.
        MediaError: a file is missing or of no known kind.
    """
    if messages is not None:
        if files or prompt is not None or system is not None:
            raise InputError("--messages holds the whole conversation; leave FILES, --prompt and --system out")
        return _read_messages(messages)
    parts: list[dict[str, Any]] = []
    for file in files:
        kind = media_kind(file)
        parts.append({"type": kind, kind: str(file)})
    if prompt is not None:
        parts.append({"type": "text", "text": prompt})
    if not parts:
        raise InputError("nothing to encode; give files, --prompt TEXT, or --messages FILE.json")
    turns: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return turns


def _read_messages(path: Path) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check --messages") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON messages: {error}; write a list of messages") from error
    if isinstance(data, dict) and "messages" in data:
        data = data["messages"]  # the request body of a chat API
    if not isinstance(data, list) or not data:
        raise InputError(f'{path} holds no conversation; it must be a list of {{"role": …, "content": …}} messages')
    return data
