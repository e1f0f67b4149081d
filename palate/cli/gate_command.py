"""`palate gate`: hold an evaluated model against limits, for people and for continuous integration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say
from palate.core import ConfigError, PalateError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.evaluation.gate import GateReport


def gate_parser() -> Parser:
    """What `palate gate` takes."""
    parser = Parser("gate", COMMANDS["gate"])
    parser.add_argument("file", type=Path, metavar="FILE", help="the limits, as YAML (docs/gates.md)")
    of = "an evaluate run, or the run of a model that one evaluate run beside it measured"
    parser.add_argument("--candidate", type=Path, required=True, metavar="RUN", help=f"the model to judge: {of}")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="the model that changes are measured from, for limits that compare")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the verdict as JUnit XML")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the verdict as a page")
    parser.add_argument("--json", action="store_true", help="write the verdict as JSON")
    return parser


def gate(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate gate`; returns 0 where the candidate passes and 1 where it fails.

    Raises:
        ConfigError: the verdict cannot be reached. Its exit status is 2 whatever the reason is, so that 1 always means a failed gate.
    """
    options = gate_parser().parse(words)
    try:
        report = _judged(options.file, options.candidate, options.baseline)
    except PalateError as error:
        raise ConfigError(str(error)) from error
    from palate.data.files import write_atomic

    for path in (options.junit, options.page):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.junit is not None:
        from palate.evaluation.gate_junit import junit

        write_atomic(options.junit, junit(report))
    if options.page is not None:
        from palate.evaluation.report.gate_page import render_gate

        write_atomic(options.page, render_gate(report))
    if options.json:
        say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(report)
    return 0 if report.passed else 1


def _judged(file: Path, candidate: Path, baseline: Path | None) -> GateReport:
    from palate.config.artifacts import refuse_retired
    from palate.evaluation.gate import judge_gate
    from palate.evaluation.gate_file import read_gate
    from palate.evaluation.run_metrics import find_evaluated

    limits, found = read_gate(file), find_evaluated(candidate)
    refuse_retired(found.directory)
    return judge_gate(limits, found, None if baseline is None else find_evaluated(baseline))


def _show(report: GateReport) -> None:
    """Print the verdict, a row per limit and the notes."""
    from rich.table import Table
    from rich.text import Text

    from palate.evaluation.gate_junit import measured_words
    from palate.runs.console import Console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("limit", "verdict", "measured"):
        table.add_column(title, overflow="fold")
    colours = {"passed": "green", "failed": "red", "unknown": "yellow"}
    for result in report.results:
        status = Text(result.status, style=colours[result.status])
        table.add_row(Text(result.limit.words), status, Text(result.reason or measured_words(result)))
    console = Console(highlight=False)
    console.print(Text(report.verdict, style="bold"), soft_wrap=True)
    console.print(table)
    for note in report.notes:
        console.print(Text(note), soft_wrap=True)
