"""A model's verdict on pairs, each shown in both orders, without the machinery of stage `collect`."""

from __future__ import annotations

from collections.abc import Sequence

from palate.core import Completion, Prompt
from palate.judges.instruction_files import Instructions
from palate.judges.judge_card import Calibration
from palate.judges.judge_model import JudgeModel, JudgeQuestion
from palate.judges.rubric_grading import within_budget
from palate.judges.verdicts import Abstention, JudgeReading, VerdictKind, smoothed

Pair = tuple[Prompt, Completion, Completion]


def second_wins(
    model: JudgeModel,
    pairs: Sequence[Pair],
    instructions: Instructions,
    verdict: VerdictKind,
    calibration: Calibration | None = None,
) -> list[float | Abstention]:
    """Return how likely the second completion of each pair is the better one: the mean over both orders.

    Equal texts are level, and nobody is asked. A judge that gives no verdict in one order abstains on the pair, because the other order
    alone would hold its preference for a place.

    Args:
        model: the judge.
        pairs: prompts with two completions.
        instructions: pairwise instructions.
        verdict: how the verdict is obtained.
        calibration: makes the judge's probabilities, smoothed as in `collect`, the shares of people who say the same.
    """
    asked = [pair for pair in pairs if pair[1].text != pair[2].text]
    orders = [(prompt, shown) for prompt, one, other in asked for shown in ((one, other), (other, one))]
    questions = [
        JudgeQuestion(instructions.question(prompt, shown, "", reasons_first=False), verdict.options(instructions), draw)
        for prompt, shown in orders
        for draw in range(verdict.draws)
    ]
    replies = [within_budget(reply) for reply in model.replies(questions)]
    readings = [verdict.read(instructions, replies[k * verdict.draws : (k + 1) * verdict.draws]) for k in range(len(orders))]
    found = iter([_second(readings[k], readings[k + 1], calibration) for k in range(0, len(readings), 2)])
    return [next(found) if one.text != other.text else 0.5 for _, one, other in pairs]


def _second(
    first_shown: JudgeReading | Abstention, last_shown: JudgeReading | Abstention, calibration: Calibration | None
) -> float | Abstention:
    if isinstance(first_shown, Abstention):
        return first_shown
    if isinstance(last_shown, Abstention):
        return last_shown
    if calibration is not None:
        first, last = (calibration.of_probability(smoothed(one.mean, one.votes)) for one in (first_shown, last_shown))
        return (1 - first + last) / 2
    return (1 - first_shown.mean + last_shown.mean) / 2
