"""Stage `compare` on real files, runs, small models, judges and rewards: what is joined, who may lead, what a killed run does again."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import evalica
import numpy as np
import pytest
from markupsafe import escape

from palate.agreement.paired_rates import CONSTANT, ONE_PROMPT
from palate.cli import main
from palate.cli.comparison_page import show_comparison
from palate.core import ConfigError, DataError, Interrupted, Sampling
from palate.data.data_sources import DataSource
from palate.data.jsonl import write_rows
from palate.evaluation.comparison_figures import PolicyComparison, read_comparison
from palate.evaluation.rater_report import report_on
from palate.evaluation.report.comparison_text import NO_HEADLINE, exceptions, headline, notes
from palate.judges.function_judge import FunctionJudge
from palate.judges.judge_card import CLIP, Calibration, CardEntry, JudgeCard
from palate.judges.judge_rater import JudgeRater
from palate.models.scalar import scalar_from
from palate.raters.people import People
from palate.raters.simulated import RaterPool, Simulated
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run_at
from palate.stages.compare import Compare
from palate.testing import tiny_policy
from tests.support.stages import dropped_of, ran, rows_of, summary_of

WORLD = "tests.support.judged_world"
GOLD = f"{WORLD}:gold"
JUDGE = JudgeRater(model=FunctionJudge(function=f"{WORLD}:right", name="fair"))
SHARP = RaterPool(raters=5, reliability=1, sharpness=1000, side_bias=0, length_bias=0, phrase_bias=0, spread=0, indifference=0)


def answers(folder: Path, name: str, worths: Mapping[int, int | None], words: str = "an answer of worth") -> str:
    """A file of answers to numbered questions; the last number of each is its worth, and None is an empty answer."""
    rows = [
        {"prompt": [{"role": "user", "content": f"question {k}"}], "completions": [{"text": "" if worth is None else f"{words} {worth}"}]}
        for k, worth in worths.items()
    ]
    write_rows(folder / f"{name}.jsonl", rows)
    return str(folder / f"{name}.jsonl")


def worths(seed: int, mean: float, count: int = 60) -> dict[int, int]:
    draw = random.Random(seed)
    return {k: max(0, round(draw.gauss(mean, 2))) for k in range(count)}


def compared(folder: Path, policies: Mapping[str, str], name: str = "compare", seed: int = 1, **settings: Any) -> PolicyComparison:
    return read_comparison(ran(Compare(dict(policies), **settings), folder / name, name, seed))


@pytest.fixture
def three(tmp_path: Path) -> dict[str, str]:
    return {name: answers(tmp_path, name, worths(k, mean)) for k, (name, mean) in enumerate({"low": 4, "mid": 5, "high": 7}.items())}


def share(one: Mapping[int, int], other: Mapping[int, int]) -> float:
    return float(np.mean([0.5 if one[k] == other[k] else float(one[k] > other[k]) for k in one]))


def test_three_policies_by_gold_are_ranked_as_evalica_ranks_them(three: dict[str, str], tmp_path: Path) -> None:
    found = compared(tmp_path, three, gold=GOLD)
    (gold,) = found.sources
    truth = {name: worths(k, mean) for k, (name, mean) in enumerate({"low": 4, "mid": 5, "high": 7}.items())}
    assert {(one.match.policy, one.match.other) for one in gold.rates} == {("high", "low"), ("high", "mid"), ("mid", "low")}
    for one in gold.rates:
        assert one.match.rate.value == pytest.approx(share(truth[one.match.policy], truth[one.match.other]))
        assert one.match.rate.low < one.match.rate.value < one.match.rate.high
        assert one.prompts == one.match.votes == 60
    sides, won = [], []
    for one, other in (("low", "mid"), ("low", "high"), ("mid", "high")):
        sides += [(one, other)] * 60
        won += [np.sign(truth[one][k] - truth[other][k]) for k in range(60)]
    word = {1: evalica.Winner.X, 0: evalica.Winner.Draw, -1: evalica.Winner.Y}
    scores = evalica.bradley_terry(*zip(*sides, strict=True), [word[int(x)] for x in won], tolerance=1e-12, limit=10_000).scores
    logs = np.log(scores)
    assert [one.policy for one in gold.strengths] == ["high", "mid", "low"]
    for one in gold.strengths:
        assert one.strength.value == pytest.approx(float(logs[one.policy] - logs.mean()), abs=0.01)  # the pull of a tenth of a win
        assert one.strength.low < one.strength.value < one.strength.high
    assert headline(found).startswith("In the order of their strength by gold: high, mid, low. high wins")
    assert "against mid" in headline(found)


def test_prompts_are_joined_by_what_they_ask_and_each_policy_s_number_is_told(tmp_path: Path) -> None:
    own, other = worths(0, 4), worths(1, 6)
    shuffled = dict(sorted(other.items(), key=lambda item: -item[0]))
    policies = {"a": answers(tmp_path, "a", {k: own[k] for k in range(50)}), "b": answers(tmp_path, "b", {**shuffled, 99: 3})}
    found = compared(tmp_path, policies, gold=GOLD)
    assert (found.prompts, [one.answered for one in found.policies]) == (50, [50, 50])
    assert found.sources[0].rates[0].match.rate.value == pytest.approx(share({k: other[k] for k in range(50)}, own))
    assert dropped_of(tmp_path / "compare")["b"] == {"its prompt is not among the prompts": 11}
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": [{"role": "user", "content": f"question {k}"}]} for k in range(70)])
    found = compared(tmp_path, policies, "asked", gold=GOLD, prompts=str(tmp_path / "prompts.jsonl"))
    assert (found.prompts, [one.answered for one in found.policies]) == (50, [50, 60])
    assert dropped_of(tmp_path / "asked")["prompts"] == {"a did not answer it": 20, "b did not answer it": 10}
    assert next(notes(found)) == "50 prompts count, which all policies answered (answered prompts: a 50, b 60)."
    with pytest.raises(DataError, match=r"none of the 50 prompts was answered by all policies \(answered prompts by policy: a: 50, c: 0\)"):
        compared(tmp_path, {"a": policies["a"], "c": answers(tmp_path, "c", {200: 1})}, "none", gold=GOLD)


def test_empty_answers_lose_without_a_question_and_are_told(tmp_path: Path) -> None:
    policies = {"a": answers(tmp_path, "a", {0: 5, 1: None, 2: 3, 3: 4}), "b": answers(tmp_path, "b", {0: 3, 1: 4, 2: None, 3: 4})}
    found = compared(tmp_path, policies, judge=JUDGE)
    (judge,) = found.sources
    assert (judge.asked, judge.rates[0].match.votes, judge.rates[0].ties) == (1, 4, 0.25)
    assert judge.rates[0].match.policy == "a"
    assert judge.rates[0].match.rate.value == pytest.approx(2.5 / 4)
    assert [one.empty for one in found.policies] == [1, 1]
    assert any("1 answers of a are empty" in line for line in notes(found))
    rows = [{"prompt": f"question {k}", "completion": "" if k == 1 else f"it is {k}"} for k in range(5)]
    write_rows(tmp_path / "pairs.jsonl", rows)  # in this form an empty completion is no row
    write_rows(tmp_path / "others.jsonl", [{**row, "completion": "it is 2"} for row in rows])
    found = compared(tmp_path, {"pairs": str(tmp_path / "pairs.jsonl"), "others": str(tmp_path / "others.jsonl")}, "pairs", gold=GOLD)
    assert found.prompts == 4
    assert "1 row of pairs is left out: empty completion." in list(notes(found))


def test_one_prompt_and_a_policy_that_always_wins_say_so(tmp_path: Path) -> None:
    pair = {"a": answers(tmp_path, "a", {0: 5}), "b": answers(tmp_path, "b", {0: 3})}
    found = compared(tmp_path, pair, gold=GOLD)
    assert math.isnan(found.sources[0].rates[0].match.rate.low)
    assert headline(found) == f"a wins 100.0 % against b by gold; {ONE_PROMPT}."
    always = {"c": answers(tmp_path, "c", dict.fromkeys(range(9), 5)), "d": answers(tmp_path, "d", dict.fromkeys(range(9), 3))}
    found = compared(tmp_path, always, "always", gold=GOLD)
    (rate,) = found.sources[0].rates
    assert (rate.note, rate.match.rate.high) == (CONSTANT, 1.0)
    assert 0.6 < rate.match.rate.low < 0.8
    assert any("not known how many prompts" in line for line in notes(found))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policies": {"a": "x"}, "gold": GOLD}, "two policies or more"),
        ({"policies": {"a": "x", "b": "x"}, "gold": GOLD}, "a and b are both x. Name each policy once"),
        ({"policies": {"a": "x", "v1.2": "y"}, "gold": GOLD}, "v1.2 has a dot"),
        ({}, "nobody compares the answers"),
        ({"gold": GOLD, "difference": 0.5}, "difference is a distance"),
        ({"gold": GOLD, "dimensions": ()}, "dimensions is empty"),
        ({"reward": "r", "rewards": {"a": None}}, "and not both"),
        ({"raters": Simulated(gold=GOLD), "raters_per_comparison": 13}, "must be at most 12"),
        ({"judge": JudgeRater(model=JUDGE.model, instructions=("helpful-ranking",))}, "have scale: ranking"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Compare(**{"policies": {"a": "x", "b": "y"}, **settings}).check()


def test_a_file_of_several_generators_and_an_unknown_dimension_are_refused(three: dict[str, str], tmp_path: Path) -> None:
    both = [{"instruction": "question 0", "output": f"{who} 3", "generator": who} for who in ("gpt", "me")]
    write_rows(tmp_path / "both.jsonl", both)
    with pytest.raises(DataError, match=r"holds answers of 2 policies \(gpt, me\)"):
        compared(tmp_path, {"low": three["low"], "both": str(tmp_path / "both.jsonl")}, gold=GOLD)
    with pytest.raises(ConfigError, match="gold knows helpful, harmless, and dimensions names polite"):
        compared(tmp_path, three, "polite", gold=GOLD, dimensions=("polite",))


def test_alpaca_s_outputs_are_policies(tmp_path: Path) -> None:
    for name, worth in (("gpt", 7), ("me", 3)):
        rows = [{"instruction": f"question {k}", "output": f"{name} {worth + k % 2}", "generator": name} for k in range(12)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    found = compared(tmp_path, {name: str(tmp_path / f"{name}.json") for name in ("gpt", "me")}, gold=GOLD)
    assert (found.prompts, found.sources[0].rates[0].match.policy) == (12, "gpt")


def test_a_judge_sees_both_orders_is_named_uncalibrated_and_never_leads_alone(three: dict[str, str], tmp_path: Path) -> None:
    found = compared(tmp_path, three, judge=JUDGE)
    (judge,) = found.sources
    assert "fair/overall@" in judge.name
    assert judge.name.endswith("(uncalibrated)")
    assert judge.caveats[0] == "no report card says how far this judge agrees with people"
    assert not judge.leads
    assert headline(found) == NO_HEADLINE
    said = rows_of(tmp_path / "compare", "judgments.jsonl")
    assert len(said) == 2 * judge.asked
    assert {tuple(row["order"]) for row in said} == {(0, 1), (1, 0)}
    assert any("changes with the order in 0.0 %" in line for line in notes(found))
    by_gold = compared(tmp_path, three, "gold", gold=GOLD).sources[0]
    assert [(one.match.policy, one.match.rate.value) for one in judge.rates] == [
        (one.match.policy, one.match.rate.value) for one in by_gold.rates
    ]
    both = compared(tmp_path, three, "both", gold=GOLD, judge=JUDGE, pairs_per_prompt=1)
    assert headline(both).startswith("In the order of their strength by gold")


def test_a_judge_with_a_report_card_counts_by_its_calibrated_shares_and_may_lead(three: dict[str, str], tmp_path: Path) -> None:
    plain = compared(tmp_path, three, "plain", judge=JUDGE).sources[0]
    name = plain.name.removesuffix(" (uncalibrated)")
    JudgeCard(name, {"overall": CardEntry(100, calibration=Calibration(temperature=30.0))}).write(tmp_path / "card.json")
    found = compared(tmp_path, three, judge=replace(JUDGE, calibration=str(tmp_path / "card.json")))
    (judge,) = found.sources
    assert (judge.name, judge.leads) == (name, True)
    assert judge.caveats[0].startswith("its verdict changes with the order")
    assert f"by {name}: high, mid, low." in headline(found)
    (high, before) = (next(one.match.rate.value for one in source.rates if one.match.other == "low") for source in (judge, plain))
    gaps = [worths(2, 7)[k] - worths(0, 4)[k] for k in range(60)]
    clipped = np.clip(3.0 * np.array(gaps), -math.log(1 / CLIP - 1), math.log(1 / CLIP - 1))  # as far as a card believes any judge
    assert high == pytest.approx(float(np.mean(1 / (1 + np.exp(-clipped / 30)))), abs=1e-6)
    assert high < before


def test_an_agreement_report_reads_the_judgments(three: dict[str, str], tmp_path: Path) -> None:
    ran(
        Compare(three, raters=Simulated(gold=GOLD, pool=SHARP), raters_per_comparison=2, dimensions=("helpful",)),
        tmp_path / "run",
        "compare",
    )
    report = report_on(tmp_path / "run")
    assert [one.policy for one in report.policies] == ["high", "mid", "low"]


def test_people_judge_a_random_part_and_the_judge_makes_their_rate_more_exact(tmp_path: Path) -> None:
    policies = {"a": answers(tmp_path, "a", worths(0, 5, 300)), "b": answers(tmp_path, "b", worths(1, 6, 300))}
    raters = Simulated(gold=GOLD, pool=RaterPool(raters=9, sharpness=10, indifference=0, length_bias=0, phrase_bias=0), repeat_share=0)
    found = compared(tmp_path, policies, raters=raters, rater_prompts=100, judge=JUDGE, dimensions=("helpful",))
    people, judge = found.sources
    (rate,) = people.rates
    assert people.kind == "simulated"
    assert (rate.prompts, judge.rates[0].prompts) == (100, 300)
    assert rate.match.joined is not None
    assert rate.match.saved is not None
    assert rate.match.saved > 20
    assert rate.match.judge == judge.name
    assert rate.match.joined.high - rate.match.joined.low < rate.match.rate.high - rate.match.rate.low
    assert f"by simulated raters with {judge.name}" in headline(found)
    prompts = {row["comparison"].split("/")[0] for row in rows_of(tmp_path / "compare", "judgments.jsonl") if "fair" not in row["rater"]}
    assert len({name.rpartition(":")[2] for name in prompts} & {str(k) for k in range(1, 101)}) < 50  # a random part, not the first
    alone = compared(tmp_path, policies, "alone", raters=raters, rater_prompts=100, dimensions=("helpful",))
    assert alone.sources[0].rates[0].match.joined is None
    assert alone.sources[0].rates[0].match.rate == rate.match.rate


def test_pairs_per_prompt_costs_less_and_the_gold_still_sees_all(three: dict[str, str], tmp_path: Path) -> None:
    found = compared(tmp_path, three, judge=JUDGE, gold=GOLD, pairs_per_prompt=1)
    by_kind = {one.kind: one for one in found.sources}
    assert sorted(one.prompts for one in by_kind["judge"].rates) == [20, 20, 20]
    assert [one.prompts for one in by_kind["gold"].rates] == [60, 60, 60]


def test_a_killed_run_asks_only_what_is_missing_and_ends_with_the_same_bytes(
    three: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("tests.unit.stages.test_compare.heard", asked)
    judge = JudgeRater(model=FunctionJudge(function="tests.unit.stages.test_compare:listening", name="listening"))
    stage = Compare(three, judge=judge, pairs_per_prompt=1)
    whole = ran(stage, tmp_path / "whole", "compare")
    total, before = len(asked), []
    asked.clear()

    def stop(run: Run) -> None:
        before.append(run)
        if len(before) > 40:
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_stop", stop)
        with pytest.raises(Interrupted):
            ran(stage, tmp_path / "killed", "compare")
    half = len(asked)
    assert 0 < half < total
    ran(stage, tmp_path / "killed", "compare")
    assert len(asked) == total
    assert len(set(asked)) == total
    for name in ("summary.json", "judgments.jsonl", "comparisons.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole / name).read_bytes()


heard: list[str] = []


def listening(messages: list[dict[str, str]]) -> list[float]:
    """A judge that is right, and notes what it was asked."""
    from tests.support.judged_world import right

    heard.append(messages[-1]["content"])
    return right(messages)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies and a reward model, all small, and prompts of several lengths."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("one", 0), ("two", 1)):
        tiny_policy(seed=seed).save(folder / name)
    scalar_from(tiny_policy(seed=2), ("helpful",), seed=0).save(folder / "reward")
    write_rows(folder / "prompts.jsonl", [{"prompt": f"the cook has {'rice and ' * (k % 6)}salt {k}"} for k in range(24)])
    return folder


def test_models_answer_and_what_they_said_is_not_drawn_again(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = {name: str(models / name) for name in ("one", "two")}
    stage = Compare(
        policies, prompts=str(models / "prompts.jsonl"), reward=str(models / "reward"), sampling=Sampling(max_tokens=6), dtype="float32",
        completions_per_prompt=2,
    )  # fmt: skip
    whole = ran(stage, tmp_path / "whole", "compare")
    found = read_comparison(whole)
    assert (found.prompts, found.answer_pairs) == (24, 48)
    assert found.sources[0].rates[0].match.votes == 48
    assert [len(row["completions"]) for row in rows_of(whole, "answers-1.jsonl")] == [2] * 24
    assert rows_of(whole, "answers-0.jsonl") != rows_of(whole, "answers-1.jsonl")
    # A run that ends while the second model is loaded keeps the first one's answers.
    loads: list[str] = []
    from palate.samplers.kinds import LocalSamplerSettings

    load = LocalSamplerSettings.open

    def opened(self: LocalSamplerSettings, model: str, dtype: Any = "float32") -> Any:
        loads.append(model)
        if len(loads) == 2:
            raise Interrupted("stopped")
        return load(self, model, dtype)

    monkeypatch.setattr(LocalSamplerSettings, "open", opened)
    with pytest.raises(Interrupted):
        ran(stage, tmp_path / "killed", "compare")
    ran(stage, tmp_path / "killed", "compare")
    assert loads == [str(models / name) for name in ("one", "two", "two")]
    for name in ("summary.json", "answers-0.jsonl", "answers-1.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole / name).read_bytes()


def test_verdicts_of_a_reward_do_not_change_with_the_order_of_prompts_or_policies(models: Path, tmp_path: Path) -> None:
    policies = {name: str(models / name) for name in ("one", "two")}
    settings: dict[str, Any] = {"reward": str(models / "reward"), "sampling": Sampling(max_tokens=6), "dtype": "float32"}
    first = ran(Compare(policies, prompts=str(models / "prompts.jsonl"), **settings), tmp_path / "first", "compare")
    files = {}
    for number, name in enumerate(policies):
        files[name] = str(tmp_path / f"{name}.jsonl")
        write_rows(tmp_path / f"{name}.jsonl", list(reversed(rows_of(first, f"answers-{number}.jsonl"))))
    turned = compared(tmp_path, {"two": files["two"], "one": files["one"]}, "turned", **settings)
    (mine,), (theirs,) = read_comparison(first).sources[0].rates, turned.sources[0].rates
    assert (mine.match.policy, mine.match.rate.value, mine.ties) == (theirs.match.policy, theirs.match.rate.value, theirs.ties)
    with pytest.raises(ConfigError, match="all policies are models, which need prompts"):
        compared(tmp_path, policies, "none", **settings)


def fake_run(folder: Path, name: str, stage: str, **parents: tuple[Path, str]) -> str:
    """A finished run with a file of answers, made from others: field -> (path, key)."""
    from palate.runs.record import Parent

    made = tuple(Parent(field.replace("__", "."), str(path), key) for field, (path, key) in parents.items())
    with open_run_at(folder / name, RunPlan(name, stage, {"made": name}, parents=made)).active() as run:
        answers(run.directory, "samples", worths(len(name), 5, 30))
    return run.key


def test_a_policy_that_was_trained_against_the_reward_or_on_its_labels_is_named(models: Path, tmp_path: Path) -> None:
    labels = fake_run(tmp_path, "labels", "collect")
    reward = fake_run(tmp_path, "reward", "reward", preferences=(tmp_path / "labels", f"{labels}/preferences.jsonl"))
    ppo = fake_run(tmp_path, "ppo", "online", reward=(tmp_path / "reward", reward))
    fake_run(tmp_path, "ppo-answers", "sample", model=(tmp_path / "ppo", ppo))
    fake_run(tmp_path, "dpo", "direct", preferences=(tmp_path / "labels", f"{labels}/preferences.jsonl"))
    fake_run(tmp_path, "sft", "sft")
    fake_run(tmp_path, "sft-measured", "evaluate", model=(tmp_path / "sft", "0"), reward=(tmp_path / "reward", reward))
    from palate.evaluation.trained_against import Measures, trained_against
    from palate.runs.record import Parent, read_record

    mine = RunPlan("compare", "compare", parents=(Parent("reward", str(tmp_path / "reward"), reward),))
    with open_run_at(tmp_path / "compare", mine).active() as run:
        measures = Measures.of(run.record, run.directory)
    assert read_record(tmp_path / "compare") is not None
    found = {name: trained_against(str(tmp_path / name), measures) for name in ("ppo-answers", "dpo", "sft", "sft-measured")}
    assert found == {"ppo-answers": {"reward", "labels"}, "dpo": {"labels"}, "sft": set(), "sft-measured": set()}
    assert trained_against(str(models / "one"), measures) is None


def test_the_same_judge_in_training_is_found_whoever_asked_it(tmp_path: Path) -> None:
    from palate.evaluation.trained_against import Measures, trained_against
    from palate.runs.record import Parent

    endpoint = {"kind": "openai", "url": "http://judge/v1/", "model": "m"}
    labels = RunPlan("labels", "collect", {"from": {"kind": "hybrid", "judge": {"kind": "judge", "model": endpoint}}})
    local = RunPlan(
        "local",
        "collect",
        {"from": {"judge": {"model": {"model": "base"}}}},
        parents=(Parent("from.judge.model.model", "base", "hub:base"),),
    )
    keys = {}
    for plan in (labels, local):
        with open_run_at(tmp_path / plan.name, plan).active() as run:
            keys[plan.name] = run.key
        fake_run(tmp_path, f"dpo-{plan.name}", "direct", preferences=(tmp_path / plan.name, f"{run.key}/preferences.jsonl"))
    asked = RunPlan("asked", "compare", {"judge": {"kind": "judge", "model": {**endpoint, "url": "http://judge/v1"}}})
    base = {"model": {"model": "base"}}
    loaded = RunPlan("loaded", "compare", {"judge": base}, parents=(Parent("judge.model.model", "base", "hub:base"),))
    found = {}
    for plan in (asked, loaded):
        with open_run_at(tmp_path / plan.name, plan).active() as run:
            measures = Measures.of(run.record, run.directory)
        found[plan.name] = [trained_against(str(tmp_path / name), measures) for name in ("dpo-labels", "dpo-local")]
    assert found == {"asked": [{"judge"}, set()], "loaded": [set(), {"judge"}]}


def test_on_the_command_line_policies_are_words_and_a_finished_run_shows_its_page_again(
    three: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", three["low"], f"best={three['high']}", "--gold", GOLD, "--out", str(tmp_path / "run")]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "best wins" in first
    assert "low" in first
    assert summary_of(tmp_path / "run")["prompts"] == 60
    assert main(words) == 0
    again = capsys.readouterr().out
    assert "best wins" in again
    assert main(["compare", three["low"], three["low"], "--gold", GOLD]) != 0
    assert "are both called 'low'. Give each a name of its own, as NAME=PATH" in capsys.readouterr().err


@pytest.mark.parametrize("queue", ["random", "uncertain"])
def test_people_with_an_uncertain_queue_are_not_joined(queue: Literal["random", "uncertain"]) -> None:
    from palate.evaluation.policy_matchups import VoteRows
    from palate.evaluation.verdict_sources import SourceVotes
    from palate.stages.compare import NOT_RANDOM

    def votes(prompts: int) -> VoteRows:
        won, numbers = [float(k % 3 > 0) for k in range(prompts)], list(range(prompts))
        return VoteRows([0] * prompts, [1] * prompts, won, numbers, numbers, [(k % 7, k % 5) for k in numbers])

    stage = Compare({"a": "x", "b": "y"}, raters=People(queue=queue), judge=JUDGE)

    class Seeded:
        seed = 1

    sources = [SourceVotes("people", "people", {"overall": votes(60)}), SourceVotes("judge", "judge", {"overall": votes(300)})]
    people, judge = stage._figures(Seeded(), sources, ())  # type: ignore[arg-type]
    assert (people.rates[0].match.joined is not None) == (queue == "random")
    assert people.caveats == (() if queue == "random" else (NOT_RANDOM,))
    assert judge.caveats == ()


def test_the_report_shows_the_comparison_and_escapes_names(tmp_path: Path) -> None:
    from palate.evaluation.report import render
    from tests.unit.evaluation.sample_report import part_of_sample

    policies = {
        "<b>a</b>": answers(tmp_path, "a", worths(0, 5)),
        "b": answers(tmp_path, "b", worths(1, 6)),
        "c": answers(tmp_path, "c", worths(2, 4)),
    }
    found = compared(tmp_path, policies, gold=GOLD, judge=JUDGE)
    assert "Which policy wins" not in render(part_of_sample())
    page = render(part_of_sample(comparison=found))
    assert '<section id="comparison">' in page
    assert '<a href="#comparison">' in page
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    for words in ("By gold: share of votes", "(uncalibrated)", "log-odds of winning", next(notes(found)), headline(found)):
        assert str(escape(words)) in page


CATEGORIES = {k: "math" if k < 20 else "writing" for k in range(50)}


def categorised(folder: Path, name: str, worth: Mapping[int, int]) -> str:
    """A file of answers to questions that have a category; the last ones have none."""
    path = Path(answers(folder, name, worth))
    rows = rows_of(folder, path.name)
    write_rows(path, [row | ({"category": CATEGORIES[k]} if k in CATEGORIES else {}) for k, row in zip(worth, rows, strict=True)])
    return str(path)


def test_win_rates_are_split_by_a_column_and_keep_the_side_of_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak = dict.fromkeys(range(60), 5)
    strong = {k: 4 if k < 20 else 7 if k < 50 else 5 for k in range(60)}
    policies = {"strong": categorised(tmp_path, "strong", strong), "weak": categorised(tmp_path, "weak", weak)}
    plain = compared(tmp_path, policies, "plain", gold=GOLD)
    split = compared(tmp_path, policies, "split", gold=GOLD, split_by="category")
    assert (plain.split_by, plain.sources[0].by_group) == ("", ())
    assert split.split_by == "category"
    assert split.sources[0].rates == plain.sources[0].rates
    found = {one.group: one.rate for one in split.sources[0].by_group}
    assert {name: (rate.match.policy, rate.match.other, rate.prompts, rate.match.rate.value) for name, rate in found.items()} == {
        "": ("strong", "weak", 10, 0.5),
        "math": ("strong", "weak", 20, 0.0),
        "writing": ("strong", "weak", 30, 1.0),
    }
    assert found["math"].match.rate.low == 0 < found["math"].match.rate.high < 0.2
    show_comparison(tmp_path / "split")
    told = capsys.readouterr().out
    assert re.search(r"^math +strong +weak +20 +0\.0%", told, re.MULTILINE)
    assert re.search(r"^no category +strong +weak +10 +50\.0%", told, re.MULTILINE)
    lost = "gold: strong loses to weak where category is math: it wins 0.0 % (0.0 to 16.1 %, 20 prompts)."
    assert lost in told
    mixed = {**policies, "strong": categorised(tmp_path, "mixed", {k: 4 if k in range(12) else 7 for k in range(60)})}
    less_sure = compared(tmp_path, mixed, "mixed", gold=GOLD, split_by="category").sources[0]
    assert next(one.rate.match.rate.value for one in less_sure.by_group if one.group == "math") == 0.4
    assert list(exceptions(less_sure, "category")) == []
    with pytest.raises(ConfigError, match=r"none of the 60 prompts has a value in a column 'categry'\. Did you mean 'category'"):
        compared(tmp_path, policies, "typo", gold=GOLD, split_by="categry")


def test_groups_have_the_names_that_json_gives_their_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the column and its values are called: markup of the terminal is text, and numbers stand in their order."""
    values = [True, 10, 2, 1, 1.0, 0.5, ["b", "a"], None, "", "[/b]", "two\nlines", "é"]
    paths = {}
    for name, worth in (("strong", 7), ("weak", 5)):
        paths[name] = answers(tmp_path, name, {k: worth + k % 2 for k in range(24)})
        rows = [row | {"[/i]": values[k % 12]} for k, row in enumerate(rows_of(tmp_path, Path(paths[name]).name))]
        write_rows(Path(paths[name]), rows)
    found = compared(tmp_path, paths, "odd", gold=GOLD, split_by="[/i]")
    groups = [(one.group, one.rate.prompts) for one in found.sources[0].by_group]
    assert groups == [
        ("0.5", 2),
        ("1", 4),
        ("2", 2),
        ("10", 2),
        ("", 4),
        ('["b", "a"]', 2),
        ("[/b]", 2),
        ("true", 2),
        ("two\\nlines", 2),
        ("é", 2),
    ]
    show_comparison(tmp_path / "odd")
    told = capsys.readouterr().out
    assert re.search(r"^\[/i\] +policy +against", told, re.MULTILINE)
    assert re.search(r"^no \[/i\] +strong +weak +4 ", told, re.MULTILINE)


def test_several_sources_of_prompts_are_split_by_source(tmp_path: Path) -> None:
    policies = {name: answers(tmp_path, name, worths(k, mean)) for k, (name, mean) in enumerate({"low": 4, "high": 7}.items())}
    sources = []
    for name, numbers in (("first", range(25)), ("second", range(25, 60))):
        path = tmp_path / f"{name}.jsonl"
        write_rows(path, [{"prompt": [{"role": "user", "content": f"question {k}"}]} for k in numbers])
        sources.append(DataSource(str(path)))
    found = compared(tmp_path, policies, "sources", gold=GOLD, prompts=tuple(sources))
    assert found.split_by == "source"
    low, high = worths(0, 4), worths(1, 7)
    expected = {name: share({k: high[k] for k in numbers}, low) for name, numbers in (("first", range(25)), ("second", range(25, 60)))}
    assert {one.group: one.rate.match.rate.value for one in found.sources[0].by_group} == pytest.approx(expected)
