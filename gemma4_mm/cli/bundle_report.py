"""A bundle in words: identity, constants and where they were found, findings, and the table of its functions."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from gemma4_mm.cli.report import align
from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.contract import Check, check_contract
from gemma4_mm.coreai.bundle.schema import find_problems
from gemma4_mm.coreai.bundle.specs import CONTRACT, FunctionSpec, function_table
from gemma4_mm.errors import AssetError

if TYPE_CHECKING:
    from gemma4_mm.coreai.run.runtime import Runtime

_LETTERS: Final = (
    "q new tokens, t past and new tokens, P patches, T audio frames, V vocabulary, H hidden size (3840 in the 12B)"
)


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """A JSON-ready record of what the metadata and the files say, without loading the model."""
    problems = find_problems(bundle)
    found = bundle.found_constants
    return {
        "name": bundle.name,
        "path": str(bundle.path),
        "model": _model(bundle),
        "kind": bundle.metadata.get("kind"),
        "compression": bundle.metadata.get("compression"),
        "vocabulary": bundle.vocabulary,
        "context_length": bundle.max_context,
        "constants": asdict(found.constants),
        "found_at": dict(found.places),
        "errors": [problem.message for problem in problems if problem.level == "error"],
        "notes": [problem.message for problem in problems if problem.level == "note"],
        "contract": [asdict(check) for check in check_contract(bundle)],
        "functions": [
            dict(zip(("function", "inputs", "output", "purpose"), row, strict=True)) for row in function_table()
        ],
    }


def describe_asset(runtime: "Runtime") -> dict[str, Any]:
    """What a loaded model declares, in place of the contract's letters, and where it departs from the contract."""
    return {
        "functions": [
            {
                "function": spec.name,
                "inputs": ", ".join(_tensors(spec)),
                "output": ", ".join(f"{name} {tensor}" for name, tensor in spec.outputs.items()),
                "purpose": CONTRACT[spec.name].purpose,
            }
            for spec in runtime.functions.values()
        ],
        "asset_problems": list(runtime.problems),
        "contract": [asdict(check) for check in check_contract(runtime.bundle, runtime.functions)],
    }


def format_bundle(report: Mapping[str, Any]) -> str:
    """The record as lines for a terminal."""
    constants = report["constants"]
    lines = [
        f"{report['name']} in {report['path']}",
        *align(
            [
                ("model", str(report["model"])),
                ("compression", str(report["compression"])),
                ("vocabulary", str(report["vocabulary"])),
                ("context", f"{report['context_length']} tokens"),
                ("window", f"{constants['sliding_window']} tokens, mask rule {constants['mask_rule']}"),
                ("tokens", ", ".join(f"{name} {value}" for name, value in constants["tokens"].items())),
                ("stop", ", ".join(map(str, constants["stop_ids"]))),
                ("budgets", ", ".join(map(str, constants["soft_token_budgets"]))),
            ]
        ),
        "",
    ]
    for row in report["functions"]:
        lines += [row["function"], f"    {row['purpose']}", f"    in   {row['inputs']}", f"    out  {row['output']}"]
    lines += ["", *([] if "asset_problems" in report else [_LETTERS, ""])]
    broken = [Check(**check) for check in report["contract"] if check["verdict"] in ("refused", "advice")]
    lines += [f"Apple's engines: {check}" for check in broken]
    lines += [f"note: {message}" for message in report["notes"]]
    lines += [f"error: {message}" for message in (*report["errors"], *report.get("asset_problems", ()))]
    if not report["errors"]:
        lines.append("complete: metadata, model and tokenizer are there")
    return "\n".join(lines)


def _model(bundle: Bundle) -> str | None:
    try:
        return bundle.asset_path.name
    except AssetError:
        return None  # the findings say why


def _tensors(spec: FunctionSpec) -> list[str]:
    states = [f"{name} {tensor} (state)" for name, tensor in spec.states.items()]
    return [f"{name} {tensor}" for name, tensor in spec.inputs.items()] + states
