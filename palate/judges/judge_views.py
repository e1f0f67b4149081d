"""One rater of a judge, what it is shown once, and the rows and judgments that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from palate.core import Comparison, Completion, Conversation, Judgment, Prompt
from palate.data.formats import turns_of
from palate.data.jsonl import Row
from palate.judges.constitution import Principle
from palate.judges.instruction_files import Instructions
from palate.judges.judge_model import JudgeReply, NoReply
from palate.judges.verdicts import Abstention, JudgeReading, RankingReading, VerdictKind


@dataclass(frozen=True, slots=True)
class Judge:
    """One rater: a model's name, the instructions, the principle, and the version of what it is asked."""

    model: str
    instructions: Instructions
    principle: Principle | None
    version: str

    @property
    def name(self) -> str:
        """The rater's name, `model/instructions@version#principle`."""
        principle = "" if self.principle is None else f"#{self.principle.id}"
        return f"{self.model}/{self.instructions.id}@{self.version}{principle}"

    @property
    def principle_text(self) -> str:
        """What the principle asks; "" without one."""
        return "" if self.principle is None else self.principle.text


@dataclass(frozen=True, slots=True)
class JudgeView:
    """What a judge is shown once: a pair or more in an order, or one completion. Views with equal texts are one."""

    judge: Judge
    asked: Conversation
    prompt: Prompt = field(compare=False)
    completions: tuple[Completion, ...] = field(compare=False)

    @property
    def is_alone(self) -> bool:
        """Whether it is one completion, which gets a mark."""
        return self.judge.instructions.scale == "pointwise"

    @property
    def labels(self) -> tuple[str, ...]:
        """What a verdict may be, or of a ranking the labels of the completions."""
        return self.judge.instructions.labels(len(self.completions))

    def read(self, verdict: VerdictKind, replies: Sequence[JudgeReply | NoReply]) -> JudgeReading | RankingReading | Abstention:
        """Return what replies to it say."""
        if self.judge.instructions.scale == "ranking":
            return verdict.rank(self.labels, replies)
        return verdict.read(self.judge.instructions, replies)


def judgment_of_judge(
    comparison: Comparison,
    dimension: str,
    judge: Judge,
    order: tuple[int, ...] | None,
    probability: float,
    *,
    strength: float | None = None,
) -> Judgment:
    """Return the judgment with this probability of the completion shown first; one half is a tie."""
    return Judgment(comparison.id, judge.name, pair_ranking(probability), dimension, order, strength, probability=probability)


def pair_ranking(probability: float) -> tuple[tuple[int, ...], ...]:
    """Return the ranking of two places by the probability that the first one is better; one half is a tie."""
    if math.isclose(probability, 0.5, abs_tol=1e-12):
        return ((0, 1),)
    return ((0,), (1,)) if probability > 0.5 else ((1,), (0,))


def abstention_row(comparison: Comparison, dimension: str, judge: Judge, order: tuple[int, ...], abstention: Abstention) -> Row:
    """Return a row of `abstentions.jsonl`: the `order` that was shown, or the number of the `completion` that was shown alone."""
    shown: Mapping[str, object] = {"completion": order[0]} if judge.instructions.scale == "pointwise" else {"order": list(order)}
    told: Row = {"comparison": comparison.id, "dimension": dimension, "rater": judge.name}
    return {**told, **shown, "kind": abstention.kind, "reason": abstention.reason}


def mark_row(view: JudgeView, reading: JudgeReading | Abstention) -> Row:
    """Return a row of `marks.jsonl`, which `palate.data.marks` reads."""
    prompt: Row = {"id": view.prompt.id, "prompt": turns_of(view.prompt.conversation)}
    dimension = {} if view.judge.instructions.dimension is None else {"dimension": view.judge.instructions.dimension}
    told: Row = {**prompt, "completion": view.completions[0].text, "rater": view.judge.name, **dimension}
    if isinstance(reading, Abstention):
        return {**told, "reason": reading.reason}
    votes = {} if reading.votes is None else {"votes": reading.votes}
    return {**told, "mark": reading.mean, "shares": {f"{value:g}": share for value, share in reading.shares}, **votes}
