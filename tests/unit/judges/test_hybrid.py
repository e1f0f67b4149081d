"""Hybrid labelling: who answers what and why, within a budget, and what the mix bought."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError
from palate.data.exclusions import Exclusion, Exclusions, excluding
from palate.judges.function_judge import FunctionJudge
from palate.judges.hybrid import ByRules, ByShare, Hybrid
from palate.judges.judge_rater import JudgeRater
from palate.judges.mix import PeopleBudget
from palate.raters.simulated import RaterPool, Simulated
from tests.unit.judges.conftest import collected, rows, samples

WORLD = "tests.support.judged_world"
PEOPLE = Simulated(
    gold=f"{WORLD}:gold",
    pool=RaterPool(raters=6, reliability=0.9, sharpness=20.0, side_bias=0.0, length_bias=0.0, phrase_bias=0.0, indifference=0.0),
)
PROMPTS = 208


def judge(name: str, **settings: Any) -> JudgeRater:
    return JudgeRater(model=FunctionJudge(function=f"{WORLD}:{name}", name=name), max_failed=0.9, **settings)


def hybrid(
    of: str, second: str | None = None, budget: PeopleBudget | None = None, people_shares: dict[str, float] | None = None, **rules: Any
) -> Hybrid:
    return Hybrid(
        judge=judge(of),
        second=None if second is None else judge(second),
        people=PEOPLE,
        people_shares=people_shares or {},
        route=ByRules(**{"calibration": 0.25, **rules}),
        budget=budget or PeopleBudget(),
    )


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> str:
    return samples(tmp_path_factory.mktemp("given"), prompts=PROMPTS)


def told(directory: Path, given: str, of: Hybrid, *more: str, **settings: Any) -> dict[str, Any]:
    """The mix of a run on the dimension helpful, and on further ones."""
    found: dict[str, Any] = collected(directory, given, of, dimensions=("helpful", *more), **settings)["mix"]
    return found


def routes(directory: Path, dimension: str = "helpful") -> Counter[tuple[str, str]]:
    return Counter((row["route"], row["by"]) for row in rows(directory, "routes") if row["dimension"] == dimension)


def gap_of(row: dict[str, Any]) -> int:
    number = int(row["comparison"].split("/")[0][1:])
    return abs(number % 10 - (7 + number) % 10)


def test_a_judge_that_is_as_good_answers_all_but_the_calibration(given: str, tmp_path: Path) -> None:
    mix = told(tmp_path, given, hybrid("right"))
    assert routes(tmp_path) == {("calibration", "people"): 52, ("judge", "judge"): 156}
    assert mix["dimensions"]["helpful"]["believed"]
    assert mix["dimensions"]["helpful"]["questions"] == 52
    assert mix["sources"]["people"]["labels"] == 52 * 2
    assert mix["sources"]["judge"]["questions"] == 156
    assert mix["unanswered"] == 0
    assert mix["sources"]["judge"]["accuracy"]["value"] == 1
    assert 0.8 < mix["sources"]["people"]["accuracy"]["value"] < 1


def test_labels_carry_the_names_of_those_who_gave_them(given: str, tmp_path: Path) -> None:
    told(tmp_path, given, hybrid("right"))
    by = {(row["comparison"], row["dimension"]): row["by"] for row in rows(tmp_path, "routes")}
    for row in rows(tmp_path, "preferences"):
        comparison, _, dimension = row["id"].rpartition("/")
        names = {name.split("/")[0].split("-")[0] for name in row["raters"]}
        assert names == ({"simulated"} if by[comparison, dimension] == "people" else {"right"})
    both = Counter(row["rater"].split("/")[0].split("-")[0] for row in rows(tmp_path, "calibration"))
    assert both == {"simulated": 104, "right": 104}  # two people, and the judge in both orders


def test_a_rater_who_is_excluded_does_not_calibrate_the_judge_either(given: str, tmp_path: Path) -> None:
    with excluding(Exclusions((Exclusion("rater", "simulated-1"), Exclusion("rater", "simulated-4")))):
        mix = told(tmp_path, given, hybrid("right"))
    people = Counter(row["rater"] for name in ("judgments", "calibration") for row in rows(tmp_path, name) if "/" not in row["rater"])
    assert set(people) == {"simulated-0", "simulated-2", "simulated-3", "simulated-5"}
    assert mix["dimensions"]["helpful"]["questions"] < 52


def test_where_the_judge_is_not_as_good_people_answer_everything(given: str, tmp_path: Path) -> None:
    mix = told(tmp_path, given, hybrid("wrong"))
    assert routes(tmp_path) == {("calibration", "people"): 52, ("not as good", "people"): 156}
    assert not mix["dimensions"]["helpful"]["believed"]
    assert mix["dimensions"]["helpful"]["difference"]["high"] < 0
    assert mix["sources"]["judge"]["questions"] == 0


def test_few_answers_do_not_prove_a_judge(given: str, tmp_path: Path) -> None:
    """49 questions are too few and 50 are enough, though the judge is always right."""
    told(tmp_path / "few", given, hybrid("right", calibration=49 / PROMPTS))
    told(tmp_path / "enough", given, hybrid("right", calibration=50 / PROMPTS))
    assert routes(tmp_path / "few") == {("calibration", "people"): 49, ("not as good", "people"): 159}
    assert routes(tmp_path / "enough") == {("calibration", "people"): 50, ("judge", "judge"): 158}


def test_a_dimension_of_people_alone_is_not_asked_of_the_judge(given: str, tmp_path: Path) -> None:
    summary = collected(tmp_path, given, hybrid("right", people_shares={"harmless": 1.0}), dimensions=("helpful", "harmless"))
    assert routes(tmp_path, "harmless") == {("assigned", "people"): 208}
    assert routes(tmp_path)["judge", "judge"] == 156
    assert list(summary["mix"]["dimensions"]) == ["helpful"]
    assert summary["judges"]["requests"] == 208 * 2  # each pair in both orders, on helpful alone
    assert {row["dimension"] for row in rows(tmp_path, "judgments") if row["rater"].startswith("right")} == {"helpful"}
    assert {row["dimension"] for row in rows(tmp_path, "calibration")} == {"helpful"}


@pytest.mark.parametrize("route", [ByRules(calibration=0.25), ByShare(people=1.0)])
def test_a_dimension_of_the_judge_alone_is_not_asked_of_people(given: str, tmp_path: Path, route: ByRules | ByShare) -> None:
    """Whatever the route of the others, and though this judge is always wrong."""
    of = Hybrid(judge=judge("wrong"), people=PEOPLE, people_shares={"harmless": 0.0}, route=route)
    mix = told(tmp_path, given, of, "harmless")
    assert routes(tmp_path, "harmless") == {("judge", "judge"): 208}
    assert {by for _, by in routes(tmp_path)} == {"people"}
    assert {row["dimension"] for row in rows(tmp_path, "judgments") if row["rater"].startswith("simulated")} == {"helpful"}
    assert mix["sources"]["people"]["questions"] == mix["sources"]["judge"]["questions"] == 208


def test_each_dimension_has_its_own_share_of_people(given: str, tmp_path: Path) -> None:
    of = Hybrid(judge=judge("right"), people=PEOPLE, people_shares={"helpful": 0.25, "harmless": 0.5}, route=ByShare(people=1.0))
    told(tmp_path, given, of, "harmless")
    assert routes(tmp_path) == {("uncertain", "people"): 52, ("judge", "judge"): 156}
    assert routes(tmp_path, "harmless") == {("uncertain", "people"): 104, ("judge", "judge"): 104}
    for dimension in ("helpful", "harmless"):
        found = [row for row in rows(tmp_path, "routes") if row["dimension"] == dimension]
        people, judged = ([gap_of(row) for row in found if row["by"] == by] for by in ("people", "judge"))
        assert max(people) <= min(judged)


def test_what_the_judge_is_unsure_of_goes_to_people(given: str, tmp_path: Path) -> None:
    told(tmp_path, given, hybrid("careful"))
    for row in rows(tmp_path, "routes"):
        if row["route"] != "calibration":
            assert row["route"] == ("uncertain" if gap_of(row) < 5 else "judge")
            assert row["by"] == ("people" if gap_of(row) < 5 else "judge")


def test_what_two_judges_dispute_goes_to_people(given: str, tmp_path: Path) -> None:
    told(tmp_path, given, hybrid("right", second="contrary"))
    for row in rows(tmp_path, "routes"):
        if row["route"] != "calibration":
            assert row["route"] == ("disputed" if gap_of(row) == 3 else "judge")


def test_where_the_judge_abstains_people_answer(given: str, tmp_path: Path) -> None:
    told(tmp_path, given, hybrid("shy", calibration=0.4))
    for row in rows(tmp_path, "routes"):
        if row["route"] != "calibration":
            assert row["route"] == ("abstained" if gap_of(row) == 7 else "judge")
            assert row["by"] == ("people" if gap_of(row) == 7 else "judge")


def test_a_spent_budget_leaves_the_judge_what_it_can_answer(given: str, tmp_path: Path) -> None:
    """104 answers go to calibration and 40 are left; the others of which the judge is unsure keep its answer."""
    mix = told(tmp_path, given, hybrid("careful", budget=PeopleBudget(labels=144, cost_per_label=0.5)))
    assert routes(tmp_path)["uncertain", "people"] == 40
    assert routes(tmp_path)["uncertain", "judge"] > 0
    assert mix["sources"]["people"] == {**mix["sources"]["people"], "labels": 144, "cost": 72.0}
    assert mix["unanswered"] == 0


def test_a_spent_budget_leaves_out_what_no_judge_may_answer(given: str, tmp_path: Path) -> None:
    """Questions of people alone come first; the rest of a dimension that the judge does not master stays without an answer."""
    mix = told(tmp_path, given, hybrid("wrong", people_shares={"harmless": 1.0}, budget=PeopleBudget(labels=332)), "harmless")
    assert routes(tmp_path, "harmless") == {("assigned", "people"): 208}
    assert routes(tmp_path) == {("calibration", "people"): 52, ("not as good", "people"): 20, ("not as good", "nobody"): 136}
    assert mix["unanswered"] == 136
    assert len(rows(tmp_path, "preferences")) == 280


def test_a_budget_that_ends_within_calibration_believes_no_judge(given: str, tmp_path: Path) -> None:
    mix = told(tmp_path, given, hybrid("right", budget=PeopleBudget(hours=0.5, seconds_per_label=36)))  # 50 answers
    assert mix["sources"]["people"] == {**mix["sources"]["people"], "labels": 50, "hours": 0.5}
    assert not any(one["believed"] for one in mix["dimensions"].values())
    assert mix["unanswered"] == 208 - 25


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_fixed_share_goes_to_people_where_the_judge_is_least_sure(given: str, tmp_path: Path, share: float) -> None:
    of = Hybrid(judge=judge("right"), people=PEOPLE, route=ByShare(people=share))
    told(tmp_path, given, of)
    found = rows(tmp_path, "routes")
    people = [gap_of(row) for row in found if row["by"] == "people"]
    assert len(people) == share * 208
    assert max(people, default=0) <= min((gap_of(row) for row in found if row["by"] == "judge"), default=9)


def test_several_people_answer_a_question_where_that_is_set(given: str, tmp_path: Path) -> None:
    mix = told(tmp_path, given, hybrid("wrong"), raters_per_comparison=3)
    assert mix["sources"]["people"]["labels"] == 208 * 3


def test_the_same_run_gives_the_same_files(given: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        told(tmp_path / name, given, hybrid("careful", second="contrary"))
    for file in ("routes", "judgments", "preferences", "calibration"):
        assert (tmp_path / "one" / f"{file}.jsonl").read_bytes() == (tmp_path / "two" / f"{file}.jsonl").read_bytes()


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="cost_per_label"):
        PeopleBudget(cost=10.0)
    with pytest.raises(ConfigError, match="around one half"):
        ByRules(uncertain=(0.6, 0.9))
    with pytest.raises(ConfigError, match="at most 1, the number of raters in the pool, got 2"):
        Hybrid(judge=judge("right"), people=Simulated(gold=f"{WORLD}:gold", pool=RaterPool(raters=1))).check(1, ("helpful",))


def test_a_dimension_that_nobody_asks_about_is_refused_before_anything_is_asked(given: str, tmp_path: Path) -> None:
    of = hybrid("right", people_shares={"harmles": 1.0, "honest": 0.5})
    with pytest.raises(ConfigError, match="nothing is asked about 'harmles' and 'honest'. Did you mean 'harmless'?"):
        told(tmp_path, given, of, "harmless")
    assert not (tmp_path / "routes.jsonl").exists()


def test_who_does_not_answer_a_dimension_need_not_be_able_to(tmp_path: Path) -> None:
    """The judge has principles on one dimension alone, and one person is too few to compare it with."""
    (tmp_path / "mine.yaml").write_text("principles: [{id: safe, dimension: harmless, text: a, critique: b, revision: c}]")
    one = Simulated(gold=f"{WORLD}:gold", pool=RaterPool(raters=1))
    of = Hybrid(judge=judge("right", principles=str(tmp_path / "mine.yaml")), people=one, people_shares={"harmless": 0.0, "helpful": 1.0})
    of.check(1, ("helpful", "harmless"))
    with pytest.raises(ConfigError, match="no principle of constitution is about helpful; there are harmless"):
        replace(of, people_shares={"harmless": 0.0, "helpful": 0.5}).check(1, ("helpful", "harmless"))
