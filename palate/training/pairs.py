"""Learning from pairs: what is measured of them under policy and reference, and the call of their objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.distributed.sharing import shared
from palate.models.causal import CausalPolicy
from palate.objectives.direct import AOT, BCOPair, Mixture, PairLogps, PairObjective, PairSide, wpo_importance
from palate.objectives.reduce import Sums
from palate.text.pack import PackedBatch
from palate.training.comparisons import JudgedPrompt, PairBatch, pair_batches
from palate.training.reference import Reference
from palate.training.source_losses import taken, with_sources

Weighting = Literal["none", "wpo"]


@dataclass(frozen=True)
class PairMicroBatch:
    """A micro-batch with its values under the reference (p, columns) and, for objectives that need them, baselines (p, 2)."""

    batch: PairBatch
    reference_logps: Tensor
    baselines: Tensor | None


class PairLossInputs:
    """Judged prompts and an objective on pairs; `ReferencedExamples` whose rows are pairs.

    Columns: log-probabilities of chosen and rejected; then, for objectives that need them, those of their shared-length heads; then, for
    wpo, how likely both sides are under the policy.
    """

    def __init__(
        self,
        prompts: Sequence[JudgedPrompt],
        objective: PairObjective,
        weighting: Weighting,
        tokens_per_microbatch: int,
        reference: Reference,
        temperature: float = 1.0,
    ) -> None:
        """`temperature` of the distribution that is learned: for the policy's own samples, the temperature of sampling."""
        self._temperature = temperature
        self.rows = [len(prompt.pairs) for prompt in prompts]
        self.batches = pair_batches(prompts, ("overall",), tokens_per_microbatch)
        self._objective = objective
        self._heads = "heads" in objective.needs
        self._weighting = weighting
        self.columns = 2 + 2 * self._heads + 2 * (weighting == "wpo")
        self._reference = reference.values(self)

    def measure(self, policy: CausalPolicy, batch: PairBatch) -> Tensor:
        """Return the columns of each pair (p, columns), in nats."""
        trees, sides = batch.trees, (batch.chosen, batch.rejected)
        logps = policy.logps(trees, temperature=self._temperature).logps
        totals = branch_sums(logps, trees)
        columns = [totals[side] for side in sides]
        if self._heads:
            lengths = branch_lengths(trees)
            shared = torch.minimum(lengths[batch.chosen], lengths[batch.rejected])
            starts = lengths.cumsum(0) - lengths
            columns += [_heads(logps, starts[side], shared) for side in sides]
        if self._weighting == "wpo":
            # With logits z, log p = z_y - lse(z), and at temperature 1/2 it is 2 z_y - lse(2z). Their difference is
            # log p - (lse(2z) - 2 lse(z)) = log p - log sum_v p(v)^2: the ingredient of the weight, without keeping any logits.
            with torch.no_grad():
                sharp = policy.logps(trees, temperature=0.5).logps
            alignment = branch_sums(sharp - logps.detach(), trees) / branch_lengths(trees)
            columns += [alignment[side] for side in sides]
        return torch.stack(columns, 1)

    def microbatches(self, policy: CausalPolicy, indices: list[int]) -> list[PairMicroBatch]:
        """Return the micro-batches of a step. Baselines depend on the whole step, so they cost a pass over all of it."""
        batches = list(self.batches(indices))
        reference_logps = shared(batches, self._reference)
        if not isinstance(self._objective, AOT | BCOPair | Mixture) or "baselines" not in self._objective.needs:
            return [PairMicroBatch(batch, values, None) for batch, values in zip(batches, reference_logps, strict=True)]
        with torch.no_grad():
            logps = shared(batches, lambda batch: self.measure(policy, batch))
        whole = self._pairs(batches, torch.cat(logps), torch.cat(reference_logps), None)
        baselines = torch.stack(self._objective.baselines(whole), 1).split([len(batch.weight) for batch in batches])
        return [PairMicroBatch(*part) for part in zip(batches, reference_logps, baselines, strict=True)]

    def logps(self, policy: CausalPolicy, part: PairMicroBatch) -> Tensor:
        """Return the columns of a micro-batch under the policy, with gradient."""
        return self.measure(policy, part.batch)

    def sums(self, part: PairMicroBatch, logps: Tensor) -> Sums:
        """Return the objective on a micro-batch."""
        pairs = self._pairs([part.batch], logps, part.reference_logps, part.baselines)
        own = part.batch
        return with_sources(self._objective(pairs), own.trees, own.chosen, lambda rows: self._objective(taken(pairs, rows)))

    def _pairs(self, batches: Sequence[PairBatch], logps: Tensor, reference_logps: Tensor, baselines: Tensor | None) -> PairLogps:
        lengths = [branch_lengths(batch.trees) for batch in batches]
        tokens = [
            torch.cat([own[side] for own, side in zip(lengths, sides, strict=True)])
            for sides in ([batch.chosen for batch in batches], [batch.rejected for batch in batches])
        ]
        chosen, rejected = (
            PairSide(
                logps[:, k],
                reference_logps[:, k],
                tokens[k].to(logps.dtype),
                logps[:, k + 2] if self._heads else None,
                reference_logps[:, k + 2] if self._heads else None,
                None if baselines is None else baselines[:, k],
            )
            for k in (0, 1)
        )
        importance = wpo_importance(logps[:, -2], logps[:, -1]) if self._weighting == "wpo" else None
        probability, weight = (torch.cat(each) for each in zip(*((batch.probability, batch.weight) for batch in batches), strict=True))
        return PairLogps(chosen, rejected, probability, weight, importance)


def branch_sums(logps: Tensor, batch: PackedBatch) -> Tensor:
    """Return the sum of `logps` (n,) over the learned tokens of each branch (b,)."""
    learned = torch.where(batch.learned, logps, torch.zeros_like(logps))
    return torch.zeros(len(batch.last), dtype=logps.dtype).index_add(0, batch.branch, learned)


def branch_lengths(batch: PackedBatch) -> Tensor:
    """Return the number of tokens of each branch (b,)."""
    return torch.bincount(batch.branch, minlength=len(batch.last))


def _heads(logps: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Return sums (p,) of the `lengths` (p,) log-probabilities that begin at `starts` (p,)."""
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    offset = torch.arange(len(row)) - (lengths.cumsum(0) - lengths)[row]
    return torch.zeros(len(lengths), dtype=logps.dtype).index_add(0, row, logps[starts[row] + offset])
