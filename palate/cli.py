"""The command line: `palate run FILE`, `palate STAGE ...`, `palate runs`, `palate inspect`, ... Imports heavy parts only when asked."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from palate import __version__
from palate.core import ConfigError, PalateError
from palate.recipes.settings import nearest
from palate.recipes.stages import STAGES, Stages

if TYPE_CHECKING:
    from palate.recipes.describe import Option

COMMANDS = {
    "run": "Run a pipeline file: skip what is done, resume what was cut off.",
    "runs": "List runs, or show what a run came from.",
    "label": "Open the pages on which people judge, at an address of this machine.",
    "inspect": "Show a data file as a model sees it: tokens by role, lengths, duplicates, dropped rows.",
    "agreement": "Say how far raters can be trusted: agreement, bias, who is guessing, the ceiling, how many more labels.",
    "reference": "Write docs/reference.md: every stage and each of its settings.",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors, and which knows no abbreviations."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"palate {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}. `{self.prog} --help` lists what can be given.")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed words, options and positionals in any order; an unknown option is an error that offers the nearest."""
        found, left = self.parse_known_intermixed_args(list(words))
        if left:
            known = [word for action in self._actions for word in action.option_strings if word.startswith("--")]
            word = left[0].split("=")[0]
            raise ConfigError(f"{self.prog} has no {word!r}. {nearest(word, known)}")
        return found


def main(argv: Sequence[str] | None = None, stages: Stages = STAGES) -> int:
    """The exit code of one command. What a user can mend is one message on standard error, without a traceback.

    Args:
        argv: words after `palate`; by default those of the process.
        stages: the table of stages.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words, stages)
    except PalateError as error:
        sys.stderr.write(f"palate: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("palate: stopped. The same command goes on from what is saved.\n")
        return 130
    except BrokenPipeError:  # the reader of a pipe (`palate runs | head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(words: list[str], stages: Stages) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        sys.stdout.write(_overview(stages))
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"palate {__version__}\n")
        return 0
    command, rest = words[0], words[1:]
    own: dict[str, Callable[[list[str], Stages], int]] = {
        "run": _run,
        "runs": _runs,
        "label": _label,
        "inspect": _inspect,
        "agreement": _agreement,
        "reference": _reference,
    }
    if command in own:
        return own[command](rest, stages)
    if command not in stages:
        raise ConfigError(f"there is no command {command!r}. {nearest(command, (*own, *stages))}")
    return _stage(command, rest, stages)


def _overview(stages: Stages) -> str:
    width = max(map(len, (*COMMANDS, *stages)))
    lines = ["Palate aligns a language model with human taste.", "", "usage: palate COMMAND ...    (palate COMMAND --help tells more)", ""]
    lines += ["commands:", *(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()), ""]
    lines += ["stages:", *(f"  {name:<{width}}  {entry.help}" for name, entry in stages.items())]
    return "\n".join(lines) + "\n"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _run(words: list[str], stages: Stages) -> int:
    parser = _Parser("run", COMMANDS["run"])
    parser.add_argument("file", type=Path, help="the pipeline's YAML file")
    parser.add_argument("assignments", nargs="*", metavar="name=value", help="input=PATH, seed=1, track=tensorboard, or stage.field=value")
    parser.add_argument("--only", metavar="STAGE", help="run just this stage; what it needs must be done")
    fresh = "forget earlier runs: of this stage and those built on it; of all when none is named"
    parser.add_argument("--fresh", nargs="?", const="", metavar="STAGE", help=fresh)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="folder of runs (default: runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and check everything, without doing it")
    found = parser.parse(words)
    from palate.recipes.pipeline import forget, plan_lines, run_pipeline
    from palate.recipes.plan import plan_pipeline, read_pipeline

    pipeline = read_pipeline(found.file, found.assignments)
    planned = plan_pipeline(pipeline, found.runs or Path("runs") / pipeline.name, stages)
    if found.dry_run:
        for line in plan_lines(planned):
            _say(line)
        return 0
    if found.fresh is not None:
        named = found.fresh or found.only
        forget(planned, [named] if named else [item.plan.name for item in planned])
    run_pipeline(planned, _say, found.only, pipeline.track)
    return 0


def _stage(command: str, words: list[str], stages: Stages) -> int:
    from palate.recipes.config import read_config
    from palate.recipes.describe import options_of, summary_of
    from palate.recipes.pipeline import forget, plan_lines, run_pipeline
    from palate.recipes.plan import Planner
    from palate.recipes.settings import Settings
    from palate.stores.digests import DigestCache
    from palate.stores.records import RunPlan
    from palate.tracking import tracker_names

    cls = stages[command].load()
    options = list(options_of(cls))
    parser = _Parser(command, summary_of(cls).replace("%", "%%"))
    words = [_underscored(word) for word in words]
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
        _say(plan_lines([planned])[0])
        return 0
    if found["fresh"]:
        forget([planned], [command])
    run_pipeline([planned], _say, track=tracker_names(found["track"]))
    return 0


def _underscored(word: str) -> str:
    """An option's word with `-` inside its name written `_`, as the settings are."""
    if not word.startswith("--") or word == "--dry-run":
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _add_options(parser: _Parser, options: Sequence[Option], words: Sequence[str]) -> list[str]:
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


def _runs(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    parser = _Parser("runs", COMMANDS["runs"])
    parser.add_argument("place", nargs="?", type=Path, default=Path("runs"), help="a folder of runs, or one run (default: runs)")
    place: Path = parser.parse(words).place
    from palate.recipes.listing import show_lineage, show_runs
    from palate.stores.records import read_record

    if read_record(place) is not None:
        show_lineage(place)
    else:
        show_runs(place)
    return 0


def _inspect(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    parser = _Parser("inspect", COMMANDS["inspect"])
    parser.add_argument("data", type=Path, help="a file or directory of rows in any shape that is read (docs/data.md)")
    parser.add_argument("--model", required=True, metavar="PATH", help="whose tokenizer and chat template; a run or a tokenizer will do")
    kinds = ("demonstrations", "preferences", "thumbs", "prompts", "texts")
    parser.add_argument("--kind", choices=kinds, help="as what rows are read (default: what the first row's shape is for)")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="rows to show (default: 3)")
    parser.add_argument("--also", type=Path, metavar="PATH", help="another split: says which prompts stand in both")
    parser.add_argument("--max_tokens", type=int, metavar="N", help="longest prompt and completion together (default: the model's limit)")
    parser.add_argument("--axis", default="mean", help="which rating decides, where rows hold ratings (default: mean)")
    parser.add_argument("--limit", type=int, metavar="N", help="rows read at most (default: all)")
    parser.add_argument("--json", action="store_true", help="write the statistics as JSON, and no rows")
    found = parser.parse([_underscored(word) for word in words])
    for name in ("max_tokens", "limit"):
        if vars(found)[name] is not None and vars(found)[name] < 1:
            raise ConfigError(f"--{name} is {vars(found)[name]}; give 1 or more, or leave it out.")
    from rich.console import Console

    from palate.recipes.inspection import Viewer, inspect
    from palate.recipes.inspection_page import show

    viewer = Viewer(found.model, found.kind, found.max_tokens, found.axis, found.limit)
    inspection, tokenizer = inspect(found.data, viewer, found.rows, found.also)
    if found.json:
        _say(inspection.to_json())
    else:
        show(inspection, tokenizer, Console(highlight=False))
    return 0


def _label(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    from palate.web.options import add_options, label_of

    parser = _Parser("label", COMMANDS["label"])
    add_options(parser)
    found = parser.parse([_underscored(word) for word in words])
    try:
        from palate.web.command import serve, upgrade
    except ImportError as error:
        raise ConfigError(f"palate label needs {error.name}: pip install 'palate[label]'.") from error
    (upgrade if found.upgrade else serve)(label_of(found), _say)
    return 0


def _agreement(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    parser = _Parser("agreement", COMMANDS["agreement"])
    parser.add_argument("votes", type=Path, help="a file of judgments, one of preferences with votes and raters, or a run of collect")
    parser.add_argument("--dimension", metavar="NAME", help="only judgments on this one (default: all)")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="rows labels, accuracy, pairs: reward models of more and more labels")
    parser.add_argument("--rewards", type=Path, nargs="+", default=[], metavar="RUN", help="runs of stage reward: a curve's points")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    parser.add_argument("--json", action="store_true", help="write everything as JSON")
    found = parser.parse(words)
    from palate.recipes.opinions import report_on

    report = report_on(found.votes, dimension=found.dimension, curve=found.curve, rewards=tuple(found.rewards), seed=found.seed)
    if found.json:
        import json

        _say(json.dumps(report.plain(), indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    from rich.console import Console

    from palate.recipes.opinions_page import show_agreement

    show_agreement(report, Console(highlight=False))
    return 0


def _reference(words: list[str], stages: Stages) -> int:
    parser = _Parser("reference", COMMANDS["reference"])
    default = Path("docs/reference.md")
    parser.add_argument("--out", type=Path, default=default, metavar="FILE", help=f"where to write (default: {default})")
    path: Path = parser.parse(words).out
    from palate.recipes.describe import reference
    from palate.stores.files import write_atomic

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, reference(stages))
    _say(f"wrote {path}")
    return 0
