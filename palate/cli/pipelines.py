"""Commands about stages and runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.core import ConfigError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.pipeline.describe import Option


def run(words: list[str], stages: Stages) -> int:
    """`palate run`; returns the exit status."""
    parser = Parser("run", COMMANDS["run"])
    parser.add_argument("file", type=Path, help="the pipeline's YAML file")
    parser.add_argument("assignments", nargs="*", metavar="name=value", help="input=PATH, seed=1, track=tensorboard, or stage.field=value")
    parser.add_argument("--only", metavar="STAGE", help="run just this stage; what it needs must be done")
    fresh = "forget earlier runs: of this stage and those built on it; of all when none is named"
    parser.add_argument("--fresh", nargs="?", const="", metavar="STAGE", help=fresh)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of runs (default: runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and check everything, without doing it")
    found = parser.parse(words)
    from palate.pipeline.execute import forget, plan_lines, run_pipeline
    from palate.pipeline.plan import plan_pipeline, read_pipeline

    pipeline = read_pipeline(found.file, found.assignments)
    planned = plan_pipeline(pipeline, found.runs or Path("runs") / pipeline.name, stages)
    if found.dry_run:
        for line in plan_lines(planned):
            say(line)
        return 0
    if found.fresh is not None:
        named = found.fresh or found.only
        forget(planned, [named] if named else [item.plan.name for item in planned])
    run_pipeline(planned, say, found.only, pipeline.track)
    return 0


def stage(command: str, words: list[str], stages: Stages) -> int:
    """Runs one stage with its settings as options."""
    from palate.config.read import read_config
    from palate.config.settings import Settings
    from palate.pipeline.describe import options_of, summary_of
    from palate.pipeline.execute import forget, plan_lines, run_pipeline
    from palate.pipeline.plan import Planner
    from palate.runs.digests import DigestCache
    from palate.runs.record import RunPlan
    from palate.runs.trackers import tracker_names

    cls = stages[command].load()
    options = list(options_of(cls))
    parser = Parser(command, summary_of(cls).replace("%", "%%"))
    words = [underscored(word) for word in words]
    names = _add_options(parser, options, words)
    own = parser.add_argument_group("run")
    own.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    own.add_argument("--track", metavar="NAMES", help="also send metrics to these: tensorboard,wandb,mlflow,trackio")
    own.add_argument("--out", type=Path, metavar="DIR", help="directory of the run (default: RUNS/STAGE-KEY)")
    own.add_argument("--runs", type=Path, metavar="DIR", default=Path("runs"), help="folder of runs (default: runs)")
    own.add_argument("--fresh", action="store_true", help="forget an earlier run with these settings")
    own.add_argument("--dry-run", action="store_true", help="print what would be done, and check everything, without doing it")
    found = vars(parser.parse(words))
    settings = Settings({}, {(): "command line"})
    for name in sorted(names, key=lambda name: name.count(".")):
        if found[name] is not None:
            settings = settings.put(tuple(name.split(".")), found[name], f"--{name}")
    stage = read_config(cls, settings)
    planner = Planner(found["runs"], DigestCache(found["runs"] / ".digests.json"))
    planned = planner.add(RunPlan(command, command, seed=found["seed"]), stage, settings, out=found["out"])
    if found["dry_run"]:
        say(plan_lines([planned])[0])
        return 0
    if found["fresh"]:
        forget([planned], [command])
    run_pipeline([planned], say, track=tracker_names(found["track"]))
    return 0


def _add_options(parser: Parser, options: Sequence[Option], words: Sequence[str]) -> list[str]:
    """Names of the options added: every setting, and those that `words` name inside a mapping (`--scorers.helpful`)."""
    texts: dict[str, list[str]] = {}
    for option in (option for option in options if not option.is_group):
        of = f"[{option.of}] " if option.of else ""
        default = option.default if option.default == "required" else f"default: {option.default}"
        texts.setdefault(option.name, []).append(f"{of}{option.doc} ({default})".strip())
    several = {option.name for option in options if option.container is tuple}
    mappings = [option.name for option in options if option.container is dict]
    types = {option.name: option.type_text for option in options}
    for name, text in texts.items():
        shown = f"{name}.NAME" if name in mappings else name
        shown_help = " ".join(text).replace("%", "%%")
        if name in several:
            parser.add_argument(f"--{name}", dest=name, nargs="+", action="extend", metavar=_metavar(types[name]), help=shown_help)
        else:
            parser.add_argument(f"--{shown}", dest=name, metavar=_metavar(types[name]), help=shown_help)
    given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    named = {name for name in given if any(name.startswith(f"{mapping}.") for mapping in mappings)}
    for name in sorted(named):
        parser.add_argument(f"--{name}", dest=name, help=argparse.SUPPRESS)
    return [*texts, *sorted(named)]


def _metavar(type_text: str) -> str:
    word = type_text.removesuffix(" or none").split(",")[0]
    if word.startswith("list of"):
        return "LIST"
    short = {"path": "PATH", "model": "MODEL", "number": "X", "whole number": "N", "text": "TEXT"}
    return short.get(word, word.replace(" or ", "|").replace(" ", "_"))


def runs(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate runs`; returns the exit status."""
    parser = Parser("runs", COMMANDS["runs"])
    parser.add_argument("place", nargs="?", type=Path, default=Path("runs"), help="a folder of runs, or one run (default: runs)")
    place: Path = parser.parse(words).place
    from palate.pipeline.listing import show_lineage, show_runs
    from palate.runs.record import read_record

    if read_record(place) is not None:
        show_lineage(place)
    else:
        show_runs(place)
    return 0


def swap(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate swap`; returns the exit status."""
    parser = Parser("swap", COMMANDS["swap"])
    parser.add_argument("link", type=Path, help="the link, say runs/reward; settings name it like a run")
    parser.add_argument("run", type=Path, nargs="?", help="what it is to name from now on")
    parser.add_argument("--back", action="store_true", help="let it name what it named before")
    found = parser.parse(words)
    if found.back == (found.run is not None):
        raise ConfigError("palate swap: give a run, or --back, and not both")
    from palate.runs.pointer import swap, swap_back

    if found.back:
        say(f"{found.link} names {swap_back(found.link)} again")
    else:
        before = swap(found.link, found.run)
        say(f"{found.link} names {found.run}" + ("" if before is None else f"; before: {before}"))
    return 0


def inspect(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate inspect`; returns the exit status."""
    parser = Parser("inspect", COMMANDS["inspect"])
    parser.add_argument("data", type=Path, help="a file or directory of rows in any shape that is read (docs/data.md)")
    parser.add_argument("--model", required=True, metavar="PATH", help="whose tokenizer and chat template; a run or a tokenizer will do")
    kinds = ("demonstrations", "preferences", "thumbs", "prompts", "texts")
    parser.add_argument("--kind", choices=kinds, help="as what rows are read (default: what the first row's shape is for)")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="rows to show (default: 3)")
    parser.add_argument("--also", type=Path, metavar="PATH", help="another split: says which prompts stand in both")
    parser.add_argument("--max_tokens", type=int, metavar="N", help="longest prompt and completion together (default: the model's limit)")
    parser.add_argument("--dimension", default="mean", help="which rating decides, where rows hold ratings (default: mean)")
    parser.add_argument("--limit", type=int, metavar="N", help="rows read at most (default: all)")
    parser.add_argument("--json", action="store_true", help="write the statistics as JSON, and no rows")
    found = parser.parse([underscored(word) for word in words])
    for name in ("max_tokens", "limit"):
        if vars(found)[name] is not None and vars(found)[name] < 1:
            raise ConfigError(f"--{name} is {vars(found)[name]}; give 1 or more, or leave it out.")
    from rich.console import Console

    from palate.cli.inspection import Viewer, inspect
    from palate.cli.inspection_page import show

    viewer = Viewer(found.model, found.kind, found.max_tokens, found.dimension, found.limit)
    inspection, tokenizer = inspect(found.data, viewer, found.rows, found.also)
    if found.json:
        say(inspection.to_json())
    else:
        show(inspection, tokenizer, Console(highlight=False))
    return 0


def reference(words: list[str], stages: Stages) -> int:
    """`palate reference`; returns the exit status."""
    parser = Parser("reference", COMMANDS["reference"])
    default = Path("docs/reference.md")
    parser.add_argument("--out", type=Path, default=default, metavar="FILE", help=f"where to write (default: {default})")
    path: Path = parser.parse(words).out
    from palate.data.files import write_atomic
    from palate.pipeline.describe import reference

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, reference(stages))
    say(f"wrote {path}")
    return 0
