"""A base of 4 bits: its numbers are those of the dequantised weights, everywhere; and what cannot be quantised is refused."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from palate.core import ConfigError, ModelError, Sampling
from palate.models.adapters import LoRA, four_bit_of
from palate.models.causal import CausalPolicy
from palate.models.four_bit import FourBit, fingerprint, four_bit_layers
from palate.models.load import load_policy
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.shared_layers import cast_parameters
from palate.models.shared_weights import share_frozen
from palate.samplers.local import LocalSampler
from palate.testing import FAMILIES, random_trees, tiny_policy
from palate.text.pack import Branch, Tree, pack
from tests.support.quantised import needs_bitsandbytes

BATCH = pack(random_trees([(5, [3, 1, 12]), (1, [2, 2]), (9, [4] * 3), (6, [1])], 43, seed=5))
LORA = LoRA(rank=4, alpha=8, base_dtype="nf4")
HOW = FourBit()


def saved(tmp_path: Path, family: str = "qwen3") -> str:
    tiny_policy(family).save(tmp_path / "base")
    return str(tmp_path / "base")


def perturbed(model: CausalPolicy | ScalarModel) -> None:
    """Make the adapter change the model."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator) * 0.1)


def dequantised(base: str, module: nn.Module) -> CausalPolicy:
    """The policy at `base` with plain layers that hold the weights which the 4-bit layers of `module` compute with."""
    plain = load_policy(base)
    for name, layer in four_bit_layers(module).items():
        twin = plain.module.get_submodule(name.replace(".base_layer", ""))
        weight = layer.dequantised(torch.float32)
        twin.weight = nn.Parameter(weight.T.contiguous() if isinstance(twin, Conv1D) else weight)
    return plain


def logps(policy: CausalPolicy) -> Tensor:
    with torch.no_grad():
        return policy.logps(BATCH).logps


@needs_bitsandbytes
@pytest.mark.parametrize("family", [*FAMILIES, "gemma2"])
def test_log_probabilities_and_gradients_are_those_of_the_dequantised_weights(family: str, tmp_path: Path) -> None:
    base = saved(tmp_path, family)
    policy = load_policy(base, four_bit=HOW)
    layers = four_bit_layers(policy.module)
    assert len(layers) >= 8
    assert all(layer.weight.dtype == torch.uint8 for layer in layers.values())
    assert all(layer.nbytes < 0.6 * layer.in_features * layer.out_features + 8 for layer in layers.values())
    plain = dequantised(base, policy.module)
    assert (logps(policy) - logps(load_policy(base))).abs().max() > 1e-3
    torch.testing.assert_close(logps(policy), logps(plain), rtol=1e-5, atol=1e-5)
    gradients = []
    for one in (policy, plain):
        learned = one.with_adapter(LORA, base, seed=1)
        perturbed(learned)
        learned.logps(BATCH).logps.sum().backward()
        gradients.append([p.grad for p in learned.parameters() if p.requires_grad])
    assert len(gradients[0]) == 2 * len(layers)
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reference_and_sampler_compute_with_the_same_weights_as_the_policy(dtype: torch.dtype, tmp_path: Path) -> None:
    base = saved(tmp_path)
    policy = load_policy(base, four_bit=HOW)
    cast_parameters(policy.module, dtype)
    before = logps(policy)
    policy = policy.with_adapter(LORA, base, seed=1)
    perturbed(policy)
    assert (logps(policy) - before).abs().max() > 0.01
    assert torch.equal(logps(policy.reference()), before)
    ((sample, *_),) = LocalSampler(policy).sample([(5, 6, 7)], 3, Sampling(max_tokens=12), seed=2)
    drawn = pack([Tree((5, 6, 7), (Branch(sample.ids, (True,) * len(sample.ids)),))])
    with torch.no_grad():
        gap = (policy.logps(drawn).logps - torch.tensor(sample.logps)).abs().max()
    assert gap < (1e-4 if dtype == torch.float32 else 0.2)


@needs_bitsandbytes
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_an_adapter_is_merged_into_the_base_as_it_is_on_disk(stored: torch.dtype, tmp_path: Path) -> None:
    whole = tiny_policy("qwen3")
    whole.module.to(stored)
    whole.save(tmp_path / "base")
    base = str(tmp_path / "base")
    policy = load_policy(base, four_bit=HOW)
    assert fingerprint(policy.module) == fingerprint(load_policy(base).module)
    assert torch.equal(policy.module.get_input_embeddings().weight, load_policy(base).module.get_input_embeddings().weight)
    policy = policy.with_adapter(LORA, base, seed=1)
    perturbed(policy)
    policy.save(tmp_path / "adapter")
    merged = load_policy(tmp_path / "adapter")
    plain = load_policy(base).with_adapter(LoRA(rank=4, alpha=8), base, seed=1)
    perturbed(plain)
    torch.testing.assert_close(logps(merged), logps(plain), rtol=1e-5, atol=1e-5)
    assert (logps(merged) - logps(policy)).abs().max() > 1e-3
    outside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tmp_path / "adapter")
    tree = BATCH.trees[0]
    ids = torch.tensor([tree.trunk + tree.branches[0].ids])
    logits = outside(input_ids=ids).logits[0, len(tree.trunk) - 1 : -1]
    found = torch.log_softmax(logits, -1).gather(1, ids[0, len(tree.trunk) :, None])[:, 0].detach()
    torch.testing.assert_close(found, logps(merged)[: len(found)], rtol=1e-4, atol=1e-4)


@needs_bitsandbytes
def test_models_on_one_base_hold_its_packed_weights_once(tmp_path: Path) -> None:
    base = saved(tmp_path)
    reward = scalar_from(base, ("overall",), seed=3).with_adapter(LoRA(rank=4), base, seed=3)
    perturbed(reward)
    reward.save(tmp_path / "reward")
    policy = load_policy(base, four_bit=HOW).with_adapter(LORA, base, seed=1)
    value = scalar_from(base, ("value",), seed=0, four_bit=HOW).with_adapter(LORA, base, seed=2)
    scorer = load_scalar(tmp_path / "reward", merge_adapter=False, four_bit=HOW)
    with torch.no_grad():
        before = (policy.logps(BATCH).logps, value.values(BATCH), scorer.scores(BATCH))
    layers = [list(four_bit_layers(model.module).values()) for model in (policy, value, scorer)]
    saved_bytes = share_frozen(policy.module, value.module, scorer.module)
    assert saved_bytes > 2 * sum(layer.nbytes for layer in layers[0])
    for one, two, three in zip(*layers, strict=True):
        assert one.weight.data_ptr() == two.weight.data_ptr() == three.weight.data_ptr()
    assert share_frozen(policy.module, value.module, scorer.module) == 0
    with torch.no_grad():
        after = (policy.logps(BATCH).logps, value.values(BATCH), scorer.scores(BATCH))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    other = load_policy(base)
    with torch.no_grad():
        other.module.base_model.layers[0].mlp.up_proj.weight.mul_(1.5)  # type: ignore[operator, union-attr]  # equal bits, other scales
    other.save(tmp_path / "other")
    near = load_policy(tmp_path / "other", four_bit=HOW).with_adapter(LORA, base, seed=1)
    expected = logps(near)
    share_frozen(policy.module, near.module)
    assert torch.equal(logps(near), expected)


@needs_bitsandbytes
def test_packed_weights_survive_copies_and_changes_of_type(tmp_path: Path) -> None:
    policy = load_policy(saved(tmp_path), four_bit=HOW)
    expected = logps(policy)
    weights = {name: layer.dequantised(torch.float32) for name, layer in four_bit_layers(policy.module).items()}
    twin = copy.deepcopy(policy)
    twin.module.to(torch.bfloat16)
    assert 0 < (logps(twin) - expected).abs().max() < 0.5
    for name, layer in four_bit_layers(twin.module).items():
        assert torch.equal(layer.dequantised(torch.float32), weights[name])
        layer.weight.zero_()
    assert torch.equal(logps(policy), expected)  # a copy is independent
    twin.load_state_dict(policy.state_dict())
    assert all(torch.equal(layer.dequantised(torch.float32), weights[name]) for name, layer in four_bit_layers(twin.module).items())


@needs_bitsandbytes
def test_what_is_trained_as_a_whole_is_not_quantised(tmp_path: Path) -> None:
    base = saved(tmp_path)
    lora = LoRA(rank=4, base_dtype="nf4", modules_to_save=("down_proj", "norm"))
    policy = load_policy(base, four_bit=four_bit_of(lora)).with_adapter(lora, base, seed=1)
    assert not any("down_proj" in name for name in four_bit_layers(policy.module))
    perturbed(policy)
    policy.logps(BATCH).logps.sum().backward()
    learned = {name.split(".")[-4]: p for name, p in policy.module.named_parameters() if p.requires_grad and "down_proj" in name}
    assert learned
    assert all(p.grad is not None and p.dtype == torch.float32 for p in learned.values())


@needs_bitsandbytes
def test_a_model_with_matrices_of_another_kind_is_refused(tmp_path: Path) -> None:
    base = saved(tmp_path, "mamba")
    with pytest.raises(
        ModelError, match=r"quantises linear layers, and layers.0.mixer.A_log of .*/base belongs to a layer of another kind"
    ):
        load_policy(base, four_bit=HOW)


def old() -> ModuleType:
    package = ModuleType("bitsandbytes")
    package.__version__ = "0.45.5"  # type: ignore[attr-defined]
    return package


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (lambda: None, r"base_dtype nf4 needs bitsandbytes, which is not installed: pip install 'palate\[quant\]'"),
        (old, r"base_dtype nf4 needs bitsandbytes 0.50 or newer, and 0.45.5 is installed: pip install 'palate\[quant\]' --upgrade"),
    ],
    ids=["missing", "old"],
)
def test_without_the_package_one_message_has_the_command(
    package: Callable[[], ModuleType | None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", package())
    base = saved(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_policy(base, four_bit=HOW)
    with pytest.raises(ConfigError, match=message):
        scalar_from(base, ("value",), seed=0, four_bit=HOW)


@needs_bitsandbytes
@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_a_merge_in_memory_takes_the_dequantised_weights(family: str, tmp_path: Path) -> None:
    base = saved(tmp_path, family)
    lora = LoRA(rank=4, base_dtype="nf4", target_modules=("c_attn", "q_proj", "c_fc"))  # some layers have no adapter
    policy = load_policy(base, four_bit=HOW).with_adapter(lora, base, seed=1)
    perturbed(policy)
    expected = logps(policy)
    merged = policy.merged()
    assert not four_bit_layers(merged.module)
    torch.testing.assert_close(logps(merged), expected, rtol=1e-4, atol=1e-4)
    merged.save(tmp_path / "merged")
    torch.testing.assert_close(logps(load_policy(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-4)
