"""The sampler's own forward pass: the numbers of the model's code for every supported family and adapter; it is not used for others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from palate.core import Sampling
from palate.models.adapters import LoRA
from palate.models.attention import PackedAttention
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.samplers import LocalSampler
from palate.samplers import onednn as products
from palate.samplers.forward import LlamaForward, ModuleForward, forward_of
from palate.testing import tiny_policy
from palate.text.pack import Branch, PackedBatch, Tree, pack

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
TREES = [
    Tree(tuple(range(3, 20)), (Branch((5, 6, 7), (True,) * 3), Branch((30,), (True,)))),
    Tree((9, 9, 4), (Branch(tuple(range(20, 31)), (True,) * 11),)),
]


def batch() -> PackedBatch:
    return pack(TREES)


def both(policy: CausalPolicy, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits of the sampler's own pass, and of the model's."""
    packed = batch()
    fast = LlamaForward.of(policy, 64)
    assert fast is not None
    with torch.inference_mode():
        return tuple(  # type: ignore[return-value]
            forward.logits(packed.input_ids[None], packed.position_ids[None], PackedAttention(packed.layout), wanted)
            for forward in (fast, ModuleForward(policy))
        )


def noisy(policy: CausalPolicy, lora: LoRA) -> CausalPolicy:
    """The policy with an adapter whose outer matrices are not 0."""
    adapted = policy.with_adapter(lora, "base", seed=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for key, p in adapted.module.named_parameters():
            if "lora_B" in key:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return adapted


@pytest.fixture(params=[True, False], ids=["packed weights", "plain weights"])
def _weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(products, "packs", lambda *_: False)


@pytest.mark.usefixtures("_weights")
@pytest.mark.parametrize("family", KNOWN)
def test_logits_are_those_of_the_model_s_own_code(family: str) -> None:
    torch.testing.assert_close(*both(tiny_policy(family)), rtol=1e-5, atol=1e-5)
    wanted = torch.tensor([16, 4, 33])
    torch.testing.assert_close(*both(tiny_policy(family), wanted), rtol=1e-5, atol=1e-5)


def test_this_machine_s_torch_has_packed_products() -> None:
    """Without this, half of the tests here would compare a forward pass with itself; every x86 build has it."""
    assert products.packs(torch.device("cpu"), torch.float32)


@pytest.mark.usefixtures("_weights")
@pytest.mark.parametrize("targets", [(), ("q_proj", "v_proj"), ("up_proj", "down_proj")])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_adapters_count_without_being_merged(family: str, targets: tuple[str, ...]) -> None:
    plain = both(tiny_policy(family))[0]
    policy = noisy(tiny_policy(family), LoRA(rank=3, alpha=5.0, target_modules=targets))
    ours, theirs = both(policy)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert (ours - plain).abs().max() > 0.1


def test_of_two_adapters_the_active_one_counts_and_off_is_off() -> None:
    policy = noisy(tiny_policy("llama"), LoRA(rank=2))
    adapters = policy.adapters
    assert adapters is not None
    first = both(policy)[0]
    adapters.add(LoRA(rank=2), seed=3, name="other")
    other = both(policy)
    torch.testing.assert_close(*other, rtol=1e-5, atol=1e-5)
    assert (other[0] - first).abs().max() > 0.1
    adapters.activate("default")
    torch.testing.assert_close(both(policy)[0], first, rtol=0, atol=0)
    with adapters.off():
        off = both(policy)
    torch.testing.assert_close(*off, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(off[0], other[0], rtol=1e-5, atol=1e-5)  # a new adapter changes nothing


def test_samples_of_a_reference_are_drawn_without_the_adapter() -> None:
    sampling = Sampling(max_tokens=12)
    expected = LocalSampler(tiny_policy("llama")).sample([(4, 9, 30)], 4, sampling, seed=0)
    policy = noisy(tiny_policy("llama"), LoRA(rank=2))
    drawn = LocalSampler(policy.reference()).sample([(4, 9, 30)], 4, sampling, seed=0)
    assert [sample.ids for sample in drawn[0]] == [sample.ids for sample in expected[0]]
    assert LocalSampler(policy).sample([(4, 9, 30)], 4, sampling, seed=0) != drawn


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_samples_of_an_adapter_are_those_of_the_merged_model(family: str) -> None:
    policy = noisy(tiny_policy(family), LoRA(rank=2))
    prompts = [(4, 9, 30), (7,), (1, 2, 3, 4, 5)]
    free = LocalSampler(policy).sample(prompts, 4, Sampling(max_tokens=12), seed=0)
    merged = LocalSampler(policy.merged()).sample(prompts, 4, Sampling(max_tokens=12), seed=0)
    for group, expected in zip(free, merged, strict=True):
        assert [sample.ids for sample in group] == [sample.ids for sample in expected]
        for sample, other in zip(group, expected, strict=True):
            assert sample.logps == pytest.approx(other.logps, abs=1e-4)


def test_a_small_adapter_survives_bfloat16() -> None:
    """Merged into bfloat16 weights, a change of a thousandth would be rounded away; beside them it counts."""
    policy = tiny_policy("llama")
    policy.module.bfloat16()
    before = both(policy)[0]
    policy = policy.with_adapter(LoRA(rank=4), "base", seed=1)
    with torch.no_grad():
        for key, p in policy.module.named_parameters():
            if "lora_B" in key:
                p.fill_(2e-3)
    ours, theirs = both(policy)
    scale = theirs.float().abs().max()
    assert (ours.float() - theirs.float()).abs().mean() / scale < 0.01  # two ways to round
    assert (ours.float() - before.float()).abs().max() > 0


@pytest.mark.parametrize("family", KNOWN)
def test_bfloat16_is_as_near_to_float32_as_the_model_s_own_code(family: str) -> None:
    exact = both(tiny_policy(family))[0]
    policy = tiny_policy(family)
    policy.module.bfloat16()
    ours, theirs = (float((logits.float().log_softmax(-1) - exact.log_softmax(-1)).abs().mean()) for logits in both(policy))
    assert ours < 1.2 * theirs


@pytest.mark.filterwarnings("ignore:.*checkpointing:FutureWarning")
def test_what_is_not_known_takes_the_model_s_own_code() -> None:
    from peft import LoraConfig, get_peft_model

    policy = tiny_policy("llama")
    assert isinstance(forward_of(policy, 64), LlamaForward)
    assert isinstance(forward_of(tiny_policy("gpt2"), 64), ModuleForward)
    saved = tiny_policy("qwen3").with_adapter(LoRA(target_modules=("q_proj",), modules_to_save=("norm",)), "base", seed=1)
    assert isinstance(forward_of(saved, 64), ModuleForward)
    get_peft_model(policy.module, LoraConfig(task_type="CAUSAL_LM", use_dora=True, target_modules=["q_proj"]))
    assert isinstance(forward_of(policy, 64), ModuleForward)
    moving = tiny_policy("llama")
    moving.module.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert isinstance(forward_of(moving, 64), ModuleForward)


def test_weights_that_moved_are_seen_by_the_next_call(tmp_path: Path) -> None:
    policy = tiny_policy("llama")
    sampler = LocalSampler(policy)
    sampling = Sampling(temperature=0, max_tokens=10)
    before = sampler.sample([(4, 9, 30)], 1, sampling, seed=0)
    with torch.no_grad():
        policy.module.base_model.layers[0].mlp.down_proj.weight.data.mul_(-3)  # type: ignore[union-attr,operator,index]
    after = sampler.sample([(4, 9, 30)], 1, sampling, seed=0)
    policy.save(tmp_path / "model")
    assert before != after == LocalSampler(load_policy(tmp_path / "model")).sample([(4, 9, 30)], 1, sampling, seed=0)


def test_products_fill_rows_up_to_few_numbers() -> None:
    """A kernel is made for each number of rows."""
    counts = {rows: products.filled(rows, torch.zeros(1)) for rows in range(1, 257)}
    assert all(rows <= count < rows + (8 if rows <= 64 else 64) for rows, count in counts.items())
    assert len(set(counts.values())) == 8 + 3
    assert products.fill(torch.ones(3, 4), 8).sum(1).tolist() == [4.0] * 3 + [0.0] * 5
