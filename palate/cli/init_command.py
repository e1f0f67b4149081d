"""`palate init`: look at data and a model, and write a pipeline for them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.config.artifacts import require_models
from palate.core import ConfigError
from palate.pipeline.table import Stages


def init_parser() -> Parser:
    """What `palate init` takes."""
    parser = Parser("init", COMMANDS["init"])
    parser.add_argument("data", type=Path, help="a file or directory of rows in any shape that Palate reads (docs/data.md)")
    parser.add_argument("--model", required=True, metavar="PATH", help="the model to align: a directory, a run, or a name on the hub")
    parser.add_argument("--held_out", type=Path, metavar="PATH", help="rows that training must not see")
    kinds = ("demonstrations", "preferences", "unpaired", "prompts")
    parser.add_argument("--kind", choices=kinds, help="what to read the rows as (default: what the first row's shape is for)")
    words = "what the columns hold: a type such as alpaca, and columns by name, such as prompt=question"
    parser.add_argument("--columns", nargs="+", default=[], metavar="WORD", help=words)
    parser.add_argument("--out", type=Path, default=Path("pipeline.yaml"), metavar="FILE", help="where to write (default: pipeline.yaml)")
    return parser


def init(words: list[str], stages: Stages) -> int:
    """`palate init`; returns the exit status."""
    options = init_parser().parse([underscored(word) for word in words])
    out: Path = options.out
    if out.exists():
        raise ConfigError(f"{out} is there already. Name another file with --out, or remove it.")
    require_models(options.model)
    from palate.cli.inspection import Viewer, columns_of, inspect
    from palate.cli.starter import Start, starter
    from palate.config.artifacts import model_at
    from palate.data.files import write_atomic
    from palate.models.shapes import find_shape
    from palate.pipeline.plan import plan_pipeline, read_pipeline

    viewer = Viewer(options.model, options.kind, columns=columns_of(options.columns))
    inspection, _ = inspect(options.data, viewer, 0, options.held_out)
    shape = find_shape(model_at(options.model))
    parameters = shape.backbone + shape.output_head
    proposal = inspection.proposal
    columns = tuple(options.columns) if proposal is None else proposal.words
    start = Start(inspection, options.model, parameters, options.held_out, columns, out.stem)
    text = starter(start)
    with tempfile.TemporaryDirectory() as folder:  # what is written must be a pipeline that runs
        draft = Path(folder) / "pipeline.yaml"
        draft.write_text(text, encoding="utf-8")
        planned = plan_pipeline(read_pipeline(draft), Path(folder) / "runs", stages)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, text)
    say(f"wrote {out}: {', '.join(item.plan.name for item in planned)}")
    if proposal is not None:
        say(f"The columns of {options.data} make no known shape. The file says what they probably hold: {proposal.line}")
        if inspection.further:
            say(f"Nothing reads {', '.join(inspection.further)}. If that is wrong, name the columns: palate init --help shows --columns.")
    if inspection.overlap is not None and inspection.overlap.prompts.count:
        say(f"{inspection.overlap.prompts.count} prompts of {options.held_out} are in {options.data} too: `palate inspect` shows them.")
    say(f"Read it, then: palate run {out} --dry-run, and palate run {out}")
    return 0
