"""The `gemma4-mm` application: its subcommands, exit codes and one-line errors.

Exit codes: 0 done, 1 the input or the machine was at fault, 2 the command line was, 70 a bug of this package.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gemma4_mm import __version__
from gemma4_mm.cli.assets import assets
from gemma4_mm.cli.batch import batch
from gemma4_mm.cli.bundle import bundle
from gemma4_mm.cli.chat import chat
from gemma4_mm.cli.conform import conform
from gemma4_mm.cli.demo import demo
from gemma4_mm.cli.encode import encode
from gemma4_mm.cli.fixtures import fixtures
from gemma4_mm.cli.generate import generate
from gemma4_mm.cli.masks import masks
from gemma4_mm.cli.parity import parity
from gemma4_mm.cli.plan import plan
from gemma4_mm.errors import Gemma4MMError, InvariantError

app = typer.Typer(
    name="gemma4-mm",
    help="Gemma 4 12B's multimodal inputs, bit-identical to Hugging Face's processor, without torch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (encode, batch, plan, masks, generate, chat, parity, conform, assets, demo):
    app.command()(command)
app.add_typer(bundle)
app.add_typer(fixtures)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gemma4-mm {__version__}")
        raise typer.Exit


@app.callback(epilog="--debug, anywhere on the line, shows tracebacks instead of one-line errors.")
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        code = app([word for word in words if word != "--debug"], prog_name="gemma4-mm", standalone_mode=False)
    except typer.Abort:
        return _fail("stopped", 130)
    except Exception as error:
        # A usage error; typer brings click's classes under one name or another, depending on its version
        if hasattr(error, "show") and isinstance(usage_code := getattr(error, "exit_code", None), int):
            error.show()
            return usage_code
        if debug:
            raise
        if isinstance(error, Gemma4MMError) and not isinstance(error, InvariantError):
            return _fail(str(error), 1)
        return _fail(f"internal error: {type(error).__name__}: {error}; run again with --debug and report it", 70)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    typer.echo(f"gemma4-mm: {' '.join(message.split())}", err=True)
    return code
