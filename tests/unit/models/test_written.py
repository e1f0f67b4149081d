"""Whatever is written is read by plain transformers and peft as the same model: logits, scores, padding and ends."""

from __future__ import annotations

import copy
import errno
import json
import os
import resource
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GenerationConfig

from palate.core import ModelError, Sampling
from palate.models.adapters import LoRA, is_adapter
from palate.models.causal import CausalPolicy
from palate.models.heads import with_padding
from palate.models.load import load_policy
from palate.models.paths import PaddedPathWarning
from palate.models.scalar import load_scalar, scalar_from
from palate.models.tensor_files import save_tensors
from palate.models.written import check_export
from palate.samplers.local import LocalSampler
from palate.testing import ALL_FAMILIES, random_trees, tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree, pack
from palate.training.learner import save_checkpoint
from palate.training.model_io import keep_model

SCORED = tuple(family for family in ALL_FAMILIES if family not in ("lfm2", "mamba"))  # transformers has no scalar head for these
ADAPTED = tuple(family for family in ALL_FAMILIES if family != "mamba")  # peft finds none of its layers by the usual names
PADDING = (
    *((family, "<pad>") for family in SCORED),
    *((family, pad) for family in ("llama", "gpt2", "composite") for pad in ("<eos>", None)),
)
PROMPTS = ((4, 9, 12), (7, 8, 5), (21,))

pytestmark = pytest.mark.filterwarnings("ignore::palate.models.paths.PaddedPathWarning")


def policy_of(family: str, **tokens: str | None) -> CausalPolicy:
    """Return a tiny policy, with some special tokens of its tokenizer replaced."""
    tokenizer = word_tokenizer()
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return tiny_policy(family, tokenizer)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_policy_is_the_same_model_for_transformers(family: str, tmp_path: Path) -> None:
    policy = policy_of(family)
    policy.save(tmp_path)
    check_export(policy, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    plain.generation_config = GenerationConfig(eos_token_id=sorted(policy.end_ids), pad_token_id=0)
    samples = LocalSampler(load_policy(tmp_path)).sample(PROMPTS, 1, Sampling(temperature=0, max_tokens=20), seed=0)
    for prompt, (sample,) in zip(PROMPTS, samples, strict=True):
        ids = torch.tensor([prompt])
        assert plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20)[0, len(prompt) :].tolist() == list(sample.ids)


@pytest.mark.parametrize(("family", "pad"), PADDING)
def test_a_reward_model_gives_the_same_scores_in_batches_too(family: str, pad: str | None, tmp_path: Path) -> None:
    policy = policy_of(family, pad_token=pad)
    model = scalar_from(policy, ("helpful", "honest"), seed=1)
    model.save(tmp_path)
    check_export(model, tmp_path)
    trees = [Tree(tree.trunk, (Branch((*tree.branches[0].ids[:-1], 2), tree.branches[0].learned),)) for tree in _trees()]
    ours = load_scalar(tmp_path).scores(pack(trees))
    plain, tokenizer = AutoModelForSequenceClassification.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id not in (None, 2)
    rows = [list(tree.trunk + tree.branches[0].ids) for tree in trees]
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt", padding_side="right")
    with torch.no_grad():
        torch.testing.assert_close(plain(**batch).logits, ours, atol=1e-4, rtol=1e-4)
    assert model.tokenizer.get_vocab() == policy.tokenizer.get_vocab()


def _trees() -> list[Tree]:
    return [
        Tree(tuple(4 + i % 30 for i in tree.trunk), (Branch(tuple(4 + i % 30 for i in tree.branches[0].ids), tree.branches[0].learned),))
        for tree in random_trees([(3, [4]), (1, [9]), (5, [2])], 30)
    ]


@pytest.mark.parametrize("family", ADAPTED)
def test_an_adapter_is_the_same_model_for_peft(family: str, tmp_path: Path) -> None:
    policy_of(family).save(tmp_path / "base")
    base = str(tmp_path / "base")
    trained = load_policy(base).with_adapter(LoRA(rank=2), base, seed=1)
    _move(trained)
    trained.save(tmp_path / "adapter")
    assert is_adapter(tmp_path / "adapter")
    check_export(load_policy(tmp_path / "adapter"), tmp_path / "adapter")
    with pytest.raises(ModelError, match="reads other log-probabilities"):
        check_export(load_policy(base), tmp_path / "adapter")


@pytest.mark.parametrize(
    "lora",
    [
        LoRA(rank=2, target_modules=("q_proj", "embed_tokens")),
        LoRA(rank=2, target_modules=("embed_tokens",)),
        LoRA(rank=2, modules_to_save=("embed_tokens",)),
        LoRA(rank=2, target_modules=("v_proj",), modules_to_save=("lm_head", "norm")),
    ],
    ids=str,
)
def test_an_adapter_on_or_beside_embeddings_is_read_again(lora: LoRA, tmp_path: Path) -> None:
    policy_of("llama").save(tmp_path / "base")
    base = str(tmp_path / "base")
    trained = load_policy(base).with_adapter(lora, base, seed=1)
    _move(trained)
    batch = pack(random_trees([(3, [4, 2]), (1, [5])], 30))
    trained.save(tmp_path / "adapter")
    again = load_policy(tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(again.logps(batch).logps, trained.logps(batch).logps, atol=1e-4, rtol=1e-4)
        assert (again.logps(batch).logps - load_policy(base).logps(batch).logps).abs().max() > 1e-3
    check_export(again, tmp_path / "adapter")
    scalar = scalar_from(base, ("score",), seed=0).with_adapter(LoRA(rank=2, target_modules=lora.target_modules), base, seed=1)
    _move(scalar)
    scalar.save(tmp_path / "reward")
    check_export(load_scalar(tmp_path / "reward"), tmp_path / "reward")


def _move(model) -> None:
    """Give every trained weight another value."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn(p.shape, generator=draw))


def test_an_adapter_brings_its_own_tokenizer(tmp_path: Path) -> None:
    """Its template counts, and a token that it added has a row."""
    policy_of("llama").save(tmp_path / "base")
    base = str(tmp_path / "base")
    trained = load_policy(base).with_adapter(LoRA(rank=2), base, seed=1)
    trained.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}:{% endif %}"
    trained.save(tmp_path / "adapter")
    assert load_policy(tmp_path / "adapter").tokenizer.chat_template == trained.tokenizer.chat_template
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "adapter" / name).unlink()
    (tmp_path / "adapter" / "chat_template.jinja").unlink(missing_ok=True)
    assert load_policy(tmp_path / "adapter").tokenizer.chat_template != trained.tokenizer.chat_template

    from peft import LoraConfig, get_peft_model

    module, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["basil"])
    module.resize_token_embeddings(len(tokenizer))
    wrapped = get_peft_model(module, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False))
    wrapped.save_pretrained(str(tmp_path / "grown"), save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "grown")
    ids = torch.tensor([[4, 9, len(tokenizer) - 1, 5]])
    grown = load_policy(tmp_path / "grown")
    tree = Tree(tuple(ids[0, :3].tolist()), (Branch((5,), (True,)),))
    with torch.no_grad():
        expected = wrapped.eval()(input_ids=ids).logits[0, 2].log_softmax(-1)[5]
        assert float(grown.logps(pack([tree])).logps[0]) == pytest.approx(float(expected), abs=1e-4)
    check_export(grown, tmp_path / "grown")


def test_what_transformers_would_read_otherwise_is_said(tmp_path: Path) -> None:
    model = scalar_from(policy_of("llama"), ("score",), seed=1)
    model.save(tmp_path / "reward")
    settings = json.loads((tmp_path / "reward" / "config.json").read_text())
    (tmp_path / "reward" / "config.json").write_text(json.dumps({**settings, "pad_token_id": 2}))
    with pytest.raises(ModelError, match="transformers reads other scores"):
        check_export(model, tmp_path / "reward")
    loaded = load_scalar(tmp_path / "reward")  # reads as transformers does
    check_export(loaded, tmp_path / "reward")
    (tmp_path / "reward" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="transformers cannot load it"):
        check_export(model, tmp_path / "reward")


def test_padding_never_ends_a_sequence() -> None:
    tokenizer = word_tokenizer()
    assert with_padding(tokenizer, {2}) is tokenizer
    tokenizer.pad_token = "<eos>"
    assert with_padding(tokenizer, {2}).pad_token == "<pad>"
    assert tokenizer.pad_token == "<eos>"
    assert with_padding(tokenizer, {0, 2}).pad_token in ("<bos>", "<unk>")
    assert with_padding(tokenizer, {0, 1, 2, 3}).pad_token is None


def test_a_neighbour_changes_nothing_that_a_model_with_two_sets_of_angles_says() -> None:
    policy = policy_of("longrope")
    assert policy.path == "packed"
    trees = _trees()
    long = random_trees([(6, [30, 3, 12]), (20, [5, 2])], 30)
    module = copy.deepcopy(policy.module)
    module.set_attn_implementation("sdpa")
    rows = copy.deepcopy(policy)
    rows.path = "padded"
    rows.module.set_attn_implementation("sdpa")
    with torch.no_grad():
        for one in (policy, rows):
            alone = torch.cat([one.logps(pack([tree])).logps for tree in [*long, *trees]])
            beside = one.logps(pack([*long, *trees])).logps
            torch.testing.assert_close(beside, alone, atol=1e-4, rtol=1e-4)
            steps = torch.cat([_step_by_step(module, tree) for tree in [*long, *trees]])
            torch.testing.assert_close(beside, steps, atol=1e-4, rtol=1e-4)


def _step_by_step(module, tree: Tree) -> torch.Tensor:
    """Log-probabilities of all branch tokens, each by a forward pass over what stands before it: what generation sees."""
    result = []
    for branch in tree.branches:
        for k, token in enumerate(branch.ids):
            logits = module(input_ids=torch.tensor([tree.trunk + branch.ids[:k]]), use_cache=False).logits[0, -1]
            result.append(logits.float().log_softmax(-1)[token])
    return torch.stack(result)


def test_a_model_whose_rows_depend_on_padding_computes_each_alone() -> None:
    policy = tiny_policy("sliding_mistral")
    module, forward = policy.module, policy.module.base_model.forward

    def shifted(*args, **kwargs):
        output = forward(*args, **kwargs)
        output[0].mul_(1 + 0.1 * output[0].shape[1])
        return output

    module.base_model.forward = shifted
    from palate.models.paths import choose_path

    with pytest.warns(PaddedPathWarning, match="computes every sequence alone"):
        path = choose_path(module)
    assert path == "single"
    alone = CausalPolicy(module, policy.tokenizer, path)
    trees = _trees()
    with torch.no_grad(), warnings.catch_warnings():
        one_by_one = torch.cat([alone.logps(pack([tree])).logps for tree in trees])
        torch.testing.assert_close(alone.logps(pack(trees)).logps, one_by_one)


def test_a_model_whose_numbers_depend_on_a_longer_neighbour_computes_each_alone() -> None:
    """Its trees are right by themselves, and wrong beside a tree that goes on to the end of the context."""
    module = tiny_policy("llama").module
    module.set_attn_implementation("sdpa")
    forward = module.base_model.forward

    def stretched(*args, **kwargs):
        output, places = forward(*args, **kwargs), kwargs.get("position_ids")
        if places is not None and int(places.max()) > 64:
            output[0].mul_(2)
        return output

    module.base_model.forward = stretched
    from palate.models.paths import choose_path

    with pytest.warns(PaddedPathWarning, match="its numbers depend on the longest sequence of a batch"):
        assert choose_path(module) == "single"
    assert module.config._attn_implementation == "sdpa"


def test_a_large_tree_is_computed_in_parts_with_the_same_gradients() -> None:
    (tree,) = random_trees([(4, [5, 3, 8, 2, 6, 7])], 30)
    policy, model = policy_of("llama"), scalar_from(policy_of("llama"), ("score",), seed=1)
    for measure, parameters in (
        (lambda batch: policy.logps(batch).logps, policy.module.parameters),
        (lambda batch: policy.logps(batch).entropy.detach() + policy.logps(batch).states.sum(-1), policy.module.parameters),
        (lambda batch: policy.nll(batch, batch.learned.float())[0][None], policy.module.parameters),
        (model.scores, model.parameters),
        (model.values, model.parameters),
    ):
        found = []
        for limit in (None, 12):
            batch = pack([tree], limit)
            assert (len(batch.parts()) > 2) == (limit is not None)
            values = measure(batch)
            (values * torch.linspace(1, 2, len(values)).view(-1, *[1] * (values.dim() - 1))).sum().backward()
            found.append((values.detach(), [p.grad.clone() for p in parameters() if p.grad is not None]))
            for p in parameters():
                p.grad = None
        torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=1e-3)


def test_a_run_is_not_done_when_others_read_another_model_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = SimpleNamespace(directory=tmp_path)
    policy, other = policy_of("llama"), tiny_policy("llama", seed=1)
    assert keep_model(run, policy, None) == tmp_path / "model"
    save = CausalPolicy.save
    monkeypatch.setattr(CausalPolicy, "save", lambda self, directory: save(other, directory) if self is policy else save(self, directory))
    with pytest.raises(ModelError, match="transformers reads other log-probabilities"):
        keep_model(run, policy, None)
    save(other, tmp_path / "base")
    adapted = load_policy(tmp_path / "base").with_adapter(LoRA(rank=2), str(tmp_path / "base"), seed=1)
    adapted.save(tmp_path / "adapter")
    with pytest.raises(ModelError, match="peft reads other log-probabilities"):
        keep_model(run, policy, LoRA(merge=False))


def test_weights_may_be_read_by_whoever_may_read_the_users_other_files(tmp_path: Path) -> None:
    policy = tiny_policy("qwen3")
    scored = scalar_from(policy, ("helpful",), seed=0, reads_likelihood=True)
    before = os.umask(0o027)
    try:
        policy.save(tmp_path / "whole")
        load_policy(tmp_path / "whole").with_adapter(LoRA(), tmp_path / "whole", seed=0).save(tmp_path / "adapter")
        scored.save(tmp_path / "reward")
        save_checkpoint(tmp_path / "state", {"x": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    modes = {f"{path.relative_to(tmp_path)}": oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*.safetensors")}
    assert len(modes) >= 4
    assert set(modes.values()) == {"0o640"}


def test_what_safetensors_says_of_a_disk_is_the_error_of_every_other_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as found:
            save_tensors({"x": torch.zeros(1000)}, tmp_path / "x.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found.value.errno == errno.EFBIG
