"""Commands about one model and what it was made from: `card` and `trace`."""

from __future__ import annotations

import json
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say
from palate.pipeline.table import Stages


def card_parser() -> Parser:
    """What `palate card` takes."""
    parser = Parser("card", COMMANDS["card"])
    parser.add_argument("run", type=Path, metavar="RUN", help="the run that made the model")
    parser.add_argument(
        "--evaluations", nargs="+", type=Path, metavar="RUN", help="evaluate runs of the model (default: those in the same folder)"
    )
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="an evaluated model to compare with, in pairs of prompts")
    parser.add_argument("--name", help="the model's name (default: that of the run)")
    parser.add_argument("--license", default="", metavar="ID", help="the model's license, such as apache-2.0 (default: none is named)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: README.md beside the model's weights)")
    return parser


def card(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate card`; returns the exit status."""
    options = card_parser().parse(words)
    from palate.data.files import write_atomic
    from palate.evaluation.run_card import run_card

    card = run_card(
        options.run,
        evaluations=options.evaluations or (),
        baseline=options.baseline,
        name=options.name,
        license_id=options.license,
    )
    path: Path = options.out or card.model / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, card.text)
    say(f"wrote {path}")
    return 0


def trace_parser() -> Parser:
    """What `palate trace` takes."""
    parser = Parser("trace", COMMANDS["trace"])
    parser.add_argument("run", type=Path, metavar="RUN", help="a run, or something inside one, such as its model")
    parser.add_argument("--raters", type=int, default=10, metavar="N", help="raters to show per source of judgments (default: 10)")
    parser.add_argument("--json", action="store_true", help="write everything as JSON, with all raters")
    return parser


def trace(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate trace`; returns the exit status."""
    options = trace_parser().parse(words)
    from palate.evaluation.model_trace import trace_model

    found = trace_model(options.run)
    if options.json:
        say(json.dumps(found.plain(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        from palate.cli.trace_page import show_trace

        show_trace(found, options.raters)
    return 0
