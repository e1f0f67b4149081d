"""Stage `direct`: a policy from preferences, without a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palate.core import DataError, TrainingError
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import DTYPES, DType, load_policy
from palate.objectives.direct import DPO, DirectObjective, PairLogps
from palate.objectives.reduce import Sums
from palate.recipes.comparisons import Judged, PairBatch, judged_prompts, overall, pair_batches
from palate.recipes.config import Amount, Count, Input, ModelInput
from palate.recipes.imitation import epochs_of
from palate.recipes.places import NO_LIMIT, file_at, model_at
from palate.recipes.trainable import check_keep, keep_model, search, trainable, trained
from palate.stores.formats import read_preferences
from palate.stores.runs import Run
from palate.text.pack import PackedBatch, microbatches, pack
from palate.training.keep import Keep, Last
from palate.training.learner import Learner
from palate.training.loop import fit, mean_loss
from palate.training.optimizer import AdamW

IDENTITY_NATS: dict[DType, float] = {"float32": 1e-3, "bfloat16": 1.0}
"""How far one model's log-probabilities of a completion may differ between two ways of batching it."""


@dataclass(frozen=True)
class Direct:
    """Tune a policy on preferences directly, without a reward model.

    Attributes:
        model: the policy to start from; usually the fine-tuned one.
        preferences: pairs; answers to several questions about a pair are added up in logits.
        reference: what the policy must stay close to; none takes `model`.
        limit: preferences read at most; none reads all.
        epochs: passes over the data.
        prompts_per_step: prompts (with all their pairs) an optimizer step.
        max_tokens: longest prompt and completion together; none takes the model's limit.
        tokens_per_microbatch: tokens a forward pass holds at most.
        objective: the loss.
        optimizer: how the weights are moved.
        adapters: train a LoRA adapter on the frozen model; none trains the whole model.
        dtype: what the forward and backward pass compute in; weights, gradients over a step and optimizer state stay float32.
        checkpoint_activations: compute activations anew in the backward pass instead of holding them: less memory, one more forward pass.
        held_out: preferences that are not trained on, for keep: best.
        keep: the last weights, or the best on `held_out`.
    """

    model: ModelInput
    preferences: Input
    reference: ModelInput | None = None
    limit: Count | None = None
    epochs: Amount = 1.0
    prompts_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 8192
    objective: DirectObjective = field(default_factory=DPO)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-5))
    adapters: LoRA | None = None
    dtype: DType = "float32"
    checkpoint_activations: bool = False
    held_out: Input | None = None
    keep: Keep = field(default_factory=Last)

    def check(self) -> None:
        """Checks that best weights have something to be measured on."""
        check_keep(self.keep, self.held_out)

    def run(self, run: Run) -> None:
        """Trains the policy and saves it as `model/`."""
        base = model_at(self.model)
        policy = trainable(run, load_policy(base), base, self.adapters, checkpoint_activations=self.checkpoint_activations)
        judged = self._judged(run, policy, self.preferences, "preferences.jsonl", self.limit)
        held = [] if self.held_out is None else self._judged(run, policy, self.held_out, "held_out.jsonl", None)
        names = [one.preferences[0].prompt.source or one.preferences[0].prompt.id for one in judged]
        epochs = epochs_of(run, len(judged), self.prompts_per_step, self.epochs, names)
        learner = Learner({"policy": policy.module}, self.optimizer, epochs.steps, dtype=DTYPES[self.dtype])
        # Nothing is learned yet, so the policy is its own reference, and computes in the type it will learn in.
        reference = policy if self.reference is None else load_policy(model_at(self.reference), dtype=self.dtype)
        reference_logps = branch_logps(reference, judged + held, 2 * self.tokens_per_microbatch)

        def loss(batch: PairBatch) -> Sums:
            now = summed(policy.logps(batch.trees).logps, batch.trees)
            then = torch.cat([reference_logps[k] for k in batch.indices])
            sides = (now[batch.chosen], now[batch.rejected], then[batch.chosen], then[batch.rejected])
            sums = self.objective(PairLogps(*sides, batch.probability, batch.weight))
            if learner.steps_done == 0 and self.reference is None:
                _require_identity(now.detach() - then, IDENTITY_NATS[self.dtype])
            return sums

        batches = pair_batches(judged + held, ("overall",), self.tokens_per_microbatch)
        numbers_held = list(range(len(judged), len(judged) + len(held)))
        last = fit(run, learner, epochs, batches, loss, "direct", search(self.keep, lambda: mean_loss(batches(numbers_held), loss)))
        keep_model(run, trained(run, policy, self.adapters, learner), self.adapters)
        run.summary({"prompts": len(judged), "pairs": sum(len(one.pairs) for one in judged), "steps": epochs.steps, "last": last})

    def _judged(self, run: Run, policy: CausalPolicy, path: str, name: str, limit: int | None) -> list[Judged]:
        """The preferences at `path` (or in its file `name`) by prompt, one conclusion a pair."""
        table = read_preferences(file_at(path, name), limit=limit)
        judged, reasons = judged_prompts(table.rows, policy.tokenizer, self.max_tokens or policy.max_tokens or NO_LIMIT)
        run.dropped(path, [row.kind for row in table.dropped] + reasons)
        if not (concluded := overall(judged)):
            raise DataError(f"{path}: no pair says which side is better; look at its probabilities")
        return concluded


def summed(logps: Tensor, batch: PackedBatch) -> Tensor:
    """Log-probability of each branch (b,): the sum over its learned tokens, nats."""
    kept = torch.where(batch.learned, logps, torch.zeros_like(logps))
    return torch.zeros(len(batch.last)).index_add(0, batch.branch, kept)


def branch_logps(policy: CausalPolicy, judged: Sequence[Judged], tokens_per_microbatch: int) -> list[Tensor]:
    """Log-probabilities of every tree's branches under a policy as it stands, without gradient."""
    trees = [one.tree for one in judged]
    found: list[Tensor] = [torch.empty(0)] * len(trees)
    with torch.no_grad():
        for part in microbatches(trees, tokens_per_microbatch):
            batch = pack([trees[k] for k in part])
            sums = summed(policy.logps(batch).logps, batch)
            for k, own in zip(part, sums.split([len(trees[k].branches) for k in part]), strict=True):
                found[k] = own.clone()
    return found


def _require_identity(log_ratios: Tensor, allowed: float) -> None:
    """Before the first step, policy and reference are the same model: their log-probabilities must be equal too."""
    worst = float(log_ratios.abs().max())
    if worst > allowed:
        raise TrainingError(
            f"before the first step the policy's log-probabilities differ from the reference's by up to {worst:.2e} nats, though they "
            "are the same model: dropout is on, or sequences are cut or masked differently"
        )
