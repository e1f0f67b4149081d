"""What a file of judgments says, whatever its shape: items, judgments, raters, guidelines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal, get_args

from palate.core import Comparison, Completion, Conversation, Judgment, Prompt
from palate.data.exchange.project import Project, TaskKind
from palate.data.formats.dropped import Dropped
from palate.data.rubrics import GradeWord

Tiers = tuple[tuple[int, ...], ...]
"""Numbers in tiers, the best first; a tier of two or more is a tie."""

Gold = Tiers | bool
"""The right answer to an item: its ranking, or whether it breaks the rule."""

MIN_CANDIDATES: Mapping[TaskKind, int] = {"compare": 2, "rank": 2, "rule": 1, "rubric": 1, "probe": 0, "write": 0}
"""Fewest candidates of an item: two to compare, one to check against a rule or a rubric."""

RaterKind = Literal["person", "model", "rule", "simulated", "unknown"]
RATER_KINDS: tuple[RaterKind, ...] = get_args(RaterKind)

Status = Literal["kept", "surplus", "superseded"]
STATUSES: tuple[Status, ...] = get_args(Status)

EntryKind = Literal["answer", "undo", "adjudication"]
ENTRIES: tuple[EntryKind, ...] = get_args(EntryKind)

IMAGES = ("png", "jpg", "jpeg", "gif", "webp", "bmp")
CLIPS = ("mp4", "webm", "mov")
SHOWN = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".webm")
"""Endings of the media that the rating pages show."""

_MEDIA = re.compile(rf"(?:[a-z]+://|/|\./)?[^\s<>\"'|*]+\.(?:{'|'.join((*IMAGES, *CLIPS))})(?:\?[^\s<>\"']*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the things compared: a text, or the path or address of an image or clip. `policy` wrote it ("" if unknown)."""

    text: str = ""
    media: str = ""
    policy: str = ""
    tool_fields: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeItem:
    """A question as raters get it.

    Attributes:
        id: what judgments call it.
        conversation: what the candidates answer; empty if the file holds only labels.
        candidates: in the item's own order, which may differ from the order shown.
        task: what raters are asked to do.
        stratum: the part of the data that it was drawn from.
        gold: the right ranking in tiers of candidate numbers, or whether the rule is broken; None if unknown.
        is_qualification: whether it belongs to the test that new raters take.
        selection_probability: the probability with which it was drawn, from 0 to 1.
        fields: further columns, as JSON values.
        policy: the newest policy among the candidates; None if the file does not say.
        created: when it was added to a database, in seconds since 1970 (UTC).
        removed: when raters stopped getting it, in seconds since 1970 (UTC).
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

    @classmethod
    def of(cls, comparison: Comparison) -> ExchangeItem:
        """The item of a question; further columns of its prompt stay behind."""
        candidates = tuple(Candidate(each.text, policy=each.policy, tool_fields=each.tool_fields) for each in comparison.completions)
        task: TaskKind = "compare" if len(candidates) == 2 else "rank"
        return cls(comparison.id, comparison.prompt.conversation, candidates, task)

    def comparison(self) -> Comparison:
        """The question as a type of `palate.core`, without media."""
        completions = (Completion(each.text, policy=each.policy, tool_fields=each.tool_fields) for each in self.candidates)
        return Comparison(self.id, Prompt(self.id, self.conversation, self.fields), tuple(completions))


@dataclass(frozen=True, slots=True)
class Vote:
    """A judgment, and what a rating page records with it.

    Attributes:
        judgment: the answer; its `comparison` is the item's id. The ranking is empty if the rater did not give one.
        id: the id of the judgment; "" if the file does not have one.
        time: when the rater answered, in seconds since 1970 (UTC).
        status: `surplus` if it was one more than needed, `superseded` if its rater took it back.
        is_all_bad: whether none of the candidates is good enough.
        is_skipped: whether the rater skipped the item.
        flag: what the rater reported about the item.
        text: the answer that the rater wrote or edited.
        is_broken: whether the rule is broken.
        entry: a rater's answer, a reviewer's decision, or the undo of an answer (which holds no answer).
        supersedes: the id of the judgment that an undo takes back.
        answer: for an answer on several dimensions, the id of its judgment on the first dimension.
        was_surplus: whether a superseded judgment was surplus before.
        rule: the rule that the question was about.
        dialogue: the turns of a probe.
        grades: what the rater said of each criterion of a rubric, by its id.
        grade_probabilities: how likely each criterion is met, by its id, of a judge that gives probabilities.
        marks: the marks that the rater gave to single candidates, by their numbers; () for a rater who compared them.
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
    grades: Mapping[str, GradeWord] = field(default_factory=dict)
    grade_probabilities: Mapping[str, float] = field(default_factory=dict)
    marks: tuple[float, ...] = ()

    def renumbered(self, item: str, numbers: tuple[int, ...]) -> Vote:
        """The same vote on an item in which candidate k of this one has the number `numbers[k]`."""
        former = sorted(range(len(numbers)), key=numbers.__getitem__)
        marks = tuple(self.marks[k] for k in former) if self.marks else ()
        return replace(self, judgment=self.judgment.renumbered(item, numbers), marks=marks)

    @property
    def is_ranking(self) -> bool:
        """Whether it is a rater's ranking that counts: not skipped, surplus, taken back, or a reviewer's decision."""
        return bool(self.judgment.ranking) and self.is_counted

    @property
    def is_counted(self) -> bool:
        """Whether it is a rater's answer that counts, a ranking or another one."""
        return self.status == "kept" and not self.is_skipped and self.entry == "answer"

    @property
    def tiers(self) -> Tiers:
        """The ranking in candidate numbers, whatever the order shown. Numbers within a tier ascend."""
        return self.judgment.tiers


@dataclass(frozen=True, slots=True)
class RaterInfo:
    """A rater, under a pseudonym."""

    id: str
    kind: RaterKind = "person"


@dataclass(frozen=True, slots=True)
class GuidelineText:
    """The guideline that raters read; `warning` is shown before content that may disturb."""

    version: str
    text: str
    warning: str = ""
    created: float | None = None


@dataclass(frozen=True, slots=True)
class SourceLocations:
    """Where in the file the project's settings, each item and each vote are; empty if it does not come from a file."""

    project: str = ""
    items: tuple[str, ...] = ()
    votes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exchange:
    """Everything about a set of judgments that can be moved from one place to another.

    Its maker has checked it: ids are unique, every judgment's item and rater are present, and rankings fit the candidates.

    Attributes:
        name: the name of the project; "" if it does not have one.
        project: the task and how raters get the items; None if the file does not say.
        dropped: rows of the file that hold nothing to judge, with their reasons.
        places: the rows that items and votes were read from.
        shape: the name of the shape that it was read in; "" if it does not come from a file.
    """

    items: tuple[ExchangeItem, ...] = ()
    votes: tuple[Vote, ...] = ()
    raters: tuple[RaterInfo, ...] = ()
    guidelines: tuple[GuidelineText, ...] = ()
    name: str = ""
    project: Project | None = None
    dropped: tuple[Dropped, ...] = field(default=(), compare=False)
    places: SourceLocations = field(default=SourceLocations(), compare=False)
    shape: str = field(default="", compare=False)

    def item_place(self, number: int) -> str:
        """Where the item of this number was read: file and row, or its id."""
        return self.places.items[number] if self.places.items else f"item {self.items[number].id!r}"

    def vote_place(self, number: int) -> str:
        """Where the vote of this number was read: file and row, or its item and rater."""
        judgment = self.votes[number].judgment
        return self.places.votes[number] if self.places.votes else f"judgment of {judgment.rater!r} on item {judgment.comparison!r}"

    def kinds(self) -> dict[str, RaterKind]:
        """The kind of each rater, by pseudonym."""
        return {rater.id: rater.kind for rater in self.raters}

    def votes_of(self) -> dict[str, list[Vote]]:
        """The votes on each item by its id, in the order of the file; an empty list for an item without votes."""
        votes: dict[str, list[Vote]] = {item.id: [] for item in self.items}
        for vote in self.votes:
            votes[vote.judgment.comparison].append(vote)
        return votes

    def answers(self) -> Iterator[tuple[Comparison, Judgment]]:
        """Question and answer of each vote that counts (`Vote.is_ranking`). "All bad" is a tie of all, as in a database."""
        questions = {item.id: item.comparison() for item in self.items}
        for vote in self.votes:
            question = questions[vote.judgment.comparison]
            if vote.is_ranking:
                yield question, vote.judgment
            elif vote.is_all_bad and vote.is_counted:
                yield question, replace(vote.judgment, ranking=(tuple(range(len(question.completions))),))


def shown_places(tiers: Tiers, order: tuple[int, ...] | None) -> Tiers:
    """Tiers of candidate numbers as tiers of places shown. Every number must be in `order`. Without an order they stay as they are."""
    if order is None:
        return tiers
    at = {candidate: place for place, candidate in enumerate(order)}
    return tuple(tuple(sorted(at[candidate] for candidate in tier)) for tier in tiers)


def media_or_text(content: str) -> Candidate:
    """The candidate with this content. A path or address with the ending of an image or clip is a medium, anything else a text."""
    return Candidate(media=content) if _MEDIA.fullmatch(content) else Candidate(text=content)


def is_clip(media: str) -> bool:
    """Whether a medium is a clip, by its ending."""
    return media.partition("?")[0].lower().endswith(CLIPS)


def is_shown(media: str) -> bool:
    """Whether the rating pages can show it: a path inside the media folder with an ending of `SHOWN`."""
    path = PurePosixPath(media)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\\" not in media and "://" not in media and media.isprintable()
    return is_inside and path.suffix.lower() in SHOWN
