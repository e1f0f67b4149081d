"""`palate peak`: where the measures that a policy was not trained on stop rising as its KL grows, and when to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from palate.evaluation.peak_report import FittedCurve, PeakReport


def peak_parser() -> Parser:
    """What `palate peak` takes."""
    parser = Parser("peak", COMMANDS["peak"])
    runs = "runs of online and rerank, each with curves of its own, and runs of evaluate, which are the points of one curve"
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help=runs)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write everything as JSON")
    parser.add_argument("--seed", type=int, default=0, help="seed of the intervals (default: 0)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def peak(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate peak`; returns the exit status."""
    options = peak_parser().parse(words)
    from palate.data.files import write_json
    from palate.evaluation.peak_report import peak_report

    report = peak_report(options.runs, options.seed)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, report.plain())
    if options.json:
        import json

        say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(report)
    return 0


def _show(report: PeakReport) -> None:
    """Print what to do, why, and a table of each run's points."""
    from palate.runs.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(*_lines(report), sep="\n", markup=False)
    for run in dict.fromkeys(one.curve.run for one in report.curves):
        console.print()
        console.print(_points([one for one in report.curves if one.curve.run == run]))
    console.print("Each cell: the measure, its standard error, and the fitted curve. KL is to the initial policy, in nats.", style="dim")


def _lines(report: PeakReport) -> Iterator[str]:
    from palate.evaluation.peak_report import UNTRAINED, verdict

    for one in report.advice:
        measure = one.measure.replace("_", "-")
        if one.low >= one.kl_budget and not one.is_shown:
            yield f"{one.run}: no stop: {measure} still rises at the largest KL, {one.kl_budget:.2f} nats ({one.axis} {one.label})."
            continue
        high = f"{one.high:.2f}" if one.is_shown else "open"
        best = f"KL budget {one.kl_budget:.2f} nats [{one.low:.2f}, {high}], by {measure}"
        why = "" if one.is_shown else "; no peak is shown inside the measured range, so this may be its end"
        yield f"{one.run}: stop near {one.axis} {one.label}: {best}{why}."
    advised = {one.run for one in report.advice}
    for run in dict.fromkeys(one.curve.run for one in report.curves):
        if run not in advised and not any(one.curve.run == run and one.curve.measure in UNTRAINED for one in report.curves):
            yield f"{run}: no advice, because only the proxy was measured. Set held_out.reward or held_out.people in online, or gold."
    for curve in report.curves:
        yield f"- {verdict(curve)}"
    for gap in report.distances:
        yield f"- {gap.run}: the held-out peak is {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] from gold's in sqrt(KL)."
    for curve in report.curves:
        if curve.warning:
            yield f"warning: {curve.warning}"


def _points(curves: list[FittedCurve]) -> Table:
    """Return the points of one run: a row per iteration, n or model, and a column per measure."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", title=Text(curves[0].curve.run), title_justify="left")
    for title in (curves[0].curve.axis, "KL", "sqrt(KL)", *(one.curve.measure.replace("_", "-") for one in curves)):
        table.add_column(title, justify="right", no_wrap=True)
    places = {label: kl for one in curves for label, kl in zip(one.curve.labels, one.curve.kl, strict=True)}
    cells = [_cells(one) for one in curves]
    for label, kl in places.items():
        table.add_row(Text(label), f"{kl:.2f}", f"{max(kl, 0) ** 0.5:.2f}", *(own.get(label, "") for own in cells))
    return table


def _cells(one: FittedCurve) -> dict[str, str]:
    fitted = [""] * len(one.curve.labels) if one.fit is None else [f" {value:.3f}" for value in one.fit.value(one.curve.d)]
    rows = zip(one.curve.labels, one.curve.values, one.curve.se, fitted, strict=True)
    return {label: f"{value:.3f} ±{se:.3f}{fit}".replace(" ±nan", "") for label, value, se, fit in rows}
