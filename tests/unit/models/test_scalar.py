"""Scalar heads by name: how they start, what is saved and what is refused."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from palate.core import ModelError
from palate.models.heads import head_of
from palate.models.reward_file import Normalisation
from palate.models.scalar import ScalarModel, load_scalar, scalar_from, with_heads
from palate.testing import FAMILIES, random_trees, tiny_policy
from palate.text.pack import pack

TREES = random_trees([(3, [4, 2]), (1, [5])], 40)
BATCH = pack(TREES)


@pytest.fixture
def model() -> ScalarModel:
    return scalar_from(tiny_policy(), ("helpful", "harmless"), seed=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_is_the_same(family: str, tmp_path) -> None:
    model = scalar_from(tiny_policy(family), ("helpful", "harmless", "honest"), seed=3)
    model.normalisation = Normalisation((2.0, 0.5, 1.0), (-1.0, 0.25, 0.0))
    model.save(tmp_path)
    again = load_scalar(tmp_path)
    assert again.heads == ("helpful", "harmless", "honest")
    assert again.normalisation == model.normalisation
    assert again.path == "packed"
    assert torch.equal(again.scores(BATCH), model.scores(BATCH))
    assert json.loads((tmp_path / "reward.json").read_text())["heads"] == ["helpful", "harmless", "honest"]


def test_plain_transformers_gives_the_same_scores(model: ScalarModel, tmp_path) -> None:
    model.save(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert plain.config.id2label == {0: "helpful", 1: "harmless"}
    rows = [tree.trunk + branch.ids for tree in TREES for branch in tree.branches]
    expected = torch.cat([plain(input_ids=torch.tensor([row])).logits for row in rows])
    torch.testing.assert_close(model.scores(BATCH), expected, rtol=1e-5, atol=1e-5)


def test_normalised_scores(model: ScalarModel) -> None:
    scores = model.scores(BATCH)
    assert torch.equal(model.normalised(scores), scores)
    model.normalisation = Normalisation((2.0, 0.5), (-1.0, 0.25))
    torch.testing.assert_close(model.normalised(scores), torch.stack((2 * scores[:, 0] - 1, scores[:, 1] / 2 + 0.25), 1))


def test_heads_start_small_and_by_seed() -> None:
    policy = tiny_policy()
    names = [f"head{k}" for k in range(200)]
    one, same, other = (head_of(scalar_from(policy, names, seed=s).module).weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.std().item() == pytest.approx(33**-0.5, rel=0.05)


def test_a_zero_head_values_everything_at_zero() -> None:
    model = scalar_from(tiny_policy(), ("value",), seed=0, start="zero")
    assert model.values(BATCH).shape == (len(BATCH.targets), 1)
    assert not model.values(BATCH).any()


def test_the_backbone_is_copied_not_shared() -> None:
    policy = tiny_policy()
    before = policy.logps(BATCH).logps
    model = scalar_from(policy, ("score",), seed=0)
    assert all(p.requires_grad for p in model.parameters())
    model.scores(BATCH).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert torch.equal(before, policy.logps(BATCH).logps)


def test_sources(model: ScalarModel, tmp_path) -> None:
    """From a path, and from a reward model: it copies the backbone and makes new heads."""
    policy = tiny_policy()
    policy.save(tmp_path)
    by_path = scalar_from(tmp_path, ("helpful", "harmless"), seed=3)
    assert torch.equal(by_path.scores(BATCH), model.scores(BATCH))
    value = scalar_from(model, ("value",), seed=0)
    assert value.heads == ("value",)
    for model in (by_path, value):
        weights, expected = model.module.base_model.state_dict(), policy.module.base_model.state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_frozen_reference_gives_a_trainable_model() -> None:
    model = scalar_from(tiny_policy().reference(), ("score",), seed=0)
    assert all(p.requires_grad for p in model.parameters())


def test_a_copy_keeps_heads_and_normalisation(model: ScalarModel) -> None:
    model.normalisation = Normalisation((2.0, 0.5), (-1.0, 0.25))
    twin = model.copy()
    assert twin.normalisation == model.normalisation
    assert torch.equal(twin.scores(BATCH), model.scores(BATCH))
    assert not any(p.requires_grad for p in twin.parameters())
    with torch.no_grad():
        head_of(model.module).weight.zero_()
    assert twin.scores(BATCH).any()


@pytest.mark.parametrize("heads", [(), ("a", "a")])
def test_heads_need_distinct_names(heads) -> None:
    with pytest.raises(ModelError, match="distinct names"):
        scalar_from(tiny_policy(), heads, seed=0)


def test_a_policy_is_no_scalar_model(tmp_path) -> None:
    tiny_policy().save(tmp_path)
    with pytest.raises(ModelError, match=r"score.weight"):
        load_scalar(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"heads": ["helpful", "harmless"], "gain": [1.0], "bias": [0.0]}', '{"heads": ["x"]}'])
def test_a_reward_file_that_does_not_fit(model: ScalarModel, tmp_path, content: str) -> None:
    model.save(tmp_path)
    (tmp_path / "reward.json").write_text(content)
    with pytest.raises(ModelError, match=r"reward.json"):
        load_scalar(tmp_path)


def test_a_directory_without_reward_file_is_not_normalised(model: ScalarModel, tmp_path) -> None:
    model.save(tmp_path)
    (tmp_path / "reward.json").unlink()
    assert load_scalar(tmp_path).normalisation == Normalisation((1.0, 1.0), (0.0, 0.0))


def test_scores_of_a_backbone_in_bfloat16_are_finer_than_bfloat16() -> None:
    model = scalar_from(tiny_policy(), ("score",), seed=0)
    model.module.bfloat16()
    scores = model.scores(pack(random_trees([(4, [3, 5, 7, 9])], 43)))
    assert scores.dtype == torch.float32
    assert not torch.equal(scores.bfloat16().float(), scores)


def test_tokens_that_round_a_narrow_batch_up_take_no_part() -> None:
    """Their id is 0, which the trees do not have: its embedding gets no gradient, and the others' is near that of float32."""
    wide = scalar_from(tiny_policy(), ("score",), seed=0)
    narrow = wide.copy()
    narrow.module.bfloat16().requires_grad_(requires_grad=True)
    trees = random_trees([(5, [3, 8]), (2, [20])], 42, seed=2)
    assert all(0 not in (*tree.trunk, *branch.ids) for tree in trees for branch in tree.branches)
    batch = pack(trees)
    assert len(batch.input_ids) % 16
    for model in (wide, narrow):
        model.scores(batch).sum().backward()
    plain, rough = (model.module.get_input_embeddings().weight.grad.float() for model in (wide, narrow))
    assert not rough[0].any()
    assert (rough - plain).abs().max() < 0.05 * plain.abs().max()


@pytest.mark.parametrize("family", [*FAMILIES, "gemma2", "composite"])
def test_new_heads_copy_a_backbone_or_take_it_over(family: str) -> None:
    policy = tiny_policy(family)
    copied, taken = (with_heads(policy, ("helpful", "honest"), 1, takes=takes) for takes in (False, True))
    assert copied.module.base_model is not policy.module.base_model
    assert taken.module.base_model is policy.module.base_model
    with torch.no_grad():
        assert torch.equal(taken.scores(BATCH), copied.scores(BATCH))
    assert not any(x.is_meta for x in (*taken.module.parameters(), *taken.module.buffers()))
    assert taken.module.state_dict().keys() == copied.module.state_dict().keys()
