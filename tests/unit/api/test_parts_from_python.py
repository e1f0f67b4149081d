"""The parts underneath: models, samples, scores and log-probabilities of objects in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import palate
from palate.core import DataError
from palate.models.causal import CausalPolicy
from palate.models.scalar import scalar_from
from palate.rewards.learned import LearnedReward
from palate.testing import word_tokenizer
from palate.testing.models import tiny_config
from tests.unit.api.own_functions import brevity

ASKED = ["the cook has rice", "the cook has beans"]


def test_samples_have_the_logps_that_the_policy_gives_them(base: CausalPolicy) -> None:
    groups = palate.generate(base, ASKED, 3, sampling=palate.Sampling(max_tokens=5), seed=4)
    assert [len(group) for group in groups] == [3, 3]
    assert groups == palate.generate(base, ASKED, 3, sampling=palate.Sampling(max_tokens=5), seed=4)
    assert groups != palate.generate(base, ASKED, 3, sampling=palate.Sampling(max_tokens=5), seed=5)
    for found, group in zip(palate.logps(base, ASKED, groups), groups, strict=True):
        for logps, one in zip(found, group, strict=True):
            assert logps == pytest.approx(list(one.logps), abs=1e-4)
    cold = palate.logps(base, ASKED[:1], [[" rice"]], temperature=0.1)
    assert cold != palate.logps(base, ASKED[:1], [[" rice"]])


def test_policies_and_rewards_are_loaded_from_runs_and_score_lists(base: CausalPolicy, tmp_path: Path) -> None:
    base.save(tmp_path / "run/model")
    loaded = palate.load_policy(tmp_path / "run")
    assert palate.logps(loaded, ASKED[:1], [["rice"]]) == palate.logps(base, ASKED[:1], [["rice"]])
    scalar_from(str(tmp_path / "run/model"), ("helpful", "honest"), seed=1).save(tmp_path / "reward")
    reward = palate.load_reward(tmp_path / "reward")
    completions = [[" rice", " rice and beans"], [" beans"]]
    scores = palate.score(reward, ASKED, completions)
    by_head = reward.score(palate.as_prompts(ASKED), [[palate.Completion(one, stop="eos") for one in group] for group in completions])
    assert scores == by_head["score"]
    assert [len(group) for group in scores] == [2, 1]
    assert palate.score({"own": brevity}, ASKED, completions) == [[-5.0, -15.0], [-6.0]]
    both = palate.score({"own": brevity, "model": {"kind": "model", "model": reward, "weight": 2.0}}, ASKED, completions)
    assert both[1][0] == pytest.approx(-6 + 2 * scores[1][0])  # type: ignore[operator]


def test_a_hugging_face_model_becomes_a_policy_without_dropout() -> None:
    tokenizer = word_tokenizer()
    module = AutoModelForCausalLM.from_config(tiny_config("gpt2", tokenizer))
    assert module.config.attn_pdrop > 0
    policy = palate.as_policy(module, tokenizer)
    assert policy.module.config.attn_pdrop == 0.0
    assert not policy.module.training
    assert palate.generate(policy, [[{"role": "text", "content": "the cook"}]])[0][0].ids


def test_reward_models_are_taken_as_objects(base: CausalPolicy, tmp_path: Path) -> None:
    base.save(tmp_path / "base")
    reward = LearnedReward(scalar_from(str(tmp_path / "base"), ("score",), seed=1))
    done = palate.rerank(model=base, prompts=ASKED, reward=reward, n=2, sampling={"max_tokens": 4}, runs=tmp_path / "runs")
    (path,) = [parent.path for parent in done.record.parents if parent.field == "reward"]
    assert path.startswith("../.objects/model-")


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        ("rice", [["a"]], "a list of prompts is needed, got 'rice'"),
        ([{"role": "user", "content": "rice?"}], [["a"]], r"prompts\[0\] is {'role': 'user'"),
        ([7], [["a"]], r"prompts\[0\] is 7"),
        (["rice", " "], [["a"], ["b"]], r"prompts\[1\]: empty"),
        (ASKED, ["rice", "beans"], r"completions\[0\] is one completion, 'rice'"),
        (ASKED, "ab", "2 for 2 prompts"),
        (ASKED, [["a"]], "1 for 2 prompts"),
    ],
)
def test_one_thing_in_place_of_a_list_is_not_read_letter_by_letter(prompts: Any, completions: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        palate.score({"own": brevity}, prompts, completions)
