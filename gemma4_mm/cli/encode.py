"""`gemma4-mm encode`: files and a prompt to the model's tensors."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gemma4_mm.cli.report import describe, format_summary
from gemma4_mm.cli.request import (
    DtypeOption,
    FilesArgument,
    JsonOption,
    KernelOption,
    MaxSoftTokensOption,
    MessagesOption,
    ModelOption,
    NumFramesOption,
    PromptOption,
    SystemOption,
    ThinkingOption,
    ThreadsOption,
    build_messages,
    choose_execution,
    open_processor,
    template_arguments,
)


def encode(
    files: FilesArgument = None,
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    system: SystemOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the tensors to this .safetensors file.")
    ] = None,
    as_json: JsonOption = False,
    model: ModelOption = None,
    max_soft_tokens: MaxSoftTokensOption = None,
    num_frames: NumFramesOption = None,
    thinking: ThinkingOption = False,
    dtype: DtypeOption = None,
    kernel: KernelOption = "numpy",
    threads: ThreadsOption = 1,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Let --messages name media by http(s) URL.")
    ] = False,
) -> None:
    """Encode images, audio, videos and a prompt into the tensors that Gemma 4 12B takes."""
    execution = choose_execution(kernel, threads)
    conversation = build_messages(files or [], prompt=prompt, messages=messages, system=system)
    started = time.perf_counter()
    processor = open_processor(model, allow_network=allow_network, execution=execution)
    loaded = time.perf_counter()
    arguments: dict[str, Any] = template_arguments(
        max_soft_tokens=max_soft_tokens, num_frames=num_frames, thinking=thinking
    )
    if dtype is not None:
        arguments["processor_kwargs"]["dtype"] = dtype
    inputs = processor.apply_chat_template(conversation, tokenize=True, return_dict=True, **arguments)
    encoded = time.perf_counter()
    summary = describe(inputs, seconds={"load": loaded - started, "encode": encoded - loaded})
    if output is not None:
        inputs.save(output)
        summary["output"] = str(output)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(format_summary(summary))
    if output is not None:
        typer.echo(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
