"""Commands about one model and what it was made from: `card` and `trace`."""

from __future__ import annotations

import json
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say
from palate.core import ConfigError
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
    from palate.config.artifacts import model_at
    from palate.data.files import write_atomic
    from palate.evaluation.model_card import ModelCard
    from palate.evaluation.model_trace import trace_model
    from palate.evaluation.run_metrics import evaluations_of, find_evaluated, measured_keys

    trace = trace_model(options.run)
    model = Path(model_at(str(trace.run.directory)))
    if model == trace.run.directory:
        raise ConfigError(f"{trace.run.name} holds no model, and a card is about one. Name the run that trained the model.")
    named = options.evaluations or [place for place, _ in evaluations_of(trace.run.directory)]
    evaluations = [find_evaluated(place) for place in named]
    for one in evaluations:
        if trace.run.name.rpartition("-")[2] not in measured_keys(one.record):
            raise ConfigError(f"--evaluations: {one.name} measured another model than {trace.run.name}. Name evaluate runs of this one.")
    baseline = None if options.baseline is None else find_evaluated(options.baseline)
    page = ModelCard(options.name or trace.run.name, trace, evaluations, baseline, options.license, model.name == "adapter")
    path: Path = options.out or model / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.text())
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
