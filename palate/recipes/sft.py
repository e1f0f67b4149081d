"""Stage `sft`: supervised fine-tuning on demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field

from palate.models.load import load_policy
from palate.objectives.supervised import CrossEntropy, SupervisedObjective
from palate.recipes.config import Amount, Count, Input, ModelInput
from palate.recipes.imitation import epochs_of, imitate
from palate.recipes.places import NO_LIMIT, file_at, model_at, trees_of
from palate.stores.formats import stream_demonstrations
from palate.stores.runs import Run
from palate.text.spans import demonstration_tree
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

    def check(self) -> None:
        """Nothing contradicts anything here."""

    def run(self, run: Run) -> None:
        """Trains the model and saves it as `model/`."""
        policy = load_policy(model_at(self.model))
        limit = self.max_tokens or policy.max_tokens or NO_LIMIT
        rows = stream_demonstrations(file_at(self.data, "demonstrations.jsonl"), limit=self.limit)
        trees = trees_of(run, rows, lambda row: (demonstration_tree(policy.tokenizer, row, limit),), self.data)
        epochs = epochs_of(run, len(trees), self.demonstrations_per_step, self.epochs)
        imitate(run, policy, trees, epochs, self.optimizer, self.objective, self.tokens_per_microbatch)
