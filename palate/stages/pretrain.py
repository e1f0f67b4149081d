"""Stage `pretrain`: train a small language model from nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from palate.config.types import Amount, Count, Input
from palate.core import ConfigError, derive_seed
from palate.data.data_sources import DataInput, data_name, sources_of, stream_data
from palate.data.formats import ColumnTypes, Further, Recognised, stream_texts
from palate.models.load import Architecture, load_tokenizer, new_policy
from palate.models.precision import DType, dtype_of
from palate.objectives.supervised import CrossEntropy, SupervisedObjective
from palate.runs.run import Run
from palate.text.spans import document_trees
from palate.training.epochs import mixture_of
from palate.training.fit import epochs_of
from palate.training.imitation import Imitation, trees_of
from palate.training.learner import Learner
from palate.training.model_io import keep_model, trained
from palate.training.optimizer import AdamW


@dataclass(frozen=True)
class Pretrain:
    """Train a small language model from nothing on plain text.

    Attributes:
        data: texts; long ones are cut into windows of `max_positions` tokens.
        columns: what the columns of `data` hold where their names do not say it: a type, and columns by name.
        tokenizer: a directory with a Hugging Face tokenizer.
        architecture: the model's size.
        epochs: epochs over the data.
        documents_per_step: documents per optimizer step.
        tokens_per_microbatch: tokens in a forward pass, at most.
        optimizer: the optimizer and its schedule.
        objective: the loss.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32. Weights stay float32.
    """

    data: DataInput
    tokenizer: Input
    columns: ColumnTypes = field(default_factory=Recognised)
    architecture: Architecture = field(default_factory=Architecture)
    epochs: Amount = 1.0
    documents_per_step: Count = 16
    tokens_per_microbatch: Count = 8192
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=4e-3, decay="cosine", weight_decay=0.01))
    objective: SupervisedObjective = field(default_factory=CrossEntropy)
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError when the heads do not divide the width."""
        sources_of(self.data)
        size = self.architecture
        if size.hidden_size % size.heads or (size.hidden_size // size.heads) % 2:
            raise ConfigError(f"hidden_size {size.hidden_size} must be an even multiple of heads {size.heads}. Change one of them")

    def run(self, run: Run) -> None:
        """Train the model and save it as `model/`."""
        tokenizer = load_tokenizer(self.tokenizer)
        size = self.architecture
        policy = new_policy(tokenizer, size, derive_seed(run.seed, "weights"))

        further: Further = {}
        rows = stream_data(self.data, "corpus.jsonl", stream_texts, None, self.columns, further)
        name = data_name(self.data)
        trees = trees_of(run, rows, lambda document: document_trees(tokenizer, document, size.max_positions), name, further=further)
        mixture = mixture_of(run, trees.source_names, self.data)
        epochs = epochs_of(run, len(trees), self.documents_per_step, self.epochs, trees.name, mixture)
        learner = Learner({"policy": policy.module}, self.optimizer, epochs.steps, dtype=dtype_of(self.dtype))
        Imitation(policy, self.objective, self.tokens_per_microbatch).learn(run, trees, epochs, learner)
        keep_model(run, trained(run, policy, None, learner), None)
