"""Written rules as a part of a reward: who checks each, what a completion loses, and what cannot be checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from palate.core import Completion, ConfigError, DataError, Message, ModelError, Prompt, TrainingError
from palate.judges.endpoint import OpenAIJudge
from palate.models.reward_file import RULE_HEAD
from palate.models.scalar import ScalarModel, scalar_from
from palate.rewards.batch import PartScores, ScoringBatch, ScoringContext
from palate.rewards.composition import Composition
from palate.rewards.ensemble_members import members_of
from palate.rewards.learned import LearnedReward
from palate.rewards.model import ModelReward
from palate.rewards.part import Constraint
from palate.rewards.rule_check import RuleCheck
from palate.rewards.rule_classifier import RuleClassifier, probability
from palate.rewards.rule_scores import RuleScores
from palate.rewards.written_rules import WrittenRules, penalty
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.completions_server import Answer, CompletionsServer
from palate.text.pack import pack
from palate.text.rule_tree import rule_tree
from tests.support.rubric_judges import one_by_one
from tests.support.rule_files import HERE, RULES, rule_file

CLOSE = {"rtol": 0, "atol": 1e-5}


def prompt(text: str = "the cook has", **fields: object) -> Prompt:
    return Prompt(text, (Message("text", text),), fields)


def batch(*texts: str, of: Prompt | None = None) -> ScoringBatch:
    return ScoringBatch((of or prompt(),), (tuple(Completion(text, stop="eos") for text in texts),))


@pytest.fixture(scope="module")
def model() -> ScalarModel:
    return scalar_from(tiny_policy("qwen3", word_tokenizer()), (RULE_HEAD,), seed=0)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model: ScalarModel) -> Path:
    """A classifier, and a reward model."""
    folder = tmp_path_factory.mktemp("home")
    model.save(folder / "classifier")
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("taste",), seed=1).save(folder / "taste")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "runs", RunPlan("rules", "rules"))


def context(run: Run | None = None) -> ScoringContext:
    def members(path: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(member=member) for member in members_of(path, LearnedReward.load(path))]

    return ScoringContext("law", None, members, run)  # type: ignore[arg-type]


def scored(part: WrittenRules, what: ScoringBatch, run: Run | None = None) -> PartScores:
    scorer = part.open(context(run))
    try:
        return scorer.score(what)
    finally:
        scorer.close()


def logit(model: ScalarModel, text: str, question: str) -> float:
    """What the model says of one completion and question, alone."""
    tree = rule_tree(model.tokenizer, prompt().conversation, Completion(text), [question], 1000)
    with torch.inference_mode():
        return float(model.scores(pack([tree]))[0, 0])


def ruled(folder: Path, *programs: str) -> str:
    """A file with one rule per program."""
    rules = [{"id": f"r{k}", "text": f"t{k}", "question": f"q{k}", "program": f"{HERE}:{name}"} for k, name in enumerate(programs)]
    return str(rule_file(folder, rules))


def test_the_penalty_is_the_weighted_mean_and_a_floor_costs_once() -> None:
    broken = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.4], [float("nan"), 0.0], [1.0, 1.0]])
    weights, floors = torch.tensor([0.75, 0.25]), torch.tensor([0.6, 0.6])
    found = penalty(broken, weights, floors, 2.0)
    wanted = torch.tensor([0.0, -2.75, -2.475, float("nan"), -3.0])
    torch.testing.assert_close(found, wanted, equal_nan=True)
    free = penalty(broken, weights, torch.zeros(2), 2.0)
    torch.testing.assert_close(free, torch.tensor([0.0, -0.75, -0.475, float("nan"), -1.0]), equal_nan=True)


def test_a_rule_with_a_program_is_checked_by_it_and_others_by_the_classifier(home: Path, tmp_path: Path, model: ScalarModel) -> None:
    part = WrittenRules(check=RuleCheck(file=str(rule_file(tmp_path)), model=str(home / "classifier")))
    found = scored(part, batch(" rice", " beans"))
    assert found.details["rice_broken"].tolist() == [1.0, 0.0]
    wanted = torch.tensor([logit(model, text, "the cook has salt") for text in (" rice", " beans")]).sigmoid()
    torch.testing.assert_close(found.details["salt_broken"], wanted, **CLOSE)  # type: ignore[arg-type]
    torch.testing.assert_close(found.heads[""], -(torch.tensor([1.0, 0.0]) + wanted) / 2, **CLOSE)  # type: ignore[arg-type]
    assert not found.reasons


def test_the_classifier_checks_all_rules_where_programs_do_not_count(home: Path, tmp_path: Path, model: ScalarModel) -> None:
    check = RuleCheck(file=str(rule_file(tmp_path)), model=str(home / "classifier"), programs=False)
    part = WrittenRules(check=check, weights={"rice": 3.0})
    found = scored(part, batch(" rice", " beans and salt"))
    texts = (" rice", " beans and salt")
    columns = {rule: torch.tensor([logit(model, text, f"the cook has {rule}") for text in texts]).sigmoid() for rule in ("rice", "salt")}
    for rule, wanted in columns.items():
        torch.testing.assert_close(found.details[f"{rule}_broken"], wanted, **CLOSE)  # type: ignore[arg-type]
    assert not torch.allclose(columns["rice"], columns["salt"], atol=1e-3), "the model reads the question"
    torch.testing.assert_close(found.heads[""], -(0.75 * columns["rice"] + 0.25 * columns["salt"]), **CLOSE)  # type: ignore[arg-type]


def test_a_judge_checks_by_the_text_of_the_rule(serve_model: Callable[[Answer], CompletionsServer], run: Run, tmp_path: Path) -> None:
    asked: list[str] = []

    def holds(criterion: str, completion: str) -> bool:
        asked.append(criterion)
        return "salt" in completion

    server = serve_model(one_by_one(holds))
    check = RuleCheck(file=str(rule_file(tmp_path)), judge=OpenAIJudge(url=server.url, model="small"))
    found = scored(WrittenRules(check=check), batch("salt", "rice"), run)
    assert found.details["rice_broken"].tolist() == [0.0, 1.0], "the program decides where there is one"
    assert found.details["salt_broken"].tolist() == [1.0, 0.0]
    assert set(asked) == {"The answer breaks this rule: no salt"}


def test_checkers_are_named(home: Path, tmp_path: Path) -> None:
    check = RuleCheck(file=str(rule_file(tmp_path)), model=str(home / "classifier"))
    opened = check.open("rules", LearnedReward.load, None)
    try:
        assert opened.checkers == {"rice": f"program {HERE}:rice", "salt": f"classifier {home / 'classifier'}"}
    finally:
        opened.close()


def test_a_program_gets_the_columns_of_the_prompt(tmp_path: Path) -> None:
    part = WrittenRules(check=RuleCheck(file=ruled(tmp_path, "of_column")))
    assert scored(part, batch("salt", "rice", of=prompt(wanted="salt"))).heads[""].tolist() == [0.0, -1.0]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("failing", f"rule 'r0': its program {HERE}:failing raised ZeroDivisionError: no oven, for the completion 'salt'"),
        ("seven", f"rule 'r0': its program {HERE}:seven gave 7, which is not True, False or a probability, for the completion 'salt'"),
    ],
)
def test_a_program_that_fails_leaves_a_reason_with_rule_and_completion(tmp_path: Path, program: str, reason: str) -> None:
    found = scored(WrittenRules(check=RuleCheck(file=ruled(tmp_path, program, "rice"))), batch("salt"))
    assert math.isnan(float(found.heads[""]))
    assert found.reasons == {0: reason}
    assert found.details["r1_broken"].tolist() == [0.0], "what is known of the other rule is recorded"


def test_a_part_that_fails_too_often_stops_the_run(tmp_path: Path) -> None:
    parts = {"law": WrittenRules(check=RuleCheck(file=ruled(tmp_path, "failing")))}
    composition = Composition.load(parts)
    try:
        with pytest.raises(TrainingError, match=r"rewards.law could not score 1 of 2.*rule 'r0': its program .* raised ZeroDivisionError"):
            composition.score([prompt()], [[Completion("salt"), Completion("rice")]])
    finally:
        composition.close()


def test_taste_and_rules_share_one_reward_and_each_its_scale(home: Path, tmp_path: Path) -> None:
    """As in Sparrow: the preference score plus the mean of the rules, each normalised."""
    parts: dict[str, Any] = {
        "taste": ModelReward(model=(str(home / "taste"),), normalise=True, weight=0.5),
        "law": WrittenRules(check=RuleCheck(file=str(rule_file(tmp_path)), ids=("rice",)), normalise=True, weight=0.5),
    }
    composition = Composition.load(parts)
    try:
        texts = (" rice", " beans", " salt today", " rice and beans")
        scores = composition.score([prompt()], [[Completion(text) for text in texts]])
    finally:
        composition.close()
    law = torch.tensor([-1.0, 0.0, 0.0, -1.0])
    taste = scores.table["taste/taste"]
    wanted = [(one - one.mean()) / one.std(unbiased=False) for one in (taste, law)]
    torch.testing.assert_close(scores.rewards, (wanted[0] + wanted[1]) / 2)


def test_a_constraint_makes_breaches_dearer_while_there_are_too_many(tmp_path: Path) -> None:
    constraint = Constraint(min_score=-0.1, rate=1.0)
    composition = Composition.load({"law": WrittenRules(check=RuleCheck(file=ruled(tmp_path, "rice")), constraint=constraint)})
    try:
        before = composition.score([prompt()], [[Completion("rice"), Completion("beans")]])
        after = composition.score([prompt()], [[Completion("beans"), Completion("beans")]])
    finally:
        composition.close()
    assert before.multipliers["law"] == 1.0
    assert after.multipliers["law"] == pytest.approx(math.exp(0.4))
    torch.testing.assert_close(before.rewards, torch.tensor([-0.9, 0.1]) / 2)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"weights": {"rice": -1.0}}, "the weight of rice must be 0 or more"),
        ({"floors": {"rice": 0.0}}, "the floor of rice is a probability above 0"),
        ({"floors": {"rice": 1.5}}, "the floor of rice is a probability above 0"),
        ({"floor_penalty": 0.0}, "floor_penalty must be above 0"),
        ({"weight": 2.0, "constraint": Constraint(min_score=0.0)}, "a constraint learns the part's weight"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        WrittenRules(check=RuleCheck(file=str(rule_file(tmp_path))), **settings)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"weights": {"rise": 1.0}}, r"rewards.law.weights: 'rise' is not among the rules that are checked. Did you mean 'rice'"),
        ({"floors": {"salt": 0.5}}, r"rewards.law.floors: 'salt' is not among"),
        ({"weights": {"rice": 0.0}}, "all rules have weight 0"),
    ],
)
def test_names_of_rules_that_are_not_checked_are_refused(tmp_path: Path, settings: dict[str, Any], part: str) -> None:
    check = RuleCheck(file=str(rule_file(tmp_path)), ids=("rice",))
    with pytest.raises(ConfigError, match=part):
        WrittenRules(check=check, **settings).open(context())


def test_a_rule_that_nobody_checks_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    file = str(rule_file(tmp_path))
    with pytest.raises(ConfigError, match="rewards.law: nobody can say whether a completion breaks salt. Name a classifier"):
        WrittenRules(check=RuleCheck(file=file)).open(context())
    with pytest.raises(ConfigError, match="breaks rice, salt.*programs: true"):
        WrittenRules(check=RuleCheck(file=file, programs=False)).open(context())
    with pytest.raises(ConfigError, match="no rule 'peper'"):
        WrittenRules(check=RuleCheck(file=file, ids=("peper",))).open(context())
    with pytest.raises(DataError, match="cannot be read"):
        WrittenRules(check=RuleCheck(file=str(tmp_path / "none.yaml"))).open(context())
    lost = str(rule_file(tmp_path, [{**RULES[0], "program": "no_such_module:f"}], "lost.yaml"))
    with pytest.raises(ConfigError, match="rewards.law: rule 'rice': .*no_such_module"):
        WrittenRules(check=RuleCheck(file=lost)).open(context())


def test_a_reward_model_is_no_classifier(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has the heads taste, so it is a reward model and reads no rule"):
        WrittenRules(check=RuleCheck(file=str(rule_file(tmp_path)), model=str(home / "taste"))).open(context())


def test_what_the_classifier_cannot_read_has_a_reason_and_spoils_nothing_else(model: ScalarModel) -> None:
    classifier = RuleClassifier(LearnedReward(model), "model")
    items = [(prompt(), Completion(" rice")), (prompt(), Completion(" rice" * 200)), (prompt(), Completion(" salt"))]
    found = classifier.logits(items, [["what", "no salt"], ["what", "no salt"], ["what"]])
    assert [len(row) for row in found] == [2, 2, 1]
    assert all(isinstance(one, str) and one.startswith("too long") for one in found[1])
    wanted = [logit(model, " rice", "what"), logit(model, " rice", "no salt"), logit(model, " salt", "what")]
    assert [*found[0], *found[2]] == pytest.approx(wanted, abs=1e-5)


def test_probabilities_of_extreme_logits_are_certain_and_reasons_stay() -> None:
    assert [probability(x) for x in (0.0, 1e6, -1e6)] == pytest.approx([0.5, 1.0, 0.0], abs=1e-12)
    assert probability("why") == "why"


def test_scores_of_a_classifier_are_how_likely_each_rule_is_kept(home: Path, tmp_path: Path, model: ScalarModel) -> None:
    scores = RuleScores.load(str(home / "classifier"), rule_file(tmp_path))
    assert scores.heads == ("rice", "salt")
    found = scores.score([prompt(), prompt()], [[Completion(" rice"), Completion(" rice" * 200)], [Completion(" no salt")]])
    kept = [[1 - probability(logit(model, text, f"the cook has {rule}")) for rule in scores.heads] for text in (" rice", " no salt")]  # type: ignore[operator]
    torch.testing.assert_close(found.scores[[0, 2]], torch.tensor(kept), **CLOSE)  # type: ignore[arg-type]
    assert found.scores[1].isnan().all()
    assert list(found.reasons) == [1]
