"""Commands about people who judge: `label`, `judge`, `agreement`."""

from __future__ import annotations

from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.core import ConfigError
from palate.pipeline.table import Stages
from palate.web.listener import OWN_HOST, listen


def label_parser() -> Parser:
    """What `palate label` takes."""
    from palate.web.options import add_options

    parser = Parser("label", COMMANDS["label"])
    add_options(parser)
    return parser


def label(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate label`; returns the exit status."""
    from palate.web.options import label_options

    options = label_parser().parse([underscored(word) for word in words])
    settings = label_options(options)
    if not options.upgrade and settings.backup is None and settings.restore is None:
        # The port comes first: where another program has it, nothing heavy is loaded, no database is made and no item is added.
        with listen(settings.host, settings.port) as listener:
            from palate.web import command

            command.serve(settings, listener, say)
        return 0
    from palate.web import command

    if options.upgrade:
        command.upgrade(settings, say)
    elif settings.backup is not None:
        command.backup(settings, say)
    else:
        command.restore(settings, say)
    return 0


def judge_parser() -> Parser:
    """What `palate judge` takes."""
    parser = Parser("judge", COMMANDS["judge"])
    parser.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs/kitchen"), help="a pipeline's folder of runs (default: runs/kitchen)"
    )
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="pairs to judge (default: 20)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the pages; 0 takes a free one (default: 0)")
    return parser


def judge(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate judge`; returns the exit status."""
    options = judge_parser().parse(words)
    with listen(OWN_HOST, options.port) as listener:
        from palate.web.judge_demo import judge

        return judge(options.runs, options.pairs, listener, say)


def agreement_parser() -> Parser:
    """What `palate agreement` takes."""
    parser = Parser("agreement", COMMANDS["agreement"])
    parser.add_argument("votes", help="a file of judgments that `palate exchange` reads, a run of collect, or a database of ratings")
    parser.add_argument("--project", metavar="NAME", help="the database's project (default: the only one)")
    parser.add_argument("--dimension", metavar="NAME", help="only judgments on this dimension (default: all)")
    parser.add_argument("--curve", type=Path, metavar="RUN", help="a run of refresh (or its curve.jsonl): how many more labels")
    parser.add_argument("--rewards", type=Path, nargs="+", default=[], metavar="RUN", help="runs of stage reward: a curve's points")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--json", action="store_true", help="write everything as JSON")
    return parser


def agreement(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate agreement`; returns the exit status."""
    options = agreement_parser().parse(words)
    from palate.cli.exchange_command import is_database, read_project
    from palate.evaluation.rater_report import report_on

    if not is_database(options.votes) and options.project is not None:
        raise ConfigError("--project names a project of a database, and VOTES is not one. Leave out --project.")
    source = read_project(options.votes, options.project) if is_database(options.votes) else Path(options.votes)
    report = report_on(source, dimension=options.dimension, curve=options.curve, rewards=tuple(options.rewards), seed=options.seed)
    if options.json:
        import json

        say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    from palate.cli.agreement_page import show_agreement
    from palate.runs.console import Console

    show_agreement(report, Console(highlight=False))
    return 0
