"""`palate judge-fit`: measure a judge on people's judgments, and write its report card."""

from __future__ import annotations

from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say
from palate.core import ConfigError
from palate.data.exchange import Exchange
from palate.data.marks import Mark
from palate.pipeline.table import Stages

SOURCES = "a file that `palate exchange` reads, a run of collect or regrade, a file of marks, or a database of ratings"


def judge_fit_parser() -> Parser:
    """What `palate judge-fit` takes."""
    parser = Parser("judge-fit", COMMANDS["judge-fit"])
    parser.add_argument("judgments", help=f"the judge's judgments, and people's unless --people is given: {SOURCES}")
    parser.add_argument("--people", metavar="FILE", help="people's judgments of the same completions, of the same kinds")
    parser.add_argument("--judge", metavar="NAME", help="the rater who is the judge (default: the only model)")
    parser.add_argument("--dimension", metavar="NAME", help="only judgments on this dimension (default: all)")
    parser.add_argument(
        "--own", nargs="+", default=[], metavar="POLICY", help="the judge's own policies (default: those of its model or family)"
    )
    parser.add_argument("--project", metavar="NAME", help="the database's project (default: the only one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the card, for a judge's setting `calibration`")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap and of the split (default: 0)")
    parser.add_argument("--json", action="store_true", help="write everything as JSON")
    return parser


def judge_fit(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate judge-fit`; returns the exit status."""
    options = judge_fit_parser().parse(words)
    from palate.cli.exchange_command import is_database
    from palate.evaluation.judge_report import report_on_judge

    named = [word for word in (options.judgments, options.people) if word is not None]
    if options.project is not None and not any(map(is_database, named)):
        raise ConfigError("--project names a project of a database, and there is no database. Leave out --project.")
    (judgments, marks), *others = (_read(word, options.project) for word in named)
    people, their_marks = others[0] if others else (None, ())
    report = report_on_judge(
        judgments,
        people,
        judge=options.judge,
        dimension=options.dimension,
        own=options.own,
        marks=(*marks, *their_marks),
        seed=options.seed,
    )
    if options.out is not None:
        report.card.write(options.out)
    if options.json:
        import json

        say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    from palate.cli.judge_card_page import show_card
    from palate.runs.console import Console

    show_card(report, Console(highlight=False))
    if options.out is not None:
        say(f"card: {options.out}")
    return 0


def _read(source: str, project: str | None) -> tuple[Exchange, tuple[Mark, ...]]:
    """Return judgments and marks in a source. The judgments of a file of marks are those that the marks imply."""
    from palate.cli.exchange_command import is_database, read_project
    from palate.data.marks import has_marks, read_marks
    from palate.evaluation.judge_table import summary_of_judges
    from palate.evaluation.marked_pairs import exchange_of_marks
    from palate.evaluation.rater_votes import read_judgments

    if summary_of_judges(Path(source)).get("calibrated") is True:
        raise ConfigError(f"{source}: its judge was calibrated already. Measure it in a run without `calibration` and `cards`.")
    if is_database(source):
        return read_project(source, project), ()
    marks = read_marks(Path(source))
    return exchange_of_marks(marks) if has_marks(Path(source)) else read_judgments(Path(source))[0], marks
