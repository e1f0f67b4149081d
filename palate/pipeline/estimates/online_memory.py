"""Bytes of stage `online`, whose models depend on the method, on adapters, and on where the value model starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from palate.pipeline.estimates.learning_memory import Lengths, learn, learned_by, lengths_of, rewards_of
from palate.pipeline.estimates.memory_parts import MemoryScript
from palate.pipeline.estimates.pass_memory import WIDE, PackedTrees, Trained, head_bytes
from palate.pipeline.estimates.role_memory import (
    Machine,
    ModelOrigin,
    Origins,
    device_bytes,
    frozen_bytes,
    load,
    load_frozen,
    load_trained,
    make_learner,
    sample,
    sampler_settings,
    score,
    take_steps,
    trained_of,
    width_of,
    write,
)
from palate.rewards.learned import tokens_at_once
from palate.stages.online import Online
from palate.stages.online.online_dpo import OnlineDPO
from palate.stages.online.policy_gradient import PolicyGradient
from palate.stages.online.raft import RAFT

REFERENCE = "kl.reference"
"""The setting that names a reference; without it the reference is the policy as it started."""


def online(script: MemoryScript, machine: Machine, stage: Online, origins: Origins) -> None:
    """Play an online stage: its roles are loaded, share what they can, sample, score, learn, and are written."""
    policy, trained = origins["model"], trained_of(origins["model"], width_of(stage, machine), stage.adapters)
    lengths = lengths_of(machine, policy, completion=stage.sampling.max_tokens)
    rewards, value, learned = _load_roles(script, machine, stage, trained, origins)
    named = origins.get(REFERENCE)
    keeps_base = named is not None and _shares_base(machine, trained, named, policy)
    resting = _take_off(script, machine, stage, rewards, keeps_reference=keeps_base)
    sampler = sampler_settings(stage)
    if sampler["kind"] == "local":
        rows = stage.prompts_per_iteration * stage.samples_per_prompt // machine.ranks
        if stage.held_out.prompts is not None:
            rows = max(rows, (stage.held_out.limit or rows) // machine.ranks)
        sample(script, policy, trained.width, rows, lengths.prompt, lengths.completion)
    else:  # vLLM in this process takes its share of the device for weights, keys and values; servers take none
        share = sampler.get("memory_share", 0.0)
        script.hold("sampler", "share of the device", (machine.memory or 0.0) * float(str(share)))
        script.moment("sample")
    _score(script, machine, stage, trained, lengths, (named, value, rewards), resting)
    _learn(script, machine, stage, trained, lengths, (policy, value, learned))
    if value is not None:
        if trained.rank is None and trained.width != WIDE and machine.ranks == 1:
            script.drop("value", "weights")
        else:
            whole = frozen_bytes(value, trained, WIDE)
            script.hold("value", "weights", device_bytes(machine, value, whole, WIDE, learns=trained.rank is None))
    is_shared = machine.sharers(learns=False) == 1 and any(reward.base == policy.base for reward in rewards.values())
    if trained.rank is not None and trained.width != WIDE and (is_shared or keeps_base):
        packed = policy.shape.linear_numbers if trained.is_packed else 0
        role = "reward" if is_shared else "reference"
        script.hold(role, "weights", trained.width * (policy.size - packed))  # the policy leaves the base for its own in float32
    write(script, machine, "policy", policy, trained)


def _load_roles(
    script: MemoryScript, machine: Machine, stage: Online, trained: Trained, origins: Origins
) -> tuple[dict[str, ModelOrigin], ModelOrigin | None, dict[str, int]]:
    """Load the models; return the reward models by role, a separate value model, and how many numbers learn by role."""
    policy = origins["model"]
    reference = origins.get(REFERENCE, policy if stage.adapters is None else None)
    load_trained(script, machine, "policy", policy, trained)
    if reference is not None:
        load(script, machine, "reference", reference, learns=False)
    rewards = rewards_of(origins)
    for role, reward in rewards.items():
        if reward.rank is not None and trained.is_packed:
            load_trained(script, machine, role, reward, replace(trained, shape=reward.shape))
        else:
            load(script, machine, role, reward, learns=False)
    value = _value(stage, policy, rewards)
    learned = {"policy": learned_by(policy, trained)}
    if value is not None:
        learned["value"] = learned_by(value, trained)
        load_trained(script, machine, "value", value, replace(trained, shape=value.shape))
    learning = [(role, origin) for role, origin in (("policy", policy), ("value", value)) if origin is not None]
    for role, origin in learning:
        make_learner(script, machine, role, origin, trained, learned[role])
    for role, origin in learning:
        take_steps(script, machine, role, origin, trained, learned[role], stage.optimizer.state)
    _hold_reference(script, machine, trained, policy, reference)
    if stage.adapters is not None:
        _share(script, machine, trained, policy, value, rewards)
    for role, reward in rewards.items():
        if reward.rank is None or trained.rank is None:
            script.hold(role, "weights", _frozen(machine, reward, trained.width * reward.size, trained.width))
    if "held_out.reward" in origins:
        load_frozen(script, machine, "held-out reward", origins["held_out.reward"].scalar(), trained.width)
    if stage.sampler.asynchronous and sampler_settings(stage)["kind"] == "local":
        script.hold("policy that samples", "weights", frozen_bytes(policy, trained, trained.width))
    return rewards, value, learned


def _value(stage: Online, policy: ModelOrigin, rewards: dict[str, ModelOrigin]) -> ModelOrigin | None:
    """Return the separate value model: the first reward model that reads the policy's tokens and is as long, or else the policy."""
    method = stage.method
    if not isinstance(method, PolicyGradient) or not method.advantage.needs_values or method.value_trunk == "shared":
        return None
    longest = policy.shape.positions or 0
    matching = [
        reward
        for reward in rewards.values()
        if reward.shape.vocabulary == policy.shape.vocabulary and (reward.shape.positions is None or reward.shape.positions >= longest)
    ]
    return replace(matching[0], reads_likelihood=False) if matching else policy.scalar()


def _frozen(machine: Machine, origin: ModelOrigin, whole: float, width: int) -> float:
    """Return what a device holds of a model with frozen weights."""
    return device_bytes(machine, origin, whole, width, learns=False)


def _shares_base(machine: Machine, trained: Trained, named: ModelOrigin, policy: ModelOrigin) -> bool:
    """Return whether a named reference and a policy with adapters hold one base; a reference is not packed in 4 bits."""
    return trained.rank is not None and not trained.is_packed and named.base == policy.base and machine.sharers(learns=False) == 1


def _hold_reference(script: MemoryScript, machine: Machine, trained: Trained, policy: ModelOrigin, reference: ModelOrigin | None) -> None:
    """Hold a reference that is a model of its own; on the base of a policy with adapters it has an output head and its adapter."""
    if reference is None:
        return
    adapter = 0 if reference.rank is None or trained.rank is None else reference.shape.adapter(reference.rank)
    own = _frozen(machine, reference, trained.width * reference.size, trained.width)
    if _shares_base(machine, trained, reference, policy):
        own = trained.width * reference.shape.output_head
    script.hold("reference", "weights", trained.width * adapter + own)


def _share(
    script: MemoryScript,
    machine: Machine,
    trained: Trained,
    policy: ModelOrigin,
    value: ModelOrigin | None,
    rewards: dict[str, ModelOrigin],
) -> None:
    """Let adapters on one base hold its frozen weights once, or each have its own where ranks share them out."""
    is_whole = machine.sharers(learns=False) == 1
    holders = {policy.base} if is_whole else set()
    for role, reward in rewards.items():
        if reward.rank is not None:
            shared = reward.base in holders
            whole = frozen_bytes(reward, trained, trained.width)
            own = 0.0 if shared else _frozen(machine, reward, whole, trained.width)
            script.hold(role, "weights", trained.width * reward.shape.adapter(reward.rank) + own)
            holders.update({reward.base} if is_whole else ())
    if value is not None:
        is_shared = value.base in holders and (value.rank is not None or value.name == policy.name)
        own = 0.0 if is_shared else _frozen(machine, value, frozen_bytes(value, trained, trained.width), trained.width)
        script.hold("value", "weights", trained.width * learned_by(value, trained) + own)


def _take_off(
    script: MemoryScript, machine: Machine, stage: Online, rewards: Mapping[str, ModelOrigin], *, keeps_reference: bool
) -> dict[str, float]:
    """Let frozen models that share no weights wait in the machine's memory, and return their bytes by role."""
    if not stage.offload or not machine.is_gpu:
        return {}
    roles = [role for role, reward in rewards.items() if reward.rank is None or stage.adapters is None]
    roles += [role for role in ("reference", "held-out reward") if (role, "weights") in script.held]
    if keeps_reference:
        roles.remove("reference")
    resting = {role: script.held[role, "weights"] for role in roles}
    for role in roles:
        script.drop(role)
    script.resting = machine.ranks * sum(resting.values())
    return resting


def _score(
    script: MemoryScript,
    machine: Machine,
    stage: Online,
    trained: Trained,
    lengths: Lengths,
    models: tuple[ModelOrigin | None, ModelOrigin | None, dict[str, ModelOrigin]],
    resting: Mapping[str, float],
) -> None:
    """Record the passes of the reward models, the reference and the value model; what rests elsewhere comes for its pass."""
    named, value, rewards = models
    if "reference" in resting:  # it is on its way while the reward models compute
        script.hold("reference", "weights", resting["reference"])
    for role, reward in rewards.items():
        if role in resting:
            script.hold(role, "weights", resting[role])
        trees = PackedTrees.within(lengths.prompt, lengths.completion, stage.samples_per_prompt, tokens_at_once(reward.shape.hidden_size))
        score(script, machine, role, Trained(reward.shape, trained.width), trees, has_vocabulary=reward.reads_likelihood)
        if role in resting:
            script.drop(role)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, stage.samples_per_prompt, stage.tokens_per_microbatch)
    reads = trained if named is None else Trained(named.shape, trained.width)
    score(script, machine, "reference", reads, trees, has_vocabulary=True)
    if "reference" in resting:
        script.drop("reference")
    if value is not None:
        score(script, machine, "value", replace(trained, shape=value.shape), trees, has_vocabulary=False)


def _learn(
    script: MemoryScript,
    machine: Machine,
    stage: Online,
    trained: Trained,
    lengths: Lengths,
    models: tuple[ModelOrigin, ModelOrigin | None, dict[str, int]],
) -> None:
    """Record the backward passes of the policy, on completions and on texts, and of the value model."""
    _, value, learned = models
    method, limit = stage.method, stage.tokens_per_microbatch
    branches = 2 if isinstance(method, OnlineDPO) else method.top_k if isinstance(method, RAFT) else stage.samples_per_prompt
    prompts = -(-stage.prompts_per_iteration // stage.minibatches)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, branches, limit, prompts)
    is_imitation = isinstance(method, RAFT)
    head = head_bytes(trained, learns=True, forms_early=is_imitation)
    learn(script, machine, "policy", trained, trees, learned["policy"], head)
    if stage.pretraining is not None:
        text = PackedTrees.within(1, max(1, min(limit, trained.shape.positions or limit) - 1), 1, limit)
        head = head_bytes(trained, learns=True, forms_early=True)
        learn(script, machine, "policy", trained, text, learned["policy"], head)
    if value is not None:
        of_value = replace(trained, shape=value.shape)
        learn(script, machine, "value", of_value, trees, learned["value"], 0.0)
