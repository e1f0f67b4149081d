"""Scores that read the likelihood of a completion: against plain transformers, with gradients, saved, loaded and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from palate.core import ModelError
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.four_bit import FourBit
from palate.models.heads import head_of
from palate.models.load import as_policy, built, load_policy, without_dropout
from palate.models.reward_file import Normalisation
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.shared_layers import cast_parameters
from palate.models.written import check_export
from palate.rewards.learned import LearnedReward
from palate.testing import FAMILIES, LENGTH_FAMILIES, PADDED_FAMILIES, random_trees, tiny_config, tiny_policy, word_tokenizer
from palate.text.pack import pack
from tests.support.quantised import needs_bitsandbytes

HEADS = ("helpful", "harmless")
COEFFICIENTS = (1.5, -0.75)
TREES = random_trees([(3, [4, 2, 7]), (1, [5]), (2, [1, 3])], 40)
BATCH = pack(TREES)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LORA = LoRA(rank=2, alpha=8)


def policy_of(family: str) -> CausalPolicy:
    """A tiny policy: of a family, with tied embeddings, or with a language-model head that has a bias."""
    if family == "tied":
        config = without_dropout(tiny_config("llama", word_tokenizer()))
        config.tie_word_embeddings = True
        return as_policy(built(AutoModelForCausalLM.from_config, config, 0), word_tokenizer())
    policy = tiny_policy("llama" if family == "biased" else family)
    if family == "biased":
        head = policy.module.get_output_embeddings()
        biased = torch.nn.Linear(head.in_features, head.out_features)
        biased.weight.data.copy_(head.weight.data)
        policy.module.set_output_embeddings(biased)
    return policy


def reading(source: CausalPolicy | Path, coefficients: tuple[float, ...] = COEFFICIENTS) -> ScalarModel:
    """A model whose coefficients have left 0, where they start."""
    model = scalar_from(source, HEADS, seed=3, reads_likelihood=True)
    assert model.likelihood is not None
    assert not model.likelihood.raw.any()
    model.likelihood.restore(coefficients)
    return model


def plain_scores(model: ScalarModel, policy: CausalPolicy) -> Tensor:
    """The scores by whole rows and whole logits, computed with the weights of `model` and the head of `policy`."""
    head, output = head_of(model.module), policy.module.get_output_embeddings()
    model.module.set_attn_implementation("eager")
    scores = []
    for tree in TREES:
        for branch in tree.branches:
            row = torch.tensor([tree.trunk + branch.ids])
            states = model.module.base_model(input_ids=row)[0][0]
            weight = model.module.get_input_embeddings().weight if output.weight is policy.module.get_input_embeddings().weight else None
            logits = output(states) if weight is None else states @ weight.T
            logps = logits[:-1].log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]
            scores.append(head(states[-1]) + logps[-len(branch.ids) :].mean() * torch.tensor(COEFFICIENTS))
    return torch.stack(scores)


@pytest.mark.parametrize("family", [*FAMILIES, *LENGTH_FAMILIES, "tied", "biased", "sliding_mistral"])
def test_scores_are_those_of_plain_transformers(family: str, tmp_path: Path) -> None:
    """The last token by what is saved, the likelihood by the policy's own logits."""
    policy = policy_of(family)
    model = reading(policy)
    model.save(tmp_path)
    scores, last_token = model.scores(BATCH), model.last_token_scores(BATCH)
    plain, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    policy.module.set_attn_implementation("eager")
    last, means = [], []
    for tree in TREES:
        for branch in tree.branches:
            row = torch.tensor([tree.trunk + branch.ids])
            last.append(plain(input_ids=row).logits[0])
            logps = policy.module(input_ids=row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]
            means.append(logps[-len(branch.ids) :].mean())
    torch.testing.assert_close(last_token, torch.stack(last), **CLOSE)
    torch.testing.assert_close(scores, torch.stack(last) + torch.stack(means)[:, None] * torch.tensor(COEFFICIENTS), **CLOSE)


@pytest.mark.parametrize("family", ["tied", "llama", "biased", "sliding_mistral"])
def test_gradients_are_those_of_the_plain_form(family: str) -> None:
    policy = policy_of(family)
    model = reading(policy)
    mixed = torch.randn(len(BATCH.last), 2, generator=torch.Generator().manual_seed(1))
    (model.scores(BATCH) * mixed).sum().backward()
    found = {name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None}
    coefficients = found.pop("likelihood.raw")
    heads = {name: found.pop(name) for name in ("likelihood.weight", "likelihood.bias") if name in found}
    assert set(heads) == {"tied": set(), "biased": {"likelihood.weight", "likelihood.bias"}}.get(family, {"likelihood.weight"})
    model.module.zero_grad()
    policy.module.zero_grad()
    (plain_scores(model, policy) * mixed).sum().backward()
    for name, p in model.module.named_parameters():
        if not name.startswith("likelihood."):
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-5)
    for name, gradient in heads.items():
        expected = policy.module.get_output_embeddings().get_parameter(name.removeprefix("likelihood.")).grad
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    step = 1e-2
    for k in range(2):  # scores are linear in a coefficient, so differences are exact
        ends = []
        for sign in (1, -1):
            assert model.likelihood is not None
            model.module.set_attn_implementation("palate" if model.path == "packed" else "eager")
            model.likelihood.restore([c + sign * step * (j == k) for j, c in enumerate(COEFFICIENTS)])
            ends.append(float((model.scores(BATCH).detach() * mixed).sum()))
        assert (ends[0] - ends[1]) / (2 * step) * 3 == pytest.approx(float(coefficients[k]), rel=1e-3)


def test_a_score_does_not_depend_on_its_neighbours() -> None:
    model = reading(policy_of("tied"))
    together = model.scores(BATCH)
    alone = torch.cat([model.scores(pack([tree])) for tree in TREES])
    torch.testing.assert_close(alone, together, **CLOSE)
    cut = pack(TREES[:1], 7)
    assert len(cut.parts()) > 1
    torch.testing.assert_close(model.scores(cut), together[:3], **CLOSE)


def test_the_coefficients_start_at_0_and_add_nothing() -> None:
    policy = tiny_policy()
    with_likelihood, without = (scalar_from(policy, HEADS, seed=3, reads_likelihood=reads) for reads in (True, False))
    torch.testing.assert_close(with_likelihood.scores(BATCH), without.scores(BATCH), **CLOSE)
    assert without.likelihood is None


@pytest.mark.parametrize("family", ["tied", "llama", "biased"])
def test_saved_and_loaded_is_the_same(family: str, tmp_path: Path) -> None:
    model = reading(policy_of(family), (0.1, 1 / 3))
    model.normalisation = Normalisation((2.0, 0.5), (-1.0, 0.25))
    model.save(tmp_path)
    again = load_scalar(tmp_path)
    assert torch.equal(again.scores(BATCH), model.scores(BATCH))
    assert again.normalisation == model.normalisation
    stored = json.loads((tmp_path / "reward.json").read_text())
    assert stored["likelihood"] == pytest.approx([0.1, 1 / 3])
    assert "only the last-token head" in stored["note"]
    assert stored["note"] == json.loads((tmp_path / "config.json").read_text())["palate_scores"]
    assert (tmp_path / "lm_head.safetensors").exists() == (family != "tied")
    check_export(model, tmp_path)
    narrow = load_scalar(tmp_path, dtype="bfloat16")
    assert narrow.likelihood is not None
    assert narrow.likelihood.raw.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.scores(BATCH), model.scores(BATCH), rtol=0.1, atol=0.1)
    again.save(tmp_path / "twice")
    assert torch.equal(load_scalar(tmp_path / "twice").scores(BATCH), model.scores(BATCH))
    assert torch.equal(again.copy().scores(BATCH), model.scores(BATCH))


@pytest.mark.parametrize("family", ["tied", "llama"])
def test_coefficients_learn_beside_an_adapter_and_the_head_stays_that_of_the_base(family: str, tmp_path: Path) -> None:
    policy_of(family).save(tmp_path / "base")
    base = str(tmp_path / "base")
    model = scalar_from(base, HEADS, seed=3, reads_likelihood=True).with_adapter(LORA, base, seed=1)
    learned = [name for name, p in model.module.named_parameters() if p.requires_grad and "lora_" not in name]
    assert sorted(learned) == ["likelihood.raw", "score.modules_to_save.default.weight"]
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    scores = model.scores(BATCH)
    scores.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.save(tmp_path / "adapter")
    check_export(model, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "lm_head.safetensors").exists()
    for merge in (True, False):
        torch.testing.assert_close(load_scalar(tmp_path / "adapter", merge_adapter=merge).scores(BATCH), scores, **CLOSE)
    merged = load_scalar(tmp_path / "adapter")
    assert all(p.requires_grad for p in merged.parameters())
    merged.save(tmp_path / "merged")
    check_export(merged, tmp_path / "merged")
    torch.testing.assert_close(load_scalar(tmp_path / "merged").scores(BATCH), scores, **CLOSE)
    torch.testing.assert_close(model.merged().scores(BATCH), scores, **CLOSE)


@needs_bitsandbytes
def test_a_base_in_four_bits(tmp_path: Path) -> None:
    policy_of("llama").save(tmp_path / "base")
    base = str(tmp_path / "base")
    model = scalar_from(base, HEADS, seed=3, reads_likelihood=True, four_bit=FourBit()).with_adapter(LORA, base, seed=1)
    assert model.likelihood is not None
    model.likelihood.restore(COEFFICIENTS)
    weight, _ = load_policy(base).head
    assert model.likelihood.weight is not None
    assert torch.equal(model.likelihood.weight, weight)
    scores = model.scores(BATCH)
    model.save(tmp_path / "adapter")
    beside = load_scalar(tmp_path / "adapter", merge_adapter=False, four_bit=FourBit())
    torch.testing.assert_close(beside.scores(BATCH), scores, **CLOSE)


def test_it_computes_in_bfloat16() -> None:
    wide = reading(policy_of("tied"))
    narrow = wide.copy()
    cast_parameters(narrow.module, torch.bfloat16).requires_grad_(requires_grad=True)
    for model in (wide, narrow):
        model.scores(BATCH).sum().backward()
    assert narrow.scores(BATCH).dtype == torch.float32
    torch.testing.assert_close(narrow.scores(BATCH), wide.scores(BATCH), rtol=0.1, atol=0.1)
    for name, p in wide.module.named_parameters():
        rough = narrow.module.get_parameter(name).grad
        assert (rough.float() - p.grad).abs().max() < 0.1 * p.grad.abs().max(), name


def test_states_are_what_the_heads_read() -> None:
    model = reading(policy_of("llama"))
    states = LearnedReward(model).states(TREES)
    assert states.shape == (len(BATCH.last), 33)
    torch.testing.assert_close(states @ model.head_weights.T, model.scores(BATCH), **CLOSE)


def test_a_value_model_made_from_one_reads_states_alone() -> None:
    model = reading(policy_of("llama"))
    value = scalar_from(model, ("value",), seed=0, start="zero")
    assert value.likelihood is None
    assert "palate_scores" not in value.module.config.to_dict()
    assert not value.values(BATCH).any()
    with pytest.raises(AssertionError, match="a value model reads states alone"):
        model.values(BATCH)


@pytest.mark.parametrize("family", PADDED_FAMILIES[:1])
def test_logits_that_are_more_than_a_product_are_refused(family: str) -> None:
    with pytest.raises(ModelError, match="caps its logits .*Use score: last_token"):
        scalar_from(tiny_policy(family), HEADS, seed=0, reads_likelihood=True)


def without_coefficients(folder: Path) -> None:
    stored = json.loads((folder / "reward.json").read_text())
    del stored["likelihood"]
    (folder / "reward.json").write_text(json.dumps(stored))


def without_an_entry(folder: Path) -> None:
    """Nothing in the configuration of an adapter says what the scores read; the note beside the coefficients does."""
    config = json.loads((folder / "config.json").read_text())
    del config["palate_scores"]
    (folder / "config.json").write_text(json.dumps(config))
    without_coefficients(folder)


def of_another_width(folder: Path) -> None:
    weight = load_file(folder / "lm_head.safetensors")["weight"]
    save_file({"weight": weight[:, :5].contiguous()}, folder / "lm_head.safetensors")


def with_one_coefficient(folder: Path) -> None:
    stored = json.loads((folder / "reward.json").read_text())
    (folder / "reward.json").write_text(json.dumps({**stored, "likelihood": [1.0]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_coefficients, "reward.json cannot be read .*likelihood"),
        (without_an_entry, "reward.json cannot be read .*likelihood"),
        (lambda folder: (folder / "reward.json").unlink(), "its reward.json has no coefficients"),
        (lambda folder: (folder / "lm_head.safetensors").unlink(), "lm_head.safetensors is missing.*Copy the whole directory"),
        (lambda folder: (folder / "lm_head.safetensors").write_bytes(b"broken"), "lm_head.safetensors cannot be read"),
        (of_another_width, r"lm_head.safetensors has shape \(\d+, 5\), and the model's embeddings"),
        (with_one_coefficient, "reward.json needs one number per head"),
    ],
)
def test_what_would_be_scored_wrongly_is_refused(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    reading(policy_of("llama")).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_scalar(tmp_path)
