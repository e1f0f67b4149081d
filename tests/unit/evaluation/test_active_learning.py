"""What people are asked next: members disagree where no judgment told them apart, and the queue goes by it."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from palate.config.read import dump_config
from palate.core import Completion, Message, Prompt
from palate.data.formats import read_preferences
from palate.data.jsonl import read_rows, write_rows
from palate.distributed.ranks import Ranks, working_together
from palate.evaluation.active_learning import DrawnMembers, ask_next
from palate.models.scalar import load_scalar, scalar_from
from palate.raters.people import People
from palate.ratings import Answer, Candidate, Item, Project, Ratings, open_ratings
from palate.rewards.combination import RewardModels
from palate.rewards.ensemble import drawn_heads, precision_of
from palate.rewards.learned import LearnedReward
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.collect import Collect
from palate.stages.reward import Reward
from palate.testing import tiny_policy, word_tokenizer
from palate.training.bootstrap import Members
from palate.training.comparisons import judged_prompts
from palate.training.optimizer import AdamW
from tests.support.stages import ran, rows_of, summary_of

WORDS = ("rice", "beans", "salt", "cook", "guests", "today")


def test_heads_are_drawn_from_the_posterior() -> None:
    rng = np.random.default_rng(0)
    x, head, weight = rng.normal(size=(200, 3)), np.array([0.5, -0.2, 0.3]), rng.uniform(0.5, 2, 200)
    x = x @ np.array([[1.0, 0.8, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.0]])
    p = 1 / (1 + np.exp(-(x @ head)))
    expected = sum(w * q * (1 - q) * np.outer(one, one) for one, q, w in zip(x, p, weight, strict=True)) + 4 * np.eye(3)
    precision = precision_of(x, head, weight)
    assert precision == pytest.approx(expected)
    drawn = drawn_heads(head, precision, 20_000, rng)
    assert drawn.mean(0) == pytest.approx(head, abs=0.02)
    assert np.cov(drawn.T) == pytest.approx(np.linalg.inv(expected), abs=0.01)
    assert drawn[:, 2].std() == pytest.approx(0.5, abs=0.01)  # no judgment says anything about it: as before training
    assert drawn[:, 0].std() < 0.4
    assert np.corrcoef(drawn.T)[0, 1] < -0.3  # two that are nearly one: what one gains the other loses


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A reward model, a few preferences in a run of collect from people, and its database with items, some of them judged."""
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall", "other"), seed=0).save(tmp_path / "reward")
    (tmp_path / "runs").mkdir()
    ratings = open_ratings(str(tmp_path / "runs" / "ratings.db"), create=True)
    project = ratings.add_project(Project("comparisons", queue="uncertain"), 0.0)
    items = [
        Item((Message("user", f"the {one} and the {other}"),), (Candidate("make salt"), Candidate(f"for {k} {'please ' * (k % 7)}today")))
        for k, (one, other) in enumerate((one, other) for one in WORDS for other in WORDS)
    ]
    ratings.add_items(project.id, items, 0.0)
    account = ratings.add_account("ann", "rater", 0.0)
    ratings.join(project.id, account.id, 0.0)
    for k in range(4):
        held = ratings.claim(project.id, account.id, time.time(), random.Random(k))
        assert held is not None
        ratings.submit(held.id, account.id, Answer(((0,), (1,))), str(k), time.time())
    ratings.close()
    stage = Collect("samples", People())
    run = open_run(tmp_path / "runs", RunPlan("judged", "collect", dump_config(stage)))
    with run.active():
        rows = [{"prompt": f"the {one}", "chosen": " make salt", "rejected": " make rice", "dimension": "overall"} for one in WORDS]
        write_rows(run.directory / "preferences.jsonl", rows)
    return tmp_path


def scored(home: Path, name: str = "reward") -> tuple[Run, dict[str, dict[str, Any]]]:
    model = load_scalar(home / "reward")
    preferences = next((home / "runs").glob("judged-*")) / "preferences.jsonl"
    judged, _ = judged_prompts(read_preferences(preferences).rows, model.tokenizer, 1000)
    run = open_run(home / "runs", RunPlan(name, "reward", {}, seed=3))
    with run.active():
        return run, ask_next(run, str(preferences), lambda: DrawnMembers(model, judged, run.seed))


def test_what_nobody_judged_is_scored_and_the_queue_takes_its_order(home: Path) -> None:
    run, told = scored(home)
    rows: list[dict[str, Any]] = [dict(row) for _, row in read_rows(run.directory / "scores.jsonl")]
    assert told["asked_next"]["items"] == len(rows) == 36 - 4
    ratings = open_ratings(str(home / "runs" / "ratings.db"))
    (project,) = ratings.projects()
    judged = {one.comparison for one in ratings.as_comparisons(project.id)[1]}
    assert judged.isdisjoint(row["item"] for row in rows)
    for row in rows:
        assert set(row["scores"]) == {"overall"}
        scores = np.array(row["scores"]["overall"])
        assert scores.shape == (2, 16)
        assert row["spread"] == pytest.approx((1 / (1 + np.exp(scores[1] - scores[0]))).std(), abs=1e-3)
    counts = asked_first(ratings, project, {str(row["item"]): float(row["spread"]) for row in rows}, 14)
    ratings.close()
    assert counts["high"] > counts["low"]


class Told(Ranks):
    """The writer, which keeps what it tells; or another rank, which is told that."""

    def __init__(self, told: list[Any], *, is_writer: bool) -> None:
        self.told, self._is_writer = told, is_writer

    @property
    def is_writer(self) -> bool:
        return self._is_writer

    def broadcast(self, value: Any) -> Any:
        if self.is_writer:
            self.told.append(value)
            return value
        return self.told.pop(0)


def test_only_the_writer_opens_the_database(home: Path) -> None:
    told: list[Any] = []
    with working_together(Told(told, is_writer=True)):
        run, note = scored(home)
    assert told[1] == note["asked_next"]["items"]  # so many items have a score in the database
    for path in (home / "runs").glob("ratings.db*"):
        path.unlink()
    with working_together(Told(told, is_writer=False)):
        other, same = scored(home, "other")
    assert note
    assert same == note
    assert told == []
    assert (other.directory / "scores.jsonl").read_bytes() == (run.directory / "scores.jsonl").read_bytes()
    assert not (other.directory / "warnings.jsonl").exists()
    with working_together(Told(told, is_writer=True)):  # the database is gone, and its error is told too
        assert scored(home, "later")[1] == {}
    with working_together(Told(told, is_writer=False)):
        assert scored(home, "last")[1] == {}
    assert told == []


def asked_first(ratings: Ratings, project: Project, spreads: dict[str, float], count: int) -> Counter[str]:
    """How many of the next items that somebody is asked lie in the upper and in the lower half of the spreads."""
    account = ratings.add_account("bob", "rater", 0.0)
    ratings.join(project.id, account.id, 0.0)
    middle = float(np.median(list(spreads.values())))
    found: Counter[str] = Counter()
    for k in range(count):
        held = ratings.claim(project.id, account.id, time.time(), random.Random(100 + k))
        assert held is not None
        found["high" if spreads[held.item] > middle else "low"] += 1
        ratings.submit(held.id, account.id, Answer(((0,), (1,))), f"bob {k}", time.time())
    return found


def test_a_database_that_is_gone_costs_a_warning_not_the_training(home: Path) -> None:
    for path in (home / "runs").glob("ratings.db*"):
        path.unlink()
    run, told = scored(home)
    assert told == {}
    assert "ratings.db does not exist" in (run.directory / "warnings.jsonl").read_text()
    assert not (run.directory / "scores.jsonl").exists()


def test_preferences_from_elsewhere_ask_nobody(home: Path) -> None:
    write_rows(home / "own.jsonl", [{"prompt": "the rice", "chosen": " make salt", "rejected": " make rice"}])
    model = load_scalar(home / "reward")
    run = open_run(home / "runs", RunPlan("own", "reward", {}))
    assert ask_next(run, str(home / "own.jsonl"), lambda: DrawnMembers(model, [], run.seed)) == {}


def test_states_are_what_the_heads_read(home: Path) -> None:
    model = load_scalar(home / "reward")
    preferences = read_preferences(next((home / "runs").glob("judged-*")) / "preferences.jsonl").rows
    trees = [one.tree for one in judged_prompts(preferences, model.tokenizer, 1000)[0]]
    reward = LearnedReward(model)
    assert model._head(reward.states(trees)).detach() == pytest.approx(reward.score_trees(trees), abs=1e-5)
    members = DrawnMembers(model, [], 0).heads()["overall"]
    assert members.shape == (16, model.module.config.hidden_size)
    reading = scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0, reads_likelihood=True)
    assert DrawnMembers(reading, [], 0).heads()["overall"].shape == (16, model.module.config.hidden_size + 1)
    assert torch.tensor(members).std() < 2 * (model.module.config.hidden_size + 1) ** -0.5


def test_hidden_tests_are_not_scored(home: Path) -> None:
    ratings = open_ratings(str(home / "runs" / "ratings.db"))
    (project,) = ratings.projects()
    turn = (Message("user", "the hidden rice"),)
    test = Item(turn, (Candidate("make salt"), Candidate("for two")), gold=((0,), (1,)))
    ratings.add_items(project.id, [test], 0.0)
    ratings.close()
    _, told = scored(home)
    assert told["asked_next"]["items"] == 36 - 4


def test_members_disagree_less_the_more_they_have_learned_from(home: Path) -> None:
    model = load_scalar(home / "reward")
    preferences = read_preferences(next((home / "runs").glob("judged-*")) / "preferences.jsonl").rows
    judged = judged_prompts(preferences, model.tokenizer, 1000)[0]
    untaught, taught = (DrawnMembers(model, given, 0).heads()["overall"].var(0).sum() for given in ([], judged * 50))
    assert taught < 0.95 * untaught


@pytest.mark.parametrize("trunk", ["own", "shared"])
def test_the_members_of_an_ensemble_that_was_trained_order_the_queue(home: Path, trunk: Literal["own", "shared"]) -> None:
    tiny_policy("qwen3", word_tokenizer()).save(home / "base")
    preferences = next((home / "runs").glob("judged-*"))
    stage = Reward(
        str(home / "base"), str(preferences), held_out_share=0.3, prompts_per_step=1, epochs=4, optimizer=AdamW(lr=1e-2),
        members=Members(count=3, trunk=trunk),
    )  # fmt: skip
    run = ran(stage, home / "runs" / "reward", "reward")
    rows = rows_of(run, "scores.jsonl")
    assert summary_of(run)["asked_next"]["items"] == len(rows) == 36 - 4
    assert not list(run.glob("members/*/scores.jsonl"))
    models = RewardModels.load((str(run),))
    assert len(models.members) == 3
    ratings = open_ratings(str(home / "runs" / "ratings.db"))
    for row in rows[:8]:
        item = ratings.item(row["item"])
        completions = [Completion(candidate.text) for candidate in item.candidates]
        raw = models.raw(models.score([Prompt("x", item.conversation)], [completions]).members)[..., 0]
        scores = np.array(row["scores"]["overall"])
        assert scores.shape == (2, 3)
        assert np.abs(scores.T - raw.numpy()).max() < 1e-3
        assert row["spread"] == pytest.approx((1 / (1 + np.exp(scores[1] - scores[0]))).std(), abs=1e-3)
    assert len({row["spread"] for row in rows}) > 20
    (project,) = ratings.projects()
    counts = asked_first(ratings, project, {str(row["item"]): float(row["spread"]) for row in rows}, 14)
    ratings.close()
    assert counts["high"] > counts["low"]
