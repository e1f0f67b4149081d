"""Collect what the rows of a file say, and make an `Exchange` of it if everything fits together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from palate.core import DataError
from palate.data.cells import Columns, InvalidRow, invalid, one_line
from palate.data.containers import SourceRow
from palate.data.exchange.contents import (
    MIN_CANDIDATES,
    Candidate,
    Exchange,
    ExchangeItem,
    GuidelineText,
    RaterInfo,
    RaterKind,
    SourceLocations,
    Vote,
)
from palate.data.exchange.project import Project
from palate.data.formats.dropped import Dropped
from palate.data.judgment_rows import check_ranking, check_tiers
from palate.data.pseudonyms import pseudonym
from palate.data.rubrics import rubric_of


class NothingToJudge(InvalidRow):
    """A sound row that holds nothing to judge. It is dropped and listed, and the file is read on."""


@dataclass
class Gathering:
    """What was read so far, with the row that each thing came from, so that a late error still names its row.

    Attributes:
        shape: the name of the shape.
        path: the file.
        name: the name of the project.
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
    _unread: dict[str, None] = field(default_factory=dict)

    def each(self, rows: Iterable[SourceRow], take: Callable[[SourceRow], None]) -> None:
        """Call `take` with every row. Rows that hold nothing to judge are dropped.

        Raises:
            DataError: a row is invalid; the message names the row, the field and the remedy.
        """
        for entry in rows:
            try:
                if entry.fault:
                    raise InvalidRow(entry.fault)
                take(entry)
            except NothingToJudge as nothing:
                self.drop(entry.source, nothing.reason)
            except InvalidRow as error:
                raise self.error(entry.source, error.reason) from error

    def error(self, source: str, reason: str) -> DataError:
        """The error about a row."""
        return DataError(
            f"{source}: {one_line(reason)}. Correct the row or take it out; docs/exchange.md shows rows of the shape {self.shape}."
        )

    def item(self, item: ExchangeItem, source: str) -> None:
        """Keep the item. The same item may come again. Raises InvalidRow for a different item of its id, or too few candidates."""
        known = self._items.get(item.id)
        if known is not None:
            if known[0] != item:
                raise invalid("id", f"{item.id!r} names another item already, at {known[1]}")
            return
        required = MIN_CANDIDATES[item.task]
        if len(item.candidates) < required:
            raise invalid("candidates", f"holds {len(item.candidates)}; to {item.task} takes {required} or more")
        if item.task == "rubric":
            rubric_of(item.fields.get("rubric"))
        check_gold(item)
        self._items[item.id] = item, source

    def vote(self, vote: Vote, source: str) -> None:
        """Keep the vote. A vote of a known id is dropped if it is the same as the first. Raises InvalidRow if it differs."""
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
        """Note the rater's kind and return the pseudonym.

        Every reader comes by here, so that no name of a person gets further.

        Raises:
            InvalidRow: the rater is an address of mail, or the kind was another one before.
        """
        pseudonym(rater, "rater", kind)
        known = self._raters.setdefault(rater, RaterInfo(rater, kind))
        if known.kind != kind:
            raise invalid("rater", f"{rater!r} is a {known.kind} and a {kind}")
        return rater

    def project(self, project: Project, source: str) -> None:
        """Keep the settings of the project. Raises InvalidRow if there are settings already."""
        if self._project is not None:
            raise invalid("project", f"is there already, at {self._project[1]}")
        self._project = project, source

    def guideline(self, guideline: GuidelineText) -> None:
        """Keep the guideline. Raises InvalidRow if its version has another text already."""
        if self._guidelines.setdefault(guideline.version, guideline) != guideline:
            raise invalid("version", f"{guideline.version!r} has two texts")

    def drop(self, source: str, reason: str) -> None:
        """List the row among those that hold nothing to judge."""
        self._dropped.append(Dropped(source, reason))

    def leave_unread(self, row: Columns, known: Collection[str]) -> None:
        """Note the columns of a row that hold something and are not among those that the shape reads."""
        self._unread |= {name: None for name, value in row.items() if name not in known and value is not None}

    def exchange(self) -> Exchange:
        """Everything that was collected.

        Raises:
            DataError: a judgment's item or rater is missing, or the judgment does not fit the candidates.
        """
        if self._unread:
            self.drop(str(self.path), f"columns that are not read: {', '.join(self._unread)}")
        for vote, source in self._votes:
            try:
                self._check(vote)
            except InvalidRow as error:
                raise self.error(source, error.reason) from error
        return Exchange(
            items=tuple(item for item, _ in self._items.values()),
            votes=tuple(vote for vote, _ in self._votes),
            raters=tuple(self._raters.values()),
            guidelines=tuple(self._guidelines.values()),
            name=self.name,
            project=None if self._project is None else self._project[0],
            dropped=tuple(self._dropped),
            shape=self.shape,
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
        check_ranking(judgment, len(self._items[judgment.comparison][0].candidates))
        if len(vote.marks) not in (0, len(self._items[judgment.comparison][0].candidates)):
            raise invalid("marks", f"holds {len(vote.marks)} numbers; the item has another number of candidates")
        if odd := next((name for name in vote.grade_probabilities if name not in vote.grades), None):
            raise invalid("grade_probabilities", f"has {odd!r}, which `grades` does not grade")
        self._check_link(vote)
        has_answer = (
            judgment.ranking or vote.is_all_bad or vote.is_skipped or vote.flag or vote.text or vote.grades or vote.is_broken is not None
        )
        if not has_answer and vote.entry != "undo":
            raise invalid("ranking", "is empty, and there is no other answer")

    def _check_link(self, vote: Vote) -> None:
        """Check that an undo or a further dimension refers to a judgment of the same rater and item. Raises InvalidRow otherwise."""
        if (vote.entry == "undo") != bool(vote.supersedes):
            raise invalid("supersedes", "is what an undo takes back: every undo has it, and no other judgment")
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


def nothing_to_judge(candidates: Sequence[Candidate]) -> str:
    """Why nobody could judge the candidates; "" if somebody can."""
    contents = [(each.text, each.media, each.tool_fields) for each in candidates]
    if not all(text or media for text, media, _ in contents):
        return "empty completion"
    if len(set(contents)) < len(contents):
        return "the two sides are equal" if len(contents) == 2 else "two candidates are equal"
    return ""


def check_gold(item: ExchangeItem) -> None:
    """Check that raters could give the right answer; only rankings and rules have one. Raises InvalidRow otherwise."""
    if item.gold is None:
        return
    if item.task in {"probe", "write", "rubric"}:
        raise invalid("gold", f"is not possible for an item to {item.task}, which does not have one right answer; leave it out")
    if isinstance(item.gold, bool) != (item.task == "rule"):
        raise invalid("gold", "must be true or false for a rule (whether it is broken), and a ranking for candidates that are compared")
    if not isinstance(item.gold, bool):
        check_tiers(item.gold, len(item.candidates), "gold", "candidate")
