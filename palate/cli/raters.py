"""Commands about those who judge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.core import ConfigError
from palate.recipes.stages import Stages


def label(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate label`; returns the exit status."""
    from palate.web.options import add_options, label_of

    parser = Parser("label", COMMANDS["label"])
    add_options(parser)
    found = parser.parse([underscored(word) for word in words])
    try:
        from palate.web.command import serve, upgrade
    except ImportError as error:
        raise ConfigError(f"palate label needs {error.name}: pip install 'palate[label]'.") from error
    (upgrade if found.upgrade else serve)(label_of(found), say)
    return 0


def judge(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate judge`; returns the exit status."""
    parser = Parser("judge", COMMANDS["judge"])
    parser.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs/kitchen"), help="a pipeline's folder of runs (default: runs/kitchen)"
    )
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="pairs to judge (default: 20)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the pages; 0 takes a free one (default: 0)")
    found = parser.parse(words)
    from palate.web.judge import judge

    return judge(found.runs, found.pairs, found.port, say)


def agreement(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate agreement`; returns the exit status."""
    parser = Parser("agreement", COMMANDS["agreement"])
    parser.add_argument("votes", type=Path, help="a file of judgments, one of preferences with votes and raters, or a run of collect")
    parser.add_argument("--dimension", metavar="NAME", help="only judgments on this one (default: all)")
    parser.add_argument("--curve", type=Path, metavar="RUN", help="a run of refresh (or its curve.jsonl): how many more labels")
    parser.add_argument("--rewards", type=Path, nargs="+", default=[], metavar="RUN", help="runs of stage reward: a curve's points")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--json", action="store_true", help="write everything as JSON")
    found = parser.parse(words)
    from palate.recipes.opinions import report_on

    report = report_on(found.votes, dimension=found.dimension, curve=found.curve, rewards=tuple(found.rewards), seed=found.seed)
    if found.json:
        import json

        say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    from rich.console import Console

    from palate.recipes.opinions_page import show_agreement

    show_agreement(report, Console(highlight=False))
    return 0


def exchange(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate exchange`; returns the exit status."""
    from palate.stores.exchange import READABLE, WRITABLE, join_items, read_exchange, write_exchange

    parser = Parser("exchange", COMMANDS["exchange"])
    parser.add_argument("source", help="a file of judgments: JSON lines, JSON, CSV, Parquet")
    parser.add_argument("target", type=Path, help="the file to write; what stood there is replaced when all of it is written")
    read, written = ([shape.name for shape in shapes] for shapes in (READABLE, WRITABLE))
    parser.add_argument("--from", dest="kind", choices=read, help="how SOURCE is written (default: as its first row is)")
    parser.add_argument("--to", choices=written, default="palate", help="how TARGET is written (default: palate, which loses nothing)")
    parser.add_argument(
        "--items", metavar="FILE", help="the file that was judged elsewhere: its items, joined by id, with what the tool never saw"
    )
    found = parser.parse(words)
    if Path(found.source).resolve() == found.target.resolve():
        raise ConfigError(f"{found.target} would be read and replaced; give another file to write.")
    exchange = read_exchange(found.source, found.kind)
    if found.items:
        exchange = join_items(exchange, read_exchange(found.items))
    done = write_exchange(exchange, found.target, found.to)
    counts = f"{len(exchange.items)} items, {len(exchange.votes)} judgments, {len(exchange.raters)} raters"
    say(f"{found.target}: {done.rows} rows ({counts})" + "".join(f"; {path}" for path in done.beside))
    if lost := next(shape.loses for shape in WRITABLE if shape.name == found.to):
        say(f"not kept by {found.to}: {lost}")
    for what, rows in (("dropped", exchange.dropped), ("left out", done.left_out)):
        for reason, count in Counter(row.kind for row in rows).most_common():
            first = next(row for row in rows if row.kind == reason)
            say(f"{what}: {count} x {reason}; the first is {first.source}")
    return 0
