"""`palate forget`: withdraw a rater or a source from a folder of runs, retire what was made from it, and make it again without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.evaluation.forgetting import MetricShift, Withdrawal


def forget_parser() -> Parser:
    """What `palate forget` takes."""
    parser = Parser("forget", COMMANDS["forget"])
    what = "a rater's pseudonym, a value of the column `source`, or the path of an input or a run"
    parser.add_argument("what", metavar="RATER|SOURCE", help=what)
    parser.add_argument("--in", dest="runs", type=Path, required=True, metavar="RUNS", help="the folder of runs")
    parser.add_argument("--dry-run", action="store_true", help="list the runs that would be retired, and change nothing")
    again = "then run this pipeline again in RUNS, and show what changed"
    parser.add_argument("--retrain", nargs="+", metavar="FILE", help=f"{again}; name=value words may follow, as in `palate run`")
    parser.add_argument("--json", action="store_true", help="write the runs and the changes as JSON")
    return parser


def forget(words: list[str], stages: Stages) -> int:
    """`palate forget`; returns the exit status."""
    options = forget_parser().parse(words)
    from palate.evaluation.forgetting import find_withdrawal, plain_shifts, shifts, withdraw

    found = find_withdrawal(options.what, options.runs)
    if not options.json:
        _show(found, is_trial=options.dry_run)
    changed: list[MetricShift] = []
    if not options.dry_run:
        withdraw(found, options.runs)
        if options.retrain:
            _retrain(options.retrain, options.runs, stages, is_silent=options.json)
            changed = shifts(options.runs)
    if options.json:
        say(json.dumps({**found.plain(), "changes": plain_shifts(changed)}, indent=2, ensure_ascii=False, allow_nan=False))
    elif options.retrain and not options.dry_run:
        _show_shifts(changed)
    return 0


def _retrain(words: Sequence[str], runs: Path, stages: Stages, *, is_silent: bool) -> None:
    """Run the pipeline in the folder; what has nothing of what was withdrawn is skipped."""
    from palate.pipeline.execute import run_pipeline
    from palate.pipeline.plan import plan_pipeline, read_pipeline

    pipeline = read_pipeline(Path(words[0]), words[1:])
    run_pipeline(plan_pipeline(pipeline, runs, stages), (lambda _: None) if is_silent else say, None, pipeline.track)


def _show(found: Withdrawal, *, is_trial: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from palate.runs.console import Console

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "stage", "made from it through"):
        table.add_column(title, overflow="fold")
    for one in found.affected:
        table.add_row(Text(one.name), Text(one.record.stage), Text(", ".join(one.through) or "itself"))
    verb = "would retire" if is_trial else "retires"
    console = Console(highlight=False)
    console.print(Text(f"withdrawing the {found.exclusion} {verb} {len(found.affected)} runs:", style="bold"), soft_wrap=True)
    console.print(table)


def _show_shifts(changed: Sequence[MetricShift]) -> None:
    from rich.table import Table
    from rich.text import Text

    from palate.evaluation.report.formatting import interval, number, signed
    from palate.runs.console import Console

    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for title in ("run", "metric", "before", "after", "change", "95 % interval", "n"):
        table.add_column(title, justify="left" if title in {"run", "metric"} else "right", overflow="fold")
    for one in changed:
        change = ("", "not paired", "") if one.change is None else (signed(one.change.value, 3), interval(one.change, 3), str(one.change.n))
        table.add_row(Text(one.run), Text(one.metric), number(one.before, 3), number(one.after, 3), *change)
    Console(highlight=False).print(table if changed else Text("no run took the place of a retired run, so nothing can be compared"))
