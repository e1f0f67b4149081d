"""What a file of judgments says, whatever the shape it was written in: items, judgments, raters, guidelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from palate.core import Comparison, Completion, Conversation, Judgment, Prompt
from palate.data.exchange.task import Project, TaskKind
from palate.data.formats.dropped import Dropped

Tiers = tuple[tuple[int, ...], ...]
"""Numbers by tiers, best first; a tier of two or more is a tie."""

Gold = Tiers | bool
"""The right answer to an item: its ranking, or whether the rule is broken."""

LEAST_CANDIDATES: Mapping[TaskKind, int] = {"compare": 2, "rank": 2, "rule": 1, "probe": 0, "write": 0}
"""Fewest candidates of an item: two to compare, one to hold against a rule."""

RaterKind = Literal["person", "model", "rule", "simulated", "unknown"]
RATER_KINDS: tuple[RaterKind, ...] = get_args(RaterKind)

Status = Literal["kept", "surplus", "superseded"]
STATUSES: tuple[Status, ...] = get_args(Status)

EntryKind = Literal["answer", "undo", "adjudication"]
ENTRIES: tuple[EntryKind, ...] = get_args(EntryKind)

UNKNOWN_RATER = "unknown"
"""Who judged where a data set names nobody."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the things compared: a text, or the path or address of an image or clip; `policy` wrote it ("" where not known)."""

    text: str = ""
    media: str = ""
    policy: str = ""
    tool_fields: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeItem:
    """A question as raters get it.

    Attributes:
        id: what judgments call it.
        conversation: what the candidates answer; empty where the file holds labels alone.
        candidates: in the item's own order, which is not the order shown.
        task: what is asked of raters.
        stratum: the part of the data it was drawn from.
        gold: the right ranking, as tiers of candidate numbers, or of a rule whether it is broken; None where there is none.
        is_qualification: whether it belongs to the test that new raters take.
        selection_probability: with which probability it was drawn, 0 to 1.
        fields: further columns, as JSON values.
        policy: the newest policy among the candidates; None where the file does not say.
        created: when a database got it, in seconds since 1970 (UTC).
        removed: since when it is handed out no more.
    """

    id: str
    conversation: Conversation
    candidates: tuple[Candidate, ...]
    task: TaskKind = "compare"
    stratum: str = ""
    gold: Gold | None = None
    is_qualification: bool = False
    selection_probability: float | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    policy: str | None = None
    created: float | None = None
    removed: float | None = None

    def comparison(self) -> Comparison:
        """The question as a noun of `palate.core`; media are not kept."""
        said = (Completion(one.text, policy=one.policy, tool_fields=one.tool_fields) for one in self.candidates)
        return Comparison(self.id, Prompt(self.id, self.conversation, self.fields), tuple(said))


@dataclass(frozen=True, slots=True)
class Vote:
    """A judgment and what a rating page knows besides.

    Attributes:
        judgment: the answer; its `comparison` is the item's id. An empty ranking is one that was not given.
        id: of the judgment; "" where the file has none.
        time: when it was given, in seconds since 1970 (UTC).
        status: `surplus` for one more than was asked for, `superseded` for one that its rater took back.
        is_all_bad: none of the candidates is good enough.
        is_skipped: the rater passed.
        flag: what the rater reported about the item.
        text: the answer that the rater wrote or edited.
        is_broken: whether the rule asked about is broken.
        entry: what a rater answered, a reviewer's decision, or that an answer was taken back (an undo answers nothing).
        supersedes: id of the judgment that an undo takes back.
        answer: id of the judgment given together with this one, on the first dimension of several.
        was_surplus: of a superseded one: it had been surplus before.
        rule: which rule was asked about.
        dialogue: the turns of a probe.
    """

    judgment: Judgment
    id: str = ""
    time: float | None = None
    status: Status = "kept"
    is_all_bad: bool = False
    is_skipped: bool = False
    flag: str = ""
    text: str = ""
    is_broken: bool | None = None
    entry: EntryKind = "answer"
    supersedes: str = ""
    answer: str = ""
    was_surplus: bool = False
    rule: str = ""
    dialogue: Conversation = ()

    @property
    def is_ranking(self) -> bool:
        """Whether it is a rater's ranking that counts: not skipped, surplus or taken back, and no reviewer's decision."""
        return bool(self.judgment.ranking) and self.status == "kept" and not self.is_skipped and self.entry == "answer"

    @property
    def tiers(self) -> Tiers:
        """The ranking in numbers of candidates, whatever the order shown; numbers within a tier ascend."""
        order = self.judgment.order
        return tuple(tuple(sorted(order[place] for place in tier)) for tier in self.judgment.ranking)


@dataclass(frozen=True, slots=True)
class RaterInfo:
    """Whoever judged, under a pseudonym."""

    id: str
    kind: RaterKind = "person"


@dataclass(frozen=True, slots=True)
class GuidelineText:
    """What raters were told; `warning` stands before content that may disturb."""

    version: str
    text: str
    warning: str = ""
    created: float | None = None


@dataclass(frozen=True, slots=True)
class SourceLocations:
    """Where in the file the project's settings, each item and each vote stand; empty where it was made otherwise."""

    project: str = ""
    items: tuple[str, ...] = ()
    votes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exchange:
    """Everything about a set of judgments that can be carried from one place to another.

    Whoever made one has checked it: ids are unique, every judgment's item and rater are there, rankings fit the candidates.

    Attributes:
        name: of the project; "" where it has none.
        project: what is asked and how items are handed out; None where the file does not say.
        dropped: rows of the file that hold nothing to judge, with the reason.
        places: the rows that items and votes were read from.
    """

    items: tuple[ExchangeItem, ...] = ()
    votes: tuple[Vote, ...] = ()
    raters: tuple[RaterInfo, ...] = ()
    guidelines: tuple[GuidelineText, ...] = ()
    name: str = ""
    project: Project | None = None
    dropped: tuple[Dropped, ...] = field(default=(), compare=False)
    places: SourceLocations = field(default=SourceLocations(), compare=False)

    def item_place(self, number: int) -> str:
        """Where the item of this number was read: file and row, or its id."""
        return self.places.items[number] if self.places.items else f"item {self.items[number].id!r}"

    def vote_place(self, number: int) -> str:
        """Where the vote of this number was read: file and row, or its item and rater."""
        judgment = self.votes[number].judgment
        return self.places.votes[number] if self.places.votes else f"judgment of {judgment.rater!r} on item {judgment.comparison!r}"

    def kinds(self) -> dict[str, RaterKind]:
        """What each rater is, by pseudonym."""
        return {rater.id: rater.kind for rater in self.raters}

    def votes_of(self) -> dict[str, list[Vote]]:
        """The votes on each item, by its id and in the order of the file; an empty list where there is none."""
        found: dict[str, list[Vote]] = {item.id: [] for item in self.items}
        for vote in self.votes:
            found[vote.judgment.comparison].append(vote)
        return found

    def answers(self) -> Iterator[tuple[Comparison, Judgment]]:
        """Question and answer of each rater's vote that counts: it has a ranking, was not skipped, and neither surplus nor taken back."""
        questions = {item.id: item.comparison() for item in self.items}
        for vote in self.votes:
            if vote.is_ranking:
                yield questions[vote.judgment.comparison], vote.judgment


def places(tiers: Tiers, order: tuple[int, ...]) -> Tiers:
    """Tiers of candidate numbers as tiers of places shown. Every number must stand in `order`."""
    at = {candidate: place for place, candidate in enumerate(order)}
    return tuple(tuple(sorted(at[candidate] for candidate in tier)) for tier in tiers)
