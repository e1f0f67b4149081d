"""Stage `sft`: supervised fine-tuning on demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field

from palate.config.artifacts import model_at
from palate.config.types import Amount, Count, ModelInput
from palate.data.data_sources import DataInput, check_unweighted, data_name, sources_of, stream_data
from palate.data.formats import ColumnTypes, Further, Recognised, stream_demonstrations
from palate.distributed.windows import windows
from palate.models.adapters import LoRA, four_bit_of
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.precision import DType, dtype_of
from palate.models.shared_layers import sharing_out
from palate.objectives.supervised import CrossEntropy, SupervisedObjective
from palate.runs.run import Run
from palate.text.remarks import demonstration_remarks
from palate.text.spans import demonstration_tree
from palate.text.treefile import TreeFile
from palate.training.epochs import mixture_of
from palate.training.fit import epochs_of
from palate.training.imitation import Imitation, trees_of
from palate.training.keep import Keep, Last
from palate.training.learner import Learner
from palate.training.model_io import check_keep, check_packages, keep_model, search, token_limit, trainable, trained
from palate.training.optimizer import AdamW


@dataclass(frozen=True)
class SFT:
    """Fine-tune a model on demonstrations.

    Attributes:
        model: the model to start from.
        data: demonstrations, or preference pairs, whose chosen side is learned; one path, or several sources with weights (docs/data.md).
        columns: what the columns of `data` and `held_out` hold where their names do not say it: a type, and columns by name.
        limit: how many rows are read, at most, of each source; none reads all.
        epochs: epochs over the data.
        demonstrations_per_step: demonstrations per optimizer step.
        max_tokens: most tokens of prompt and completion together; longer rows are dropped and counted. None uses the model's limit.
        tokens_per_microbatch: tokens in a forward pass, at most.
        optimizer: the optimizer and its schedule.
        objective: the loss.
        adapters: train a LoRA adapter on the frozen model; none trains all weights.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32. Weights stay float32.
        checkpoint_activations: recompute activations in the backward pass: it needs less memory and one more forward pass.
        held_out: demonstrations that are not trained on, for `keep: best`.
        keep: the last weights, or the best on `held_out`.
    """

    model: ModelInput
    data: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    limit: Count | None = None
    epochs: Amount = 1.0
    demonstrations_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 8192
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-4))
    objective: SupervisedObjective = field(default_factory=CrossEntropy)
    adapters: LoRA | None = None
    dtype: DType = "auto"
    checkpoint_activations: bool = False
    held_out: DataInput | None = None
    keep: Keep = field(default_factory=Last)

    def check(self) -> None:
        """Raise ConfigError when `keep: best` has no held-out data, or a package is missing."""
        sources_of(self.data)
        check_unweighted(self.held_out)
        check_keep(self.keep, self.held_out)
        check_packages(self.optimizer, self.adapters)

    def run(self, run: Run) -> None:
        """Train the model and save it as `model/`."""
        base = model_at(self.model)
        with sharing_out(windows(), learns=self.adapters is None):
            policy = load_policy(base, four_bit=four_bit_of(self.adapters))
        policy = trainable(run, policy, base, self.adapters, checkpoint_activations=self.checkpoint_activations)
        trees = self._trees(run, policy, self.data, "trees", self.limit)
        held_out = None if self.held_out is None else self._trees(run, policy, self.held_out, "held_out", None)
        mixture = mixture_of(run, trees.source_names, self.data)
        epochs = epochs_of(run, len(trees), self.demonstrations_per_step, self.epochs, trees.name, mixture)
        learner = Learner({"policy": policy.module}, self.optimizer, epochs.steps, dtype=dtype_of(self.dtype))
        task = Imitation(policy, self.objective, self.tokens_per_microbatch)
        task.learn(run, trees, epochs, learner, search(self.keep, lambda: task.measured(held_out or ())), held_out)
        keep_model(run, trained(run, policy, self.adapters, learner), self.adapters)

    def _trees(self, run: Run, policy: CausalPolicy, data: DataInput, folder: str, limit: int | None) -> TreeFile:
        """Return the demonstrations of `data` as trees, written to a folder of the run's state."""
        max_tokens = token_limit(policy, self.max_tokens)
        further: Further = {}
        rows = stream_data(data, "demonstrations.jsonl", stream_demonstrations, limit, self.columns, further)
        tokenizer = policy.tokenizer
        return trees_of(
            run,
            rows,
            lambda row: (demonstration_tree(tokenizer, row, max_tokens),),
            data_name(data),
            folder,
            further,
            lambda row, trees: demonstration_remarks(tokenizer, row, len(trees[0].branches)),
        )
