"""What the rating store holds: projects, items, assignments, answers, accounts. Frozen; times are seconds since 1970, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from palate.core import Message
from palate.data.exchange import Candidate, Gold, Project, RaterKind, Task, TaskKind, Tiers

__all__ = ["Candidate", "Gold", "Project", "RaterKind", "Task", "TaskKind", "Tiers"]

AccountRole = Literal["owner", "reviewer", "rater"]
AssignmentState = Literal["open", "done", "skipped", "declined", "expired", "released", "surplus"]
EntryKind = Literal["answer", "undo", "adjudication"]
Status = Literal["kept", "surplus"]


@dataclass(frozen=True, slots=True)
class Guideline:
    """Instructions to raters in Markdown, versioned from 1; `warning` is shown before the first item where content is hard to bear."""

    project: str
    version: int
    text: str
    warning: str = ""
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """A question: a conversation and the candidates that answer it, in no order of merit.

    Attributes:
        conversation: the turns so far.
        candidates: two to compare, two or more to rank, one for a rule or an edit, none to probe or write.
        fields: further columns of the row it came from.
        stratum: items are drawn at random within strata.
        policy: the newest policy among the candidates; policies first seen later are asked about first.
        gold: the right ranking, in tiers of candidate numbers, or of a rule whether it is broken; such items are mixed in unseen. None:
            nobody knows.
        is_qualification: asked before all others, of every rater.
        id: given by the store.
        selection_probability: chance with which the draw that first handed the item out chose it; None before.
    """

    conversation: tuple[Message, ...]
    candidates: tuple[Candidate, ...] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    stratum: str = ""
    policy: str = ""
    gold: Gold | None = None
    is_qualification: bool = False
    id: str = ""
    project: str = ""
    selection_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_items` did: ids of the items kept, in order, and how many were there already."""

    kept: tuple[str, ...]
    duplicates: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """An item held for a rater until `expires`; `order` says which candidate stands at each place shown.

    What was `skipped` comes again when nothing else is left; `declined` (skipped with a flag, or somebody looked at
    what others said of it) does not.
    """

    id: str
    project: str
    item: str
    rater: str
    order: tuple[int, ...]
    claimed: float
    expires: float
    state: AssignmentState
    guideline: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater said.

    Attributes:
        ranking: tiers of places shown (not candidate numbers), on the task's first dimension; empty for other tasks,
            `all_bad` and `skipped`.
        all_bad: none of them is good.
        dimensions: tiers of places shown on the task's further dimensions.
        strength: how much better the best is than the next, in the page's units.
        reason: free text.
        text: the written or edited answer.
        dialogue: the turns of a probe.
        broken: whether the rule is broken (`rule`, `probe`).
        rule: which rule that was.
        flag: why somebody should look at the item; "" where not flagged.
        skipped: no answer; the item goes to someone else.
        seconds: time spent.
    """

    ranking: Tiers = ()
    all_bad: bool = False
    dimensions: Mapping[str, Tiers] = field(default_factory=dict)
    strength: float | None = None
    reason: str = ""
    text: str = ""
    dialogue: tuple[Message, ...] = ()
    broken: bool | None = None
    rule: str = ""
    flag: str = ""
    skipped: bool = False
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The store has it: `kept`, `repeat` (the same key came before), or `surplus` (late, or a second answer: not lost, not counted).

    `is_qualification` when it answers an item of the qualification, and came for the first time.
    """

    judgment: str
    status: Literal["kept", "repeat", "surplus"]
    is_qualification: bool = False


@dataclass(frozen=True, slots=True)
class JudgmentEntry:
    """One row of the append-only table of judgments.

    Attributes:
        number: counts up with every row of the database.
        rater: the account's id; `pseudonym` is what exports show.
        order: which candidate stood at each place shown.
        kind: an answer, a reviewer's adjudication, or an undo (its `answer` is empty).
        supersedes: id of the row that an undo takes back.
        is_standing: an answer or adjudication that no later row took back.
    """

    id: str
    number: int
    project: str
    item: str
    assignment: str
    rater: str
    pseudonym: str
    order: tuple[int, ...]
    answer: Answer
    status: Status
    kind: EntryKind
    supersedes: str
    guideline: int
    created: float
    is_standing: bool


@dataclass(frozen=True, slots=True)
class Account:
    """Whoever answers or looks after the answers. `qualified` are the projects whose qualification was passed.

    `name` is "" once the person was erased; the pseudonym stays.
    """

    id: str
    name: str
    kind: RaterKind
    role: AccountRole
    pseudonym: str
    qualified: tuple[str, ...] = ()
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a redeemed link gives: a place in a project with a role."""

    project: str
    role: AccountRole


@dataclass(frozen=True, slots=True)
class Session:
    """A login that has neither ended nor expired; `projects` are those the account was a member of when it was looked up.

    `reviews` are those of them in which it may review though its role does not say so.
    """

    account: Account
    csrf: str
    created: float
    expires: float
    projects: tuple[str, ...] = ()
    reviews: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed logins since a time: with this name, from this address, and with this name from this address."""

    name: int
    address: int
    both: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, and when. `actor` is an account's id, or "" for the system."""

    number: int
    actor: str
    action: str
    subject: str
    created: float
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Worked:
    """Answers given and seconds spent by one account in a project on a day (UTC, `2026-11-21`); taken back ones are work, too."""

    project: str
    day: str
    judgments: int
    seconds: float


@dataclass(frozen=True, slots=True)
class GoldRecord:
    """Gold items a rater answered in a project, and how many rightly; the same for the qualification, with the number there is.

    The first answer kept to an item counts, and no other; removed items do not.
    """

    asked: int
    right: int
    qualification_items: int
    qualification_asked: int
    qualification_right: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a project stands. Gold and qualification items count in `gold` alone.

    Attributes:
        complete: items with as many kept judgments as are wanted of them.
        begun: items with a kept judgment, not complete.
        wanted: kept judgments wanted in all.
        judgments: kept judgments that stand, without skips.
        open: live assignments.
        undecided: items complete whose votes have no majority and no adjudication.
    """

    items: int
    complete: int
    begun: int
    wanted: int
    judgments: int
    open: int
    surplus: int
    skipped: int
    flagged: int
    removed: int
    gold: int
    raters: int
    undecided: int
