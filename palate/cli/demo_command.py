"""`palate demo`: run a pipeline that comes with Palate, and open the page that it made."""

from __future__ import annotations

from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say
from palate.config.shipped import shipped_pipeline
from palate.pipeline.table import Stages
from palate.web.browser import open_page

KITCHEN = "kitchen"
"""The pipeline that runs where none is named."""


def demo_parser() -> Parser:
    """What `palate demo` takes."""
    parser = Parser("demo", COMMANDS["demo"])
    words = "settings as for `palate run`, and a pipeline that comes with Palate, such as rlaif or rules (default: kitchen)"
    parser.add_argument("words", nargs="*", metavar="NAME|name=value", help=words)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of runs (default: runs/NAME)")
    parser.add_argument("--no-open", action="store_true", help="do not open the page in a browser")
    return parser


def demo(words: list[str], stages: Stages) -> int:
    """`palate demo`; returns the exit status."""
    options = demo_parser().parse(words)
    names = [word for word in options.words if "=" not in word]
    file = shipped_pipeline(names[0] if names else KITCHEN)
    from palate.pipeline.execute import page_of, refuse_old_runs, run_pipeline
    from palate.pipeline.plan import plan_pipeline, read_pipeline

    pipeline = read_pipeline(file, [word for word in options.words if word not in names[:1]])
    planned = plan_pipeline(pipeline, options.runs or Path("runs") / pipeline.name, stages)
    refuse_old_runs(planned)
    outcomes = run_pipeline(planned, say, None, pipeline.track)
    if pipeline.name == KITCHEN:
        root = planned[0].directory.parent
        say(f"\nJudge some of its answers yourself: palate judge {root}\nSee what was made, to serve or score with: palate runs {root}")
    pages = [page for outcome in outcomes if (page := page_of(outcome.directory)) is not None]
    if pages and not options.no_open:
        open_page(pages[-1].resolve().as_uri())
    return 0
