"""Reports as text: one HTML page, or Markdown for a pull request."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from gemma4_mm import __version__
from gemma4_mm.conformance.compare import format_share
from gemma4_mm.conformance.records import OUTCOME, STAGES, CaseKind, Crop, ParityReport, StageResult
from gemma4_mm.conformance.report.pictures import Picture, draw_crop, place
from gemma4_mm.conformance.report.words import CaseResults, add_distances, group_cases, verdict
from gemma4_mm.conformance.summary import StageSummary, count_suspects, summarize
from gemma4_mm.core.attention.kinds import KIND_COLOURS, KIND_NAMES
from gemma4_mm.optional import require

_OPEN_CASES: Final = 3  # different cases that are shown unfolded
_DRAWN_STAGES: Final = 120  # a picture takes a few kilobytes; beyond so many the page gets slow to load
_MARKDOWN_ROWS: Final = 30  # GitHub refuses comments of more than 65,536 characters


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """The pictures of one stage, and where in it they are from."""

    where: str
    has_kinds: bool
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class _Matrix:
    """All cases of a kind against the stages that they have."""

    kind: CaseKind
    stages: tuple[str, ...]
    rows: tuple[tuple[CaseResults, dict[str, StageResult]], ...]


def render_html(report: ParityReport) -> str:
    """One page that stands alone: styles and pictures are in it, and it has no script."""
    cases = group_cases(report)
    return _render(
        "report.html.jinja",
        report,
        distances=add_distances(report),
        drawings=_draw(case for case in cases if case.failures),
        most_drawings=_DRAWN_STAGES,
        kind_colours=_kind_colours(),
        matrices=_matrices(cases),
        open_cases=_OPEN_CASES,
    )


def render_markdown(report: ParityReport) -> str:
    """A short comment for a pull request: the verdict, a table, and what differs under a fold."""
    return _render("report.md.jinja", report, most_rows=_MARKDOWN_ROWS)


def _render(template: str, report: ParityReport, **more: Any) -> str:
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gemma4_mm.conformance.report"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "share": format_share,
        "cell": _markdown_cell,
        "code": _markdown_code,
    }
    text: str = environment.get_template(template).render(
        report=report,
        version=__version__,
        verdict=verdict(report),
        kinds=_by_kind(summarize(report)),
        different=[case for case in group_cases(report) if case.failures],
        suspects=count_suspects(report),
        **more,
    )
    return text


def _by_kind(stages: Iterable[StageSummary]) -> list[tuple[CaseKind, list[StageSummary]]]:
    return [(kind, list(group)) for kind, group in groupby(stages, key=lambda stage: stage.kind)]


def _position(kind: CaseKind, stage: str) -> int:
    known = (*STAGES[kind], OUTCOME)
    return known.index(stage) if stage in known else len(known)


def _kind_colours() -> list[tuple[str, str]]:
    """What the colours of mask pictures mean: kinds and CSS colours."""
    colours = KIND_COLOURS.astype(np.uint8)
    return [(name, "#" + colour.tobytes().hex()) for name, colour in zip(KIND_NAMES, colours, strict=True)]


def _draw(cases: Iterable[CaseResults]) -> dict[tuple[str, str], _Drawing]:
    """Pictures by case and stage."""
    crops: dict[tuple[str, str], Crop] = {
        (case.name, result.stage): result.difference.crop
        for case in cases
        for result in case.failures
        if result.difference is not None and result.difference.crop is not None
    }
    return {
        key: _Drawing(where=place(crop), has_kinds=crop.kinds is not None, pictures=draw_crop(crop))
        for key, crop in list(crops.items())[:_DRAWN_STAGES]
    }


def _matrices(cases: Iterable[CaseResults]) -> list[_Matrix]:
    matrices = []
    for kind in STAGES:
        rows = [(case, {result.stage: result for result in case.results}) for case in cases if case.kind == kind]
        stages = {stage for _, results in rows for stage in results}
        if rows:
            ordered = tuple(sorted(stages, key=lambda stage: (_position(kind, stage), stage)))
            matrices.append(_Matrix(kind=kind, stages=ordered, rows=tuple(rows)))
    return matrices


def _markdown_cell(text: Any) -> str:
    """Text within a table or a paragraph of Markdown, which shows as it is."""
    escaped = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]|~#@" else letter for letter in escaped)


def _markdown_code(text: Any) -> str:
    """A name as code."""
    return f"<code>{_markdown_cell(text)}</code>"
