"""Masks in words and letters: drawings of short prompts, visible keys, and where the rules differ."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.core.attention.mask_rules import LayerKind
from gemma4_mm.core.attention.masks import AttentionMask, MaskSpecs
from gemma4_mm.spec import MaskRule

LAYERS: Final[tuple[LayerKind, ...]] = ("sliding_attention", "full_attention")
MOST_DRAWN_TOKENS: Final = 80
LETTERS: Final = "tIVAp"  # by kind, see `core.kinds`
_HIDDEN: Final = "·"
_SHOWN_RANGES: Final = 4


def draw_text(mask: AttentionMask, kinds: NDArray[np.int64]) -> str:
    """Draw one mask, a line per query: the key's letter where it is attended to, a dot where it is not."""
    letters = np.array(list(LETTERS))[kinds]
    window = f", W = {mask.sliding_window}" if mask.layer == "sliding_attention" else ""
    lines = [f"{mask.layer} ({mask.rule}{window})", f"        {''.join(letters)}"]
    for query, row in enumerate(mask.dense()[0, 0]):
        lines.append(f"{query:5} {letters[query]} {''.join(np.where(row, letters, _HIDDEN))}")
    return "\n".join(lines)


def describe_differences(specs: Mapping[MaskRule, MaskSpecs], *, rule: MaskRule) -> dict[str, Any]:
    """A JSON-ready record: per layer and rule the visible keys, and the queries whose keys differ from `rule`'s.

    Args:
        specs: of one row, under every rule.
        rule: the one that the others are compared with.
    """
    report: dict[str, Any] = {"mask_rule": rule, "layers": {}}
    for layer in LAYERS:
        base = getattr(specs[rule], layer)
        entry: dict[str, Any] = {}
        for name, both in specs.items():
            mask = getattr(both, layer)
            edges = np.flatnonzero(np.diff(_differ(mask, base), prepend=False, append=False))
            entry[name] = {
                "visible_keys": int(mask.visible_counts().sum(dtype=np.int64)),
                "differs_at": edges.reshape(-1, 2).tolist(),
            }
        report["layers"][layer] = entry
    return report


def format_differences(report: Mapping[str, Any]) -> str:
    """The same record as lines for a terminal."""
    rule, lines = report["mask_rule"], []
    for layer, entry in report["layers"].items():
        base = entry[rule]["visible_keys"]
        lines.append(layer)
        for name, values in entry.items():
            line = f"  {name:9} {values['visible_keys']:>16,} visible keys"
            if name != rule and not values["differs_at"]:
                line += f", the same as {rule}"
            elif name != rule:
                line += f" ({values['visible_keys'] - base:+,}), other than {rule} at queries "
                line += _format_ranges(values["differs_at"])
            lines.append(line)
    return "\n".join(lines)


def _differ(mask: AttentionMask, base: AttentionMask) -> NDArray[np.bool_]:
    """Which queries of the only row see other keys under the two masks, bool `(tokens,)`."""
    ranges = [m.intervals()[0] for m in (mask, base)]
    most = max(r.shape[1] for r in ranges)
    first, second = (np.pad(r, ((0, 0), (0, most - r.shape[1]), (0, 0))) for r in ranges)
    differs: NDArray[np.bool_] = (first != second).any(axis=(1, 2))
    return differs


def _format_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    texts = [f"[{start}, {stop})" for start, stop in ranges]
    more = f" and {len(texts) - _SHOWN_RANGES} more" if len(texts) > _SHOWN_RANGES else ""
    return ", ".join(texts[:_SHOWN_RANGES]) + more
