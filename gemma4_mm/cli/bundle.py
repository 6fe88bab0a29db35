"""`gemma4-mm bundle`: what a Core AI bundle holds, a tiny one for tests and demos, and conversion of a checkpoint."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gemma4_mm.assets.find import fetch_assets
from gemma4_mm.cli.bundle_report import describe_asset, describe_bundle, format_bundle
from gemma4_mm.cli.console import status
from gemma4_mm.cli.request import JsonOption
from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.contract import check_contract

# The runtime and the converter are imported by the commands that use them: every other command starts faster.

bundle = typer.Typer(
    name="bundle",
    help="Core AI bundles: an .aimodel with its metadata and tokenizer.",
    no_args_is_help=True,
)

OutArgument = Annotated[Path, typer.Argument(help="Directory to make; it must not exist.")]
Int4Option = Annotated[
    bool, typer.Option("--int4", help="Store the decoder's linear layers as 4 bits in blocks of 32; else bfloat16.")
]


@bundle.command()
def info(
    path: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    load: Annotated[
        bool, typer.Option("--load", help="Load the model too, and print the shapes and types that it declares.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a bundle holds, what is missing or unknown in it, and how its functions are called.

    Exits with 1 if the bundle cannot be run.
    """
    found = Bundle.read(path)
    report = describe_bundle(found)
    if load:
        from gemma4_mm.coreai.run.runtime import Runtime

        with Runtime.open(found) as runtime:
            report |= describe_asset(runtime)
    typer.echo(json.dumps(report) if as_json else format_bundle(report))
    if report["errors"]:
        raise typer.Exit(1)


@bundle.command()
def check(
    path: Annotated[Path, typer.Argument(help="Directory of the bundle.")],
    load: Annotated[
        bool, typer.Option("--load/--no-load", help="Load the model, for the rules about its functions.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Hold a bundle against every rule of Apple's own engines: what is found, what is wanted, and which needs it.

    Exits with 1 if an engine would refuse the bundle.
    """
    found = Bundle.read(path)
    functions = None
    if load:
        from gemma4_mm.coreai.run.runtime import Runtime

        with Runtime.open(found) as runtime:
            functions = runtime.functions
    checks = check_contract(found, functions)
    typer.echo(json.dumps([asdict(check) for check in checks]) if as_json else "\n".join(map(str, checks)))
    if any(check.verdict == "refused" for check in checks):
        raise typer.Exit(1)


@bundle.command()
def tiny(
    out: OutArgument,
    int4: Int4Option = False,
    context_length: Annotated[
        int, typer.Option("--context-length", help="Rows of the KV states; a token costs time in proportion.")
    ] = 1024,
    seed: Annotated[int, typer.Option("--seed", help="Of the random weights.")] = 0,
) -> None:
    """Build a bundle of random weights, in under a minute: real functions and masks, answers of noise.

    Needs the extra coreai-convert.
    """
    from gemma4_mm.coreai.convert.tiny import build_tiny_bundle

    with status() as report:
        template = fetch_assets(progress=report).read_chat_template()
        report("building a tiny model, converting it and comparing the result")
        made = build_tiny_bundle(
            out,
            weights="int4" if int4 else "bfloat16",
            context_length=context_length,
            chat_template=template,
            seed=seed,
        )
    typer.echo(f"wrote {made}")


@bundle.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Directory of a Gemma4Unified checkpoint and its tokenizer.")],
    out: OutArgument,
    int4: Int4Option = False,
    context_length: Annotated[int, typer.Option("--context-length", help="Rows of the KV states.")] = 8192,
    name: Annotated[str, typer.Option("--name", help="Of the bundle and its model.")] = "gemma_4_12b_it_mm",
) -> None:
    """Convert a checkpoint into a bundle of the four functions, and compare them with torch's results.

    Needs the extra coreai-convert, and memory for the float32 weights: about 50 GB for the 12B model.
    """
    from gemma4_mm.coreai.convert.convert import ConversionOptions, convert_checkpoint

    options = ConversionOptions(name=name, context_length=context_length, weights="int4" if int4 else "bfloat16")
    with status() as report:
        report(f"loading {checkpoint}, converting it and comparing the result")
        made = convert_checkpoint(checkpoint, out, options=options)
    typer.echo(f"wrote {made}")
