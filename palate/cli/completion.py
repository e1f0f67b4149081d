"""Completion in a shell: `palate completion SHELL` prints a script that calls this module when the user presses Tab.

This module reads the table of settings and does not import what trains, so that it answers as soon as Python has started.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli import (
    coverage_command,
    demo_command,
    exchange_command,
    forget_command,
    front_command,
    gate_command,
    init_command,
    judge_fit_command,
    model_commands,
    peak_command,
    plan_command,
    push_command,
    rater_commands,
    reward_commands,
    run_commands,
    serve_command,
    watch_command,
)
from palate.cli.option_names import below, canonical, kinds_given, level_of
from palate.cli.parser import COMMANDS, HELP_WORDS, Parser
from palate.cli.settings_table import described
from palate.cli.stage_help import RUN_OPTIONS
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.pipeline.option import Option

HIDDEN = "__complete"
"""The command that the scripts call."""

SHELLS = ("bash", "zsh", "fish")

PARSERS: dict[str, Callable[[], Parser]] = {
    "demo": demo_command.demo_parser,
    "init": init_command.init_parser,
    "run": run_commands.run_parser,
    "plan": plan_command.plan_parser,
    "runs": run_commands.runs_parser,
    "watch": watch_command.watch_parser,
    "serve": serve_command.serve_parser,
    "feedback": serve_command.feedback_parser,
    "label": rater_commands.label_parser,
    "judge": rater_commands.judge_parser,
    "score": reward_commands.score_parser,
    "reward-check": reward_commands.reward_check_parser,
    "front": front_command.front_parser,
    "gate": gate_command.gate_parser,
    "card": model_commands.card_parser,
    "push": push_command.push_parser,
    "trace": model_commands.trace_parser,
    "forget": forget_command.forget_parser,
    "inspect": run_commands.inspect_parser,
    "use": run_commands.use_parser,
    "agreement": rater_commands.agreement_parser,
    "judge-fit": judge_fit_command.judge_fit_parser,
    "peak": peak_command.peak_parser,
    "coverage": coverage_command.coverage_parser,
    "exchange": exchange_command.exchange_parser,
    "reference": run_commands.reference_parser,
}
"""What each command takes, except the stages."""


@dataclass(frozen=True)
class Suggestions:
    """What fits at the cursor.

    Attributes:
        words: (word, what it means). The shell does not add a space after a word that ends in a dot.
        files: whether names of files fit too.
    """

    words: tuple[tuple[str, str], ...] = ()
    files: bool = False


def completion_parser() -> Parser:
    """What `palate completion` takes."""
    parser = Parser("completion", COMMANDS["completion"])
    how = "bash: source <(palate completion bash); zsh: the same; fish: palate completion fish | source"
    parser.add_argument("shell", choices=SHELLS, help=f"the shell; put this line into its startup file. {how}")
    return parser


PARSERS["completion"] = completion_parser


def completion(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate completion`; returns the exit status."""
    shell: str = completion_parser().parse(words).shell
    sys.stdout.write(Path(__file__).with_name(f"completion.{shell}").read_text(encoding="utf-8"))
    return 0


def complete(words: list[str], stages: Stages) -> int:
    """Write the suggestions for the scripts: `files` or `words`, then a line for each word, with a tab before its meaning."""
    suggestions = suggestions_for(words, stages)
    lines = ["files" if suggestions.files else "words", *(f"{word}\t{text}" for word, text in suggestions.words)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def suggestions_for(words: Sequence[str], stages: Stages) -> Suggestions:
    """Return what fits in place of the last word, which the user has begun to type.

    bash passes `--name=value` as three words; zsh and fish pass it as one.
    """
    typed = [word for word in words if word != "="]
    if words and words[-1] == "=":
        typed.append("")
    if not typed:
        typed = [""]
    *before, last = typed
    if not before:
        lines = {**COMMANDS, **{name: entry.help for name, entry in stages.items()}}
        return _matching(lines.items(), last)
    command, *before = before
    name, equals, value = last.partition("=")
    if equals and name.startswith("--"):
        suggestions = _values(command, [*before, name], value, stages)
        return Suggestions(tuple((f"{name}={word}", text) for word, text in suggestions.words), suggestions.files)
    if last.startswith("-"):
        return _options(command, before, last, stages)
    return _values(command, before, last, stages)


def _matching(words: Iterable[tuple[str, str]], start: str) -> Suggestions:
    return Suggestions(tuple((word, text) for word, text in words if word.startswith(start)))


def _options(command: str, before: Sequence[str], start: str, stages: Stages) -> Suggestions:
    """The options of a command that start with `start`; of a stage, those at the level typed so far."""
    if command in PARSERS:
        actions = PARSERS[command]().actions()
        return _matching(((word, action.help or "") for action in actions for word in action.option_strings if len(word) > 2), start)
    if command not in stages:
        return Suggestions()
    options = described(stages[command]).options
    fixed = [(left.split()[0], text.replace("\0", " ")) for left, text in RUN_OPTIONS.items()]
    words = [*_level(options, before, start), *fixed, ("--help", "show the settings")]
    return _matching(words, start)


def _level(options: Sequence[Option], before: Sequence[str], start: str) -> list[tuple[str, str]]:
    """The settings at the level of `start` that exist with the kinds given, or with the default kinds."""
    level = start.removeprefix("--").replace("-", "_").rpartition(".")[0]
    kinds = kinds_given(before, options, level)
    matches: list[Option] = [option for option in options if "." not in option.name]
    known = canonical(level, options)
    if level:
        matches = []
        for setting in _in_force(known, options, kinds):
            chosen = kinds.get(known, setting.default if setting.default in dict(setting.kinds) else "")
            wanted = [chosen] if chosen or not setting.kinds else [kind for kind, _ in setting.kinds]
            matches += [inner for kind in wanted for inner in below(setting, kind, options) if inner not in matches]
    words: dict[str, str] = {}
    for option in matches:
        name = f"--{level}.{option.name.rpartition('.')[2]}" if level else f"--{option.name}"
        text = option.doc.partition("; ")[0]
        if not option.is_group and option.container is not dict:
            words[name] = text
        if option.container is dict or any(setting.name.startswith(f"{level_of(option)}.") for setting in options):
            words[f"{name}."] = text
    return list(words.items())


def _in_force(known: str, options: Sequence[Option], kinds: Mapping[str, str]) -> list[Option]:
    """The options of a name that exist with the kinds given; a setting without a kind counts with its default."""
    defaults = {level_of(setting): setting.default for setting in options if setting.default in dict(setting.kinds)}
    chosen = {**defaults, **kinds}
    return [
        setting for setting in options if level_of(setting) == known and all(chosen.get(at, kind) == kind for at, kind in setting.under)
    ]


def _values(command: str, before: Sequence[str], start: str, stages: Stages) -> Suggestions:
    """What fits after the last option before the cursor, or as an argument."""
    named = next((word for word in reversed(before) if word.startswith("-")), "")
    if command in PARSERS:
        return _argument(PARSERS[command](), named if before and before[-1] == named else "", start)
    if command not in stages:
        return Suggestions()
    options = described(stages[command]).options
    if named in HELP_WORDS:
        groups = [(setting.name, setting.doc) for setting in options if "." not in setting.name]
        return _matching([("all", "every setting"), *groups], start)
    if named in {"--out", "--runs"}:
        return Suggestions(files=True)
    known = canonical(named.removeprefix("--").replace("-", "_"), options)
    kinds = kinds_given(before, options, named.removeprefix("--"))
    matches = _in_force(known, options, kinds) or [setting for setting in options if level_of(setting) == known]
    if not any(setting.container is tuple for setting in matches) and before[-1:] != [named]:
        return Suggestions()
    words = {word: text for setting in matches for word, text in (*setting.kinds, *((word, "") for word in setting.choices))}
    return Suggestions(_matching(words.items(), start).words, files=any(setting.is_path for setting in matches))


def _argument(parser: Parser, named: str, start: str) -> Suggestions:
    """The choices of an option or argument, or files where it names a file."""
    actions = parser.actions()
    fits = [action for action in actions if named and named in action.option_strings and action.nargs != 0]
    fits = fits or [action for action in actions if not action.option_strings]
    words = [(str(word), "") for action in fits for word in (action.choices or ())]
    return Suggestions(_matching(words, start).words, files=any(_names_file(action) for action in fits))


def _names_file(action: argparse.Action) -> bool:
    return action.type is Path or action.metavar in {"FILE", "PATH", "DIR", "RUN"} or action.dest in {"source", "target"}
