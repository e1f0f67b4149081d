"""What every command is read by, and speaks through."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from palate.config.settings import nearest
from palate.core import ConfigError

COMMANDS = {
    "run": "Run a pipeline file: skip what is done, resume what was cut off.",
    "runs": "List runs, or show what a run came from.",
    "label": "Open the pages on which people judge, at an address of this machine.",
    "judge": "Judge some pairs of a finished pipeline in the browser, and see its reward model move.",
    "inspect": "Show a data file as a model sees it: tokens by role, lengths, duplicates, dropped rows.",
    "swap": "Let a link name another run, a refreshed reward model say; or the one before.",
    "agreement": "Say how far raters can be trusted: agreement, bias, who is guessing, the ceiling, how many more labels.",
    "exchange": "Carry judgments between files of other tools and the database of ratings (docs/exchange.md).",
    "reference": "Write docs/reference.md: every stage and each of its settings.",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors, and which knows no abbreviations."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"palate {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError in place of argparse's exit."""
        raise ConfigError(f"{self.prog}: {message}. `{self.prog} --help` lists what can be given.")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed words, options and positionals in any order; an unknown option is an error that offers the nearest."""
        found, left = self.parse_known_intermixed_args(list(words))
        if left:
            known = [word for action in self._actions for word in action.option_strings if word.startswith("--")]
            word = left[0].split("=")[0]
            raise ConfigError(f"{self.prog} has no {word!r}. {nearest(word, known)}")
        return found


def underscored(word: str) -> str:
    """An option's word with `-` inside its name written `_`, as the settings are."""
    if not word.startswith("--") or word == "--dry-run":
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def say(line: str) -> None:
    """Nothing; a line on standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
