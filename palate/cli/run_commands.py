"""Commands about runs and data: `run`, `runs`, `use`, `inspect`, `reference`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.config.artifacts import require_models
from palate.core import ConfigError
from palate.core.process import place
from palate.distributed.launch import LAUNCH_HELP, launch
from palate.distributed.ranks import from_writer
from palate.pipeline.table import Stages


def run_parser() -> Parser:
    """What `palate run` takes."""
    parser = Parser("run", COMMANDS["run"])
    parser.add_argument("file", type=Path, help="the pipeline's YAML file")
    words = "input=PATH, seed=1, device=cuda, shard=all, track=tensorboard, or stage.field=value"
    parser.add_argument("assignments", nargs="*", metavar="name=value", help=words)
    parser.add_argument("--only", metavar="STAGE", help="run only this stage; the stages that it needs must be done")
    fresh = "forget earlier runs of this stage and of those built on it; without STAGE, of all stages"
    parser.add_argument("--fresh", nargs="?", const="", metavar="STAGE", help=fresh)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of runs (default: runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="check everything and print the plan, without running it")
    parser.add_argument("--launch", metavar="HOW", help=LAUNCH_HELP)
    return parser


def run(words: list[str], stages: Stages) -> int:
    """`palate run`; returns the exit status."""
    options = run_parser().parse(words)
    if options.launch is not None and place().world == 1:
        return launch(options.launch, "run", words)
    from palate.pipeline.execute import forget, plan_lines, refuse_old_runs, run_pipeline
    from palate.pipeline.plan import plan_pipeline, read_pipeline

    pipeline = read_pipeline(options.file, options.assignments)
    planned = plan_pipeline(pipeline, options.runs or Path("runs") / pipeline.name, stages)
    if options.dry_run:
        for line in plan_lines(planned):
            say(line)
        return 0
    if options.fresh is not None:
        named = options.fresh or options.only
        from_writer(partial(forget, planned, [named] if named else [item.plan.name for item in planned]))
    refuse_old_runs(planned)
    run_pipeline(planned, say, options.only, pipeline.track)
    return 0


def runs_parser() -> Parser:
    """What `palate runs` takes."""
    parser = Parser("runs", COMMANDS["runs"])
    parser.add_argument("place", nargs="?", type=Path, default=Path("runs"), help="a folder of runs, or one run (default: runs)")
    return parser


def runs(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate runs`; returns the exit status."""
    place: Path = runs_parser().parse(words).place
    from palate.pipeline.listing import show_lineage, show_runs
    from palate.runs.record import read_record

    if read_record(place) is not None:
        show_lineage(place)
    else:
        show_runs(place)
    return 0


def use_parser() -> Parser:
    """What `palate use` takes."""
    parser = Parser("use", COMMANDS["use"])
    parser.add_argument("link", type=Path, help="the link, for example runs/reward; settings can name it like a run")
    parser.add_argument("run", type=Path, nargs="?", help="the run that it will name")
    parser.add_argument("--back", action="store_true", help="go back to the run that it named before")
    return parser


def use(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate use`; returns the exit status."""
    options = use_parser().parse(words)
    if options.back == (options.run is not None):
        raise ConfigError("palate use: give either a run or --back.")
    from palate.runs.pointer import swap, swap_back

    if options.back:
        say(f"{options.link} names {swap_back(options.link)} again")
    else:
        before = swap(options.link, options.run)
        say(f"{options.link} names {options.run}" + ("" if before is None else f"; before: {before}"))
    return 0


def inspect_parser() -> Parser:
    """What `palate inspect` takes."""
    parser = Parser("inspect", COMMANDS["inspect"])
    parser.add_argument("data", type=Path, help="a file or directory of rows in any shape that Palate reads (docs/data.md)")
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH",
        help="the model whose tokenizer and chat template to use; a run or a tokenizer alone works too",
    )
    kinds = ("demonstrations", "preferences", "unpaired", "prompts", "texts")
    parser.add_argument("--kind", choices=kinds, help="what to read the rows as (default: what the first row's shape is for)")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="rows to show (default: 3)")
    parser.add_argument("--also", type=Path, metavar="PATH", help="another split; the report lists the prompts in both")
    parser.add_argument(
        "--max_tokens", type=int, metavar="N", help="most tokens of prompt and completion together (default: the model's limit)"
    )
    parser.add_argument("--dimension", default="mean", help="the rating that decides, where rows hold ratings (default: mean)")
    parser.add_argument("--limit", type=int, metavar="N", help="most rows to read (default: all)")
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="WORD",
        help="what the columns hold: a type such as alpaca, and columns by name, such as prompt=question",
    )
    parser.add_argument("--json", action="store_true", help="write the statistics as JSON, without rows")
    return parser


def inspect(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate inspect`; returns the exit status."""
    options = inspect_parser().parse([underscored(word) for word in words])
    for name in ("max_tokens", "limit"):
        if vars(options)[name] is not None and vars(options)[name] < 1:
            raise ConfigError(f"--{name} is {vars(options)[name]}; give 1 or more, or leave it out.")
    require_models(options.model)
    from palate.cli.inspection import Viewer, columns_of, inspect
    from palate.cli.inspection_page import show
    from palate.runs.console import Console

    columns = columns_of(options.columns)
    viewer = Viewer(options.model, options.kind, options.max_tokens, options.dimension, options.limit, columns)
    inspection, tokenizer = inspect(options.data, viewer, options.rows, options.also)
    if options.json:
        say(inspection.to_json())
    else:
        show(inspection, tokenizer, Console(highlight=False))
    return 0


def reference_parser() -> Parser:
    """What `palate reference` takes."""
    parser = Parser("reference", COMMANDS["reference"])
    default = Path("docs/reference.md")
    parser.add_argument(
        "--out", type=Path, default=default, metavar="FILE", help=f"where to write, with api.md beside it (default: {default})"
    )
    return parser


def reference(words: list[str], stages: Stages) -> int:
    """`palate reference`; returns the exit status. It also writes the Python API's page.

    In a checkout it writes the API's types and the table of help and completion too. An installed package stays as it is.
    """
    path: Path = reference_parser().parse(words).out
    from palate.api.api_page import api_text
    from palate.api.signatures import TYPES_FILE, types_text
    from palate.cli.settings_table import TABLE, table_text
    from palate.data.files import write_atomic
    from palate.pipeline.describe import reference
    from palate.pipeline.table import STAGES

    texts = {path: reference(stages)}
    if stages is STAGES:
        texts[path.with_name("api.md")] = api_text(stages)
    if stages is STAGES and (TYPES_FILE.parents[1] / "pyproject.toml").is_file():
        texts |= {TABLE: table_text(stages), TYPES_FILE: types_text(stages)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        if file == path or not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_atomic(file, text)
            say(f"wrote {file}")
    return 0
