"""What Apple's own text engines demand of a bundle, as a table of named rules, and what a bundle is against each.

The rules were read in the sources of apple/coreai-models (state of 2026-08-21); the engines run on macOS 27 only, so no
rule was seen to refuse a bundle here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.contract_asset import ASSET_RULES
from gemma4_mm.coreai.bundle.contract_files import FILE_RULES
from gemma4_mm.coreai.bundle.contract_rule import Engine
from gemma4_mm.coreai.bundle.specs import FunctionSpec

Verdict = Literal["passed", "refused", "advice", "unseen"]
_VERDICTS: Final[Mapping[Verdict, str]] = {"passed": "ok", "refused": "REFUSED", "advice": "advice", "unseen": "-"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule held against one bundle.

    Attributes:
        name: of the rule.
        what: the part of the bundle that it is about.
        found: what is there.
        wanted: what must be there.
        engine: which of Apple's readers needs it.
        verdict: `passed`; `refused` if that engine does not start; `advice` if it starts and is slower or guesses;
            `unseen` if the model was not loaded and the rule is about its functions.
    """

    name: str
    what: str
    found: str
    wanted: str
    engine: Engine
    verdict: Verdict

    def __str__(self) -> str:
        text = f"{_VERDICTS[self.verdict]:<8}{self.name}: {self.what} is {self.found}"
        return text if self.verdict == "passed" else f"{text}; wanted: {self.wanted} ({self.engine})"


def check_contract(bundle: Bundle, functions: Mapping[str, FunctionSpec] | None = None) -> tuple[Check, ...]:
    """Hold every rule against a bundle, in the order of the table.

    Args:
        bundle: its metadata and files.
        functions: the asset's functions by name, from `Runtime.functions`; None if the model was not loaded, which
            leaves the rules about them `unseen`.
    """
    checks = []
    for rule in FILE_RULES:
        finding = rule.look(bundle)
        verdict: Verdict = "passed" if finding.holds else rule.failure
        checks.append(
            Check(
                name=rule.name,
                what=rule.what,
                found=finding.found,
                wanted=rule.wanted,
                engine=rule.engine,
                verdict=verdict,
            )
        )
    for asset_rule in ASSET_RULES:
        verdict, found = "unseen", "not loaded"
        if functions is not None:
            seen = asset_rule.look(bundle, functions)
            verdict, found = ("passed" if seen.holds else asset_rule.failure), seen.found
        checks.append(
            Check(
                name=asset_rule.name,
                what=asset_rule.what,
                found=found,
                wanted=asset_rule.wanted,
                engine=asset_rule.engine,
                verdict=verdict,
            )
        )
    return tuple(checks)
