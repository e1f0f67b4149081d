"""What every command is read by, and speaks through."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from palate.cli.help_page import HelpRow, Page, Section, show, whole
from palate.cli.option_names import offer
from palate.core import ConfigError

COMMANDS = {
    "run": "Run a pipeline file: skip what is done, resume what was cut off.",
    "runs": "List runs, or show what a run came from.",
    "label": "Open the pages on which people judge, at an address of this machine.",
    "judge": "Judge pairs of a finished pipeline, and see its reward model move.",
    "inspect": "Show a data file as a model sees it: tokens, lengths, duplicates.",
    "swap": "Let a link name another run, or the one it named before.",
    "agreement": "Say how far raters can be trusted, and how many more labels help.",
    "exchange": "Convert judgments between files of other tools and the database.",
    "reference": "Write docs/reference.md: every stage and each of its settings.",
    "completion": "Print a script that completes commands and options in your shell.",
}

GROUPS = {
    "Run a pipeline": ("run", "swap"),
    "Make a model": (
        "world", "pretrain", "sft", "sample", "reward", "refresh", "direct", "online", "pair", "average", "rerank",
    ),
    "Judge": ("label", "collect", "judge", "exchange"),
    "Measure": ("evaluate", "report", "agreement"),
    "Look": ("runs", "inspect", "reference", "completion"),
}  # fmt: skip
"""Headings of `palate --help`, and the commands and stages under each."""


HELP_WORDS = frozenset({"-h", "--help"})


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors, and which knows no abbreviations."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"palate {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError in place of argparse's exit."""
        raise ConfigError(f"{self.prog}: {message}. `{self.prog} --help` lists what can be given.")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed words, options and positionals in any order; an unknown option is an error that offers the nearest.

        Raises:
            SystemExit: the words ask for help, which has been shown.
        """
        if not HELP_WORDS.isdisjoint(words):
            show(self.page())
            raise SystemExit(0)
        found, left = self.parse_known_intermixed_args(list(words))
        if left:
            word = left[0].split("=")[0]
            lists = f"`{self.prog} --help` lists what can be given."
            if not word.startswith("-"):
                raise ConfigError(f"{self.prog}: no option takes {word!r}. {lists}")
            raise ConfigError(f"{self.prog} has no {word!r}. {offer(word, self.long_options()) or lists}")
        return found

    def long_options(self) -> list[str]:
        """The options that begin with two dashes."""
        return [word for action in self.actions() for word in action.option_strings if word.startswith("--")]

    def actions(self) -> list[argparse.Action]:
        """What can be given, in the order in which it was declared."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]

    def page(self) -> Page:
        """The page that `--help` shows."""
        wanted = [action for action in self.actions() if not action.option_strings]
        options = [action for action in self.actions() if action.option_strings and not isinstance(action, argparse._HelpAction)]
        names = [f"[{_value(action)}]" if action.nargs in {"?", "*"} else _value(action) for action in wanted]
        must = [f"{action.option_strings[0]} {_value(action)}" for action in options if action.required]
        usage = " ".join([self.prog, *names, *must, "[options]"])
        sections = (
            Section("Arguments", tuple(HelpRow(_value(action), self._text(action)) for action in wanted)),
            Section("Options", tuple(HelpRow(f"{one.option_strings[-1]} {_value(one)}".strip(), self._text(one)) for one in options)),
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
    """The page of `palate --help`.

    Args:
        stages: (name, one line) of each stage; those in no group stand under a heading of their own.
    """
    lines = {**COMMANDS, **dict(stages)}
    grouped = {name for names in GROUPS.values() for name in names}
    sections = [Section(heading, tuple(HelpRow(name, lines[name]) for name in names if name in lines)) for heading, names in GROUPS.items()]
    others = Section("Other stages", tuple(HelpRow(name, text) for name, text in stages if name not in grouped))
    help_text = "show this page; after a command, what the command takes"
    options = Section("Options", (HelpRow("--help", help_text), HelpRow("--version", "show the version")))
    return Page("Palate aligns a language model with human taste.", "palate COMMAND [options]", (*sections, others, options))


def underscored(word: str) -> str:
    """An option's word with `-` inside its name written `_`, as the settings are."""
    if not word.startswith("--") or word == "--dry-run":
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def say(line: str) -> None:
    """Write a line to standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
