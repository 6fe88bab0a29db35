"""`gemma4-mm masks`: draw both attention masks, and say what each reference's rule sees."""

import json
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import typer
from numpy.typing import NDArray

from gemma4_mm.cli.mask_picture import draw_picture
from gemma4_mm.cli.mask_report import (
    LAYERS,
    LETTERS,
    MOST_DRAWN_TOKENS,
    describe_differences,
    draw_text,
    format_differences,
)
from gemma4_mm.cli.request import (
    FilesArgument,
    JsonOption,
    MaxSoftTokensOption,
    MessagesOption,
    ModelOption,
    NumFramesOption,
    PromptOption,
    SystemOption,
    ThinkingOption,
    build_messages,
    open_processor,
    template_arguments,
)
from gemma4_mm.core.attention.kinds import token_kinds
from gemma4_mm.core.attention.masks import describe_masks
from gemma4_mm.errors import InputError
from gemma4_mm.inputs import ModelInputs
from gemma4_mm.spec import SLIDING_WINDOW, MaskRule


def masks(
    files: FilesArgument = None,
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    system: SystemOption = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="Tensors that `encode --output` wrote, in place of files and texts.")
    ] = None,
    row: Annotated[int, typer.Option("--row", help="Which row of the batch.")] = 0,
    mask_rule: Annotated[
        str, typer.Option("--mask-rule", help=f"Whose rule is drawn: {', '.join(get_args(MaskRule))}.")
    ] = "forward",
    sliding_window: Annotated[
        int, typer.Option("--sliding-window", help="Keys that a sliding layer sees, the query's own included.")
    ] = SLIDING_WINDOW,
    png: Annotated[Path | None, typer.Option("--png", help="Draw to this picture, however long the prompt.")] = None,
    as_json: JsonOption = False,
    model: ModelOption = None,
    max_soft_tokens: MaxSoftTokensOption = None,
    num_frames: NumFramesOption = None,
    thinking: ThinkingOption = False,
) -> None:
    """Draw both attention masks of a prompt and compare the references' rules, without decoding a pixel."""
    if inputs is not None:
        if files or prompt is not None or messages is not None or system is not None:
            raise InputError("--inputs holds the whole prompt; leave FILES, --prompt, --messages and --system out")
        tensors = ModelInputs.load(inputs)
        types, attention = tensors["mm_token_type_ids"], tensors["attention_mask"]
    else:
        conversation = build_messages(files or [], prompt=prompt, messages=messages, system=system)
        arguments = template_arguments(max_soft_tokens=max_soft_tokens, num_frames=num_frames, thinking=thinking)
        plan = open_processor(model).plan(conversation, **arguments)
        types, attention = plan.mm_token_type_ids, plan.attention_mask
    if not 0 <= row < len(types):
        raise InputError(f"--row is {row}; the batch has {len(types)} rows, counted from 0")
    _show(types[row], attention[row], mask_rule=mask_rule, sliding_window=sliding_window, png=png, as_json=as_json)


def _show(
    types: NDArray[np.int64],
    attention: NDArray[np.int64],
    *,
    mask_rule: str,
    sliding_window: int,
    png: Path | None,
    as_json: bool,
) -> None:
    options: dict[str, Any] = {"attention_mask": attention[None], "sliding_window": sliding_window}
    rule = cast("MaskRule", mask_rule)  # an unknown one is refused by the next call
    drawn = describe_masks(types[None], rule=rule, **options)
    specs = {name: describe_masks(types[None], rule=name, **options) for name in get_args(MaskRule)}
    kinds = token_kinds(types, attention)
    report = {"tokens": len(types), "sliding_window": sliding_window, **describe_differences(specs, rule=rule)}
    if png is not None:
        draw_picture(drawn, kinds, png)
        report["png"] = str(png)
    if as_json:
        typer.echo(json.dumps(report))
        return
    if len(types) <= MOST_DRAWN_TOKENS:
        typer.echo("{} text, {} image, {} video, {} audio, {} padding, · not attended to\n".format(*LETTERS))
        for layer in LAYERS:
            typer.echo(draw_text(getattr(drawn, layer), kinds) + "\n")
    elif png is None:
        typer.echo(
            f"{len(types)} tokens are too many to draw as text (at most {MOST_DRAWN_TOKENS}); --png FILE draws them\n"
        )
    typer.echo(format_differences(report))
    if png is not None:
        typer.echo(f"wrote {png}")
