"""Stage `sft`: supervised fine-tuning on demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from palate.config.artifacts import file_at, model_at
from palate.config.types import Amount, Count, Input, ModelInput
from palate.data.formats import stream_demonstrations
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import DTYPES, DType, load_policy
from palate.objectives.supervised import CrossEntropy, SupervisedObjective
from palate.runs.run import Run
from palate.text.pack import Tree
from palate.text.spans import NO_LIMIT, demonstration_tree
from palate.text.treefile import TreeFile
from palate.training.fit import epochs_of
from palate.training.imitation import Imitation, trees_of
from palate.training.keep import Keep, Last
from palate.training.learner import Learner
from palate.training.model_io import check_keep, keep_model, search, trainable, trained
from palate.training.optimizer import AdamW


@dataclass(frozen=True)
class SFT:
    """Fine-tune a model on demonstrations.

    Attributes:
        model: the model to start from.
        data: demonstrations; of preference pairs the chosen side is learned.
        limit: rows read at most; none reads all.
        epochs: passes over the data.
        demonstrations_per_step: demonstrations an optimizer step.
        max_tokens: longest prompt and completion together; longer rows are dropped and counted; none takes the model's limit.
        tokens_per_microbatch: tokens a forward pass holds at most.
        optimizer: how the weights are moved.
        objective: the loss.
        adapters: train a LoRA adapter on the frozen model; none trains the whole model.
        dtype: what the forward and backward pass compute in; weights, gradients over a step and optimizer state stay float32.
        checkpoint_activations: compute activations anew in the backward pass instead of holding them: less memory, one more forward pass.
        held_out: demonstrations that are not trained on, for keep: best.
        keep: the last weights, or the best on `held_out`.
    """

    model: ModelInput
    data: Input
    limit: Count | None = None
    epochs: Amount = 1.0
    demonstrations_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 8192
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-4))
    objective: SupervisedObjective = field(default_factory=CrossEntropy)
    adapters: LoRA | None = None
    dtype: DType = "float32"
    checkpoint_activations: bool = False
    held_out: Input | None = None
    keep: Keep = field(default_factory=Last)

    def check(self) -> None:
        """Checks that best weights have something to be measured on."""
        check_keep(self.keep, self.held_out)

    def run(self, run: Run) -> None:
        """Trains the model and saves it as `model/`."""
        base = model_at(self.model)
        policy = trainable(run, load_policy(base), base, self.adapters, checkpoint_activations=self.checkpoint_activations)
        trees = self._trees(run, policy, self.data, "trees", self.limit)
        held: Sequence[Tree] = () if self.held_out is None else self._trees(run, policy, self.held_out, "held_out", None)
        epochs = epochs_of(run, len(trees), self.demonstrations_per_step, self.epochs, trees.name)
        learner = Learner({"policy": policy.module}, self.optimizer, epochs.steps, dtype=DTYPES[self.dtype])
        task = Imitation(policy, self.objective, self.tokens_per_microbatch)
        task.learn(run, trees, epochs, learner, search(self.keep, lambda: task.mean_loss(held)))
        keep_model(run, trained(run, policy, self.adapters, learner), self.adapters)

    def _trees(self, run: Run, policy: CausalPolicy, path: str, folder: str, limit: int | None) -> TreeFile:
        """The demonstrations at `path` as trees, in a folder of the run's state."""
        longest = self.max_tokens or policy.max_tokens or NO_LIMIT
        rows = stream_demonstrations(file_at(path, "demonstrations.jsonl"), limit=limit)
        return trees_of(run, rows, lambda row: (demonstration_tree(policy.tokenizer, row, longest),), path, folder)
