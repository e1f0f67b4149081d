"""Scores that read the mean state of a completion: against plain transformers, in packed trees, saved, loaded and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from palate.core import ModelError
from palate.data.jsonl import write_rows
from palate.models.adapters import LoRA
from palate.models.heads import head_of
from palate.models.reward_file import Normalisation
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.written import check_export
from palate.rewards.learned import LearnedReward
from palate.stages.reward import Reward
from palate.testing import FAMILIES, LENGTH_FAMILIES, PADDED_FAMILIES, random_trees, tiny_policy, word_tokenizer
from palate.text.pack import pack
from palate.training.optimizer import AdamW
from tests.support.stages import ran, summary_of

HEADS = ("helpful", "harmless")
TREES = random_trees([(3, [4, 2, 7]), (1, [5]), (2, [1, 3])], 40)
BATCH = pack(TREES)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def plain_scores(model: ScalarModel) -> Tensor:
    """The scores by whole rows: the head on the mean of the states of the completion's own tokens, with gradient."""
    before = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    scores = []
    for tree in TREES:
        for branch in tree.branches:
            states = model.module.base_model(input_ids=torch.tensor([tree.trunk + branch.ids]))[0][0]
            scores.append(head_of(model.module)(states[len(tree.trunk) :].mean(0)))
    model.module.set_attn_implementation(before)
    return torch.stack(scores)


@pytest.mark.parametrize("family", [*FAMILIES, *LENGTH_FAMILIES, *PADDED_FAMILIES])
def test_scores_are_the_head_on_the_mean_state_of_the_completion(family: str) -> None:
    model = scalar_from(tiny_policy(family), HEADS, seed=3, reads_mean=True)
    assert (model.path == "packed") == (family not in PADDED_FAMILIES)
    torch.testing.assert_close(model.scores(BATCH), plain_scores(model), **CLOSE)
    torch.testing.assert_close(model.states(BATCH) @ model.head_weights.T, model.scores(BATCH), **CLOSE)
    alone = torch.cat([model.scores(pack([tree])) for tree in TREES])
    torch.testing.assert_close(model.scores(BATCH), alone, **CLOSE)
    assert (model.scores(BATCH) - model.last_token_scores(BATCH)).abs().max() > 0.01


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
def test_gradients_are_those_of_the_plain_form(family: str) -> None:
    model = scalar_from(tiny_policy(family), HEADS, seed=3, reads_mean=True)
    mixed = torch.randn(len(BATCH.last), 2, generator=torch.Generator().manual_seed(1))
    (model.scores(BATCH) * mixed).sum().backward()
    found = {name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None}
    model.module.zero_grad()
    (plain_scores(model) * mixed).sum().backward()
    for name, p in model.module.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_is_the_same_and_says_what_plain_transformers_computes(tmp_path: Path) -> None:
    model = scalar_from(tiny_policy("qwen3"), HEADS, seed=3, reads_mean=True)
    model.normalisation = Normalisation((2.0, 1.0), (0.5, 0.0))
    model.save(tmp_path)
    check_export(model, tmp_path)
    loaded = load_scalar(tmp_path)
    assert loaded.normalisation == model.normalisation
    torch.testing.assert_close(loaded.scores(BATCH), model.scores(BATCH))
    torch.testing.assert_close(loaded.copy().scores(BATCH), model.scores(BATCH))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    row = torch.tensor([TREES[0].trunk + TREES[0].branches[0].ids])
    torch.testing.assert_close(plain(input_ids=row).logits[0], model.last_token_scores(BATCH)[0], **CLOSE)
    stored = json.loads((tmp_path / "reward.json").read_text())
    assert stored["pooling"] == "mean"
    assert stored["note"] == json.loads((tmp_path / "config.json").read_text())["palate_pooling"]
    assert "transformers reads the state at the last token" in stored["note"]


def test_a_directory_that_lost_what_its_scores_read_is_refused(tmp_path: Path) -> None:
    scalar_from(tiny_policy("qwen3"), HEADS, seed=3, reads_mean=True).save(tmp_path)
    path = tmp_path / "reward.json"
    stored = json.loads(path.read_text())
    for content, message in (
        ({**stored, "pooling": "max"}, "has pooling 'max'"),
        ({name: value for name, value in stored.items() if name not in {"pooling", "note"}}, "read the mean state"),
        ({name: value for name, value in stored.items() if name != "pooling"}, "cannot be read"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ModelError, match=message):
            load_scalar(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match="read the mean state of a completion, and its reward.json is missing"):
        load_scalar(tmp_path)


def test_an_adapter_keeps_what_its_scores_read(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    tiny_policy("qwen3").save(base)
    model = scalar_from(base, HEADS, seed=3, reads_mean=True).with_adapter(LoRA(rank=2, alpha=8), base, seed=1)
    model.save(tmp_path / "adapter")
    check_export(model, tmp_path / "adapter")
    for merges in (False, True):
        loaded = load_scalar(tmp_path / "adapter", merge_adapter=merges)
        torch.testing.assert_close(loaded.scores(BATCH), model.scores(BATCH), **CLOSE)


def test_new_heads_on_such_a_model_read_the_last_token(tmp_path: Path) -> None:
    """As the heads of a value model do."""
    model = scalar_from(tiny_policy("qwen3"), HEADS, seed=3, reads_mean=True)
    value = scalar_from(model, ("value",), seed=1)
    torch.testing.assert_close(value.scores(BATCH), value.last_token_scores(BATCH))
    value.save(tmp_path)
    assert "palate_pooling" not in json.loads((tmp_path / "config.json").read_text())
    load_scalar(tmp_path)


def test_reward_trains_one(tmp_path: Path) -> None:
    """The word that decides stands early, and many words follow it."""
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "base")
    texts = [
        f"the {one} has {other}" for one in ("cook", "guests", "rice", "salt", "beans") for other in ("rice", "beans", "salt", "today")
    ]
    after = " and what can we make for two guests"
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": one, "chosen": f" rice{after}", "rejected": f" salt{after}"} for one in texts])
    stage = Reward(
        str(tmp_path / "base"), str(tmp_path / "pairs.jsonl"), prompts_per_step=4, epochs=3, optimizer=AdamW(lr=1e-2), score="mean_pooled"
    )
    run = ran(stage, tmp_path / "run", "reward")
    assert summary_of(run)["held_out"]["overall"]["accuracy"] == 1.0
    assert json.loads((run / "model" / "reward.json").read_text())["pooling"] == "mean"
    LearnedReward.load(str(run / "model"))
