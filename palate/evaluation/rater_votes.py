"""The votes in a file of judgments, a run of `collect` or a database: one reader for all, which says what it left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from palate.agreement import Grading, VoteTable, table_of_grades
from palate.core import Comparison, ConfigError, DataError, Judgment
from palate.data.exchange import Exchange, ExchangeItem, Tiers, Vote, read_exchange
from palate.data.rubrics import rubric_of
from palate.runs.record import read_record

JUDGMENTS = "judgments.jsonl"
COMPARISONS = "comparisons.jsonl"
"""What a run of `collect` compared, with texts and policies, as a file of items."""

_JUDGMENTS = "judgments"
"""The shape of rows without texts, as a run of `collect` writes them."""

_PAIRS = frozenset({"trl", "hh"})
"""Shapes whose rows are pairs, so that a ranking is several rows of one prompt."""

_MARKS = "mt-bench-single"
"""The shape whose pairs are made of marks: each mark is in several pairs of its question and turn."""

SEVERAL = "criteria whose id has several texts"
"""What votes on criteria are counted under that have an id in common and no text, such as numbers within rubrics of one prompt."""

UNNAMED_RULE = "a rule that is not named"
"""What votes on a rule are counted under where neither they nor their items say which rule it is."""

PROBE = "probe, which each rater leads alone"
"""Why a probe is not a vote: nobody else answers it."""

LeftOut = tuple[tuple[str, int], ...]
"""Reasons why something in a file is not a vote, with how often."""


def read_votes(path: Path, dimension: str | None = None) -> tuple[VoteTable, LeftOut]:
    """Read the votes at `path`, with what is known beside them, and count what is not a vote.

    Raises:
        ConfigError: it is a run, but not one of stage collect.
        DataError: it cannot be read, or holds no vote; the message says what it holds.
    """
    exchange, place = read_judgments(path)
    return votes_in(exchange, dimension, place)


def read_judgments(path: Path) -> tuple[Exchange, str]:
    """Return what is in a file of judgments or a run of `collect`, with the texts that the run compared, and the place that was read.

    A file of a run, such as the `calibration.jsonl` of a hybrid, has the texts of that run, too.

    Raises:
        ConfigError: it is a run, but not one of stage collect.
        DataError: it cannot be read.
    """
    file = path / JUDGMENTS if (path / JUDGMENTS).is_file() else path
    if file is path and path.is_dir() and (read_record(path) is not None or not any(path.iterdir())):
        note = "" if read_record(path) is None else " It is a run, but not of stage collect."
        raise ConfigError(f"{path} holds no {JUDGMENTS}.{note} Give a run of collect, a file of judgments, or of preferences with votes.")
    exchange, known = read_exchange(file), file.parent / COMPARISONS
    items = {item.id: item for item in read_exchange(known).items} if exchange.shape == _JUDGMENTS and known.is_file() else {}
    judged = {item.id for item in exchange.items}
    rankings = tuple(item for item in items.values() if len(item.candidates) > 2 and item.id not in judged)  # their pairs were judged
    exchange = replace(exchange, items=tuple(items.get(item.id, item) for item in exchange.items))
    return replace(exchange, items=(*exchange.items, *rankings)), str(file)


def votes_in(exchange: Exchange, dimension: str | None = None, place: str = "the database") -> tuple[VoteTable, LeftOut]:
    """Return the votes of an exchange, with what is known beside them, and what is not a vote. Raises DataError without any vote.

    Items with the same conversation and candidates are one question, whatever their ids and the order of their candidates.
    """
    votes = _Sorted(exchange, dimension)
    for vote in exchange.votes:
        votes.take(vote)
    left_out = Counter(row.kind for row in exchange.dropped) + votes.left_out
    if votes.rankings:
        left_out += Counter({"answer to a rule beside rankings": len(votes.verdicts)} if votes.verdicts else {})
        first = None if exchange.project is None else exchange.project.task.dimensions[0]
        table = VoteTable.of_judgments(votes.rankings, votes.questions(), votes.gold(), first, votes.prompts())
    elif votes.verdicts:
        table = votes.about_rules()
    elif votes.grades:
        table = table_of_grades(votes.grades)
    else:
        raise _nothing(exchange, dimension, place, left_out)
    return table, tuple(left_out.most_common())


@dataclass
class _Sorted:
    """The votes of an exchange by what they are: rankings, answers to rules, grades of criteria, and what is left out, by reason."""

    exchange: Exchange
    dimension: str | None
    items: dict[str, ExchangeItem] = field(default_factory=dict)
    numbers: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    rankings: list[Judgment] = field(default_factory=list)
    verdicts: list[tuple[str, str, bool, float | None]] = field(default_factory=list)
    grades: list[Grading] = field(default_factory=list)
    texts: dict[str, set[str]] = field(default_factory=dict)
    right: dict[str, bool] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Number the candidates of equal questions alike."""
        same: dict[Hashable, ExchangeItem] = {}
        for item in self.exchange.items:
            contents = [(each.text, each.media, each.policy, each.tool_fields) for each in item.candidates]
            has_content = item.conversation or any(text or media for text, media, _, _ in contents)
            rule = str(item.fields.get("rule", "")) if item.task == "rule" else ""
            rubric = rubric_of(item.fields["rubric"]) if item.task == "rubric" else None
            is_test = item.gold is not None, item.is_qualification
            asked = rule if rubric is None else str(rubric.question)
            key = (item.conversation, tuple(sorted(contents)), asked, is_test) if has_content else item.id
            first = same.setdefault(key, item)
            theirs = [(each.text, each.media, each.policy, each.tool_fields) for each in first.candidates]
            numbers = tuple(range(len(contents))) if theirs == contents else tuple(map(theirs.index, contents))
            self.items[item.id], self.numbers[item.id] = item, (first.id, numbers)
            for criterion in () if rubric is None else rubric.criteria:
                self.texts.setdefault(criterion.id, set()).add(criterion.text)

    def take(self, vote: Vote) -> None:
        """Sort one vote."""
        judgment = vote.judgment
        if vote.entry == "undo" or self.dimension not in (None, judgment.dimension):
            return
        name, numbers = self.numbers[judgment.comparison]
        item = self.items[judgment.comparison]
        if reason := reason_to_leave_out(vote, item):
            self.left_out[reason] += 1
        elif vote.is_broken is not None:
            question = f"{name}/{vote.rule}" if vote.rule else name
            self.verdicts.append((question, judgment.rater, vote.is_broken, judgment.seconds))
            self.rules[question] = vote.rule or str(item.fields.get("rule", "")) or UNNAMED_RULE
            if isinstance(item.gold, bool):
                self.right[question] = item.gold
        elif vote.grades:
            known = {criterion: word for criterion, word in vote.grades.items() if word != "unsure"}
            if unsure := len(vote.grades) - len(known):
                self.left_out["criterion that its rater is unsure of"] += unsure
            self.grades += [
                Grading(name, criterion, self._dimension(criterion), judgment.rater, word == "met", judgment.seconds)
                for criterion, word in known.items()
            ]
        else:
            tiers = judgment.ranking or (tuple(range(len(numbers))),)  # all bad: a tie of all
            self.rankings.append(replace(judgment, ranking=tiers).renumbered(name, numbers))

    def _dimension(self, criterion: str) -> str:
        """What the votes on a criterion are counted under: its id, where this names one text in all items."""
        return criterion if len(self.texts.get(criterion, ())) == 1 else SEVERAL

    def about_rules(self) -> VoteTable:
        """The table of answers to rules. Each rule is a dimension, so that agreement is known for each."""
        table = VoteTable.of_verdicts(self.verdicts, self.right)
        rules = sorted(set(self.rules.values()))
        return table.with_dimensions(np.array([rules.index(self.rules[name]) for name in table.votes.items]), tuple(rules))

    def questions(self) -> Iterator[Comparison]:
        """The items of which the texts are known, or at least who wrote them."""
        return (item.comparison() for item in self.exchange.items if self.numbers[item.id][0] == item.id)

    def gold(self) -> dict[str, Tiers]:
        """The right rankings of hidden tests, in the numbers of their first item."""
        right: dict[str, Tiers] = {}
        for item in self.exchange.items:
            if item.gold is not None and not isinstance(item.gold, bool):
                name, numbers = self.numbers[item.id]
                right[name] = tuple(tuple(numbers[candidate] for candidate in tier) for tier in item.gold)
        return right

    def prompts(self) -> dict[str, str]:
        """For files of pairs, the first item of each item's prompt: the pairs of one ranking, or of one set of marks, count as one."""
        if self.exchange.shape not in {*_PAIRS, _MARKS}:
            return {}
        first: dict[Hashable, str] = {}
        by_fields = self.exchange.shape == _MARKS
        keys = ((str(item.fields["question_id"]), item.fields["turn"]) if by_fields else item.conversation for item in self.exchange.items)
        return {item.id: first.setdefault(key, item.id) for item, key in zip(self.exchange.items, keys, strict=True)}


def reason_to_leave_out(vote: Vote, item: ExchangeItem) -> str:
    """Why it is not a vote; "" for a vote."""
    reasons = {
        "reviewer's decision, which is not a vote": vote.entry == "adjudication",
        "answer that its rater took back": vote.status == "superseded",
        "surplus answer, beyond those that were wanted": vote.status == "surplus",
        "skip": vote.is_skipped,
        "answer to the qualification, of which raters know that it is a test": item.is_qualification,
        PROBE: item.task == "probe",
        "text that a rater wrote, which has no common answer": bool(vote.text) and not vote.judgment.ranking,
    }
    if found := next((reason for reason, is_it in reasons.items() if is_it), ""):
        return found
    return "" if vote.judgment.ranking or vote.is_all_bad or vote.grades or vote.is_broken is not None else "note without an answer"


def _nothing(exchange: Exchange, dimension: str | None, place: str, left_out: Mapping[str, int]) -> DataError:
    known = dict.fromkeys(vote.judgment.dimension for vote in exchange.votes)
    if dimension is not None and dimension not in known:
        there = f" It has judgments on {', '.join(known)}." if known else ""
        return DataError(f"{place}: there is no judgment on dimension {dimension!r}.{there} Give another --dimension.")
    holds = "; ".join(f"{count} x {reason}" for reason, count in left_out.items())
    if not exchange.items:
        return DataError(f"{place}: holds nothing that was compared, but {holds}. Give judgments of two completions of a prompt or more.")
    if not exchange.votes:
        besides = f" It also holds {holds}." if holds else ""
        return DataError(f"{place}: holds {len(exchange.items)} items that nobody judged.{besides} Have them judged first: `palate label`.")
    return DataError(
        f"{place}: holds no vote whose agreement could be measured, but {holds}. Give judgments of several raters on one item."
    )
