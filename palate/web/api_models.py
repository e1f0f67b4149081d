"""What the API takes and gives, with its limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from palate.core import Message
from palate.ratings import Answer, Tiers
from palate.web.probe_model import LONGEST_TURN

Places = list[Annotated[list[Annotated[int, Field(ge=0, le=99)]], Field(max_length=100)]]
Ranking = Annotated[Places, Field(max_length=100)]
Held = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=10)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Turn(_Body):
    """A turn of a talk with a model."""

    role: Literal["user", "assistant"]
    text: str = Field(max_length=LONGEST_TURN)


class AnswerBody(_Body):
    """An answer. Places are those shown, from 0: a ranking is a list of tiers, best first; two places in a tier are level."""

    ranking: Ranking = []
    all_bad: bool = False
    dimensions: dict[str, Ranking] = Field(default={}, max_length=50, description="rankings on the task's further dimensions")
    strength: float | None = Field(default=None, ge=0, le=10, description="1 slightly, 2 clearly, 3 much")
    reason: str = Field(default="", max_length=4000)
    text: str = Field(default="", max_length=60_000, description="the written answer of a write task")
    dialogue: list[Turn] = Field(default=[], max_length=100, description="the talk of a probe task")
    broken: bool | None = Field(default=None, description="whether the rule is broken (rule and probe tasks)")
    rule: str = Field(default="", max_length=4000)
    flag: str = Field(default="", max_length=1200)
    skipped: bool = False
    seconds: float | None = Field(default=None, ge=0, le=86_400)

    def noun(self) -> Answer:
        """The answer as the store takes it."""
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
            flag=self.flag,
            skipped=self.skipped,
            seconds=self.seconds,
        )


class JudgmentBody(_Body):
    """An answer to an assignment. The same `key` is the same answer, however often it is sent.

    With `held`, the assignments that the page has already, the reply brings those that follow.
    """

    assignment: str = Field(max_length=64)
    key: str = Field(min_length=8, max_length=128)
    answer: AnswerBody
    guideline: int | None = Field(
        default=None, ge=1, description="the version of the guidelines that was shown; default: the one of the claim"
    )
    held: Held | None = None


class UndoBody(_Body):
    """The same `key` takes back the same answer, however often it is sent."""

    key: str = Field(min_length=8, max_length=128)


class HeldBody(_Body):
    """Assignments that the page has already."""

    held: Held = []


class ProbeBody(_Body):
    """The talk so far; its last turn is the rater's."""

    dialogue: list[Turn] = Field(min_length=1, max_length=60)


class ItemsBody(_Body):
    """Rows as in a file: `{"prompt": "...", "completions": [...]}`, or of any other kind that `palate exchange` reads; all or none."""

    items: list[dict[str, JsonValue]] = Field(max_length=100_000)


class ScoresBody(_Body):
    """Rows of scores.jsonl: item, spread, and features where there are any."""

    rows: list[dict[str, JsonValue]] = Field(max_length=1_000_000)


class TaskBody(_Body):
    """What is asked about each item."""

    kind: Literal["compare", "rank", "rule", "probe", "write"] = "compare"
    dimensions: list[Annotated[str, Field(min_length=1, max_length=60)]] = Field(default=["overall"], min_length=1, max_length=12)
    ties: bool = True
    all_bad: bool = False
    strength: bool = False
    reason: Literal["off", "optional", "required"] = "optional"
    rules: list[Annotated[str, Field(min_length=1, max_length=2000)]] = Field(default=[], max_length=200)


class ProjectBody(_Body):
    """A project to be made."""

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


class ShownReply(BaseModel):
    """An assignment, ready to be shown: seconds left of its lease, the version of the guidelines to be shown with it, the item as HTML."""

    id: str
    remaining: float
    guideline: int
    html: str


class UndoneReply(ShownReply):
    """The assignment to be answered anew, and how many of this account's answers in the project stand."""

    judged: int


class AssignmentsReply(BaseModel):
    """The item under way and the next one; empty when nothing is left for this rater."""

    assignments: list[ShownReply]


class ReceiptReply(BaseModel):
    """The judgment is on the disk: `kept`, `repeat` (sent before), or `surplus` (late; an extra). And what follows, if asked for."""

    judgment: str
    status: Literal["kept", "repeat", "surplus"]
    assignments: list[ShownReply] = []


class SessionReply(BaseModel):
    """Who is signed in, and the CSRF token that goes into the header X-CSRF-Token."""

    account: str
    name: str
    role: str
    csrf: str


class ReleasedReply(BaseModel):
    """How many items the account held, which go to others."""

    released: int


class TextReply(BaseModel):
    """The model's answer."""

    text: str


class AddedReply(BaseModel):
    """Ids of the items added and how many were there already; the same of judgments, of which `surplus` are second answers.

    `raters` are accounts made, `dropped` rows that hold nothing to judge, with the reason; `notes` tell of missing media and empty texts.
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
    """Why not, in words and as a code."""

    detail: JsonValue
    code: str = ""


def _tiers(places: list[list[int]]) -> Tiers:
    return tuple(tuple(tier) for tier in places)
