"""What a rank does in the tests of weights that ranks share out: the same steps alone, with whole weights, and with slices.

Steps have an uneven number of micro-batches, one of which is computed in parts. A new learner goes on from a checkpoint in the middle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import ModelError
from palate.core.process import Shard, computing_on, place
from palate.distributed.group import joined_group
from palate.distributed.ranks import ALONE, ranks, working_together
from palate.distributed.windows import windows
from palate.models.causal import CausalPolicy
from palate.models.load import Architecture, new_policy
from palate.models.shards import is_shared_out
from palate.models.shared_layers import on_host, shards_of, share_out
from palate.objectives.reduce import Sums
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.online import Online
from palate.stages.online.loop import Loop
from palate.testing import random_trees, tiny_policy, word_tokenizer
from palate.text.pack import PackedBatch, pack
from palate.training.learner import Learner
from palate.training.optimizer import AdamW

STEPS = 4
OPTIMIZER = AdamW(lr=1e-3, eps=1e-5, weight_decay=0.1, max_grad_norm=0.5)
SHAPES = [(3, (4, 5)), (2, (6,)), (5, (2, 3, 4)), (4, (1, 7)), (2, (3,))]


def policy_of(family: str) -> CausalPolicy:
    """A policy with separate embeddings, or one whose output embeddings are tied to its input embeddings; a rank's are those of all."""
    if family == "tied":
        return new_policy(word_tokenizer(), Architecture(hidden_size=48, layers=3, intermediate_size=96), seed=1)
    return tiny_policy(family, word_tokenizer())


def batches(step: int) -> list[PackedBatch]:
    """The micro-batches of a step: five, or one, so that some ranks have none; the last is computed in parts."""
    trees = random_trees(SHAPES, 20, seed=step)
    if step % 2:
        return [pack(trees[:2])]
    return [*(pack([tree]) for tree in trees[1:]), pack([trees[2]], limit=5)]


def loss(policy: CausalPolicy, batch: PackedBatch) -> Sums:
    """The negative log-likelihood of a micro-batch."""
    logps = policy.logps(batch).logps
    return Sums(-logps.sum(), torch.tensor(float(len(logps))), {})


def learned(family: str, folder: Path, *, checkpoints: bool) -> tuple[CausalPolicy, list[dict[str, float]]]:
    """The policy after all steps, and their metrics."""

    def begun() -> tuple[CausalPolicy, Learner]:
        policy = policy_of(family)
        if checkpoints:
            policy.module.gradient_checkpointing_enable({"use_reentrant": False})
            policy.module.train()
        return policy, Learner({"policy": policy.module}, OPTIMIZER, STEPS)

    policy, learner = begun()
    metrics = []
    for step in range(STEPS):
        if step == STEPS // 2:
            learner.save(folder / "checkpoint", {})
            ranks().gather(None)  # the writer alone has the file
            policy, learner = begun()
            assert learner.load(folder / "checkpoint") is not None
        metrics.append(learner.step(batches(step), lambda batch, policy=policy: loss(policy, batch)))  # type: ignore[misc]
    learner.release()
    policy.module.eval()
    return policy, metrics


def weights_of(policy: CausalPolicy) -> dict[str, Tensor]:
    """The weights as they are written."""
    return {name: on_host(p) for name, p in policy.module.named_parameters()}


def flat(weights: dict[str, Tensor]) -> Tensor:
    """All weights in one row."""
    return torch.cat([x.flatten() for x in weights.values()])


def compared(root: Path, family: str, shard: str, checkpoints: bool) -> int:  # processes take arguments in order
    """Learns with slices, with whole weights and alone, and writes how far apart the three end."""
    folder = root / str(place().rank)
    with joined_group() as group:
        with computing_on("cpu", Shard.read(shard)):
            sliced, metrics = learned(family, folder / "sliced", checkpoints=checkpoints)
        whole, others = learned(family, folder / "whole", checkpoints=checkpoints)
        with working_together(ALONE):
            alone, expected = learned(family, folder / "alone", checkpoints=checkpoints)
        ours, theirs, single = weights_of(sliced), weights_of(whole), weights_of(alone)
        start = weights_of(policy_of(family))
        sliced.save(folder / "written")
        whole.save(folder / "plain")
        figures = {
            "shared": sum(is_shared_out(p) for p in sliced.parameters()),
            "from_whole": max(float((ours[name] - theirs[name]).abs().max()) for name in ours),
            "from_alone": float((flat(ours) - flat(single)).norm() / flat(single).norm()),
            "moved": float((flat(ours) - flat(start)).norm() / flat(start).norm()),
            "metrics": max(abs(a[name] - b[name]) / max(1.0, a[name]) for a, b in zip(expected, metrics, strict=True) for name in a),
            "from_whole_metrics": max(abs(a[name] - b[name]) for a, b in zip(others, metrics, strict=True) for name in a),
            "logps": gap(sliced, alone),
        }
        group.gather(None)  # whoever ends takes its slices with it
    folder.mkdir(exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures))
    return 0


def gap(one: CausalPolicy, other: CausalPolicy) -> float:
    """How far apart two policies' log-probabilities of a batch are."""
    batch = batches(0)[-1]
    with torch.no_grad():
        return float((one.logps(batch).logps - other.logps(batch).logps).abs().max())


def held(module: nn.Module) -> int:
    """The bytes that a rank holds for a module's parameters: their memory, and its own slices."""
    storages = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in module.parameters()}
    return sum(storages.values()) + sum(shards.nbytes for shards in shards_of(module))


def measured(root: Path, shard: str) -> int:
    """Shares a policy out and writes the bytes that this rank holds before and after, and what it can and cannot do then."""
    folder = root / str(place().rank)
    with joined_group() as group, computing_on("cpu", Shard.read(shard)):
        policy = new_policy(word_tokenizer(), Architecture(hidden_size=64, layers=8, intermediate_size=192), seed=1)
        before = held(policy.module)
        whole = weights_of(policy)
        share_out(policy.module, windows())
        after = held(policy.module)
        with torch.no_grad():
            policy.logps(batches(1)[0])
        computing = held(policy.module)
        layer = policy.module.base_model.layers[0]  # type: ignore[union-attr, index]
        figures: dict[str, object] = {"before": before, "after": after, "computing": computing}
        figures["parameters"] = sum(p.numel() for p in policy.parameters())
        figures["layers"] = sum(p.numel() for p in policy.module.base_model.layers.parameters())  # type: ignore[union-attr]
        figures["same"] = all(torch.equal(on_host(p), whole[name]) for name, p in policy.module.named_parameters())
        with torch.no_grad():
            policy.logps(batches(1)[0])
        figures["apart"] = bool(layer.mlp.up_proj.weight.isnan().all())
        figures["copied"] = refusal(policy.reference)
        group.gather(None)
    folder.mkdir(exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(figures))
    return 0


def roles(root: Path, shard: str, given: dict[str, Any]) -> int:
    """Makes the models of online training and writes how many weights of each are shared out."""
    folder = root / str(place().rank)
    names = {name: given[name] for name in ("prompts", "reward", "adapters")}
    held_out = {"reward": given["reward"]}
    values = {"model": given["base"], **names, "held_out": held_out, "reward_requirements": {"min_accuracy": 0}, "iterations": 1}
    stage = read_config(Online, Settings(values, {(): "here"}))
    with joined_group() as group, computing_on("cpu", Shard.read(shard)):
        loop = Loop(stage, open_run(folder, RunPlan("online", "online")))
        (reward,) = loop.rewards.models.values()
        assert loop.held_out_reward is not None
        modules = {**loop.learner.modules, "reference": loop.reference.module}
        modules |= {"reward": reward.model.module, "held_out": loop.held_out_reward.model.module}
        shared = {role: sum(is_shared_out(p) for p in module.parameters()) for role, module in modules.items()}
        adapters = sum(is_shared_out(p) for name, p in loop.policy.module.named_parameters() if ".lora_" in name)
        loop.close()
        group.gather(None)
    (folder / "figures.json").write_text(json.dumps({"shared": shared, "adapters": adapters}))
    return 0


def refusal(act: object) -> str:
    """What is said where a thing cannot be done."""
    try:
        act()  # type: ignore[operator]
    except (RuntimeError, ModelError) as error:
        return str(error)
    return "nothing"
