"""Packed trees give the numbers and gradients of plain sequences, for every family."""

import itertools
import random

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from palate.models.causal import CausalPolicy
from palate.models.heads import head_of
from palate.models.load import built, load_policy, without_dropout
from palate.models.paths import PaddedPathWarning
from palate.models.scalar import scalar_from
from palate.testing import FAMILIES, PADDED_FAMILIES, random_trees, shared_data, tiny_config, tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree, pack

ALL = FAMILIES + PADDED_FAMILIES
SHAPES = {
    "one branch": [(4, [5]), (1, [7]), (6, [1])],
    "many branches": [(5, [3, 1, 12, 3]), (1, [2, 2]), (9, [4] * 6)],
    "ragged": [(2, [1]), (20, [30, 2]), (1, [15, 1, 40]), (11, [6]), (3, [9] * 3)],
}
VOCABULARY = 43


def _trees(name: str = "ragged") -> list[Tree]:
    return random_trees(SHAPES[name], VOCABULARY, seed=5)


def _twin(policy: CausalPolicy, family: str) -> PreTrainedModel:
    """The same weights in a plain transformers model with its own attention."""
    twin = built(AutoModelForCausalLM.from_config, without_dropout(tiny_config(family, policy.tokenizer)), 99)
    twin.set_attn_implementation("eager")
    twin.load_state_dict(policy.module.state_dict())
    return twin


def _plain_logps(module: PreTrainedModel, trees: list[Tree], temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies from one unpadded forward pass per branch."""
    logps, entropies = [], []
    for tree in trees:
        for branch in tree.branches:
            ids = torch.tensor([tree.trunk + branch.ids])
            full = torch.log_softmax(module(input_ids=ids, use_cache=False).logits[0, len(tree.trunk) - 1 : -1].float() / temperature, -1)
            logps.append(full.gather(1, ids[0, len(tree.trunk) :, None])[:, 0])
            entropies.append(-(full.exp() * full).sum(-1))
    return torch.cat(logps), torch.cat(entropies)


def _close_gradients(ours: PreTrainedModel, theirs: PreTrainedModel) -> None:
    named = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        plain = named[name].grad
        assert parameter.grad is not None, name
        assert plain is not None, name
        assert (parameter.grad - plain).abs().max() <= 1e-5 * plain.abs().max() + 1e-7, name


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("family", ALL)
def test_logps_and_gradients(family: str, shapes: str) -> None:
    policy, trees = tiny_policy(family), _trees(shapes)
    assert policy.path == ("padded" if family in PADDED_FAMILIES else "packed")
    twin = _twin(policy, family)
    ours = policy.logps(pack(trees), temperature=0.7)
    logps, entropy = _plain_logps(twin, trees, 0.7)
    torch.testing.assert_close(ours.logps, logps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.entropy, entropy, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert not ours.entropy.requires_grad
    direction = torch.randn(logps.shape, generator=torch.Generator().manual_seed(0))
    (ours.logps * direction).sum().backward()
    (logps * direction).sum().backward()
    _close_gradients(policy.module, twin)


@pytest.mark.parametrize("family", ALL)
def test_the_next_token_has_the_log_probability_of_a_branch(family: str) -> None:
    policy, ids = tiny_policy(family), (5, 9, 7)
    found = policy.next_logps(ids, temperature=0.7)
    with torch.no_grad():
        expected = policy.logps(pack([Tree(ids, tuple(Branch((token,), (True,)) for token in range(len(found))))]), temperature=0.7).logps
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("family", ALL)
def test_nll_and_gradients(family: str) -> None:
    policy, trees = tiny_policy(family), _trees()
    twin, batch = _twin(policy, family), pack(trees)
    weights = torch.rand(len(batch.targets), generator=torch.Generator().manual_seed(0)) * batch.learned
    total, ours = policy.nll(batch, weights)
    logps, _ = _plain_logps(twin, trees)
    plain = -(weights * logps).sum()
    torch.testing.assert_close(ours, logps.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total, plain, rtol=1e-5, atol=1e-5)
    total.backward()
    plain.backward()
    _close_gradients(policy.module, twin)


@pytest.mark.parametrize("family", ALL)
def test_scores_values_and_gradients(family: str) -> None:
    trees = _trees()
    model = scalar_from(tiny_policy(family), ("helpful", "harmless"), seed=1)
    config = without_dropout(tiny_config(family, word_tokenizer()))
    config.num_labels = 2
    twin = built(AutoModelForSequenceClassification.from_config, config, 99)
    twin.set_attn_implementation("eager")
    twin.load_state_dict(model.module.state_dict())
    batch = pack(trees)
    values, scores = [], []
    for tree in trees:
        for branch in tree.branches:
            every = twin.score(twin.base_model(input_ids=torch.tensor([tree.trunk + branch.ids]), use_cache=False)[0][0])
            values.append(every[len(tree.trunk) - 1 : -1])
            scores.append(every[-1])
    plain_values, plain_scores = torch.cat(values), torch.stack(scores)
    ours_values, ours_scores = model.values(batch), model.scores(batch)
    torch.testing.assert_close(ours_values, plain_values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_scores, plain_scores, rtol=1e-5, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    on_values, on_scores = (torch.randn(x.shape, generator=generator) for x in (plain_values, plain_scores))
    ((ours_values * on_values).sum() + (ours_scores * on_scores).sum()).backward()
    ((plain_values * on_values).sum() + (plain_scores * on_scores).sum()).backward()
    _close_gradients(model.module, twin)


@pytest.mark.parametrize("family", PADDED_FAMILIES)
def test_the_padded_path_warns_once_and_says_why(family: str, tmp_path) -> None:
    tiny_policy(family).save(tmp_path)
    with pytest.warns(PaddedPathWarning, match="window of 8|caps its logits") as caught:
        assert load_policy(tmp_path).path == "padded"
    assert len([w for w in caught if w.category is PaddedPathWarning]) == 1


@pytest.mark.parametrize("family", ALL)
def test_order_of_trees_changes_nothing(family: str) -> None:
    policy, trees = tiny_policy(family), _trees()
    order = list(range(len(trees)))
    random.Random(1).shuffle(order)

    def by_tree(shuffled: list[int]) -> list[Tensor]:
        batch = pack([trees[k] for k in shuffled])
        logps = policy.logps(batch).logps.detach()
        pieces = [logps[batch.tree[batch.branch] == place] for place in range(len(trees))]
        return [pieces[shuffled.index(k)] for k in range(len(trees))]

    for straight, mixed in zip(by_tree(sorted(order)), by_tree(order), strict=True):
        torch.testing.assert_close(straight, mixed, rtol=1e-5, atol=1e-5)


def test_branches_do_not_see_each_other() -> None:
    policy = tiny_policy()
    (tree,) = random_trees([(4, [5, 6])], VOCABULARY)
    other = Tree(tree.trunk, (tree.branches[0], random_trees([(1, [9])], VOCABULARY, seed=8)[0].branches[0]))
    both = [policy.logps(pack([t])).logps[:5].detach() for t in (tree, other)]
    torch.testing.assert_close(both[0], both[1], rtol=1e-5, atol=1e-5)


def test_same_bits_on_every_run() -> None:
    policy, batch = tiny_policy(), pack(_trees())
    runs = []
    for _ in range(3):
        policy.module.zero_grad()
        policy.nll(batch, batch.learned.float())[0].backward()
        runs.append([p.grad.clone() for p in policy.parameters()])
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


def test_splitting_a_batch_adds_up_to_the_same_gradient() -> None:
    policy, trees = tiny_policy(), _trees("many branches")
    grads = []
    for parts in ([trees], [trees[:1], trees[1:]], [[tree] for tree in trees]):
        policy.module.zero_grad()
        for part in parts:
            batch = pack(part)
            policy.nll(batch, batch.learned.float())[0].backward()
        grads.append([p.grad.clone() for p in policy.parameters()])
    for other, (mine, plain) in itertools.product(grads[1:], enumerate(grads[0])):
        assert (other[mine] - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_within_its_bound(family: str, tmp_path) -> None:
    """bf16 keeps 8 bits: on these weights (ten times the usual scale) mean log-probabilities move by less than 0.05 nats."""
    policy = tiny_policy(family)
    policy.save(tmp_path)
    narrow = load_policy(tmp_path, dtype="bfloat16")
    assert narrow.path == "packed"
    batch = pack(_trees())
    wide, rough = policy.logps(batch).logps.detach(), narrow.logps(batch).logps
    assert rough.dtype == torch.float32
    assert (wide - rough).mean().abs() < 0.05
    assert (wide - rough).abs().mean() < 0.1
    rough.sum().backward()
    assert all(p.grad.isfinite().all() for p in narrow.parameters())


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
def test_a_tokenizer_that_pads_with_its_end_token_is_harmless(family: str) -> None:
    """The end token, in the middle and last, is a token like others: compared with plain sequences that need no mask."""
    tokenizer = word_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    end = tokenizer.eos_token_id
    trees = [Tree((1, 9, end, 8), (Branch((7, end), (True, True)), Branch((11, 12, end, 13, 14, end), (True,) * 6)))]
    policy = tiny_policy(family, tokenizer)
    batch = pack(trees)
    torch.testing.assert_close(policy.logps(batch).logps, _plain_logps(_twin(policy, family), trees)[0], rtol=1e-5, atol=1e-5)
    model = scalar_from(policy, ("score",), seed=0)
    states = [_twin(policy, family).base_model(input_ids=torch.tensor([trees[0].trunk + b.ids]))[0][0, -1] for b in trees[0].branches]
    torch.testing.assert_close(model.scores(batch), head_of(model.module)(torch.stack(states)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_training_mode_switches_no_dropout_on(family: str, tmp_path) -> None:
    tokenizer = word_tokenizer()
    config = tiny_config(family, tokenizer)
    for name in [n for n, v in config.to_dict().items() if isinstance(v, float) and ("drop" in n)]:
        setattr(config, name, 0.5)
    built(AutoModelForCausalLM.from_config, config, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.warns(PaddedPathWarning) if family in PADDED_FAMILIES else torch.no_grad():
        policy = load_policy(tmp_path)
    batch = pack(_trees())
    still = policy.logps(batch).logps
    policy.module.train()
    assert torch.equal(still, policy.logps(batch).logps)


def test_a_real_model() -> None:
    path = shared_data("models/stories260K-hf")
    policy = load_policy(path)
    assert policy.path == "packed"
    prompt, *continuations = (
        tuple(policy.tokenizer(text, add_special_tokens=False).input_ids)
        for text in ("Once upon a time, there was a", "little girl named Lily.", "big dog. He liked to play")
    )
    tree = Tree((policy.tokenizer.bos_token_id, *prompt), tuple(Branch(ids, (True,) * len(ids)) for ids in continuations))
    plain = AutoModelForCausalLM.from_pretrained(path)
    assert policy.max_tokens == 512
    torch.testing.assert_close(policy.logps(pack([tree])).logps, _plain_logps(plain, [tree])[0], rtol=1e-5, atol=1e-5)
    assert policy.logps(pack([tree])).logps.mean() > -2  # it knows how stories begin
