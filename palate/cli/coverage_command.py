"""`palate coverage`: which prompts the preferences reach, and which ones to collect judgments on next."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.config.artifacts import require_models
from palate.core import ConfigError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from rich.table import Table

    from palate.agreement.estimates import Estimate
    from palate.evaluation.coverage.coverage_figures import ClusterCoverage
    from palate.evaluation.coverage.coverage_report import CoverageReport, Deployment
    from palate.evaluation.coverage.prompt_reach import PromptReach

SHOWN = 110
"""Characters of an example in a terminal."""
STYLES = {"hole": "bold red", "partly": "yellow", "thin": "yellow", "reached": ""}


def coverage_parser() -> Parser:
    """What `palate coverage` takes."""
    parser = Parser("coverage", COMMANDS["coverage"])
    parser.add_argument("preferences", metavar="PREFERENCES", type=Path, help="a run of collect, or a file of preferences (docs/data.md)")
    parser.add_argument(
        "--prompts", metavar="FILE", type=Path, required=True, help="what the model will be asked: prompts, or samples with completions"
    )
    parser.add_argument("--reward", nargs="+", default=[], metavar="PATH", help="a reward model, or several: errors by cluster")
    parser.add_argument("--held_out", type=Path, metavar="FILE", help="preferences to test it on (default: those of the run of collect)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the prompts to collect next, which sample and collect read")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="prompts to write to --out (default: 100)")
    parser.add_argument("--queue", metavar="PROJECT", help="order the queue of this project of the rating server by what is missed")
    parser.add_argument("--ratings", metavar="DATABASE", help="where --queue finds the project (default: where the run of collect asked)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the report as a page")
    parser.add_argument("--clusters", type=int, default=12, metavar="N", help="most clusters (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of prompts (default: 0)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def coverage(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate coverage`; returns the exit status."""
    options = coverage_parser().parse([underscored(word) for word in words])
    for name, least in (("count", 1), ("clusters", 2)):
        if vars(options)[name] < least:
            raise ConfigError(f"--{name} is {vars(options)[name]}; give {least} or more, or leave it out.")
    require_models(*options.reward)
    from palate.core.process import computing_on
    from palate.data.jsonl import write_rows
    from palate.evaluation.coverage.coverage_report import collect_next, read_deployment, read_judged
    from palate.evaluation.coverage.coverage_report import coverage as coverage_of
    from palate.rewards.combination import RewardModels

    deployment = read_deployment(options.prompts)
    judged = read_judged(options.preferences, options.held_out)
    if options.reward and not judged.held_out.any():
        raise ConfigError("--reward is tested on held-out preferences, and there are none. Name some with --held_out.")
    with computing_on(options.device):
        models = RewardModels.load(tuple(options.reward)) if options.reward else None
        report, reach = coverage_of(judged, deployment, models, options.clusters, options.seed)
    if options.json:
        import json

        say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        for reason, count in report.left_out.items():
            say(f"left out: {count} x {reason}")
        _show(report)
    advised = collect_next(judged, deployment, reach, options.count, options.seed) if options.out is not None or options.page else []
    notes = []
    if options.out is not None:
        written = write_rows(options.out, [deployment.rows[k] for k in advised])
        notes.append(f"{options.out}: {written} {'prompt' if written == 1 else 'prompts'} to collect judgments on next.")
    if options.page is not None:
        from palate.data.files import write_atomic
        from palate.evaluation.report.coverage_page import render_coverage

        options.page.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(options.page, render_coverage(report, [deployment.prompts[k].text for k in advised]))
    if options.queue is not None:
        notes.append(_ordered_queue(options, deployment, reach))
    if not options.json:
        for note in notes:
            say(note)
    return 0


def _ordered_queue(options: Namespace, deployment: Deployment, reach: PromptReach) -> str:
    """Order the queue of a project, and return what was done."""
    from palate.evaluation.coverage.queue_advice import order_queue
    from palate.raters.people import project_of_run
    from palate.ratings import use_ratings

    source = project_of_run(str(options.preferences))
    url = options.ratings or (source[0] if source is not None else None)
    if url is None:
        raise ConfigError(f"--queue: {options.preferences} did not come from people, so name the database with --ratings.")
    with use_ratings(url) as ratings:
        return order_queue(ratings, options.queue, deployment, reach).sentence


def _show(report: CoverageReport) -> None:
    """Print what to know first, a table of the clusters, and examples of what is not reached."""
    from palate.runs.console import Console

    console = Console(highlight=False, soft_wrap=True)
    whole = report.whole
    judged = f"{whole.judgments} judgments on {whole.judged_prompts} prompts; {report.already_judged} of the {whole.prompts} were judged."
    unlike = f"Unlike every judged prompt: {_cell(whole.unlike)}, where 5 % would be expected."
    console.print(report.sentence, markup=False, style="bold")
    console.print(f"{judged} {unlike}", markup=False)
    console.print(_table([*report.clusters, whole], has_reward=bool(report.models)))
    examples = {**{f"hole: {one.name}": one.examples for one in report.holes}, "unlike every judged prompt": report.unlike_examples}
    for title, texts in examples.items():
        if texts:
            console.print(f"{title}, such as", *(f"- {_short(text)}" for text in texts), sep="\n  ", markup=False)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN].rstrip()}..."


def _table(rows: list[ClusterCoverage], *, has_reward: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("prompts with")
    titles = ("reached", "prompts", "judged", "judgments", "agreement", "unlike")
    for title in (*titles, *(("error", "expected", "spread") if has_reward else ())):
        table.add_column(title, justify="left" if title == "reached" else "right", no_wrap=True)
    for one in rows:
        figures = (_cell(one.error), _number(one.expected_error), _number(one.spread)) if has_reward else ()
        counts = (f"{one.prompts} ({one.share.value:.0%})", str(one.judged_prompts), str(one.judgments))
        table.add_row(Text(one.name), Text(one.reach, style=STYLES[one.reach]), *counts, _cell(one.agreement), _cell(one.unlike), *figures)
    return table


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]" if estimate.n else "not known"


def _number(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.3f}"
