"""Bodies of the API's requests and replies, with their limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from palate.core import Message
from palate.data.rubrics import GradeWord
from palate.ratings import Answer, TaskKind, Tiers
from palate.web.probe_model import LONGEST_TURN

LONGEST_TEXT = 60_000
LONGEST_REASON = 4000
"""Most characters of a written answer and of a reason. The pages show these limits before anything is sent."""

Places = list[Annotated[list[Annotated[int, Field(ge=0, le=99)]], Field(max_length=100)]]
Ranking = Annotated[Places, Field(max_length=100)]
Held = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=10)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Turn(_Body):
    """A turn of a dialogue with a model."""

    role: Literal["user", "assistant"]
    text: str = Field(max_length=LONGEST_TURN)


class AnswerBody(_Body):
    """An answer.

    Places are counted from 0 in the order shown. A ranking is a list of tiers, best first; places in one tier are level.
    """

    ranking: Ranking = []
    all_bad: bool = False
    dimensions: dict[str, Ranking] = Field(default={}, max_length=50, description="rankings on the further dimensions of the task")
    strength: float | None = Field(default=None, ge=0, le=10, description="1 slightly, 2 clearly, 3 much")
    reason: str = Field(default="", max_length=LONGEST_REASON)
    text: str = Field(default="", max_length=LONGEST_TEXT, description="the written answer of a write task")
    dialogue: list[Turn] = Field(default=[], max_length=100, description="the dialogue of a probe task")
    broken: bool | None = Field(default=None, description="whether the rule is broken (rule and probe tasks)")
    rule: str = Field(default="", max_length=4000)
    grades: dict[str, GradeWord] = Field(
        default={}, max_length=200, description="met, unmet or unsure by the criterion's id (rubric tasks)"
    )
    flag: str = Field(default="", max_length=1200)
    skipped: bool = False
    seconds: float | None = Field(default=None, ge=0, le=86_400)

    def to_answer(self) -> Answer:
        """Return the answer as the store takes it."""
        return Answer(
            ranking=_tiers(self.ranking),
            all_bad=self.all_bad,
            dimensions={dimension: _tiers(tiers) for dimension, tiers in self.dimensions.items()},
            strength=self.strength,
            reason=self.reason,
            text=self.text,
            dialogue=tuple(Message(turn.role, turn.text) for turn in self.dialogue),
            broken=self.broken,
            rule=self.rule,
            grades=self.grades,
            flag=self.flag,
            skipped=self.skipped,
            seconds=self.seconds,
        )


class JudgmentBody(_Body):
    """An answer to an assignment. The same `key` means the same answer, however often it is sent.

    `held` lists the assignments that the caller has already. With it, the reply brings the next ones.
    """

    assignment: str = Field(max_length=64)
    key: str = Field(min_length=8, max_length=128)
    answer: AnswerBody
    guideline: int | None = Field(
        default=None, ge=1, description="the version of the guidelines that the rater saw; by default that of the assignment"
    )
    held: Held | None = None


class UndoBody(_Body):
    """The same `key` takes back the same answer, however often it is sent."""

    key: str = Field(min_length=8, max_length=128)


class HeldBody(_Body):
    """Assignments that the caller has already."""

    held: Held = []


class ProbeBody(_Body):
    """The dialogue so far. Its last turn is the rater's."""

    dialogue: list[Turn] = Field(min_length=1, max_length=60)


class ItemsBody(_Body):
    """Rows such as `{"prompt": "...", "completions": [...]}`, or of any other kind that `palate exchange` reads."""

    items: list[dict[str, JsonValue]] = Field(max_length=100_000)


class ScoresBody(_Body):
    """Rows of scores.jsonl: item, spread, and optionally features."""

    rows: list[dict[str, JsonValue]] = Field(max_length=1_000_000)


class TaskBody(_Body):
    """The question about each item."""

    kind: TaskKind = "compare"
    dimensions: list[Annotated[str, Field(min_length=1, max_length=60)]] = Field(default=["overall"], min_length=1, max_length=12)
    ties: bool = True
    all_bad: bool = False
    strength: bool = False
    reason: Literal["off", "optional", "required"] = "optional"
    rules: list[Annotated[str, Field(min_length=1, max_length=2000)]] = Field(default=[], max_length=200)


class ProjectBody(_Body):
    """A new project."""

    name: str = Field(min_length=1, max_length=120)
    task: TaskBody = TaskBody()
    overlap: int = Field(default=1, ge=1, le=100)
    max_overlap: int = Field(default=0, ge=0, le=100)
    lease_seconds: float = Field(default=900, ge=30, le=86_400)
    gold_share: float = Field(default=0, ge=0, le=0.5)
    queue: Literal["random", "uncertain"] = "random"


class GuidelineBody(_Body):
    """A new version of the guidelines, in Markdown."""

    text: str = Field(max_length=100_000)
    warning: str = Field(default="", max_length=400)


class AssignmentReply(BaseModel):
    """An assignment: seconds left of its lease, the version of the guidelines to show with it, and the item as HTML."""

    id: str
    remaining: float
    guideline: int
    html: str


class UndoneReply(AssignmentReply):
    """The assignment to answer again, and how many of this account's answers in the project count."""

    judged: int


class AssignmentsReply(BaseModel):
    """The current item and the next one. The list is empty if nothing is left for this rater."""

    assignments: list[AssignmentReply]


class ReceiptReply(BaseModel):
    """The judgment is on the disk: `kept`, `repeat` (sent before) or `surplus` (late, kept as an extra).

    `assignments` are the next ones, if the request asked for them.
    """

    judgment: str
    status: Literal["kept", "repeat", "surplus"]
    cause: Literal["", "answered", "taken", "removed", "viewed", "left"] = Field(
        default="", description="why the answer is surplus: this account has answered the item, another rater has it, it was removed, ..."
    )
    assignments: list[AssignmentReply] = []


class SessionReply(BaseModel):
    """Who is signed in, and the CSRF token for the header X-CSRF-Token."""

    account: str
    name: str
    role: str
    csrf: str


class ReleasedReply(BaseModel):
    """How many items the account held. They go to others."""

    released: int


class TextReply(BaseModel):
    """The model's reply."""

    text: str


class AddedReply(BaseModel):
    """The result of an import.

    `added` are ids of new items, and `duplicates` counts items that existed already. `judgments` counts new judgments, of which `surplus`
    are second answers, and `known_judgments` those that existed. `raters` counts new accounts. `dropped` lists rows with nothing to judge
    and the reason. `notes` mention missing media and empty texts.
    """

    added: list[str]
    duplicates: int
    judgments: int
    known_judgments: int
    surplus: int
    raters: int
    dropped: list[str]
    notes: list[str] = []


class ErrorReply(BaseModel):
    """Why the request was refused, as a message and as a code."""

    detail: JsonValue
    code: str = ""


def _tiers(places: list[list[int]]) -> Tiers:
    return tuple(tuple(tier) for tier in places)
