"""The estimate of memory against what real learners, passes and caches hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.core import Sampling
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import as_policy, built
from palate.models.shapes import ModelShape, find_shape, shape_of_config
from palate.objectives.supervised import CrossEntropy
from palate.pipeline.estimates.learning_memory import learned_by
from palate.pipeline.estimates.memory_parts import MemoryScript
from palate.pipeline.estimates.pass_memory import PackedTrees, Trained, cache_bytes, kept_bytes
from palate.pipeline.estimates.role_memory import Machine, ModelOrigin, start_learning, trained_of
from palate.samplers.local import LocalSampler
from palate.testing import random_trees, word_tokenizer
from palate.text.pack import pack
from palate.training.imitation import Imitation
from palate.training.learner import Learner
from palate.training.optimizer import AdamW

BATCH = 1 << 30
WIDTHS = {torch.float32: 4, torch.bfloat16: 2}


def policy_of(family: str) -> CausalPolicy:
    """A policy that is wide enough for its activations to outweigh what every tensor costs."""
    config = AutoConfig.for_model(
        family,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=64,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return as_policy(built(AutoModelForCausalLM.from_config, config, 0), word_tokenizer())


def origin_of(policy: CausalPolicy) -> ModelOrigin:
    return ModelOrigin(shape_of_config(policy.module.config, "tiny"), "tiny", "tiny")


def size_of(*tensors: torch.Tensor) -> int:
    """Bytes of tensors, each storage once."""
    return sum({x.untyped_storage().data_ptr(): x.numel() * x.element_size() for x in tensors}.values())


@pytest.mark.parametrize("dtype", list(WIDTHS))
@pytest.mark.parametrize("adapters", [None, LoRA(rank=4)])
def test_a_learner_holds_what_was_estimated(dtype: torch.dtype, adapters: LoRA | None) -> None:
    policy = policy_of("llama")
    origin = origin_of(policy)
    if adapters is not None:
        policy = policy.with_adapter(adapters, "base", 0)
    learner = Learner({"policy": policy.module}, AdamW(), 1, dtype=dtype)
    batch = pack(random_trees([(4, (5,))], 40))
    learner.step([batch], Imitation(policy, CrossEntropy(), BATCH).loss)
    trained = trained_of(origin, WIDTHS[dtype], adapters)
    script = MemoryScript()
    start_learning(script, Machine(), "policy", origin, trained, learned_by(origin, trained), "float32")
    learned = [weight for group in learner._weights.optimizer.param_groups for weight in group["params"]]
    own = list(policy.module.parameters())
    moments = [state[key] for state in learner._weights.optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert script.held["policy", "weights"] == size_of(*own)
    assert script.held["policy", "gradients"] == size_of(*(weight.grad for weight in learned))
    assert script.held["policy", "moments"] == size_of(*moments)
    wide = 0 if dtype == torch.float32 else size_of(*learned)
    assert script.held.get(("policy", "float32 weights"), 0) == wide


def test_ranks_share_what_the_optimizer_moves() -> None:
    origin = ModelOrigin(find_shape("8B"), "8B", "8B")
    script, trained = MemoryScript(), trained_of(origin, 2, None)
    start_learning(script, Machine(ranks=8), "policy", origin, trained, origin.size, "float32")
    assert sum(script.held.values()) == (2 + 16 / 8) * origin.size  # and 2 more for the gradients of a pass


SHAPES = {"one branch": [(60, (60,))] * 4, "two branches": [(40, (60, 60))] * 3, "eight branches": [(30, (24,) * 8)] * 2}


def saved_by(policy: CausalPolicy, trees: list[Any]) -> float:
    """Bytes of activations that the forward pass leaves for the backward pass."""
    held: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in policy.module.parameters()}

    def keep(x: torch.Tensor) -> torch.Tensor:
        held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = policy.logps(pack(trees))
    assert outputs.logps.requires_grad
    return float(sum(size for pointer, size in held.items() if pointer not in weights))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(("dtype", "rank"), [(dtype, rank) for dtype in WIDTHS for rank in (None, 8)])
def test_a_forward_pass_leaves_what_was_estimated(family: str, dtype: torch.dtype, rank: int | None) -> None:
    policy = policy_of(family)
    shape = origin_of(policy).shape
    if rank is not None:
        policy = policy.with_adapter(LoRA(rank=rank), "base", 0)
    policy.module.to(dtype)
    for name, trees in SHAPES.items():
        (prompt, branches), count = trees[0], len(trees)
        estimated = PackedTrees(prompt, branches[0], len(branches), count * (prompt + sum(branches)))
        found = kept_bytes(Trained(shape, WIDTHS[dtype], rank), estimated)
        share = 0.1 if dtype == torch.float32 else 0.13  # shapes in bfloat16 are rounded up on a CPU
        assert found == pytest.approx(saved_by(policy, random_trees(trees, 40)), rel=share), name


def test_checkpoints_leave_the_inputs_of_layers() -> None:
    policy = policy_of("llama")
    shape, own = origin_of(policy).shape, random_trees(SHAPES["one branch"], 40)
    policy.module.gradient_checkpointing_enable({"use_reentrant": False})
    policy.module.train()
    estimated = PackedTrees(60, 60, 1, 480)
    whole = kept_bytes(Trained(shape, is_checkpointing=True), estimated)
    one = kept_bytes(Trained(shape, is_checkpointing=True), estimated) - shape.layers * 480 * shape.hidden_size * 4
    last = 480 * shape.hidden_size * 12 + 240 * shape.hidden_size * 4
    assert whole - (one - last) == pytest.approx(saved_by(policy, own), rel=0.15)


def test_the_samplers_cache_has_the_estimated_size() -> None:
    policy = policy_of("qwen3")
    sampler = LocalSampler(policy)
    sampler.sample([[5, 6, 7]] * 5, 3, Sampling(max_tokens=20), 0)
    held = sum(x.numel() * x.element_size() for x in sampler._cache._memory.values())
    assert held == cache_bytes(origin_of(policy).shape, 15, 23, 4)


@pytest.mark.parametrize(
    ("prompt", "completion", "branches", "limit", "rows", "tokens"),
    [
        (10, 10, 1, 100, None, 100),  # several trees
        (10, 10, 1, 100, 2, 40),  # a step has only two
        (50, 100, 2, 200, None, 250),  # a tree that is too large is one pass
        (50, 100, 4, 400, None, 450),  # also with more branches
        (50, 100, 8, 400, None, 400),  # unless it is more than twice as large
    ],
)
def test_the_largest_pass(prompt: int, completion: int, branches: int, limit: int, rows: int | None, tokens: int) -> None:
    assert PackedTrees.within(prompt, completion, branches, limit, rows).tokens == tokens


def test_branches_see_their_trunk() -> None:
    two_trees = PackedTrees(10, 20, 4, 180)
    assert two_trees.keys == 2 * (10 + 4 * 30)
    assert two_trees.cells == 2 * (10 * 10 + 4 * 20 * 30)
    assert two_trees.targets == 2 * 4 * 20
    assert PackedTrees(10, 20, 1, 60).cells == 2 * 30 * 30  # a trunk with one branch is a plain sequence


def test_a_fused_kernel_leaves_less_than_products() -> None:
    shape: ModelShape = find_shape("1.5B")
    trees = PackedTrees(512, 512, 8, 4608)
    assert kept_bytes(Trained(shape), PackedTrees(512, 512, 8, 4608, is_fused=True)) < 0.85 * kept_bytes(Trained(shape), trees)
