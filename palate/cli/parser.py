"""The parser of every command, the page of `palate --help`, and output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from palate.cli.help_page import HelpRow, Page, Section, show, whole
from palate.cli.option_names import offer
from palate.core import ConfigError

COMMANDS = {
    "demo": "Run the whole loop in a small world, and open its report.",
    "init": "Look at your data and model, and write a pipeline for them.",
    "run": "Run a pipeline file: skip what is done, resume the rest.",
    "plan": "Estimate memory and the time of a step before anything runs.",
    "runs": "List runs, or show what a run was made from.",
    "watch": "Follow running trainings on a live page in the browser.",
    "serve": "Serve a model with OpenAI's API: ranking, rules, feedback.",
    "feedback": "Turn what users said about answers into data to learn from.",
    "label": "Open the pages on which people judge.",
    "judge": "Judge pairs of a pipeline, and see its reward model change.",
    "inspect": "Show a data file as a model sees it: tokens and duplicates.",
    "use": "Point a link to another run, or back to the one before.",
    "agreement": "Report how reliable raters are, and how many more labels help.",
    "judge-fit": "Measure a judge on people's judgments, and write its card.",
    "score": "Score completions with a reward model, by dimension.",
    "reward-check": "Say whether a reward model can be trusted, and what it scores.",
    "front": "Trade dimensions off by stored scores alone.",
    "peak": "Say at which KL gold and held-out scores stop rising.",
    "gate": "Hold an evaluated model against limits, for continuous checks.",
    "card": "Write the card of a model from its run, for Hugging Face.",
    "push": "Upload a model with its card to a model hub.",
    "trace": "Show the rewards, judgments and raters that led to a model.",
    "forget": "Withdraw a rater or a source, and retire what was made from it.",
    "coverage": "Say which prompts judgments reach, and what to collect next.",
    "exchange": "Convert judgments from and to files of other tools.",
    "reference": "Write docs/reference.md and docs/api.md: every setting, the API.",
    "completion": "Print a script that completes commands in your shell.",
}

GROUPS = {
    "Run a pipeline": ("demo", "init", "run", "plan", "use"),
    "Make a model": (
        "world", "pretrain", "sft", "sample", "revise", "reward", "rules", "refresh", "direct", "online", "pair", "average", "rerank",
    ),
    "Judge": ("label", "collect", "collect_rules", "judge", "exchange"),
    "Measure": (
        "score", "front", "reward-check", "coverage", "evaluate", "compare", "regrade", "peak", "report", "gate", "card", "agreement",
        "judge-fit",
    ),
    "Use a model": ("serve", "feedback", "push"),
    "Look": ("runs", "watch", "trace", "forget", "inspect", "reference", "completion"),
}  # fmt: skip
"""Headings of `palate --help`, and the commands and stages under each."""


HELP_WORDS = frozenset({"-h", "--help"})

STDIO = "-"
"""The word for standard input or output in place of a file."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigError and does not take abbreviations."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"palate {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError in place of argparse's exit."""
        raise ConfigError(f"{self.prog}: {message}. `{self.prog} --help` lists what it takes.")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words: options and arguments in any order. The error for an unknown option offers the nearest one.

        Raises:
            SystemExit: the words ask for help, which is already printed.
        """
        if not HELP_WORDS.isdisjoint(words):
            show(self.page())
            raise SystemExit(0)
        options, left = self.parse_known_intermixed_args(list(words))
        if left:
            word = left[0].split("=")[0]
            lists = f"`{self.prog} --help` lists what it takes."
            if not word.startswith("-"):
                raise ConfigError(f"{self.prog}: {word!r} does not belong to any option. {lists}")
            raise ConfigError(f"{self.prog} has no {word!r}. {offer(word, self.long_options()) or lists}")
        self._check_out(options)
        return options

    def _check_out(self, options: argparse.Namespace) -> None:
        """Refuse an `--out FILE` that cannot be written, or that the command reads, before the command works for it."""
        if not any(action.dest == "out" and action.metavar == "FILE" for action in self.actions()) or options.out in (None, STDIO):
            return
        out = Path(options.out)
        if out.is_dir():
            raise ConfigError(f"--out: {out} is a folder. Name a file in it.")
        folder = next(place for place in out.absolute().parents if place.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            fault = "you may not write in it" if folder.is_dir() else "it is a file"
            raise ConfigError(f"--out: {out} cannot be written to {folder}: {fault}. Name a folder in which you may write.")
        read = [str(vars(options)[action.dest]) for action in self.actions() if not action.option_strings]
        if any(Path(word).is_file() and out.is_file() and out.samefile(word) for word in read):
            raise ConfigError(f"--out: {out} is the file that the command reads, and would be lost. Name another file.")

    def long_options(self) -> list[str]:
        """Return the options that begin with two dashes."""
        return [word for action in self.actions() for word in action.option_strings if word.startswith("--")]

    def actions(self) -> list[argparse.Action]:
        """Return the arguments and options in the order of their declaration."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]

    def page(self) -> Page:
        """Return the page that `--help` shows."""
        wanted = [action for action in self.actions() if not action.option_strings]
        options = [action for action in self.actions() if action.option_strings and not isinstance(action, argparse._HelpAction)]
        names = [f"[{_value(action)}]" if action.nargs in {"?", "*"} else _value(action) for action in wanted]
        must = [f"{action.option_strings[0]} {_value(action)}" for action in options if action.required]
        usage = " ".join([self.prog, *names, *must, "[options]"])
        sections = (
            Section("Arguments", tuple(HelpRow(_value(action), self._text(action)) for action in wanted)),
            Section(
                "Options", tuple(HelpRow(f"{action.option_strings[-1]} {_value(action)}".strip(), self._text(action)) for action in options)
            ),
        )
        return Page(self.description or "", usage, sections)

    def _text(self, action: argparse.Action) -> str:
        text = (action.help or "") % {**vars(action), "prog": self.prog}
        text, bracket, default = text.partition(" (default: ")
        if action.choices and not all(str(word) in text for word in action.choices):
            text = f"{text}: {', '.join(map(str, action.choices))}"
        return text + (f" {whole(f'[default: {default[:-1]}]')}" if bracket else "")


def _value(action: argparse.Action) -> str:
    """The word that stands for an option's value; empty for a switch."""
    if action.nargs == 0:
        return ""
    word = action.metavar if isinstance(action.metavar, str) else "WORD" if action.choices else action.dest.upper()
    if not action.option_strings:
        return action.dest.upper() if action.metavar is None else word
    return {"?": f"[{word}]", "+": f"{word} ..."}.get(str(action.nargs), word)


def overview(stages: Sequence[tuple[str, str]]) -> Page:
    """Return the page of `palate --help`.

    Args:
        stages: (name, one line) of each stage; stages outside the groups come under their own heading.
    """
    lines = {**COMMANDS, **dict(stages)}
    grouped = {name for names in GROUPS.values() for name in names}
    sections = [Section(heading, tuple(HelpRow(name, lines[name]) for name in names if name in lines)) for heading, names in GROUPS.items()]
    others = Section("Other stages", tuple(HelpRow(name, text) for name, text in stages if name not in grouped))
    help_text = "show this page; after a command, what the command takes"
    options = Section("Options", (HelpRow("--help", help_text), HelpRow("--version", "show the version")))
    return Page("Palate aligns a language model with human taste.", "palate COMMAND [options]", (*sections, others, options))


def underscored(word: str) -> str:
    """Return an option's word with `_` for each `-` in its name, as settings have it."""
    if not word.startswith("--") or word == "--dry-run":
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def say(line: str) -> None:
    """Write a line to standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
