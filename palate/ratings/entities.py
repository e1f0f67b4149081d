"""What the database of ratings holds: projects, items, assignments, answers, accounts. Times are seconds since 1970, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from palate.core import Message
from palate.data.exchange import Candidate, Gold, Project, RaterKind, Task, TaskKind, Tiers
from palate.data.rubrics import GradeWord

__all__ = ["Candidate", "Gold", "Project", "RaterKind", "Task", "TaskKind", "Tiers"]

AccountRole = Literal["owner", "reviewer", "rater"]
LinkUse = Literal["setup", "password"]
AssignmentState = Literal["open", "done", "skipped", "declined", "expired", "released", "surplus"]
EntryKind = Literal["answer", "undo", "adjudication"]
Status = Literal["kept", "surplus"]
SurplusCause = Literal["", "answered", "taken", "removed", "viewed", "left"]


@dataclass(frozen=True, slots=True)
class Guideline:
    """A version of the instructions to raters, in Markdown, counted from 1.

    Raters see `warning` before their first item. Use it if the content may distress them.
    """

    project: str
    version: int
    text: str
    warning: str = ""
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Item:
    """A question: a conversation and the candidates that answer it, in any order.

    Attributes:
        conversation: the turns so far.
        candidates: two to compare, two or more to rank, one for a rule, a rubric or an edit, none to probe or write.
        fields: further columns of the row it came from.
        stratum: items are drawn at random within strata.
        policy: the newest policy among the candidates. Items of policies that appeared later come first.
        gold: the right ranking, in tiers of candidate numbers, or for a rule whether it is broken. Raters cannot tell such items from
            others. None if nobody knows the right answer.
        is_qualification: every rater gets the item before all others.
        id: the database gives it.
        selection_probability: probability with which the first draw of the item chose it; None before that draw.
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
class AddedItems:
    """Result of `add_items`: ids of the items added, in order, and how many items the project had already."""

    ids: tuple[str, ...]
    duplicates: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """An item held for a rater until `expires`; `order` gives the candidate at each place shown.

    A `skipped` item comes again when nothing else is left. A `declined` one does not: it was skipped with a flag, or the rater has seen
    what others answered.
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
    """A rater's answer.

    Attributes:
        ranking: tiers of places shown (not candidate numbers), on the task's first dimension. It is empty for other tasks, for `all_bad`
            and for `skipped`.
        all_bad: none of the candidates is good.
        dimensions: tiers of places shown on the task's further dimensions, by name.
        strength: how much better the best is than the next, in the page's units.
        reason: free text.
        text: the written or edited answer.
        dialogue: the turns of a probe.
        broken: whether the rule is broken (`rule`, `probe`).
        rule: the rule in question.
        grades: what the rater says of each criterion, by its id (`rubric`).
        grade_probabilities: how likely each criterion is met, by a judge that gives probabilities.
        flag: why somebody should check the item; "" if it is not flagged.
        skipped: the rater did not answer, and the item goes to someone else.
        seconds: time spent.
        probability: that what is shown first is better, by a judge that gives one.
        is_consistent: for a verdict that sums up two, one in each order, whether both were the same.
        probabilities: of every two places of a longer ranking, by a judge that gives them.
        marks: the marks of single candidates, by their numbers.
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
    grades: Mapping[str, GradeWord] = field(default_factory=dict)
    grade_probabilities: Mapping[str, float] = field(default_factory=dict)
    flag: str = ""
    skipped: bool = False
    seconds: float | None = None
    probability: float | None = None
    is_consistent: bool | None = None
    probabilities: tuple[float, ...] = ()
    marks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The database has the answer: as `kept`, as a `repeat` (the same key came before), or as `surplus` (it came late or second).

    A surplus answer is stored but not counted. `is_qualification` is true for the first answer to an item of the qualification. `cause`
    says why the answer is surplus, "" otherwise: the account has `answered` the item already, someone else has `taken` the place, the item
    was `removed`, the account has `viewed` the answers of others, or it has `left` the project.
    """

    judgment: str
    status: Literal["kept", "repeat", "surplus"]
    is_qualification: bool = False
    cause: SurplusCause = ""


@dataclass(frozen=True, slots=True)
class JudgmentEntry:
    """One row of the append-only table of judgments.

    Attributes:
        number: counts up with every row of the database.
        rater: the account's id. Exports show `pseudonym` instead.
        order: the candidate at each place shown. None if nobody knows, as for judgments of a file that does not say; then the answer's
            tiers hold candidate numbers.
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
    order: tuple[int, ...] | None
    answer: Answer
    status: Status
    kind: EntryKind
    supersedes: str
    guideline: int
    created: float
    is_standing: bool


@dataclass(frozen=True, slots=True)
class Account:
    """A person or program that answers or manages. `qualified` names the projects whose qualification the account passed.

    After a person is erased, `name` is "" and the pseudonym stays.
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
    """What an invitation gives: membership of a project with a role."""

    project: str
    role: AccountRole


@dataclass(frozen=True, slots=True)
class Link:
    """What a link that works once is for: the set-up of the first owner (`setup`), or a new password for `account` (`password`)."""

    use: LinkUse
    account: str | None
    expires: float


@dataclass(frozen=True, slots=True)
class Session:
    """A login that has neither ended nor expired. `projects` names those that the account was a member of when the session was read.

    `reviews` names those of them in which the account may review although its own role does not allow it.
    """

    account: Account
    csrf: str
    created: float
    expires: float
    projects: tuple[str, ...] = ()
    reviews: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """Numbers of failed logins since a time: with this name, from this address, and with this name from this address."""

    name: int
    address: int
    both: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action of the audit log. `actor` is an account's id, or "" for the system."""

    number: int
    actor: str
    action: str
    subject: str
    created: float
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class WorkDay:
    """Answers given and seconds spent by one account in a project on one day (UTC, `2026-11-21`), with answers taken back later.

    `seconds` is the sum over the answers whose time is known; None if no answer's time is.
    """

    project: str
    day: str
    judgments: int
    seconds: float | None

    @property
    def hours(self) -> float | None:
        """The same in hours."""
        return None if self.seconds is None else self.seconds / 3600


@dataclass(frozen=True, slots=True)
class GoldRecord:
    """Gold items that a rater answered in a project, and how many correctly; the same for the qualification, with its number of items.

    Only the first kept answer to an item counts. Removed items do not count.
    """

    asked: int
    right: int
    qualification_items: int
    qualification_asked: int
    qualification_right: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a project stands. Gold and qualification items count only in `gold`.

    Attributes:
        items: items to judge, without removed ones.
        complete: items with as many kept judgments as they want.
        begun: items with a kept judgment that are not complete.
        wanted: number of kept judgments that all items want.
        judgments: kept judgments that stand, without skips.
        open: live assignments.
        surplus: surplus answers that stand.
        skipped: skips that stand.
        flagged: items with a flag.
        removed: items removed.
        gold: gold and qualification items.
        raters: accounts that answered.
        undecided: complete items without a majority and without an adjudication.
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
