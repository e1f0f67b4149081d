"""What several kinds of stage do with a model: train it, write it, and score completions with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from palate.models.adapters import LoRA
from palate.pipeline.estimates.memory_parts import MemoryPart, MemoryScript
from palate.pipeline.estimates.pass_memory import PackedTrees, Trained, backward_bytes, head_bytes, kept_bytes
from palate.pipeline.estimates.role_memory import (
    Machine,
    ModelOrigin,
    Origins,
    learned_numbers,
    load_frozen,
    passing_gradients,
    score,
    start_learning,
    write,
)
from palate.rewards.learned import tokens_at_once

MANY = 10_000
"""Prompts that are assumed where no setting limits them."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and completions."""

    prompt: int
    completion: int

    @property
    def both(self) -> int:
        """Return the tokens of a prompt with a completion."""
        return self.prompt + self.completion


def lengths_of(machine: Machine, origin: ModelOrigin, most: int | None = None, completion: int | None = None) -> Lengths:
    """Return the lengths that a stage is planned for.

    Args:
        machine: has the length that is assumed where no setting limits it; a prompt takes half of it.
        origin: the model, whose context is a limit.
        most: the setting `max_tokens`.
        completion: the setting `sampling.max_tokens`.
    """
    limit = origin.shape.positions or machine.tokens
    if completion is not None:
        completion = min(completion, limit - 1)
        return Lengths(max(1, min(machine.tokens // 2, limit - completion)), completion)
    both = min(most or machine.tokens, limit)
    return Lengths(max(1, both // 2), max(1, both - both // 2))


def learn(script: MemoryScript, machine: Machine, role: str, trained: Trained, trees: PackedTrees, learned: int, head: float) -> None:
    """Record the moment at which the backward pass begins; `head` are the bytes of the output head's own work."""
    trees = replace(trees, is_fused=machine.is_gpu)
    passing = [
        MemoryPart(role, "activations", kept_bytes(trained, trees)),
        MemoryPart(role, "head" if head > backward_bytes(trained, trees) else "backward pass", max(head, backward_bytes(trained, trees))),
    ]
    script.moment("learn", [*passing, *passing_gradients(machine, role, trained, learned)])


def train_alone(
    script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, trained: Trained, trees: PackedTrees, state: str
) -> None:
    """Train one model and write it."""
    learned = learned_by(origin, trained)
    start_learning(script, machine, role, origin, trained, learned, state)
    head = head_bytes(trained, learns=True, forms_early=trees.branches == 1) if origin.has_vocabulary else 0.0
    learn(script, machine, role, trained, trees, learned, head)
    write(script, machine, role, origin, trained)


def learned_by(origin: ModelOrigin, trained: Trained) -> int:
    """Return how many numbers learn."""
    lora = None if trained.rank is None else LoRA(rank=trained.rank, target_modules=tuple(trained.targets))
    return learned_numbers(origin, lora)


def rewards_of(origins: Origins) -> dict[str, ModelOrigin]:
    """Return the reward models, and classifiers of rules, by role, each once."""
    models = {origin.name: origin for name, origin in origins.items() if name.startswith(("reward", "rules.", "held_out_reward"))}
    if len(models) == 1:
        return {"reward": next(iter(models.values())).scalar()}
    return {f"reward {number}": origin.scalar() for number, origin in enumerate(models.values(), 1)}


def score_by_rewards(script: MemoryScript, machine: Machine, origins: Origins, width: int, lengths: Lengths, branches: int) -> None:
    """Load the reward models of a stage and score completions with each."""
    rewards = rewards_of(origins)
    for role, origin in rewards.items():
        load_frozen(script, machine, role, origin, width)
    for role, origin in rewards.items():
        trees = PackedTrees.within(lengths.prompt, lengths.completion, branches, tokens_at_once(origin.shape.hidden_size))
        score(script, machine, role, Trained(origin.shape, width), trees, has_vocabulary=origin.reads_likelihood)
