"""LoRA: a start that changes nothing, packed as padded, one base for all, and directories that other tools read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from palate.core import ConfigError, ModelError
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import built, load_policy
from palate.models.reward_file import Normalisation
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.testing import FAMILIES, PADDED_FAMILIES, random_trees, tiny_policy
from palate.text.pack import pack

LORA = LoRA(rank=4, alpha=8)
BATCH = pack(random_trees([(5, [3, 1, 12]), (1, [2, 2]), (9, [4] * 3), (6, [1])], 43, seed=5))


def perturbed(model: CausalPolicy | ScalarModel, seed: int = 7) -> None:
    """Make the adapter change the model by giving its outer matrices values other than 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator) * 0.1)


@pytest.fixture
def base(tmp_path: Path) -> str:
    tiny_policy().save(tmp_path / "base")
    return str(tmp_path / "base")


def adapted(base: str) -> CausalPolicy:
    policy = load_policy(base).with_adapter(LORA, base, seed=1)
    perturbed(policy)
    return policy


def logps(policy: CausalPolicy) -> Tensor:
    with torch.no_grad():
        return policy.logps(BATCH).logps


@pytest.mark.parametrize("family", FAMILIES + PADDED_FAMILIES)
def test_an_adapter_starts_as_no_change_and_packed_is_padded_with_it(family: str) -> None:
    policy = tiny_policy(family)
    plain = logps(policy)
    policy = policy.with_adapter(LORA, "base", seed=1)
    torch.testing.assert_close(logps(policy), plain, rtol=0, atol=1e-6)
    perturbed(policy)
    direction = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    found: list[tuple[Tensor, list[Tensor]]] = []
    before = policy.module.config._attn_implementation
    for path in ("packed", "padded") if policy.path == "packed" else ("padded", "padded"):
        policy.module.zero_grad()
        policy.module.set_attn_implementation(before if path == policy.path else "eager")
        ours = CausalPolicy(policy.module, policy.tokenizer, path, policy.adapters).logps(BATCH).logps  # type: ignore[arg-type]
        (ours * direction).sum().backward()
        found.append((ours.detach(), [p.grad.clone() for p in policy.parameters() if p.requires_grad]))  # type: ignore[union-attr]
    (packed, gradients), (padded, others) = found
    assert (packed - plain).abs().max() > 0.01
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)
    assert len(gradients) > 10
    for one, two in zip(gradients, others, strict=True):
        assert (one - two).abs().max() <= 1e-5 * two.abs().max() + 1e-6
    assert all(p.grad is None for p in policy.parameters() if not p.requires_grad)


def test_every_linear_layer_but_the_head_gets_one_and_only_it_learns() -> None:
    policy = tiny_policy("qwen3").with_adapter(LORA, "base", seed=1)
    learned = [name for name, p in policy.module.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in learned)
    assert len(learned) == 2 * 2 * 7  # layers, matrices, projections
    policy = tiny_policy("qwen3").with_adapter(LoRA(target_modules=("q_proj", "v_proj"), modules_to_save=("norm",)), "base", seed=1)
    learned = [name for name, p in policy.module.named_parameters() if p.requires_grad]
    assert {name.split(".")[-1] if "norm" in name else name.split(".")[-4] for name in learned} == {"weight", "q_proj", "v_proj"}


def test_the_same_seed_draws_the_same_adapter_and_no_other_random_state_is_touched() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    drawn = [[p.clone() for p in tiny_policy().with_adapter(LORA, "base", seed).parameters() if p.requires_grad] for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[2], strict=True))


def test_the_reference_is_the_base_in_the_same_memory() -> None:
    policy = tiny_policy()
    plain = logps(policy)
    policy = policy.with_adapter(LORA, "base", seed=1)
    perturbed(policy)
    tuned, reference = logps(policy), policy.reference()
    assert reference.module is policy.module
    assert torch.equal(logps(reference), plain)
    assert torch.equal(logps(policy), tuned)  # and the adapter is on again
    total = policy.logps(BATCH).logps.sum()
    logps(reference)  # between forward and backward, as when a batch needs both
    total.backward()
    learned = [p for p in policy.parameters() if p.requires_grad]
    assert learned
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned)


def test_two_adapters_share_one_base(tmp_path: Path, base: str) -> None:
    policy = adapted(base)
    assert policy.adapters is not None
    first = logps(policy)
    policy.adapters.add(LORA, seed=2, name="other")
    assert torch.equal(logps(policy), logps(load_policy(base)))
    perturbed(policy, seed=8)
    second = logps(policy)
    policy.adapters.activate("default")
    assert torch.equal(logps(policy), first)
    policy.save(tmp_path / "both")
    for directory, expected in ((tmp_path / "both", first), (tmp_path / "both" / "other", second)):
        torch.testing.assert_close(logps(load_policy(directory)), expected, rtol=1e-5, atol=1e-5)
    again = load_policy(base).with_adapter(LORA, base, seed=5)
    assert again.adapters is not None
    again.adapters.load(tmp_path / "both" / "other", "other")
    assert torch.equal(logps(again), second)


def test_plain_peft_and_transformers_read_what_is_written(tmp_path: Path, base: str) -> None:
    policy = adapted(base)
    ours = logps(policy)
    policy.save(tmp_path / "adapter")
    policy.merged().save(tmp_path / "merged")
    readers: list[Callable[[], torch.nn.Module]] = [
        lambda: PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"),
        lambda: AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"),
        lambda: AutoModelForCausalLM.from_pretrained(tmp_path / "merged"),
    ]
    tree = BATCH.trees[0]
    ids = torch.tensor([tree.trunk + tree.branches[0].ids])
    for read in readers:
        logits = read()(input_ids=ids).logits[0, len(tree.trunk) - 1 : -1]
        found = torch.log_softmax(logits, -1).gather(1, ids[0, len(tree.trunk) :, None])[:, 0].detach()
        torch.testing.assert_close(found, ours[: len(found)], rtol=1e-5, atol=1e-5)
    assert not (tmp_path / "adapter" / "config.json").exists()


def test_an_adapters_directory_loads_as_its_base_with_the_adapter_worked_in(tmp_path: Path, base: str) -> None:
    policy = adapted(base)
    ours = logps(policy)
    policy.save(tmp_path / "run" / "adapter")
    loaded = load_policy(tmp_path / "run" / "adapter")
    assert loaded.adapters is None
    assert loaded.path == "packed"
    assert all(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(logps(loaded), ours, rtol=1e-5, atol=1e-5)
    (tmp_path / "run").rename(tmp_path / "moved")  # only the adapter: the base is found where it was
    torch.testing.assert_close(logps(load_policy(tmp_path / "moved" / "adapter")), ours, rtol=1e-5, atol=1e-5)


def test_a_base_that_moved_with_its_adapter_is_found(tmp_path: Path) -> None:
    here = tmp_path / "here"
    tiny_policy().save(here / "base")
    policy = adapted(str(here / "base"))
    policy.save(here / "adapter")
    here.rename(tmp_path / "there")
    torch.testing.assert_close(logps(load_policy(tmp_path / "there" / "adapter")), logps(policy), rtol=1e-5, atol=1e-5)


def test_an_adapter_made_for_another_base_is_refused_with_both_names(tmp_path: Path, base: str) -> None:
    adapted(base).save(tmp_path / "adapter")
    tiny_policy(seed=1).save(tmp_path / "other")
    policy = load_policy(tmp_path / "other").with_adapter(LORA, str(tmp_path / "other"), seed=0)
    assert policy.adapters is not None
    with pytest.raises(ModelError, match=r"adapter .*/adapter was made for .*/base, and .*/other is another model: use the model"):
        policy.adapters.load(tmp_path / "adapter", "strange")
    tiny_policy(seed=2).save(base)  # another model in the base's place
    with pytest.raises(ModelError, match="was made for .*/base, and .*/base is another model"):
        load_policy(tmp_path / "adapter")
    Path(base).rename(tmp_path / "away")
    with pytest.raises(ModelError, match=r"was made for .*/base, which is gone: bring that model back"):
        load_policy(tmp_path / "adapter")


@pytest.mark.parametrize("size", [{"num_hidden_layers": 1}, {"hidden_size": 16}], ids=str)
def test_an_adapter_from_elsewhere_that_does_not_fit_is_refused(size: dict[str, int], tmp_path: Path, base: str) -> None:
    adapted(base).save(tmp_path / "adapter")
    (tmp_path / "adapter" / "base.json").unlink()  # only peft's own files are left, which know the base's name alone
    config = tiny_policy().module.config
    config.update(size)
    CausalPolicy(built(AutoModelForCausalLM.from_config, config, 0), tiny_policy().tokenizer, "packed").save(base)
    with pytest.raises(ModelError, match=r"adapter .*/adapter, made for .*/base, does not fit .*/base"):
        load_policy(tmp_path / "adapter")


def test_a_reward_model_trains_its_heads_beside_the_adapter(tmp_path: Path, base: str) -> None:
    model = scalar_from(base, ("helpful", "harmless"), seed=3)
    with torch.no_grad():
        plain = model.scores(BATCH)
    model = model.with_adapter(LORA, base, seed=1)
    with torch.no_grad():
        assert torch.equal(model.scores(BATCH), plain)
    learned = [name for name, p in model.module.named_parameters() if p.requires_grad]
    assert [name for name in learned if "lora_" not in name] == ["score.modules_to_save.default.weight"]
    perturbed(model)
    model.normalisation = Normalisation((2.0, 3.0), (0.5, 0.25))
    scores = model.scores(BATCH)
    scores.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.save(tmp_path / "adapter")
    loaded = load_scalar(tmp_path / "adapter")
    assert (loaded.heads, loaded.normalisation) == (model.heads, model.normalisation)
    torch.testing.assert_close(loaded.scores(BATCH), scores, rtol=1e-5, atol=1e-5)
    outside = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2), tmp_path / "adapter")
    tree = BATCH.trees[0]
    ids = torch.tensor([tree.trunk + tree.branches[0].ids])
    torch.testing.assert_close(outside(input_ids=ids).logits[0], scores[0], rtol=1e-5, atol=1e-5)
    merged = model.merged()
    merged.save(tmp_path / "merged")
    torch.testing.assert_close(load_scalar(tmp_path / "merged").scores(BATCH), scores, rtol=1e-5, atol=1e-5)
    assert merged.normalisation == model.normalisation


def test_what_cannot_carry_an_adapter_is_refused() -> None:
    with pytest.raises(ModelError, match="target_modules names the output embeddings"):
        tiny_policy().with_adapter(LoRA(target_modules=("q_proj", "lm_head")), "base", seed=0)
    with pytest.raises(ModelError, match="no adapter fits base .*nothing"):
        tiny_policy().with_adapter(LoRA(target_modules=("nothing",)), "base", seed=0)
    for tied in (LoRA(modules_to_save=("lm_head",)), LoRA(target_modules=("wte", "c_attn")), LoRA(modules_to_save=("wte",))):
        with pytest.raises(ModelError, match="ties its input and output embeddings"):
            tiny_policy("gpt2").with_adapter(tied, "base", seed=0)
    with pytest.raises(ConfigError, match="rank of 1 or more"):
        LoRA(rank=0)


def test_a_head_trained_as_a_whole_is_used(tmp_path: Path, base: str) -> None:
    policy = load_policy(base).with_adapter(LoRA(rank=2, modules_to_save=("lm_head",)), base, seed=1)
    plain = logps(policy)
    perturbed(policy)
    assert (logps(policy) - plain).abs().max() > 0.01
    assert torch.equal(logps(policy.reference()), plain)
    policy.save(tmp_path / "adapter")
    torch.testing.assert_close(logps(load_policy(tmp_path / "adapter")), logps(policy), rtol=1e-5, atol=1e-5)
