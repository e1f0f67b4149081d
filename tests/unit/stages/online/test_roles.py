"""The models of online training that do not learn compute in the type of those that do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from palate.core import ConfigError
from palate.models.causal import CausalPolicy
from palate.models.reward_file import RULE_HEAD
from palate.models.scalar import ScalarModel, scalar_from
from palate.rewards.learned import LearnedReward
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.online.roles import make_alike, new_value_model
from palate.testing import tiny_policy
from tests.unit.stages.online.toy import configured


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path, RunPlan("online", "online"))


def test_models_that_do_not_learn_are_cast_and_their_frequencies_are_not() -> None:
    policy = tiny_policy("qwen3")
    reference, reward = policy.reference(), scalar_from(policy, ("overall",), seed=1)
    before = {name: buffer.clone() for name, buffer in reference.module.named_buffers()}
    make_alike([reference.module, reward.module], [policy.module], torch.bfloat16, shares_base=False)
    assert {p.dtype for model in (reference, reward) for p in model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in reference.module.named_buffers())


def test_equal_frozen_weights_are_held_once_where_that_is_asked_for() -> None:
    for shares in (False, True):
        policy = tiny_policy("qwen3")
        reward = scalar_from(policy, ("overall",), seed=1)
        for module in (policy.module, reward.module):
            module.requires_grad_(requires_grad=False)
        make_alike([reward.module], [policy.module], torch.float32, shares_base=shares)
        one, other = (module.base_model.layers[0].mlp.up_proj.weight for module in (policy.module, reward.module))
        assert (one.data_ptr() == other.data_ptr()) == shares


def test_offload_that_would_move_nothing_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="offload would have no effect: with adapters the reference is the policy with its adapter off"):
        configured(data, offload=True, adapters={"rank": 2}).check()
    configured(data, offload=True).check()
    configured(data, offload=True, adapters={"rank": 2}, rewards={}, reward="reward").check()


def test_a_value_model_starts_from_a_reward_model_and_never_from_a_classifier_of_rules(run: Run, tmp_path: Path) -> None:
    policy, others = tiny_policy("qwen3"), [tiny_policy("qwen3", seed=k) for k in (1, 2)]
    policy.save(tmp_path / "policy")
    models = {name: scalar_from(other, (name,), seed=1) for name, other in zip((RULE_HEAD, "overall"), others, strict=True)}
    for name, model in models.items():
        model.save(tmp_path / name)
    rewards = {str(tmp_path / name): LearnedReward(model, policy.tokenizer) for name, model in models.items()}

    def start(paths: list[str]) -> torch.Tensor:
        chosen = {str(tmp_path / path): rewards[str(tmp_path / path)] for path in paths}
        value = new_value_model(run, policy, str(tmp_path / "policy"), chosen, None)
        return value.module.get_input_embeddings().weight

    def embeddings(model: CausalPolicy | ScalarModel) -> torch.Tensor:
        return model.module.get_input_embeddings().weight

    assert torch.equal(start([RULE_HEAD, "overall"]), embeddings(models["overall"]))
    assert torch.equal(start([RULE_HEAD]), embeddings(policy))
