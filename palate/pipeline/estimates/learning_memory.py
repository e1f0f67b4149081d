"""What several kinds of stage do with a model: train it, write it, and score completions with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from palate.models.adapters import LoRA
from palate.pipeline.estimates.memory_parts import MemoryPart, MemoryScript
from palate.pipeline.estimates.pass_memory import PackedTrees, Trained, backward_bytes, head_bytes, kept_bytes
from palate.pipeline.estimates.role_memory import (
    Machine,
    ModelOrigin,
    learned_numbers,
    load,
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


def score_by_reward(script: MemoryScript, machine: Machine, origin: ModelOrigin, width: int, lengths: Lengths, branches: int) -> None:
    """Load a reward model and score completions with it."""
    load(script, machine, "reward", origin.scalar(), width=width)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, branches, tokens_at_once(origin.shape.hidden_size))
    score(script, machine, "reward", Trained(origin.shape, width), trees, has_vocabulary=origin.reads_likelihood)
