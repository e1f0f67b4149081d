"""Ranks that share out weights compute what one rank with whole weights computes, and hold less."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palate.models.load import load_policy
from palate.models.scalar import with_heads
from palate.testing import tiny_policy, word_tokenizer
from tests.ranks import sharing_out
from tests.ranks.commands import Runs, runs_at
from tests.ranks.forked import forked, on_ranks
from tests.ranks.sharing_out import weights_of
from tests.support.run_numbers import numbers

pytestmark = pytest.mark.slow


def figures_of(folder: Path, count: int, target: Any, *arguments: object) -> list[dict[str, Any]]:
    """What a function wrote on each of so many ranks."""
    ended = forked(count, target, (folder, *arguments), folder / "out")
    assert ended.codes == [0] * count, ended.stderr
    return [json.loads((folder / str(rank) / "figures.json").read_text()) for rank in range(count)]


@pytest.mark.parametrize(
    ("family", "count", "shard", "checkpoints"),
    [
        ("llama", 2, "all", False),
        ("tied", 2, "all", True),
        ("qwen2", 3, "all", True),
        ("llama", 4, "all:2", False),
        ("llama", 2, "frozen", False),
    ],
)
def test_slices_learn_what_one_rank_learns(tmp_path: Path, family: str, count: int, shard: str, checkpoints: bool) -> None:
    everyone = figures_of(tmp_path, count, sharing_out.compared, family, shard, checkpoints)
    for figures in everyone:
        assert figures["shared"] > 8 if shard != "frozen" else figures["shared"] == 0
        assert figures["from_whole"] == figures["from_whole_metrics"] == 0.0
        assert figures["from_alone"] < 1e-6
        assert figures["moved"] > 1e-4
        assert figures["metrics"] < 1e-5
        assert figures["logps"] < 1e-5
    written = weights_of(load_policy(tmp_path / "0" / "written"))
    plain = weights_of(load_policy(tmp_path / "0" / "plain"))
    assert written.keys() == plain.keys()
    assert all(x.equal(plain[name]) for name, x in written.items())


@pytest.mark.parametrize(("count", "shard", "sharers"), [(2, "all", 2), (4, "all", 4), (4, "all:2", 2)])
def test_a_rank_holds_its_slices_and_one_layer(tmp_path: Path, count: int, shard: str, sharers: int) -> None:
    for figures in figures_of(tmp_path, count, sharing_out.measured, shard):
        rest = 4 * (figures["parameters"] - figures["layers"])
        slices = 4 * figures["layers"] / sharers
        assert figures["before"] == 4 * figures["parameters"]
        assert figures["after"] == pytest.approx(rest + slices, rel=1e-3)
        assert figures["computing"] == pytest.approx(rest + slices + 4 * figures["layers"] / 8, rel=1e-3)
        assert figures["same"]
        assert figures["apart"]
        assert "cannot be copied" in figures["copied"]


@pytest.mark.parametrize(
    ("shard", "adapters", "shared"),
    [
        ("all", None, {"policy", "value", "reference", "reward", "held_out"}),
        ("frozen", None, {"reference", "reward", "held_out"}),
        ("frozen", {"rank": 2}, {"policy", "value", "reference", "reward", "held_out"}),
    ],
)
def test_online_training_shares_out_its_models(
    words: list[str], tmp_path: Path, shard: str, adapters: dict[str, int] | None, shared: set[str]
) -> None:
    settings = {"adapters": adapters, **dict(word.split("=") for word in words[1:])}
    for figures in figures_of(tmp_path, 2, sharing_out.roles, shard, settings):
        assert {role for role, layers in figures["shared"].items() if layers} == shared
        assert figures["adapters"] == 0  # small matrices that learn stay whole


PIPELINE = """\
name: shards
seed: 5
inputs: {base: null, reward: null, demonstrations: null, preferences: null, prompts: null}
stages:
  sft:
    stage: sft
    model: $base
    data: $demonstrations
    demonstrations_per_step: 5
    tokens_per_microbatch: 24
    epochs: 2
    checkpoint_activations: true
  reward-lora: {stage: reward, model: $sft, preferences: $preferences, prompts_per_step: 3, adapters: {rank: 2, merge: false}}
  dpo: {stage: direct, model: $sft, preferences: $preferences, reference: $base, prompts_per_step: 3, tokens_per_microbatch: 48}
  ppo: &online
    stage: online
    model: $sft
    reward: $reward
    prompts: $prompts
    iterations: 2
    prompts_per_iteration: 3
    samples_per_prompt: 2
    minibatches: 1
    epochs_per_batch: 1
    sampling: {max_tokens: 6}
    reward_requirements: {min_accuracy: 0}
  ppo-lora: {<<: *online, reward: $reward-lora, adapters: {rank: 2}}
"""
NOUNS = ("rice", "beans", "salt", "water", "bread")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that run a pipeline of tiny models."""
    folder = tmp_path_factory.mktemp("inputs")
    policy = tiny_policy("llama", word_tokenizer())
    policy.save(folder / "base")
    with_heads(policy, ("overall",), 0).save(folder / "reward")
    rows = {
        "demonstrations": [{"prompt": f"the cook has {noun}", "completion": f"the cook eats {noun} {k}"} for k, noun in enumerate(NOUNS)],
        "preferences": [{"prompt": f"the {noun} is", "chosen": f"good {k}", "rejected": "not good here"} for k, noun in enumerate(NOUNS)],
        "prompts": [{"prompt": f"the cook sees {noun}"} for noun in NOUNS],
    }
    for name, listed in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    file = folder / "shards.yaml"
    file.write_text(PIPELINE)
    return [str(file), *(f"{name}={folder / name}" for name in ("base", "reward")), *(f"{name}={folder / name}.jsonl" for name in rows)]


@pytest.fixture(scope="module")
def alone(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return ran(1, words, tmp_path_factory.mktemp("alone"))


def ran(count: int, words: list[str], folder: Path) -> Runs:
    """The pipeline on so many ranks."""
    ended = on_ranks(count, ["run", *words, "--runs", str(folder / "runs")], folder)
    assert ended.codes == [0] * count, ended.stderr
    return runs_at(folder / "runs")


def far(one: Path, other: Path) -> dict[str, tuple[float, float]]:
    """The numbers that differ between two runs."""
    here, there = numbers(one), numbers(other)
    assert here.keys() == there.keys()
    return {at: (here[at], there[at]) for at in here if not math.isclose(here[at], there[at], rel_tol=1e-5, abs_tol=limit(at))}


def limit(at: str) -> float:
    # The share explained is a small difference of two variances.
    return 1e-4 if "value_explained" in at else 1e-5


@pytest.mark.parametrize(("count", "shard"), [(2, "all"), (2, "frozen"), (4, "all:2")])
def test_every_stage_gives_the_numbers_of_one_rank(alone: Runs, words: list[str], tmp_path: Path, count: int, shard: str) -> None:
    together = ran(count, [*words, f"shard={shard}"], tmp_path)
    assert together.keys() == alone.keys()
    for stage, (path, _) in alone.items():
        assert far(path, together[stage][0]) == {}, stage
        assert together[stage][0].name == path.name  # the key does not depend on it


@pytest.mark.parametrize(("stage", "failure", "then", "shard"), [("sft", "die:1:sft:1", 1, "all"), ("ppo", "die:0:ppo:1", 3, "none")])
def test_a_run_goes_on_with_another_number_of_ranks(
    alone: Runs, words: list[str], tmp_path: Path, stage: str, failure: str, then: int, shard: str
) -> None:
    command = ["run", *words, "--only", stage, "--runs", str(tmp_path / "runs")]
    if stage != "sft":
        assert on_ranks(1, [*command[:-4], "--only", "sft", *command[-2:]], tmp_path / "before").codes == [0]
    ended = on_ranks(2, [*command, "shard=all"], tmp_path / "failing", failure, PALATE_RANK_DEADLINE="60")
    assert 0 not in ended.codes
    again = on_ranks(then, [*command, f"shard={shard}"], tmp_path / "again")
    assert again.codes == [0] * then, again.stderr
    path, record = runs_at(tmp_path / "runs")[stage]
    assert record.status == "done"
    assert far(alone[stage][0], path) == {}


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("ppo.offload=true", "ppo: shard is all, and offload keeps frozen models in the machine's memory"),
        ("ppo.sampler.asynchronous=1", "ppo: shard is all, and asynchronous sampling needs a whole copy of the policy"),
        ("dpo.reference_update.every=1", "dpo: shard is all, and reference_update reads all weights of the policy"),
        ("shard=some", "shard is 'some': use none, frozen or all"),
    ],
)
def test_what_needs_whole_weights_is_refused_before_anything_runs(words: list[str], tmp_path: Path, assignment: str, told: str) -> None:
    ended = on_ranks(2, ["run", *words, "shard=all", assignment, "--runs", str(tmp_path / "runs")], tmp_path)
    assert 0 not in ended.codes
    assert ended.stderr.count(told) == 1, ended.stderr
    assert not runs_at(tmp_path / "runs")
