"""Scores that read the likelihood of a completion: against plain transformers, with gradients, saved, loaded and refused."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from palate.core import ModelError
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.scalar import Normalisation, ScalarModel, load_scalar, scalar_from
from palate.models.written import check_export
from palate.testing import FAMILIES, random_trees, tiny_policy
from palate.text.pack import Tree, pack

HEADS = ("helpful", "harmless")
COEFFICIENTS = (1.5, -0.75)
TREES = random_trees([(3, [4, 2, 7]), (1, [5])], 40)
BATCH = pack(TREES)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def model_of(policy: CausalPolicy | Path) -> ScalarModel:
    """Scores that read the likelihood with coefficients that are not 0."""
    model = scalar_from(policy, HEADS, seed=3, reads_likelihood=True)
    assert model.likelihood is not None
    assert not model.likelihood.raw.any()
    model.likelihood.restore(COEFFICIENTS)
    return model


def plain_means(policy: CausalPolicy, trees: list[Tree]) -> Tensor:
    """Mean log-probability of each branch's tokens: the whole logits of plain transformers, one sequence at a time."""
    policy.module.set_attn_implementation("sdpa")
    means = []
    for tree in trees:
        for branch in tree.branches:
            row = torch.tensor([tree.trunk + branch.ids])
            logps = policy.module(input_ids=row).logits[0, :-1].log_softmax(-1)
            means.append(logps.gather(1, row[0, 1:, None])[-len(branch.ids) :, 0].mean())
    return torch.stack(means)


@pytest.mark.parametrize("family", [*FAMILIES, "untied", "mistral", "sliding"])
def test_scores_are_the_last_token_and_the_likelihood_of_plain_transformers(family: str, tmp_path: Path) -> None:
    policy = tiny_policy(family)
    model = model_of(policy)
    model.save(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    rows = [tree.trunk + branch.ids for tree in TREES for branch in tree.branches]
    last = torch.cat([plain(input_ids=torch.tensor([row])).logits for row in rows])
    expected = last + plain_means(policy, TREES)[:, None] * torch.tensor(COEFFICIENTS)
    torch.testing.assert_close(model.scores(BATCH), expected, **CLOSE)
    torch.testing.assert_close(model.last_token_scores(BATCH), last, **CLOSE)
