"""Learning from pairs: what is measured of them under policy and reference, and how their objective is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.models.causal import CausalPolicy
from palate.objectives.direct import AOT, BCOPair, Mixture, PairLogps, PairObjective, PairSide, wpo_importance
from palate.objectives.reduce import Sums
from palate.text.pack import PackedBatch
from palate.training.comparisons import JudgedPrompt, PairBatch, pair_batches
from palate.training.reference import Reference

Weighting = Literal["none", "wpo"]


@dataclass(frozen=True)
class PairMicroBatch:
    """A micro-batch with its reference values (p, columns) and, for objectives that want them, baselines (p, 2)."""

    batch: PairBatch
    then: Tensor
    baselines: Tensor | None


class PairLossInputs:
    """Judged prompts and an objective on pairs; a `Source` whose rows are pairs.

    Columns: log-probability of chosen and rejected; then, where wanted, those of their heads, then how much they look like the
    policy's own.
    """

    def __init__(
        self,
        judged: Sequence[JudgedPrompt],
        objective: PairObjective,
        weighting: Weighting,
        tokens_per_microbatch: int,
        anchor: Reference,
        temperature: float = 1.0,
    ) -> None:
        """`temperature`: of the distribution that is learned; that of sampling, where the policy's own samples are."""
        self._temperature = temperature
        self.rows = [len(one.pairs) for one in judged]
        self.batches = pair_batches(judged, ("overall",), tokens_per_microbatch)
        self._objective = objective
        self._heads = "heads" in objective.needs
        self._weighting = weighting
        self.columns = 2 + 2 * self._heads + 2 * (weighting == "wpo")
        self._reference = anchor.values(self)

    def measure(self, policy: CausalPolicy, batch: PairBatch) -> Tensor:
        """The columns of each pair (p, columns), nats."""
        trees, sides = batch.trees, (batch.chosen, batch.rejected)
        logps = policy.logps(trees, temperature=self._temperature).logps
        totals = branch_sums(logps, trees)
        found = [totals[side] for side in sides]
        if self._heads:
            lengths = branch_lengths(trees)
            shared = torch.minimum(lengths[batch.chosen], lengths[batch.rejected])
            starts = lengths.cumsum(0) - lengths
            found += [_heads(logps, starts[side], shared) for side in sides]
        if self._weighting == "wpo":
            # With logits z, log p = z_y - lse(z), and at temperature 1/2 it is 2 z_y - lse(2z). Their difference is
            # log p - (lse(2z) - 2 lse(z)) = log p - log sum_v p(v)^2: what the weight is made of, without keeping any logits.
            with torch.no_grad():
                sharp = policy.logps(trees, temperature=0.5).logps
            alignment = branch_sums(sharp - logps.detach(), trees) / branch_lengths(trees)
            found += [alignment[side] for side in sides]
        return torch.stack(found, 1)

    def parts(self, policy: CausalPolicy, indices: list[int]) -> list[PairMicroBatch]:
        """The micro-batches of a step. Baselines cost a pass over all of them: they are figures of the whole step."""
        batches = list(self.batches(indices))
        then = [self._reference(batch) for batch in batches]
        if not isinstance(self._objective, AOT | BCOPair | Mixture) or "baselines" not in self._objective.needs:
            return [PairMicroBatch(batch, values, None) for batch, values in zip(batches, then, strict=True)]
        with torch.no_grad():
            now = [self.measure(policy, batch) for batch in batches]
        whole = self._pairs(batches, torch.cat(now), torch.cat(then), None)
        baselines = torch.stack(self._objective.baselines(whole), 1).split([len(batch.weight) for batch in batches])
        return [PairMicroBatch(*part) for part in zip(batches, then, baselines, strict=True)]

    def now(self, policy: CausalPolicy, part: PairMicroBatch) -> Tensor:
        """What `measure` says of the part, with gradient."""
        return self.measure(policy, part.batch)

    def sums(self, part: PairMicroBatch, now: Tensor) -> Sums:
        """The objective on the part."""
        return self._objective(self._pairs([part.batch], now, part.then, part.baselines))

    def _pairs(self, batches: Sequence[PairBatch], now: Tensor, then: Tensor, baselines: Tensor | None) -> PairLogps:
        lengths = [branch_lengths(batch.trees) for batch in batches]
        tokens = [
            torch.cat([own[side] for own, side in zip(lengths, sides, strict=True)])
            for sides in ([batch.chosen for batch in batches], [batch.rejected for batch in batches])
        ]
        chosen, rejected = (
            PairSide(
                now[:, k],
                then[:, k],
                tokens[k].to(now.dtype),
                now[:, k + 2] if self._heads else None,
                then[:, k + 2] if self._heads else None,
                None if baselines is None else baselines[:, k],
            )
            for k in (0, 1)
        )
        importance = wpo_importance(now[:, -2], now[:, -1]) if self._weighting == "wpo" else None
        probability, weight = (torch.cat(each) for each in zip(*((batch.probability, batch.weight) for batch in batches), strict=True))
        return PairLogps(chosen, rejected, probability, weight, importance)


def branch_sums(logps: Tensor, batch: PackedBatch) -> Tensor:
    """Sum of `logps` (n,) over the learned tokens of each branch (b,)."""
    kept = torch.where(batch.learned, logps, torch.zeros_like(logps))
    return torch.zeros(len(batch.last), dtype=logps.dtype).index_add(0, batch.branch, kept)


def branch_lengths(batch: PackedBatch) -> Tensor:
    """Tokens of each branch (b,)."""
    return torch.bincount(batch.branch, minlength=len(batch.last))


def _heads(logps: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Sums (p,) of the `lengths` (p,) log-probabilities from `starts` (p,) on."""
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(len(row)) - (lengths.cumsum(0) - lengths)[row]
    return torch.zeros(len(lengths), dtype=logps.dtype).index_add(0, row, logps[starts[row] + place])
