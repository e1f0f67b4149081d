"""Written rules: what raters are asked, what a classifier reads, and what a program checks, all from one file. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from palate.config.function_source import split_path
from palate.config.settings import Settings, nearest, read_yaml
from palate.core import ConfigError, DataError
from palate.data import cells
from palate.data.cells import Columns, InvalidRow
from palate.data.rubrics import SHOWN, noted

KEYS = ("id", "group", "text", "question", "paraphrases", "held_out", "broken", "kept", "program")
NEEDED = ("id", "text", "question")
LISTS = ("paraphrases", "held_out", "broken", "kept")
LONGEST_WORDING = 2000
"""Characters of a question, as many as the rating pages show."""

MOST_RULES = 200
"""Rules of a file, as many as a project of the rating pages has."""


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A rule that a completion keeps or breaks.

    Attributes:
        id: names it.
        text: what is not allowed, or what is required; a judge reads it.
        question: what raters are asked, and what a classifier reads. Yes means that the rule is broken.
        group: what the rule is about, such as harm; "" if nobody says.
        paraphrases: other wordings of the question that classifiers also learn.
        held_out: wordings that classifiers never learn. They test whether one reads the rule, or only knows its words.
        broken: completions that break the rule, as examples for raters.
        kept: completions that keep it.
        program: import path of a function that says whether a completion breaks the rule; "" where none can.
    """

    id: str
    text: str
    question: str
    group: str = ""
    paraphrases: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    program: str = ""

    @property
    def phrasings(self) -> tuple[str, ...]:
        """The wordings that classifiers learn, the question first."""
        return (self.question, *self.paraphrases)

    @property
    def wordings(self) -> tuple[str, ...]:
        """All words that name this rule in a file of judgments."""
        return (self.id, self.text, *self.phrasings, *self.held_out)


@dataclass(frozen=True)
class RuleFile:
    """The rules of a YAML or JSON file, in its order.

    Attributes:
        path: the file.
        rules: at least one.
    """

    path: str
    rules: tuple[WrittenRule, ...]

    @staticmethod
    def read(path: Path) -> RuleFile:
        """Read a file with the list `rules`.

        Raises:
            DataError: the file cannot be read or used. The message names every fault with its line.
        """
        try:
            settings = read_yaml(path)
        except ConfigError as error:
            raise DataError(str(error)) from error
        others = [str(name) for name in settings.values if name != "rules"]
        faults = [f"{settings.place((name,))}: there is no {name!r}. {nearest(name, ('rules',))}" for name in others]
        entries: Sequence[object] = ()
        with noted(faults, f"{settings.place(('rules',))}: "):
            entries = cells.sequence(cells.present(settings.values, "rules"), "rules")
            if not 0 < len(entries) <= MOST_RULES:
                raise InvalidRow(f"`rules` holds {len(entries)}; a file has 1 to {MOST_RULES}")
        said: list[Said] = []
        read = [_rule(entry, settings, number, faults, said) for number, entry in enumerate(entries)]
        faults += _shared_words(said, settings)
        if faults:
            more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise DataError(f"{path}: the rules cannot be used. Correct the file:\n  " + "\n  ".join(faults[:SHOWN]) + more)
        return RuleFile(str(path), tuple(rule for rule in read if rule is not None))

    def selected(self, ids: Sequence[str]) -> tuple[WrittenRule, ...]:
        """Return the rules with these ids, in the file's order; all rules where none is named.

        Raises:
            ConfigError: there is no such rule.
        """
        known = [rule.id for rule in self.rules]
        for name in ids:
            if name not in known:
                raise ConfigError(f"{self.path} has no rule {name!r}. {nearest(name, known)}")
        return tuple(rule for rule in self.rules if not ids or rule.id in ids)

    @property
    def by_words(self) -> Mapping[str, WrittenRule]:
        """Each rule by every wording of it, as `normal` writes them."""
        return {normal(wording): rule for rule in self.rules for wording in rule.wordings}


def normal(wording: str) -> str:
    """Return a wording without differences that do not count: capital letters and white space."""
    return " ".join(wording.split()).casefold()


def guideline(rules: Sequence[WrittenRule]) -> str:
    """Return guidelines for raters, in Markdown: each rule with its question and examples."""
    parts = [
        "## What you say\n\nEach page asks one question about one answer. *Yes* means that the answer breaks the rule. "
        "Judge this rule alone: an answer can be bad for other reasons and keep it.\n"
    ]
    for rule in rules:
        examples = [f"- breaks it: {' '.join(text.split())}" for text in rule.broken]
        examples += [f"- keeps it: {' '.join(text.split())}" for text in rule.kept]
        parts.append(f"## {rule.id}\n\n{rule.text}\n\n**{rule.question}**\n" + ("\n" + "\n".join(examples) + "\n" if examples else ""))
    return "\n".join(parts)


class Said(NamedTuple):
    """Words that stand for a rule: the rule's number, the name of the setting, and the words."""

    number: int
    name: str
    wording: str


def _rule(entry: object, settings: Settings, number: int, faults: list[str], said: list[Said]) -> WrittenRule | None:
    """Return the rule, or None after its faults were added to `faults`. All words of it that could be read are added to `said`."""
    keys, before, title = ("rules", str(number)), len(faults), f"rule {number + 1}: "
    row: Columns = {}
    with noted(faults, f"{settings.place(keys)}: {title}"):
        row = {name: value for name, value in cells.mapping(entry, "rule").items() if value is not None}
    if len(faults) > before:
        return None
    faults += [
        f"{settings.place((*keys, name))}: there is no {name!r} in a rule. {nearest(name, KEYS)}" for name in row if name not in KEYS
    ]
    values: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name in ("id", "text", "question", "group", "program"):
        with noted(faults, f"{settings.place((*keys, name))}: {title}"):
            if name in row:
                values[name] = _words(row[name], name)
            elif name in NEEDED:
                raise InvalidRow(f"has no {name}")
    for name in LISTS:
        with noted(faults, f"{settings.place((*keys, name))}: {title}"):
            lists[name] = tuple(_words(one, name) for one in cells.sequence(row.get(name, ()), name))
    with noted(faults, f"{settings.place((*keys, 'program'))}: {title}"):
        _check_path(values.get("program", ""))
    said += [Said(number, name, values[name]) for name in NEEDED if name in values]
    said += [Said(number, name, wording) for name in ("paraphrases", "held_out") for wording in lists.get(name, ())]
    return WrittenRule(**values, **lists) if len(faults) == before else None  # type: ignore[arg-type]


def _words(value: object, name: str) -> str:
    text = (cells.name(value, name) if name == "id" else cells.filled(value, name)).strip()
    if len(text) > LONGEST_WORDING:
        raise InvalidRow(f"`{name}` has {len(text)} characters; {LONGEST_WORDING} are the most")
    if name == "id" and not all(letter.isalnum() or letter in "_-." for letter in text):
        raise InvalidRow(f"`id` must be one word of letters, digits, `_`, `-` and `.`: {cells.quoted(text)}")
    return text


def _check_path(program: str) -> None:
    try:
        split_path(program or "none:none")
    except ConfigError as error:
        raise InvalidRow(f"`program` {error}") from error


def _shared_words(said: Sequence[Said], settings: Settings) -> list[str]:
    """Return a fault for each wording that stands for two rules, or twice in one rule: nobody could say what it means."""
    faults: list[str] = []
    first: dict[str, Said] = {}
    for one in said:
        earlier = first.setdefault(normal(one.wording), one)
        is_own_text = one.number == earlier.number and {one.name, earlier.name} <= set(NEEDED)  # a question may repeat the text
        if earlier is not one and not is_own_text:
            at, other = (settings.place(("rules", str(each.number), each.name)) for each in (one, earlier))
            faults.append(f"{at}: {one.name} {cells.quoted(one.wording)} stands twice (first at {other}). Give each rule its own words")
    return faults
