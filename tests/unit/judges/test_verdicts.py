"""How verdicts are read: soft labels against published numbers, marks and their expected value, written verdicts, clamps and smoothing."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palate.judges.clamp import clamped
from palate.judges.instruction_files import Instructions, load_instructions
from palate.judges.judge_model import JudgeReply, NoReply
from palate.judges.verdicts import (
    Abstention,
    JudgeReading,
    OptionProbabilities,
    SampledVerdicts,
    WrittenVerdict,
    better,
    smoothed,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "oracle.json"
PAIR, MARK = load_instructions("helpful"), load_instructions("helpful-pointwise")


@pytest.fixture
def case() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())["cases"]["cai_ai_feedback_soft_label"]
    return found


def options(*logps: float, of: Instructions = PAIR, text: str = "", min_mass: float = 0.0) -> JudgeReading | Abstention:
    return OptionProbabilities(min_mass=min_mass).read(of, [JudgeReply(text, logps)])


def written(text: str, of: Instructions = PAIR, cut: str = "") -> JudgeReading | Abstention:
    return WrittenVerdict().read(of, [JudgeReply(text, cut=cut)])


def mean_of(found: JudgeReading | Abstention) -> float:
    assert isinstance(found, JudgeReading)
    return found.mean


def test_soft_labels_of_constitutional_ai(case: dict[str, Any]) -> None:
    found = [mean_of(options(*logps)) for logps in case["inputs"]["logprob_option_A_B"]]
    expected, clamp = case["expected"], tuple(case["inputs"]["clamp"])
    assert found == pytest.approx(expected["p_A"], abs=1e-9)
    assert sum(found) / 3 == pytest.approx(expected["p_A_mean_over_principles"], abs=1e-9)
    bounded = [clamped(one, clamp) for one in found]
    assert bounded == pytest.approx(expected["p_A_clamped"], abs=1e-9)
    assert sum(bounded) / 3 == pytest.approx(expected["p_A_clamped_mean"], abs=1e-9)


@pytest.mark.parametrize("bias", [1.0, -2.5])
@pytest.mark.parametrize("gap", [0.0, 0.3, -4.0])
def test_both_orders_cancel_a_bias_for_a_side(bias: float, gap: float) -> None:
    """With `gap` logits between two completions and `bias` for the first place, the label is that of the same pair named the other way."""

    def label(gap: float) -> float:
        as_is, turned = (mean_of(options(gap / 2 + bias, -gap / 2)), mean_of(options(-gap / 2 + bias, gap / 2)))
        return (as_is + 1 - turned) / 2

    assert label(gap) == pytest.approx(1 - label(-gap), abs=1e-12)
    assert label(0.0) == pytest.approx(0.5, abs=1e-12)


def test_a_tie_among_the_options_counts_half() -> None:
    of_three = Instructions(**{**vars_of(PAIR), "options": ("A", "B", "C")})
    assert mean_of(options(math.log(0.5), math.log(0.2), math.log(0.3), of=of_three)) == pytest.approx(0.65)
    assert mean_of(written("Verdict: C", of_three)) == 0.5


def vars_of(one: Instructions) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_options_that_the_model_does_not_want_to_write_are_an_abstention() -> None:
    found = options(math.log(0.04), math.log(0.02), text="Sorry", min_mass=0.1)
    assert isinstance(found, Abstention)
    assert found.kind == "no_verdict"
    assert "probability of 0.06 together, wanted to write 'Sorry'" in found.reason
    assert isinstance(options(-math.inf, -math.inf), Abstention)
    assert mean_of(options(math.log(0.04), math.log(0.02), min_mass=0.05)) == pytest.approx(2 / 3)
    assert mean_of(options(-0.1, -math.inf)) == 1.0


def test_the_expected_mark_is_weighted_by_probability() -> None:
    """Marks 1 to 5 with probabilities .1, .2, .4, .2, .1 of .8 in all; then a hand-made one."""
    assert mean_of(options(*map(math.log, (0.08, 0.16, 0.32, 0.16, 0.08)), of=MARK)) == pytest.approx(3.0)
    assert mean_of(options(math.log(0.1), -math.inf, -math.inf, math.log(0.2), math.log(0.1), of=MARK)) == pytest.approx(14 / 4)


@pytest.mark.parametrize(
    ("first", "second", "probability"),
    [
        (((3.0, 1.0),), ((3.0, 1.0),), 0.5),
        (((4.0, 1.0),), ((3.0, 1.0),), 1.0),
        (((2.0, 0.5), (4.0, 0.5)), ((3.0, 1.0),), 0.5),
        (((3.0, 0.7), (4.0, 0.3)), ((3.0, 0.6), (5.0, 0.4)), 0.7 * 0.6 / 2 + 0.3 * 0.6),
    ],
)
def test_a_pair_of_marks(first: Any, second: Any, probability: float) -> None:
    assert better(JudgeReading(first), JudgeReading(second)) == pytest.approx(probability)
    assert better(JudgeReading(second), JudgeReading(first)) == pytest.approx(1 - probability)
    assert better(JudgeReading(first, 1), JudgeReading(second, 3)) == pytest.approx((probability + 0.5) / 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", 1.0),
        ("Verdict: B", 0.0),
        ("verdict: b.", 0.0),
        ("A is longer, but wrong.\n\n**Verdict: B**", 0.0),
        ("[[A]]", 1.0),
        ("I choose [[A]] for its clarity", 1.0),
        ("Verdict: A\nNo, wait.\nVerdict: B", 0.0),
        ("Answer: (A)", 1.0),
        ("Answer A", 1.0),
        ("<think>Verdict: A</think>\nVerdict: B", 0.0),
        ("Verdict: A\n</think>\n\nVerdict: B", 0.0),
    ],
)
def test_written_verdicts(text: str, value: float) -> None:
    assert mean_of(written(text)) == value


@pytest.mark.parametrize("text", ["", "A is better than B.", "Verdict: neither", "Verdict: A or B", "<think>Verdict: A", "I cannot say. B"])
def test_prose_is_not_a_verdict(text: str) -> None:
    found = written(text)
    assert isinstance(found, Abstention)
    assert found.kind == "no_verdict"


def test_a_cut_reply_has_no_verdict_even_where_one_stands() -> None:
    found = written("Verdict: A", cut="length")
    assert isinstance(found, Abstention)
    assert (found.kind, "raise max_tokens" in found.reason) == ("cut", True)


def test_shares_of_samples_leave_out_those_without_a_verdict() -> None:
    replies = [JudgeReply("A"), JudgeReply("B"), JudgeReply("A"), JudgeReply("hm"), NoReply("away", "timeout")]
    found = SampledVerdicts(n=5).read(PAIR, replies)
    assert isinstance(found, JudgeReading)
    assert found.mean == pytest.approx(2 / 3)
    assert found.votes == 3
    few = SampledVerdicts(n=5).read(PAIR, [JudgeReply("A"), JudgeReply("A"), *[JudgeReply("hm")] * 3])
    assert isinstance(few, Abstention)
    assert "2 of 5 replies hold a verdict: the reply holds no verdict" in few.reason
    none = SampledVerdicts(n=2, min_readable=0.0).read(PAIR, [JudgeReply("hm"), JudgeReply("hm")])
    assert isinstance(none, Abstention)


def test_a_failed_request_keeps_its_reason() -> None:
    assert OptionProbabilities().read(PAIR, [NoReply("no", "status")]) == Abstention("status", "no")
    assert WrittenVerdict().read(PAIR, [NoReply("no", "refused")]) == Abstention("refused", "no")


def test_votes_are_smoothed_and_probabilities_are_not() -> None:
    assert smoothed(1.0, None) == 1.0
    assert smoothed(1.0, 1) == 0.75
    assert smoothed(0.75, 4) == pytest.approx(0.7)
