"""What went in and what came out, for people and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gemma4_mm.inputs import ModelInputs, Segment
from gemma4_mm.layout import Plan


def describe_items(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """One record per medium: kind, item, soft tokens, first and last token, and its grid and frames if it has them."""
    items: dict[tuple[str, int], dict[str, Any]] = {}
    for segment in segments:
        if segment.item is None:
            continue
        item = items.setdefault(
            (segment.kind, segment.item),
            {"kind": segment.kind, "item": segment.item, "row": segment.row, "tokens": 0, "start": segment.start},
        )
        item["tokens"] += segment.n_tokens
        item["stop"] = segment.stop
        if segment.grid is not None:
            item["grid"] = [segment.grid.rows, segment.grid.columns]
        if segment.frame is not None:
            item["frames"] = segment.frame + 1
    return list(items.values())


def describe(result: ModelInputs | Plan, *, seconds: Mapping[str, float]) -> dict[str, Any]:
    """A JSON-ready summary of a plan or of encoded inputs."""
    items = describe_items(result.segments)
    attention = result["attention_mask"] if isinstance(result, ModelInputs) else result.attention_mask
    summary: dict[str, Any] = {
        "tokens": [int(row.sum()) for row in attention],
        "text_tokens": int(attention.sum()) - sum(item["tokens"] for item in items),
        "items": items,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    if isinstance(result, ModelInputs):
        summary["profile"] = result.profile
        summary["tensors"] = {
            name: {"dtype": str(value.dtype), "shape": list(value.shape)} for name, value in result.items()
        }
    return summary


def format_summary(summary: Mapping[str, Any]) -> str:
    """The same summary as aligned lines for a terminal."""
    rows = [
        (
            f"{item['kind']} {item['item']}",
            _size(item),
            f"{item['tokens']} tokens",
            f"[{item['start']}, {item['stop']})",
        )
        for item in summary["items"]
    ]
    rows.append(("text", "", f"{summary['text_tokens']} tokens", ""))
    rows.append(("in all", "", f"{sum(summary['tokens'])} tokens", ""))
    lines = list(align(rows, right=(2,)))
    if "tensors" in summary:
        lines.append("")
        tensors = summary["tensors"].items()
        lines += align([(name, str(value["dtype"]), str(value["shape"])) for name, value in tensors])
        halves = {value["dtype"] for value in summary["tensors"].values()} & {"float16", "bfloat16"}
        rounded = f", its float32 values rounded to {halves.pop()}" if halves else ""
        lines += ["", f"bit-identical to {summary['profile']}{rounded}"]
    lines.append(", ".join(f"{name} {value:.3f} s" for name, value in summary["seconds"].items()))
    return "\n".join(lines)


def _size(item: Mapping[str, Any]) -> str:
    if "grid" not in item:
        return "40 ms each"
    rows, columns = item["grid"]
    frames = f"{item['frames']} frames of " if "frames" in item else ""
    return f"{frames}{rows}×{columns} patches"


def align(rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> Iterable[str]:
    """Lines of a table: columns as wide as their longest cell, those in `right` aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
