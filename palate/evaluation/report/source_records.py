"""The rows of the report's section on who judged: what labels of a source cost, and what was learned from them."""

from __future__ import annotations

from dataclasses import dataclass

from palate.evaluation.intervals import Estimate


@dataclass(frozen=True, slots=True)
class LabelSource:
    """A source of labels, such as people, a judge, or both.

    Attributes:
        name: what the page calls it.
        people_labels: answers of people.
        judge_labels: answers of judges, a question in both orders counting twice.
        tokens: tokens that judges read and wrote.
        cost: money for both, in one currency; None where people answered and nobody gave their price.
        has_free_judge: whether a judge answered whose tokens have no price, so that the cost is that of people alone.
        questions: labelled questions.
        label_accuracy: share of labels on the side of the gold, clustered by prompt; None without gold.
        reward_accuracy: accuracy of the reward model that learned from them, on held-out pairs that have a side.
        variant: the variant of the report that was trained with that reward model; "" where there is none.
        mix: for hybrid labels a sentence on who answered what, and why.
    """

    name: str
    people_labels: int
    judge_labels: int
    tokens: int
    questions: int
    cost: float | None = None
    has_free_judge: bool = False
    label_accuracy: Estimate | None = None
    reward_accuracy: Estimate | None = None
    variant: str = ""
    mix: str = ""
