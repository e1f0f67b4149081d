"""What pretraining and supervised fine-tuning share: cross-entropy over packed trees that lie on disk."""

from __future__ import annotations

from palate.core import derive_seed
from palate.models.causal import CausalPolicy
from palate.objectives.reduce import Sums
from palate.objectives.supervised import SupervisedObjective
from palate.recipes.places import packed
from palate.stores.runs import Run
from palate.text.pack import PackedBatch
from palate.text.treefile import TreeFile
from palate.training.learner import Learner
from palate.training.loop import Epochs, fit
from palate.training.optimizer import AdamW


def imitate(
    run: Run,
    policy: CausalPolicy,
    trees: TreeFile,
    epochs: Epochs,
    optimizer: AdamW,
    objective: SupervisedObjective,
    tokens_per_microbatch: int,
) -> None:
    """Trains the policy on the trees' learned tokens, saves it as `model/` and writes the summary."""
    learner = Learner({"policy": policy.module}, optimizer, epochs.steps)

    def loss(batch: PackedBatch) -> Sums:
        weights = batch.learned.float()
        return objective.formed(policy.nll(batch, weights)[0], weights)

    last = fit(run, learner, epochs, packed(trees, tokens_per_microbatch), loss, run.stage)
    policy.save(run.directory / "model")
    size = {"examples": len(trees), "tokens": trees.tokens, "learned_tokens": trees.learned}
    run.summary({**size, "steps": epochs.steps, "last": last, "path": policy.path})


def epochs_of(run: Run, examples: int, per_step: int, epochs: float) -> Epochs:
    """The order of a stage's examples, drawn from the run's seed."""
    return Epochs(examples, per_step, epochs, derive_seed(run.seed, run.stage, "order"))
