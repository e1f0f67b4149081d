"""Scores that read the surprise of single tokens: against the formula in plain torch, alone or among others, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from palate.core import ModelError
from palate.models.heads import head_of
from palate.models.likelihood import attach
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.surprise import SURPRISE_FILE, Surprise
from palate.testing import random_trees, tiny_policy
from palate.text.pack import Tree, pack

TREES = random_trees([(6, [4, 2, 7]), (1, [5]), (4, [1, 3])], 40)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def reading(family: str = "qwen3", *, has_started: bool = True) -> ScalarModel:
    model = scalar_from(tiny_policy(family), ("broken",), seed=0)
    surprise = Surprise(model.module.config.get_text_config().hidden_size, seed=1)
    if has_started:
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            surprise.query.copy_(torch.randn(surprise.query.shape, generator=generator) * 0.1)
    attach(model.module, surprise)
    return ScalarModel(model.module, model.tokenizer, model.path)


def plain_terms(model: ScalarModel) -> Tensor:
    """The term of each branch, by whole rows and whole logits."""
    part = model.likelihood
    assert isinstance(part, Surprise)
    model.module.set_attn_implementation("eager")
    terms = []
    for tree in TREES:
        for branch in tree.branches:
            row = torch.tensor([tree.trunk + branch.ids])
            states = model.module.base_model(input_ids=row)[0][0]
            last, before = states[-1], states[: len(tree.trunk) - 1]
            logps = (before @ model.module.get_input_embeddings().weight.T).log_softmax(-1)
            surprise = -logps.gather(1, row[0, 1 : len(tree.trunk), None])[:, 0]
            query, keys = (
                part.query @ (last / last.square().mean().sqrt()),
                (before / before.square().mean(-1, keepdim=True).sqrt()) @ part.key.T,
            )
            terms.append((keys @ query * surprise).mean() if len(tree.trunk) > 1 else torch.zeros(()))
    return torch.stack(terms)


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "sliding_mistral"])
def test_the_term_is_the_formula_and_gradients_reach_all_weights(family: str) -> None:
    model = reading(family)
    batch = pack(TREES)
    terms = model.scores(batch)[:, 0] - model.last_token_scores(batch)[:, 0]
    (model.scores(batch)[:, 0] - model.last_token_scores(batch)[:, 0].detach()).sum().backward()
    found = {name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None}
    assert all(found[f"likelihood.{name}"].any() for name in ("query", "key"))
    model.module.zero_grad()
    expected = plain_terms(model)
    torch.testing.assert_close(terms, expected, **CLOSE)
    assert float(expected.std()) > 0.01
    assert expected[3] == 0, "a trunk of one token has none that was predicted"
    head = head_of(model.module)
    assert not head.weight.requires_grad or "score.weight" in found
    expected.sum().backward()
    for name in ("query", "key"):
        torch.testing.assert_close(found[f"likelihood.{name}"], model.module.get_parameter(f"likelihood.{name}").grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen3", "sliding_mistral"])
def test_a_branch_alone_has_the_score_that_it_has_among_others(family: str) -> None:
    model = reading(family)
    alone = [model.scores(pack([Tree(tree.trunk, (branch,))])) for tree in TREES for branch in tree.branches]
    torch.testing.assert_close(model.scores(pack(TREES)), torch.cat(alone), **CLOSE)


def test_at_first_nothing_is_added() -> None:
    model, batch = reading(has_started=False), pack(TREES)
    assert torch.equal(model.scores(batch), model.last_token_scores(batch))
    model.scores(batch).sum().backward()
    assert model.module.get_parameter("likelihood.query").grad.any(), "and yet it can learn"


def test_it_is_saved_and_loaded_and_a_directory_without_its_file_is_refused(tmp_path: Path) -> None:
    model, batch = reading(), pack(TREES)
    model.save(tmp_path)
    for same in (load_scalar(tmp_path), model.copy()):
        # Not to the bit: on some processors the last bit depends on where in memory the weights lie.
        torch.testing.assert_close(same.scores(batch), model.scores(batch), rtol=1e-6, atol=1e-6)
    save_file({"query": torch.zeros(2, 2)}, tmp_path / SURPRISE_FILE)
    with pytest.raises(ModelError, match=r"surprise\.safetensors cannot be used with this model \(RuntimeError\)\. Copy the whole"):
        load_scalar(tmp_path)
    (tmp_path / SURPRISE_FILE).unlink()
    with pytest.raises(ModelError, match=r"nor is there a surprise\.safetensors"):
        load_scalar(tmp_path)
