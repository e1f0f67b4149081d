"""Verdicts on pairs in both orders: a preference for a place cancels out, and one order alone is no verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from palate.core import Completion, Message, Prompt
from palate.judges.both_orders import second_wins
from palate.judges.instruction_files import load_instructions
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.judges.verdicts import Abstention, OptionProbabilities, WrittenVerdict
from tests.unit.judges.test_rubric_grading import Model

PROMPT = Prompt("p", (Message("user", "Which?"),))
PAIR = (PROMPT, Completion("worse"), Completion("better"))
OVERALL = load_instructions("overall")


def by_order(worse_first: str, better_first: str) -> Callable[[JudgeQuestion], JudgeReply]:
    """A reply by which of the two stands first."""

    def answer(question: JudgeQuestion) -> JudgeReply:
        text = question.conversation[-1].text
        return JudgeReply(worse_first if text.index("worse\n") < text.index("better\n") else better_first)

    return answer


def test_a_judge_that_sees_the_better_one_in_both_orders_says_so() -> None:
    assert second_wins(Model(by_order("B", "A")), [PAIR], OVERALL, WrittenVerdict()) == [1.0]
    assert second_wins(Model(by_order("A", "B")), [PAIR], OVERALL, WrittenVerdict()) == [0.0]


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_preference_for_a_place_is_level(place: str) -> None:
    assert second_wins(Model(by_order(place, place)), [PAIR], OVERALL, WrittenVerdict()) == [0.5]


@pytest.mark.parametrize("replies", [("B", "Both are nice."), ("Both are nice.", "A")])
def test_one_order_alone_is_no_verdict(replies: tuple[str, str]) -> None:
    (verdict,) = second_wins(Model(by_order(*replies)), [PAIR], OVERALL, WrittenVerdict())
    assert isinstance(verdict, Abstention)


def test_probabilities_are_taken_as_they_are_and_equal_texts_are_not_asked() -> None:
    model = Model(lambda question: JudgeReply("", (-0.1, -2.4)))
    same = (PROMPT, Completion("same"), Completion("same"))
    assert second_wins(model, [same, PAIR], OVERALL, OptionProbabilities()) == [0.5, pytest.approx(0.5)]
    assert len(model.asked) == 2


def test_a_judge_without_a_reply_abstains() -> None:
    (verdict,) = second_wins(Model(lambda question: NoReply("down", "unreachable")), [PAIR], OVERALL, WrittenVerdict())
    assert verdict == Abstention("unreachable", "down")
