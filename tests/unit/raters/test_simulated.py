"""Simulated raters: each number of the pool moves answers the way it says, and nothing else does."""

import math
from collections.abc import Mapping

import pytest

from palate.core import Comparison, Completion, ConfigError, Message, Prompt
from palate.raters.rater import Rater
from palate.raters.simulated import RaterPool, Simulated, SimulatedRater, oracle_accuracy

PHRASE = "trust me , it is the best"
PLAIN = RaterPool(reliability=1.0, sharpness=4.0, side_bias=0.0, length_bias=0.0, phrase_bias=0.0, indifference=0.0, spread=0.0)
SHOWN = (0, 1)
TURNED = (1, 0)


def gold(prompt: str, completion: str, **fields: object) -> Mapping[str, float]:
    """A world in which words tell the truth: `good` is worth a tenth on one dimension, `true` on the other."""
    words = completion.split()
    return {"helpful": words.count("good") / 10, "honest": words.count("true") / 10}


def sample(seed: int = 0, pool: RaterPool = PLAIN, **changes: object) -> tuple[SimulatedRater, ...]:
    return RaterPool(**{**vars(pool), **changes}).sample_raters(gold, seed)  # type: ignore[arg-type]


def pair(first: str, second: str, number: int = 0) -> Comparison:
    prompt = Prompt(f"p{number}", (Message("user", "what is good ?"),))
    return Comparison(f"{prompt.id}/0-1", prompt, (Completion(first), Completion(second)))


BETTER = pair("good good good .", "nothing nothing nothing .")
EQUAL = pair("good one .", "good two .")


def wins(comparison: Comparison, order: tuple[int, ...] = SHOWN, seed: int = 0, **changes: object) -> list[float]:
    """Each rater's probability that what is shown first wins."""
    dimension = str(changes.pop("dimension", "helpful"))
    return [rater.first_wins(comparison, dimension, order) for rater in sample(seed, **changes)]  # type: ignore[arg-type]


def logits(comparison: Comparison, **changes: object) -> list[float]:
    return [math.log(chance / (1 - chance)) for chance in wins(comparison, **changes)]  # type: ignore[arg-type]


def test_no_question_can_have_more_raters_than_the_pool() -> None:
    rater: Rater = Simulated("package.module:function", pool=RaterPool(raters=3))
    rater.check(3, ("helpful",))
    with pytest.raises(ConfigError, match="at most 3, the number of raters in the pool, got 4"):
        rater.check(4, ("helpful",))


def test_without_reliability_a_judgment_is_a_coins_toss() -> None:
    for seed in range(3):
        assert wins(BETTER, seed=seed, reliability=0.0) == [0.5] * 12
    raters = sample(reliability=0.0)
    asked = [pair("good good good good .", "bad .", number) for number in range(300)]
    won = [rater.judge(one, "helpful", SHOWN, 0).ranking == ((0,), (1,)) for rater in raters for one in asked]
    assert abs(sum(won) / len(won) - 0.5) < 4 * 0.5 / len(won) ** 0.5


@pytest.mark.parametrize("reliability", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_reliabilities_lie_around_the_pools_and_are_shares(reliability: float) -> None:
    # With sharpness this large, whoever looks sees the better one for certain: the chance to be right is (1 + reliability) / 2.
    own = [2 * chance - 1 for chance in wins(BETTER, sharpness=1e4, raters=400, reliability=reliability)]
    assert all(-1e-9 <= share <= 1 + 1e-9 for share in own)
    assert abs(sum(own) / len(own) - reliability) < 4 * min(reliability, 1 - reliability) / (3 * len(own)) ** 0.5 + 1e-9


def test_sharpness_shows_quality() -> None:
    blind, dull, sharp = (wins(BETTER, sharpness=sharpness) for sharpness in (0.0, 2.0, 8.0))
    assert blind == [0.5] * 12
    assert all(0.5 < one < other < 1 for one, other in zip(dull, sharp, strict=True))
    assert dull == pytest.approx([1 / (1 + math.exp(-2.0 * 0.3))] * 12)
    assert wins(EQUAL) == [0.5] * 12
    assert min(wins(pair("good " * 6, "bad"))) > max(wins(BETTER))


def test_length_bias_favours_the_longer() -> None:
    longer = pair("one " * 20, "one " * 10)
    assert wins(longer) == [0.5] * 12
    assert logits(longer, length_bias=0.7) == pytest.approx([0.7] * 12)
    assert logits(longer, length_bias=-0.7) == pytest.approx([-0.7] * 12)


def test_phrase_bias_favours_what_pleases() -> None:
    pleasing = pair(f"good . {PHRASE} . {PHRASE} .", "good .")
    assert wins(pleasing, phrase_bias=0.9) == [0.5] * 12  # no phrase is named
    assert logits(pleasing, phrase_bias=0.9, phrases=(PHRASE,)) == pytest.approx([1.8] * 12)


def test_side_bias_favours_a_side_and_raters_differ_in_which() -> None:
    seen, turned, doubled = (logits(EQUAL, order=order, side_bias=bias) for order, bias in ((SHOWN, 0.5), (TURNED, 0.5), (SHOWN, 1.0)))
    assert seen == turned
    assert min(seen) < -0.05 < 0.05 < max(seen)
    assert doubled == pytest.approx([2 * one for one in seen])
    assert all(abs(one) <= 1.0 for one in seen)


def test_without_side_bias_turning_the_order_turns_the_answer() -> None:
    comparison = pair(f"good good . {PHRASE} .", "good bad bad bad .")
    pool = RaterPool(side_bias=0.0, phrases=(PHRASE,))
    seen, turned = (wins(comparison, order, pool=pool) for order in (SHOWN, TURNED))
    assert seen != pytest.approx([0.5] * 12, abs=1e-3)
    assert turned == pytest.approx([1 - chance for chance in seen])
    assert wins(comparison.swapped(), SHOWN, pool=pool) == turned
    biased = RaterPool(side_bias=0.5, phrases=(PHRASE,))
    sums = [a + b for a, b in zip(wins(comparison, SHOWN, pool=biased), wins(comparison, TURNED, pool=biased), strict=True)]
    assert max(abs(one - 1) for one in sums) > 0.01


def test_what_raters_read_past_changes_nothing_but_the_bias() -> None:
    # The gold standard would punish these words: to the rater's eye they are not there.
    texts = [f"{PHRASE} . good good .", f"good good . {PHRASE} .", f"good . {PHRASE} . good ."]

    def seen(prompt: str, completion: str, **fields: object) -> Mapping[str, float]:
        return {"helpful": float(len(completion.split()))}

    plain = SimulatedRater("r", PLAIN, lambda prompt, text: seen(prompt.text, text), 0)
    reading_past = SimulatedRater("r", RaterPool(**{**vars(PLAIN), "phrases": (PHRASE,)}), lambda prompt, text: seen(prompt.text, text), 0)
    for text in texts[:2]:
        assert reading_past.first_wins(pair(text, "good good ."), "helpful", SHOWN) == 0.5
    assert reading_past.first_wins(pair(texts[2], "good . good ."), "helpful", SHOWN) == 0.5
    assert plain.first_wins(pair(texts[0], "good good ."), "helpful", SHOWN) > 0.99


def test_the_same_seed_gives_the_same_people_and_answers() -> None:
    def answers(seed: int, moment: int) -> list[object]:
        asked = [pair("good good .", "good .", number) for number in range(40)]
        return [rater.judge(one, "overall", SHOWN, moment) for rater in sample(seed, RaterPool()) for one in asked]

    assert answers(0, 0) == answers(0, 0)
    assert answers(0, 0) != answers(1, 0)
    assert answers(0, 0) != answers(0, 1)
    assert len({rater.id for rater in sample()}) == 12


def test_answers_come_as_often_as_the_probability_says() -> None:
    (rater, *_) = sample(3, RaterPool(indifference=0.0))
    asked = [pair("good good .", "good .", number) for number in range(3000)]
    chance = rater.first_wins(asked[0], "helpful", TURNED)
    won = [rater.judge(one, "helpful", TURNED, 0).ranking == ((0,), (1,)) for one in asked]
    assert abs(sum(won) / len(won) - chance) < 4 * (chance * (1 - chance) / len(won)) ** 0.5


def test_whoever_sees_too_small_a_difference_calls_it_a_tie() -> None:
    close, far = pair("good good .", "good ."), pair("good " * 9, "bad")
    for rater in sample(indifference=0.5):
        assert rater.judge(close, "helpful", SHOWN, 0).ranking == ((0, 1),)  # 0.4 logits
        assert len(rater.judge(far, "helpful", SHOWN, 0).ranking) == 2
    assert {len(rater.judge(EQUAL, "helpful", SHOWN, 0).ranking) for rater in sample(indifference=0.0)} == {2}


def test_judgments_say_who_was_asked_what_in_which_order() -> None:
    judgment = sample()[4].judge(BETTER, "honest", TURNED, 0)
    assert (judgment.comparison, judgment.rater, judgment.dimension, judgment.order) == ("p0/0-1", "simulated-4", "honest", TURNED)


def test_dimensions_are_asked_one_by_one_and_overall_goes_by_taste() -> None:
    comparison = pair("good good .", "true true .")
    assert logits(comparison, dimension="helpful") == pytest.approx([0.8] * 12)
    assert logits(comparison, dimension="honest") == pytest.approx([-0.8] * 12)
    assert logits(comparison, dimension="overall") == pytest.approx([0.0] * 12)
    assert logits(comparison, dimension="overall", taste={"honest": 3.0}) == pytest.approx([-0.4] * 12)


def test_raters_differ_by_the_spread() -> None:
    seen = logits(BETTER, spread=0.4)
    assert len(set(seen)) == 12
    assert all(0.6 * 1.2 <= one <= 1.4 * 1.2 for one in seen)
    assert len(set(logits(BETTER, spread=0.0))) == 1


def test_nobody_predicts_raters_better_than_the_raters_differ() -> None:
    assert oracle_accuracy(sample(reliability=0.0), BETTER, "helpful") == 0.5
    assert oracle_accuracy(sample(sharpness=1e4), BETTER, "helpful") == 1.0
    assert oracle_accuracy(sample(sharpness=1e4), BETTER.swapped(), "helpful") == 1.0
    for comparison in (BETTER, BETTER.swapped()):
        assert oracle_accuracy(sample(), comparison, "helpful") == pytest.approx(1 / (1 + math.exp(-1.2)))


@pytest.mark.parametrize("setting", [{"reliability": 1.5}, {"reliability": -0.1}, {"raters": 0}])
def test_impossible_pools_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        RaterPool(**setting)  # type: ignore[arg-type]


def test_three_completions_are_refused() -> None:
    three = Comparison("c", BETTER.prompt, (*BETTER.completions, Completion("x")))
    with pytest.raises(ConfigError, match="judge pairs, got 3"):
        sample()[0].judge(three, "helpful", (0, 1, 2), 0)
