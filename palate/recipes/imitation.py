"""What pretraining and supervised fine-tuning share: cross-entropy over packed trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.core import derive_seed
from palate.models.causal import CausalPolicy
from palate.objectives.reduce import Sums
from palate.objectives.supervised import SupervisedObjective
from palate.recipes.places import packed
from palate.stores.runs import Run
from palate.text.pack import PackedBatch, Tree
from palate.training.keep import HeldOut
from palate.training.learner import Learner
from palate.training.loop import Epochs, fit, mean_loss


@dataclass(frozen=True)
class Imitation:
    """A policy that learns the learned tokens of trees."""

    policy: CausalPolicy
    objective: SupervisedObjective
    tokens_per_microbatch: int

    def loss(self, batch: PackedBatch) -> Sums:
        """The loss of a micro-batch."""
        weights = batch.learned.float()
        return self.objective.formed(self.policy.nll(batch, weights)[0], weights)

    def mean_loss(self, trees: Sequence[Tree]) -> float:
        """The loss a learned token, without learning."""
        return mean_loss(packed(trees, self.tokens_per_microbatch)(list(range(len(trees)))), self.loss)

    def learn(self, run: Run, trees: Sequence[Tree], epochs: Epochs, learner: Learner, held_out: HeldOut | None = None) -> None:
        """Trains the policy, and writes the summary."""
        last = fit(run, learner, epochs, packed(trees, self.tokens_per_microbatch), self.loss, run.stage, held_out)
        counts = {
            "examples": len(trees),
            "steps": epochs.steps,
            "tokens": sum(tree.tokens for tree in trees),
            "learned_tokens": sum(sum(branch.learned) for tree in trees for branch in tree.branches),
        }
        run.summary({**counts, "last": last, "path": self.policy.path})


def epochs_of(run: Run, examples: int, per_step: int, epochs: float, names: Sequence[str] = ()) -> Epochs:
    """The order of a stage's examples, drawn from the run's seed; `names` are what messages call them."""
    return Epochs(examples, per_step, epochs, derive_seed(run.seed, run.stage, "order"), names)
