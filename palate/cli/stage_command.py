"""`palate STAGE`: one stage with its settings as options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.cli.comparison_page import show_comparison
from palate.cli.help_page import show
from palate.cli.option_names import ANY, as_typed, canonical, level_of, offer
from palate.cli.parser import HELP_WORDS, Parser, say, underscored
from palate.cli.settings_table import described
from palate.cli.stage_help import metavar, page_of
from palate.core import ConfigError
from palate.core.process import AUTO, WHOLE, Shard, place
from palate.distributed.launch import launch
from palate.distributed.ranks import from_writer
from palate.pipeline.option import Option
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.config.settings import Settings

PAGES: Mapping[str, Callable[[Path], None]] = {"compare": show_comparison}
"""What is printed of a finished run, by its stage."""


def stage(command: str, words: list[str], stages: Stages) -> int:
    """Run one stage with its settings as options; with `--help`, show them."""
    words = [underscored(word) for word in words]
    if not HELP_WORDS.isdisjoint(words):
        show(page_of(command, described(stages[command]), words))
        return 0
    from palate.config.read import read_config
    from palate.pipeline.execute import forget, plan_lines, run_pipeline
    from palate.pipeline.plan import Planner
    from palate.runs.digests import DigestCache
    from palate.runs.record import RunPlan
    from palate.runs.trackers import tracker_names

    settings, values = typed(command, words, stages)
    if values["launch"] is not None and place().world == 1:
        return launch(values["launch"], command, words)
    stage = read_config(stages[command].load(), settings)
    planner = Planner(values["runs"], DigestCache(values["runs"] / ".digests.json"))
    plan = RunPlan(command, command, seed=values["seed"], device=values["device"], shard=Shard.read(values["shard"]))
    plan = replace(plan, keeps_state=values["keep_state"])
    planned = planner.add(plan, stage, settings, out=values["out"], extend=values["extend"])
    if values["dry_run"]:
        say(plan_lines([planned])[0])
        return 0
    if values["fresh"]:
        from_writer(partial(forget, [planned], [command]))
    run_pipeline([planned], say, track=tracker_names(values["track"]))
    if command in PAGES:
        PAGES[command](planned.directory)
    return 0


def typed(command: str, words: Sequence[str], stages: Stages) -> tuple[Settings, Mapping[str, Any]]:
    """Return the settings that the words of a stage's command give, and the words of the run beside them.

    Args:
        command: the stage.
        words: what follows it, with `_` in the names of options.
        stages: the table of stages.

    Raises:
        ConfigError: an option is unknown, or lacks its value. Whether values fit is for `read_config` to say.
    """
    from palate.config.settings import Settings
    from palate.pipeline.describe import options_of

    options = list(options_of(stages[command].load()))
    parser = Parser(command, "")
    names = _add_options(parser, options, words)
    if stages[command].words:
        parser.add_argument("words", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=AUTO)
    parser.add_argument("--track")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--launch")
    parser.add_argument("--extend")
    parser.add_argument("--keep_state", action="store_true")
    parser.add_argument("--shard", default=WHOLE)
    values = vars(parser.parse(words))
    settings = Settings({}, {(): "command line"})
    for name in sorted(names, key=lambda name: name.count(".")):
        if values[name] is not None:
            same = [option for option in options if level_of(option) == canonical(name, options)]
            settings = settings.put(tuple(name.split(".")), _value(values[name], same), f"--{name}")
    for name, path in _named(values.get("words", ()), stages[command].words).items():
        settings = settings.put((stages[command].words, name), path, f"command line ({name})")
    return settings, values


def _named(words: Sequence[str], setting: str) -> dict[str, str]:
    """Return the paths among the words of a command by name, as `NAME=PATH` or by what a path is called.

    Raises:
        ConfigError: two paths have one name.
    """
    paths: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not name or "/" in name:
            called = Path(word).stem if Path(word).is_file() else Path(word).name
            name, path = re.sub(r"-[0-9a-f]{12}$", "", called).replace(".", "-"), word
        if name in paths:
            raise ConfigError(f"{setting}: {paths[name]} and {path} are both called {name!r}. Give each a name of its own, as NAME=PATH")
        paths[name] = path
    return paths


def _add_options(parser: Parser, options: Sequence[Option], words: Sequence[str]) -> list[str]:
    """Add every setting of every kind, and those that `words` name inside a mapping (`--rewards.helpful`); return their names.

    A name may belong to several kinds, so this does not check values: `read_config` reads each by the kind given.

    Raises:
        ConfigError: a word names a group or a mapping, which do not take values.
    """
    by_name: dict[str, list[Option]] = {}
    for option in options:
        by_name.setdefault(level_of(option), []).append(option)
    names = {name: name for name, same in by_name.items() if ANY not in name.split(".") and not all(setting.is_group for setting in same)}
    for name in [word[2:].partition("=")[0] for word in words if word.startswith("--")]:
        known = canonical(name, options)
        if name not in names:
            _check(parser.prog, name, known, by_name)
        if known != name:
            names[name] = known
    for name, known in names.items():
        several = any(setting.container is tuple for setting in by_name[known])
        if several:
            parser.add_argument(f"--{name}", dest=name, nargs="+", action="extend")
        else:
            parser.add_argument(f"--{name}", dest=name)
    return list(names)


def _check(prog: str, name: str, known: str, by_name: Mapping[str, Sequence[Option]]) -> None:
    """Refuse a name that does not take a value, or is unknown inside a mapping. The parser refuses other unknown names."""
    if f"{name}.{ANY}" in by_name:
        raise ConfigError(f"--{name} holds several, by name. Give each a name: --{name}.{ANY} {metavar(by_name[f'{name}.{ANY}'][0])}.")
    if known in by_name and all(setting.is_group for setting in by_name[known]):
        inner = {f"--{as_typed(setting, name)}": None for setting in by_name if setting.rpartition(".")[0] == known}
        raise ConfigError(f"--{name} does not take a value. Give one of its settings: {', '.join(inner)}.")
    if known != name and known not in by_name:
        texts = [f"--{as_typed(setting, name)}" for setting in by_name]
        raise ConfigError(f"{prog} has no '--{name}'. {offer(f'--{name}', texts)}".strip())


def _value(words: object, same: Sequence[Option]) -> object:
    """The value of an option: a single word as itself, where one of the settings of that name takes only one word."""
    if isinstance(words, list) and len(words) == 1 and any(setting.container is not tuple for setting in same):
        return words[0]
    return words
