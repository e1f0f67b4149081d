"""Collects what the rows of a file say and makes an `Exchange` of it when all of it fits together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from palate.core import DataError, Judgment
from palate.data.containers import Found
from palate.data.exchange.cells import brief, invalid
from palate.data.exchange.exchange import (
    LEAST_CANDIDATES,
    Exchange,
    ExchangeItem,
    GuidelineText,
    RaterInfo,
    RaterKind,
    SourceLocations,
    Tiers,
    Vote,
)
from palate.data.exchange.task import Project
from palate.data.formats.dropped import Dropped
from palate.data.formats.row_types import InvalidRow


@dataclass
class Gathering:
    """What was read so far, each with the row it came from, so that a fault found late still names its row.

    Attributes:
        shape: name of the shape that is read.
        path: the file.
        name: of the project.
    """

    shape: str
    path: Path
    name: str = ""
    _items: dict[str, tuple[ExchangeItem, str]] = field(default_factory=dict)
    _votes: list[tuple[Vote, str]] = field(default_factory=list)
    _vote_ids: dict[str, tuple[Vote, str]] = field(default_factory=dict)
    _raters: dict[str, RaterInfo] = field(default_factory=dict)
    _guidelines: dict[str, GuidelineText] = field(default_factory=dict)
    _dropped: list[Dropped] = field(default_factory=list)
    _project: tuple[Project, str] | None = None
    _taken_back: set[str] = field(default_factory=set)

    def each(self, rows: Iterable[Found], take: Callable[[Found], None]) -> None:
        """Nothing; `take` has seen every row.

        Raises:
            DataError: a row is faulty; the message names it, the field and the remedy.
        """
        for found in rows:
            try:
                if found.fault:
                    raise InvalidRow(found.fault)
                take(found)
            except InvalidRow as fault:
                raise self.error(found.source, fault.reason) from fault

    def error(self, source: str, reason: str) -> DataError:
        """The error about a row."""
        return DataError(
            f"{source}: {brief(reason)}. Correct the row or take it out; docs/exchange.md shows rows of the shape {self.shape}."
        )

    def item(self, item: ExchangeItem, source: str) -> None:
        """Nothing; the item is kept. The same item again is no fault. Raises Fault for another one of its id, or too few candidates."""
        known = self._items.get(item.id)
        if known is not None:
            if known[0] != item:
                raise invalid("id", f"{item.id!r} names another item already, at {known[1]}")
            return
        least = LEAST_CANDIDATES[item.task]
        if len(item.candidates) < least:
            raise invalid("candidates", f"holds {len(item.candidates)}; to {item.task} takes {least} or more")
        check_gold(item)
        self._items[item.id] = item, source

    def vote(self, vote: Vote, source: str) -> None:
        """Nothing; the vote is kept. One of an id that was seen is dropped when it says the same. Raises Fault when it does not."""
        known = self._vote_ids.get(vote.id) if vote.id else None
        if known is not None:
            if known[0] != vote:
                raise invalid("id", f"{vote.id!r} names another judgment already, at {known[1]}")
            self.drop(source, f"the same judgment again: first at {known[1]}")
            return
        if vote.id:
            self._vote_ids[vote.id] = vote, source
        self._votes.append((vote, source))
        if vote.supersedes:
            if vote.supersedes in self._taken_back:
                raise invalid("supersedes", f"names {vote.supersedes!r}, which was taken back before")
            self._taken_back.add(vote.supersedes)

    def rater(self, rater: str, kind: RaterKind) -> str:
        """The pseudonym; whose it is is noted. Raises Fault when it was something else before."""
        known = self._raters.setdefault(rater, RaterInfo(rater, kind))
        if known.kind != kind:
            raise invalid("rater", f"{rater!r} is a {known.kind} and a {kind}")
        return rater

    def project(self, project: Project, source: str) -> None:
        """Nothing; the settings are kept. Raises Fault when there are others already."""
        if self._project is not None:
            raise invalid("project", f"is there already, at {self._project[1]}")
        self._project = project, source

    def guideline(self, guideline: GuidelineText) -> None:
        """Nothing; the guideline is kept. Raises Fault when its version has another text already."""
        if self._guidelines.setdefault(guideline.version, guideline) != guideline:
            raise invalid("version", f"{guideline.version!r} has two texts")

    def drop(self, source: str, reason: str) -> None:
        """Nothing; the row is listed among those with nothing to judge."""
        self._dropped.append(Dropped(source, reason))

    def exchange(self) -> Exchange:
        """All of it.

        Raises:
            DataError: a judgment is about an item that is not there, by nobody known, or does not fit its candidates.
        """
        for vote, source in self._votes:
            try:
                self._check(vote)
            except InvalidRow as fault:
                raise self.error(source, fault.reason) from fault
        return Exchange(
            items=tuple(item for item, _ in self._items.values()),
            votes=tuple(vote for vote, _ in self._votes),
            raters=tuple(self._raters.values()),
            guidelines=tuple(self._guidelines.values()),
            name=self.name,
            project=None if self._project is None else self._project[0],
            dropped=tuple(self._dropped),
            places=SourceLocations(
                "" if self._project is None else self._project[1],
                tuple(source for _, source in self._items.values()),
                tuple(source for _, source in self._votes),
            ),
        )

    def _check(self, vote: Vote) -> None:
        judgment = vote.judgment
        if judgment.comparison not in self._items:
            raise invalid("item", f"{judgment.comparison!r} is not among the file's items")
        if judgment.rater not in self._raters:
            raise invalid("rater", f"{judgment.rater!r} is not among the file's raters")
        check_judgment(judgment, len(self._items[judgment.comparison][0].candidates))
        self._check_link(vote)
        given = judgment.ranking or vote.is_all_bad or vote.is_skipped or vote.flag or vote.text or vote.is_broken is not None
        if not given and vote.entry != "undo":
            raise invalid("ranking", "is empty, and nothing else is answered")

    def _check_link(self, vote: Vote) -> None:
        """Nothing. Raises Fault when an undo, or a further dimension, does not refer to a judgment of the same rater on the same item."""
        if (vote.entry == "undo") != bool(vote.supersedes):
            raise invalid("supersedes", "is what an undo takes back: an undo has it, and nothing else")
        for field_name, known in (("supersedes", vote.supersedes), ("answer", vote.answer)):
            head = self._vote_ids.get(known, (None, ""))[0]
            if known and head is None:
                raise invalid(field_name, f"names {known!r}, which is not among the file's judgments")
            if head is not None and (head is vote or head.entry == "undo" or head.answer):
                raise invalid(field_name, f"names {known!r}, which is not an answer's first judgment")
            mine = (vote.judgment.comparison, vote.judgment.rater)
            if head is not None and (head.judgment.comparison, head.judgment.rater) != mine:
                raise invalid(field_name, f"names {known!r}, which another rater gave, or on another item")
            if head is not None and field_name == "supersedes" and head.status != "superseded":
                raise invalid(field_name, f"names {known!r}, whose status is {head.status}; one that was taken back is superseded")


def check_judgment(judgment: Judgment, candidates: int) -> None:
    """Nothing. Raises Fault when order or ranking do not fit so many candidates."""
    if sorted(judgment.order) != list(range(candidates)):
        raise invalid("order", f"is {list(judgment.order)}; it must name each of the {candidates} candidates once, from 0")
    if judgment.ranking:
        check_tiers(judgment.ranking, candidates, "ranking", "place")


def check_gold(item: ExchangeItem) -> None:
    """Nothing. Raises Fault unless the right answer is one that raters could give; only rankings and rules have any."""
    if item.gold is None:
        return
    if item.task in {"probe", "write"}:
        raise invalid("gold", f"is of an item to {item.task}: nobody knows beforehand what is right here; leave it out")
    if isinstance(item.gold, bool) != (item.task == "rule"):
        raise invalid("gold", "is true or false of a rule (whether it is broken), and a ranking of candidates where they are compared")
    if not isinstance(item.gold, bool):
        check_tiers(item.gold, len(item.candidates), "gold", "candidate")


def check_tiers(tiers: Tiers, candidates: int, field: str, what: str) -> None:
    """Nothing. Raises Fault unless every candidate (or place shown) stands in exactly one tier."""
    seen = [number for tier in tiers for number in tier]
    if absent := [number for number in seen if not 0 <= number < candidates]:
        raise invalid(field, f"names {what} {absent[0]}; there are {candidates}, counted from 0")
    if len(set(seen)) < len(seen):
        raise invalid(field, f"names a {what} twice: {seen}")
    if missing := set(range(candidates)) - set(seen):
        raise invalid(field, f"leaves out {what} {min(missing)}")
