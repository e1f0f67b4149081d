"""A judge's report card from judgments: who is the judge, what is joined, what is said, and what the card's file allows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.core import Comparison, ConfigError, DataError, Judgment
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote
from palate.evaluation.judge_calibration import FittedCalibration, fitted_calibration
from palate.evaluation.judge_report import JudgeReport, findings, report_on_judge, verdict
from palate.evaluation.judged_pairs import own_policies
from palate.judges.judge_card import Calibration, read_card
from tests.support.simulated_judges import JUDGE, Pool, answers, judged


def exchange(comparisons: list[Comparison], judgments: list[Judgment], kind: str = "person") -> Exchange:
    raters = {one.rater for one in judgments}
    kinds = [RaterInfo(rater, "model" if rater.startswith(JUDGE.partition("@")[0]) else kind) for rater in sorted(raters)]
    return Exchange(tuple(map(ExchangeItem.of, comparisons)), tuple(map(Vote, judgments)), tuple(kinds))


def report(pool: Pool, seed: int = 0) -> JudgeReport:
    comparisons, judge, people = judged(pool, seed)
    return report_on_judge(exchange(comparisons, judge + people))


def said(found: JudgeReport) -> str:
    return " ".join([verdict(found.judge, found.dimensions[0]), *findings(found.dimensions[0])])


def test_one_table_and_two_files_give_one_card_whatever_their_items_are_called_and_however_they_stand() -> None:
    comparisons, judge, people = judged(Pool(pairs=80), 0)
    whole = report_on_judge(exchange(comparisons, judge + people))
    theirs = exchange(comparisons, people)
    items = {item.id: f"other-{k}" for k, item in enumerate(reversed(theirs.items))}
    turned = [
        replace(item, id=items[item.id], candidates=tuple(Candidate(each.text) for each in reversed(item.candidates)))
        for item in theirs.items
    ]
    votes = tuple(replace(vote, judgment=vote.judgment.renumbered(items[vote.judgment.comparison], (1, 0))) for vote in theirs.votes)
    apart = report_on_judge(exchange(comparisons, judge), replace(theirs, items=tuple(reversed(turned)), votes=votes))
    for one, other in zip(whole.dimensions, apart.dimensions, strict=True):
        assert one.agreement.judge == other.agreement.judge
        assert one.agreement.people == other.agreement.people
        assert one.habits.own.beyond.value == pytest.approx(other.habits.own.beyond.value)
    assert apart.is_joined_by_text


def test_items_with_texts_are_never_joined_by_their_name() -> None:
    comparisons, judge, people = judged(Pool(pairs=60), 0)
    bare = [replace(one, completions=tuple(replace(side, text="") for side in one.completions)) for one in comparisons]
    with pytest.raises(DataError, match="judged no pair in common"):
        report_on_judge(exchange(comparisons, judge), exchange(bare, people))
    labels = report_on_judge(exchange(bare, judge), exchange(bare, people))
    assert not labels.is_joined_by_text
    assert labels.dimensions[0].agreement.pairs == 60


def test_fewer_than_fifty_pairs_do_not_calibrate_and_the_lack_is_told() -> None:
    found = report(Pool(pairs=31))
    assert found.dimensions[0].fitted is None
    assert f"{JUDGE} is not calibrated for overall: people judged 31 of its pairs, and calibration takes 50; 19 are missing." in said(found)
    assert "is calibrated for overall, on 50 pairs" in said(report(Pool(pairs=50)))


def test_a_judge_that_always_says_the_same_is_named_and_not_calibrated() -> None:
    comparisons, _, people = judged(Pool(pairs=80), 0)
    first = [Judgment(one.id, JUDGE, ((0,), (1,)), order=order) for one in comparisons for order in ((0, 1), (1, 0))]
    words = said(report_on_judge(exchange(comparisons, first + people)))
    assert "not calibrated for overall: it gives the same answer to every pair (what is shown first)" in words
    assert "Its answers do not depend on the completions." in words
    assert "changes with the order" not in words


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ({"length": 1.0}, "It prefers the longer completion beyond what people say"),
        ({"side": 1.5}, "It prefers what is shown first"),
        ({"own": 4.0}, "It prefers completions of judge-7b beyond what people say"),
    ],
)
def test_a_planted_flaw_is_a_sentence_and_other_flaws_are_not(flaw: dict[str, float], words: str) -> None:
    found = said(report(replace(Pool(pairs=400), **flaw), seed=1))
    assert words in found
    assert found.count("It prefers") == 1


def test_a_worse_judge_than_the_length_rule_is_told_so() -> None:
    comparisons, _, people = judged(Pool(pairs=200, taste=0.6), 0)
    rng = np.random.default_rng(0)
    coin = [Judgment(one.id, JUDGE, (((0,), (1,)), ((1,), (0,)))[rng.integers(2)], order=(0, 1)) for one in comparisons]
    words = said(report_on_judge(exchange(comparisons, coin + people)))
    assert "It agrees with people less than the rule that the longer one wins does" in words


def test_the_judge_is_the_only_model_or_named() -> None:
    comparisons, judge, people = judged(Pool(pairs=60), 0)
    newer = [replace(one, rater=JUDGE.replace("@1", "@2")) for one in judge]
    both = exchange(comparisons, judge + newer + people)
    with pytest.raises(ConfigError, match="org/judge-7b/pairwise judged under several versions of its instructions"):
        report_on_judge(both)
    assert report_on_judge(both, judge=f"{JUDGE[:-1]}2").judge.endswith("@2")
    with pytest.raises(ConfigError, match="no rater is a model"):
        report_on_judge(exchange(comparisons, people))
    with pytest.raises(ConfigError, match="--judge eve: there is no such rater"):
        report_on_judge(both, judge="eve")
    with pytest.raises(DataError, match="no judgment of any person"):
        report_on_judge(exchange(comparisons, judge))
    kind = [replace(one, dimension="kind") for one in people]
    with pytest.raises(DataError, match=f"{JUDGE} judged overall, and people judged kind"):
        report_on_judge(exchange(comparisons, judge + kind))


def test_principles_are_one_judge_and_dimensions_are_apart() -> None:
    comparisons, judge, people = judged(Pool(pairs=60), 0)
    drawn = [replace(one, rater=f"{JUDGE}#{'ab'[k % 4 // 2]}") for k, one in enumerate(judge)]
    kind = [replace(one, dimension="kind") for one in (*drawn[:80], *people)]
    found = report_on_judge(exchange(comparisons, drawn + people + kind))
    assert found.judge == JUDGE
    assert {one.dimension: one.agreement.pairs for one in found.dimensions} == {"overall": 60, "kind": 40}
    assert [one.dimension for one in report_on_judge(exchange(comparisons, drawn + people + kind), dimension="kind").dimensions] == ["kind"]
    assert report_on_judge(exchange(comparisons, drawn + people), judge=f"{JUDGE}#a").dimensions[0].agreement.pairs == 30


def test_simulated_raters_stand_for_people_and_are_named() -> None:
    comparisons, judge, people = judged(Pool(pairs=60), 0)
    assert report_on_judge(exchange(comparisons, judge + people, "simulated")).people == {"simulated": len(people)}


def test_equal_judgments_have_equal_digests_and_others_have_not() -> None:
    comparisons, judge, people = judged(Pool(pairs=60), 0)
    whole, again = (report_on_judge(exchange(comparisons, part)).data for part in (judge + people, people[::-1] + judge[::-1]))
    assert whole == again
    assert report_on_judge(exchange(comparisons, judge + people[1:])).data != whole


@pytest.mark.parametrize(
    ("judge", "policies", "own"),
    [
        ("gpt4_pair", ["gpt-4", "gpt-3.5-turbo", "llama"], ("gpt-4",)),
        ("openai/GPT-4/helpful@1a2b3c4d", ["gpt-4", "gpt-3.5"], ("gpt-4",)),
        ("gpt-4o/pair-v2", ["gpt-4", "gpt-3.5", "claude"], ("gpt-3.5", "gpt-4")),
        ("qwen/helpful@1", ["llama", "gpt-4"], ()),
    ],
)
def test_own_policies_are_the_model_or_else_its_family(judge: str, policies: list[str], own: tuple[str, ...]) -> None:
    assert own_policies(judge, policies) == own


def fit(pool: Pool, seed: int = 0) -> FittedCalibration:
    found = fitted_calibration(answers(pool, seed), np.random.default_rng(seed))
    assert not isinstance(found, str)
    return found


def test_the_temperature_of_an_overconfident_judge_is_recovered() -> None:
    plain, sure = (fit(Pool(pairs=800, overconfidence=times)) for times in (1.0, 3.0))
    assert sure.calibration.temperature / plain.calibration.temperature == pytest.approx(3.0, rel=0.05)
    assert sure.before.ece.low > sure.after.ece.high
    assert sure.before.log_loss.low > sure.after.log_loss.high
    assert (sure.fitted, sure.tested) == (400, 400)
    assert sure.calibration.threshold == 0.5


def test_the_threshold_takes_out_a_taste_for_a_side() -> None:
    found = fit(Pool(pairs=600, side=1.0))
    assert found.calibration.threshold == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.06)
    assert found.after.log_loss.value < found.before.log_loss.value


def test_answers_that_tell_nothing_fit_no_temperature() -> None:
    assert "do not tell what people prefer" in str(fitted_calibration(answers(Pool(sharpness=0.0, taste=0.0), 3), np.random.default_rng(0)))


def test_a_calibration_turns_probabilities_into_shares() -> None:
    cold = Calibration(2.0, 0.7)
    assert cold.of_probability(0.7) == pytest.approx(0.5)
    assert cold.of_probability(0.9) == pytest.approx(1 / (1 + np.exp(-(np.log(9) - np.log(7 / 3)) / 2)))
    assert 0.5 < cold.of_probability(1.0) < 1.0
    same = Calibration.of(1 / 2.0, -np.log(7 / 3) / 2)
    assert (same.temperature, same.threshold) == (pytest.approx(2.0), pytest.approx(0.7))


def test_the_card_is_for_its_judge_version_and_dimension_alone(tmp_path: Path) -> None:
    found = report(Pool(pairs=60))
    file = tmp_path / "cards" / "card.json"
    found.card.write(file)
    card = read_card(file)
    assert card.judge == JUDGE
    assert card.data == found.data
    fitted = found.dimensions[0].fitted
    assert fitted is not None
    assert card.calibration_of(JUDGE, "overall") == card.calibration_of(f"{JUDGE}#fair", "overall") == fitted.calibration
    for rater, dimension, words in (
        (JUDGE.replace("@1", "@2"), "overall", "another version of the instructions is another judge"),
        (JUDGE.replace("judge-7b", "judge-8b"), "overall", "is the card of org/judge-7b/pairwise@1, and the judge is org/judge-8b"),
        (JUDGE, "kind", "is about overall, and the question is kind"),
    ):
        with pytest.raises(ConfigError, match=words):
            card.calibration_of(rater, dimension)
    report(Pool(pairs=20)).card.write(file)
    with pytest.raises(ConfigError, match="is not calibrated for overall: people judged 20 of its pairs"):
        read_card(file).calibration_of(JUDGE, "overall")
    row = json.loads(file.read_text())
    assert {"model": "org/judge-7b", "instructions": "pairwise", "instructions_version": "1"}.items() <= row.items()


@pytest.mark.parametrize("text", ["[]", "{", '{"palate": "exchange"}', '{"palate": "judge card", "version": 99}'])
def test_another_file_is_not_a_card(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="is not the report card of a judge"):
        read_card(tmp_path / "a.json")
    with pytest.raises(ConfigError, match="there is no such file"):
        read_card(tmp_path / "b.json")
