"""What `generate` and `chat` share: options, the session that they open, and a reply's statistics in one line."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast, get_args

import typer

from gemma4_mm.cli.console import status
from gemma4_mm.coreai.run.reply import GenerationOptions, Reply
from gemma4_mm.errors import InputError
from gemma4_mm.spec import MaskRule

if TYPE_CHECKING:
    from gemma4_mm.coreai.run.session import Session

BundleArgument = Annotated[Path, typer.Argument(help="Directory of a Core AI bundle.")]
MaxTokensOption = Annotated[int, typer.Option(help="Most tokens of a reply.")]
TemperatureOption = Annotated[float, typer.Option(help="0 takes the likeliest token, above 0 draws one.")]
TopPOption = Annotated[float, typer.Option(help="Draw from the likeliest tokens of this share of probability.")]
TopKOption = Annotated[int, typer.Option(help="Draw from this many of the likeliest tokens; 0 for all.")]
MinPOption = Annotated[float, typer.Option(help="Draw from tokens of this share of the likeliest one's probability.")]
PenaltyOption = Annotated[float, typer.Option(help="Above 1 disfavours tokens that are there already.")]
SeedOption = Annotated[int | None, typer.Option(help="Of the draws; the same seed gives the same reply.")]
MaskRuleOption = Annotated[
    str | None, typer.Option(help="Attention rule: forward, static or deepmind. [default: the bundle's]")
]
MAX_TOKENS: Final = GenerationOptions().max_tokens


def open_session(bundle: Path, *, mask_rule: str | None) -> "Session":
    """Load the bundle, and say so on stderr.

    Raises:
        InputError: an unknown mask rule.
        AssetError: the bundle is incomplete or damaged.
    """
    if mask_rule not in (None, *get_args(MaskRule)):
        raise InputError(f"--mask-rule is {mask_rule!r}; it must be one of {', '.join(get_args(MaskRule))}")
    from gemma4_mm.coreai.run.session import Session  # the runtime's modules: every other command starts faster without

    with status() as report:
        report(f"loading {bundle}")
        return Session.open(bundle, mask_rule=cast(MaskRule | None, mask_rule))


def options_for(thinking: bool, **fields: Any) -> GenerationOptions:
    """Generation options of a command line. Thoughts end at a special token, so that with them these are shown."""
    return GenerationOptions(skip_special_tokens=not thinking, **fields)


def format_statistics(reply: Reply, *, mask_rule: str) -> str:
    """One line: tokens, reuse, rates, and the mask rule that was in force."""
    statistics = reply.statistics
    reused = f" ({statistics.reused_tokens} reused)" if statistics.reused_tokens else ""
    return (
        f"prompt {statistics.prompt_tokens} tokens{reused}, prefill {statistics.prefill_tokens_per_s:.1f} tokens/s, "
        f"first token after {statistics.time_to_first_token_s:.2f} s; reply {statistics.generated_tokens} tokens, "
        f"decode {statistics.decode_tokens_per_s:.1f} tokens/s, ended by {reply.finish_reason or 'interruption'}; "
        f"mask rule {mask_rule}"
    )


def describe_reply(reply: Reply, *, mask_rule: str) -> dict[str, Any]:
    """A JSON-ready record of a reply."""
    statistics = reply.statistics
    rates = {
        "prefill_tokens_per_s": statistics.prefill_tokens_per_s,
        "decode_tokens_per_s": statistics.decode_tokens_per_s,
    }
    return {
        "text": reply.text,
        "ids": reply.ids,
        "finish_reason": reply.finish_reason,
        "mask_rule": mask_rule,
        "statistics": {name: round(value, 4) for name, value in (asdict(statistics) | rates).items()},
    }
