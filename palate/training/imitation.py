"""What pretraining and supervised fine-tuning share: cross-entropy over packed trees that lie on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palate.core import derive_seed
from palate.models.causal import CausalPolicy
from palate.objectives.reduce import Sums
from palate.objectives.supervised import SupervisedObjective
from palate.runs.run import Run
from palate.text.pack import PackedBatch, Tree
from palate.text.treefile import TreeFile
from palate.training.fit import Epochs, fit, mean_loss, numbered
from palate.training.keep import HeldOut
from palate.training.learner import Learner
from palate.training.trees import packed


@dataclass(frozen=True)
class Imitation:
    """A policy that learns the learned tokens of trees."""

    policy: CausalPolicy
    objective: SupervisedObjective
    tokens_per_microbatch: int

    def loss(self, batch: PackedBatch) -> Sums:
        """The loss of a micro-batch."""
        weights = batch.learned.float()
        return self.objective.from_summed_nll(self.policy.nll(batch, weights)[0], weights)

    def mean_loss(self, trees: Sequence[Tree]) -> float:
        """The loss a learned token, without learning."""
        return mean_loss(packed(trees, self.tokens_per_microbatch)(list(range(len(trees)))), self.loss)

    def learn(self, run: Run, trees: TreeFile, epochs: Epochs, learner: Learner, held_out: HeldOut | None = None) -> None:
        """Trains the policy, and writes the summary."""
        last = fit(run, learner, epochs, packed(trees, self.tokens_per_microbatch), self.loss, run.stage, held_out)
        size = {"examples": len(trees), "tokens": trees.tokens, "learned_tokens": trees.learned}
        run.summary({**size, "steps": epochs.steps, "last": last, "path": self.policy.path})


def epochs_of(run: Run, examples: int, per_step: int, epochs: float, name: Callable[[int], str] = numbered) -> Epochs:
    """The order of a stage's examples, drawn from the run's seed; `name` is what messages call them."""
    return Epochs(examples, per_step, epochs, derive_seed(run.seed, run.stage, "order"), name)
