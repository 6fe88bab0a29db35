"""`gemma4-mm generate`: files and a prompt to a reply, on Apple's runtime."""

import json

import typer

from gemma4_mm.cli.generation import (
    MAX_TOKENS,
    BundleArgument,
    MaskRuleOption,
    MaxTokensOption,
    MinPOption,
    PenaltyOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    describe_reply,
    format_statistics,
    open_session,
    options_for,
)
from gemma4_mm.cli.request import (
    FilesArgument,
    JsonOption,
    MaxSoftTokensOption,
    MessagesOption,
    NumFramesOption,
    PromptOption,
    SystemOption,
    ThinkingOption,
    build_messages,
    template_arguments,
)


def generate(
    bundle: BundleArgument,
    files: FilesArgument = None,
    prompt: PromptOption = None,
    messages: MessagesOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = MAX_TOKENS,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = 0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SeedOption = None,
    max_soft_tokens: MaxSoftTokensOption = None,
    num_frames: NumFramesOption = None,
    thinking: ThinkingOption = False,
    mask_rule: MaskRuleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a Core AI bundle on images, audio, videos and a prompt; the reply streams to stdout, statistics to stderr.

    Needs the extra coreai. Greedy unless a temperature is given.
    """
    conversation = build_messages(files or [], prompt=prompt, messages=messages, system=system)
    options = options_for(
        thinking,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    arguments = template_arguments(max_soft_tokens=max_soft_tokens, num_frames=num_frames, thinking=thinking)
    with open_session(bundle, mask_rule=mask_rule) as session:
        stream = session.stream(conversation, options, **arguments)
        for piece in stream:
            if not as_json:
                typer.echo(piece, nl=False)
        if as_json:
            typer.echo(json.dumps(describe_reply(stream.reply, mask_rule=session.mask_rule)))
            return
        typer.echo()
        typer.echo(format_statistics(stream.reply, mask_rule=session.mask_rule), err=True)
