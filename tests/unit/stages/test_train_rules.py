"""Stages `collect_rules` and `rules`: what is asked, what a classifier learns and is tested on, and what the summary says."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from palate.core import ConfigError, DataError, ModelError
from palate.data.exclusions import Exclusion, Exclusions, excluding
from palate.data.jsonl import write_rows
from palate.data.rater_rows import raters_in
from palate.data.rule_file import RuleFile
from palate.evaluation.rater_votes import JUDGMENTS
from palate.evaluation.rule_votes import read_rule_votes
from palate.models.adapters import LoRA
from palate.models.load import as_policy, built, load_policy, without_dropout
from palate.models.reward_file import RULE_HEAD
from palate.models.scalar import load_scalar, scalar_from
from palate.models.surprise import Surprise
from palate.raters.people import People
from palate.raters.rule_raters import RuleRaters
from palate.ratings import Answer, use_ratings
from palate.rewards.learned import LearnedReward
from palate.rewards.rule_classifier import RuleClassifier
from palate.stages.collect_rules import CollectRules
from palate.stages.train_rules import TrainRules
from palate.testing import tiny_config, tiny_policy, word_tokenizer
from palate.training.optimizer import AdamW
from tests.support.rule_files import HERE, RULES, answered, rule_file
from tests.support.stages import dropped_of, ran, rows_of, summary_of

FOODS = ("rice", "salt", "beans")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a file of rules, and judgments of 24 prompts by three raters, who all know."""
    folder = tmp_path_factory.mktemp("home")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    rule_file(folder)
    rng = random.Random(0)
    rows = []
    for k in range(24):
        prompt = f"the {' '.join(rng.choice(('guests', 'today', 'please', 'so')) for _ in range(3))} {k}"
        for food in FOODS:
            rows += [
                (prompt, f" make {food}", rule, f"r{j}", rule == food or (food, rule) == ("beans", "salt"))
                for rule in ("rice", "salt")
                for j in range(3)
            ]
    answered(folder / "judgments.jsonl", rows)
    return folder


Train = Callable[..., Path]


def start_of(home: Path) -> TrainRules:
    return TrainRules(
        str(home / "base"), str(home / "rules.yaml"), (str(home / "judgments.jsonl"),), held_out_share=0.25, epochs=12,
        completions_per_step=18, optimizer=AdamW(lr=1e-2),
    )  # fmt: skip


@pytest.fixture
def train(home: Path, tmp_path: Path) -> Train:
    def run(name: str = "run", **settings: object) -> Path:
        return ran(replace(start_of(home), **settings), tmp_path / name, "rules")  # type: ignore[arg-type]

    return run


def test_one_classifier_learns_all_rules_and_reads_wordings_it_has_not_learned(train: Train, home: Path) -> None:
    run = train()
    summary = summary_of(run)
    assert (summary["judgments"], summary["completions"]) == (18 * 18, 18 * 3)
    for rule in ("rice", "salt"):
        figures = summary["held_out"][rule]
        assert figures["questions"] == 18
        assert figures["auc"]["value"] > 0.95, (rule, figures)
        assert figures["auc_held_out"]["value"] > 0.9, (rule, figures)
        assert figures["agreement"]["value"] == 1.0
        assert figures["is_learned"]
        assert figures["brier"] < figures["brier_base"] / 2
    assert summary["held_out"]["rice"]["auc_program"] is not None
    assert summary["held_out"]["salt"]["auc_program"] is None, "the rule has no program"
    model = load_scalar(run / "model")
    assert model.heads == (RULE_HEAD,)
    rows = rows_of(run, "predictions.jsonl")
    assert len(rows) == 6 * 3 * 2 * 2, "prompts, completions, rules, and two wordings of each"
    classifier = RuleClassifier(LearnedReward(model), "model")
    file = RuleFile.read(home / "rules.yaml")
    test, _ = read_rule_votes(home / "judgments.jsonl", file)
    by_rule = {rule.id: rule for rule in file.rules}
    chosen = next(one for one in test if one.rule == "salt" and one.completion.text == " make beans")
    ((yes, no),) = classifier.logits([(chosen.prompt, chosen.completion)], [[by_rule["salt"].question, by_rule["rice"].question]])
    assert isinstance(yes, float)
    assert isinstance(no, float)
    assert yes > 0 > no


def test_with_answers_it_starts_as_what_the_language_model_would_say(train: Train, home: Path) -> None:
    run = train(answers=("rice", "salt"), epochs=0.1, optimizer=AdamW(lr=1e-12))
    rows = {(row["prompt"], row["rule"], row["wording"]): row["probability"] for row in rows_of(run, "predictions.jsonl")}
    policy = load_policy(home / "base")
    head = policy.head[0][[policy.tokenizer.convert_tokens_to_ids(word) for word in ("rice", "salt")]]
    started = load_scalar(run / "model").module.get_submodule("score").weight
    assert torch.allclose(started, head[:1] - head[1:], atol=1e-6)
    assert len(set(rows.values())) > 10, "the model answers each question in its own way"


@pytest.fixture(scope="module")
def surprised(home: Path) -> Path:
    """The run of a classifier that reads surprise."""
    config = without_dropout(tiny_config("qwen3", word_tokenizer()))
    config.tie_word_embeddings = True
    as_policy(built(AutoModelForCausalLM.from_config, config, 0), word_tokenizer()).save(home / "tied")
    return ran(replace(start_of(home), model=str(home / "tied"), score="with_surprise", epochs=2), home / "surprised", "rules")


def test_a_classifier_that_reads_surprise_learns_and_is_read_back(train: Train, surprised: Path) -> None:
    model = load_scalar(surprised / "model")
    assert isinstance(model.likelihood, Surprise)
    assert all(p.any() for p in model.likelihood.parameters()), "the gate and the others have left 0"
    with pytest.raises(ModelError, match="needs a model whose output embeddings are its input embeddings"):
        train("untied", score="with_surprise")
    with pytest.raises(ConfigError, match="with_surprise trains all weights; leave out adapters"):
        train("lora", score="with_surprise", adapters=LoRA(rank=2))


def test_training_goes_on_from_a_classifier_and_is_tested_on_other_prompts(train: Train, home: Path, tmp_path: Path) -> None:
    first = train(epochs=1)
    more = answered(tmp_path / "more.jsonl", [(f"the cook {k}", " make salt", "rice", "ann", False) for k in range(6)])
    tests = answered(
        tmp_path / "tests.jsonl", [(f"so {k}", f" make {food}", "salt", "ann", food == "salt") for k in range(6) for food in FOODS]
    )
    unmoved = train("unmoved", model=str(first), judgments=(str(more),), held_out=(str(tests),), optimizer=AdamW(lr=1e-12), epochs=1)
    before, after = (load_scalar(run / "model").state_dict() for run in (first, unmoved))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before), "it starts as what the first one learned"
    moved = train("moved", model=str(first), judgments=(str(more),), held_out=(str(tests),), epochs=1)
    assert not torch.allclose(load_scalar(moved / "model").module.get_submodule("score").weight, before["score.weight"], atol=1e-4)
    for settings, message in (
        ({"held_out": ()}, "prompts aside that it has learned from. Name judgments of other prompts in held_out"),
        ({"answers": ("rice", "salt")}, "training goes on from its head, with all weights. Leave out answers and adapters"),
        ({"adapters": LoRA(rank=2)}, "Leave out answers and adapters"),
        ({"score": "with_surprise"}, "score is with_surprise, and the classifier .* was trained with score: last_token. Set score to that"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(message[:9], **{"model": str(first), "held_out": (str(tests),), **settings})
    taste = scalar_from(str(home / "base"), ("helpful",), seed=0)
    taste.save(tmp_path / "taste")
    with pytest.raises(ModelError, match="it is a reward model and reads no rule"):
        train("taste-run", model=str(tmp_path / "taste"), held_out=(str(tests),))


def test_a_classifier_that_reads_surprise_goes_on_with_it(train: Train, surprised: Path, tmp_path: Path) -> None:
    tests = answered(tmp_path / "tests.jsonl", [(f"so {k}", " make rice", "rice", "ann", True) for k in range(4)])
    run = train("further", model=str(surprised), score="with_surprise", held_out=(str(tests),), epochs=1)
    before, after = (load_scalar(place / "model").likelihood for place in (surprised, run))
    assert isinstance(before, Surprise)
    assert isinstance(after, Surprise)
    gaps = [float((a - b).detach().abs().max()) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert all(0 < gap < 0.5 for gap in gaps), gaps
    with pytest.raises(ConfigError, match=r"was trained with score: with_surprise. Set score to that"):
        train("last", model=str(surprised), held_out=(str(tests),))


def test_no_prompt_is_learned_and_tested(train: Train, home: Path, tmp_path: Path) -> None:
    own = answered(tmp_path / "test.jsonl", [(f"the cook {k}", " make rice", "rice", "ann", k % 2 == 0) for k in range(8)])
    run = train(held_out=(str(own),), epochs=1)
    assert summary_of(run)["completions"] == 72
    assert {row["prompt"] for row in rows_of(run, "predictions.jsonl")} == set(range(8))
    again = train("again", held_out=(str(home / "judgments.jsonl"),), judgments=(str(own), str(home / "judgments.jsonl")), epochs=1)
    assert summary_of(again)["completions"] == 8
    assert dropped_of(again)["judgments"] == {"its prompt is held out": 144}


def test_rules_that_are_not_learned_are_tested(train: Train) -> None:
    run = train(unlearned=("salt",), epochs=1)
    summary = summary_of(run)
    assert {name: own["is_learned"] for name, own in summary["held_out"].items()} == {"rice": True, "salt": False}
    assert {row["rule"] for row in rows_of(run, "predictions.jsonl")} == {"rice", "salt"}


def test_labels_are_shares_and_each_judgment_weighs_one(train: Train, tmp_path: Path) -> None:
    """With one completion whose raters are divided 3 to 1, the classifier ends at their share, whatever the number of wordings."""
    rows = [(f"the cook {k}", " make rice", "rice", f"r{j}", j > 0) for k in range(8) for j in range(4)]
    path = answered(tmp_path / "divided.jsonl", rows)
    run = train(judgments=(str(path),), epochs=25, wordings=None)
    broken = [row["probability"] for row in rows_of(run, "predictions.jsonl") if row["wording"] == "question"]
    assert broken == pytest.approx([0.75] * len(broken), abs=0.08)
    assert summary_of(run)["last"]["broken/mean"] == pytest.approx(0.75)


def test_the_summary_says_what_is_not_reached(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    run = train(epochs=0.1, optimizer=AdamW(lr=1e-9))
    said = summary_of(run)["findings"]
    assert any("on held-out wordings the classifier has not reached 0.9" in one for one in said), said
    assert said[0] in capfd.readouterr().err


def test_a_program_that_fails_stops_the_stage_before_it_trains(train: Train, tmp_path: Path) -> None:
    broken = rule_file(tmp_path, [{**RULES[0], "program": f"{HERE}:failing"}, RULES[1]], "broken.yaml")
    with pytest.raises(
        DataError, match=r"rule 'rice': its program .*failing raised ZeroDivisionError: no oven, for the completion ' make salt'"
    ):
        train(rules=str(broken))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_bad_settings_are_messages(train: Train, tmp_path: Path, home: Path) -> None:
    with pytest.raises(ConfigError, match="no rule 'pepper'"):
        train(unlearned=("pepper",))
    with pytest.raises(ConfigError, match="held_out_share is 0 and held_out is empty"):
        train(held_out_share=0.0)
    with pytest.raises(ConfigError, match="judgments is empty"):
        train(judgments=())
    with pytest.raises(DataError, match="nothing is left to train on"):
        train(unlearned=("rice", "salt"))
    given = str(home / "judgments.jsonl")
    for setting in ("judgments", "held_out"):
        with pytest.raises(
            ConfigError, match=f"{setting} names .* a second time, and each of its rows would count twice. Name each path once"
        ):
            train(**{setting: (given, f"{home}/./judgments.jsonl")})
    other = answered(tmp_path / "other.jsonl", [("x", "y", "something", "ann", True)])
    with pytest.raises(DataError, match="there is no judgment of a rule of"):
        train(judgments=(str(other),))


def samples(folder: Path) -> str:
    """Completions of six prompts: rice, salt, an empty one, and one twice."""
    rows = [
        {
            "id": f"p{k}",
            "prompt": f"the cook {k}",
            "wanted": "rice",
            "completions": [{"text": text} for text in (" rice", " salt", "", " rice")],
        }
        for k in range(6)
    ]
    write_rows(folder / "samples.jsonl", rows)
    return str(folder / "samples.jsonl")


def test_each_completion_is_judged_by_each_rule(tmp_path: Path) -> None:
    file = rule_file(tmp_path, [RULES[0], {**RULES[1], "program": f"{HERE}:of_column"}])
    raters = RuleRaters(raters=4, misses=0.0, false_alarms=0.0)
    run = ran(CollectRules(samples(tmp_path), str(file), raters, raters_per_question=2), tmp_path / "run", "collect_rules")
    summary = summary_of(run)
    assert (summary["questions"], summary["judgments"]) == (24, 48)
    assert summary["rules"]["rice"]["broken"] == summary["rules"]["salt"]["broken"] == 0.5
    judged, left_out = read_rule_votes(run / JUDGMENTS, RuleFile.read(file))
    assert not left_out
    assert {(one.completion.text, one.rule, one.broken) for one in judged} == {
        (" rice", "rice", 1.0), (" salt", "rice", 0.0), (" rice", "salt", 0.0), (" salt", "salt", 1.0),
    }  # fmt: skip
    assert all(len(one.votes) == 2 for one in judged)
    assert dropped_of(run)["completions"] == {"empty completion": 6}
    with excluding(Exclusions((Exclusion("rater", next(raters_in(run / JUDGMENTS)).rater),))):
        part = ran(CollectRules(samples(tmp_path), str(file), raters, raters_per_question=2), tmp_path / "part", "collect_rules")
    mentioned = [Counter(one.rater for one in raters_in(place / JUDGMENTS)) for place in (run, part)]
    assert len(mentioned[1]) == 3
    assert mentioned[1].items() <= mentioned[0].items()
    few = ran(CollectRules(samples(tmp_path), str(file), raters, ids=("rice",), limit=3), tmp_path / "few", "collect_rules")
    assert summary_of(few)["questions"] == 3


def test_simulated_people_err_at_the_rates_that_are_set() -> None:
    raters = RuleRaters(raters=10, misses=0.2, false_alarms=0.1, spread=0.0)
    votes = {
        is_broken: [says for k in range(600) for _, says in raters.votes(f"q{k}", "r", is_broken=is_broken, count=5, seed=1)]
        for is_broken in (True, False)
    }
    assert sum(votes[True]) / 3000 == pytest.approx(0.8, abs=0.03)
    assert sum(votes[False]) / 3000 == pytest.approx(0.1, abs=0.03)
    assert len({name for name, _ in raters.votes("q", "r", is_broken=True, count=5, seed=1)}) == 5
    assert raters.votes("q", "r", is_broken=True, count=5, seed=1) == raters.votes("q", "r", is_broken=True, count=5, seed=1)
    unclear = replace(raters, unclear={"vague": 1.0})
    tossed = [says for k in range(600) for _, says in unclear.votes(f"q{k}", "vague", is_broken=True, count=5, seed=1)]
    assert sum(tossed) / 3000 == pytest.approx(0.5, abs=0.03)


def test_a_badly_worded_rule_is_flagged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = rule_file(tmp_path, [RULES[0], {**RULES[1], "program": f"{HERE}:rice"}])
    raters = RuleRaters(misses=0.0, false_alarms=0.0, unclear={"salt": 1.0})
    write_rows(
        tmp_path / "many.jsonl",
        [{"prompt": f"the cook {k}", "completions": [{"text": text} for text in (" rice", " salt")]} for k in range(60)],
    )
    run = ran(CollectRules(str(tmp_path / "many.jsonl"), str(file), raters, raters_per_question=3), tmp_path / "run", "collect_rules")
    flags = {name: own["is_badly_worded"] for name, own in summary_of(run)["rules"].items()}
    assert flags == {"rice": False, "salt": True}
    assert "rule salt: raters do not agree on it" in capfd.readouterr().err


def test_people_are_asked_each_rule_and_answers_of_other_texts_stay_out(tmp_path: Path) -> None:
    file, database = rule_file(tmp_path), tmp_path / "ratings.db"
    stage = CollectRules(samples(tmp_path), str(file), People(database=str(database), project="Rules", wait=False), limit=2)
    asked = ran(stage, tmp_path / "asked", "collect_rules")
    assert summary_of(asked)["judgments"] == 0
    with use_ratings(str(database)) as ratings:
        (project,) = ratings.projects()
        assert project.task.rules == ("the cook has rice", "the cook has salt")
        assert "## salt" in ratings.guideline(project.id).text
        ann = ratings.add_account("ann", "rater", time.time())
        ratings.join(project.id, ann.id, time.time())
        while (held := ratings.claim(project.id, ann.id, time.time(), random.Random(0))) is not None:
            item = ratings.item(held.item)
            broken = str(item.fields["rule"]).split()[-1] in item.candidates[0].text
            ratings.submit(held.id, ann.id, Answer(broken=broken), held.id, time.time())
    told = ran(replace(stage, limit=1), tmp_path / "told", "collect_rules")
    judged, _ = read_rule_votes(told / JUDGMENTS, RuleFile.read(file))
    assert sorted((one.completion.text, one.rule, one.broken) for one in judged) == [(" rice", "rice", 1.0), (" rice", "salt", 0.0)]


def test_what_simulated_people_cannot_see_is_refused(tmp_path: Path) -> None:
    file = str(rule_file(tmp_path))
    with pytest.raises(ConfigError, match="simulated people see what a rule's program says, and salt in"):
        ran(CollectRules(samples(tmp_path), file, RuleRaters()), tmp_path / "run", "collect_rules")
    with pytest.raises(ConfigError, match="raters_per_question must be at most 2"):
        CollectRules(samples(tmp_path), file, RuleRaters(raters=2), raters_per_question=3).check()
    with pytest.raises(ConfigError, match=r"unclear.salt is a share, got 2"):
        RuleRaters(unclear={"salt": 2.0})
