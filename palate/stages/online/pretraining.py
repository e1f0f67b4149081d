"""Plain texts that the policy also learns from, so that it does not forget what it knew: PPO-ptx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from palate.config.artifacts import file_at
from palate.config.types import Count, Input
from palate.core import derive_seed
from palate.data.formats import ColumnTypes, Further, Recognised, stream_texts
from palate.models.causal import CausalPolicy
from palate.objectives.reduce import Sums
from palate.objectives.supervised import CrossEntropy, PretrainingMix
from palate.runs.run import Run
from palate.text.pack import PackedBatch
from palate.text.spans import document_trees
from palate.training.epochs import shuffled
from palate.training.imitation import Imitation, packed, trees_of


@dataclass(frozen=True)
class Pretraining:
    """Mix texts into online training.

    Attributes:
        data: texts, in the format of stage `pretrain`.
        columns: what the columns of `data` hold where their names do not say it: a type, and columns by name.
        documents_per_step: documents per optimizer step.
        mix: the weight of the texts beside the policy's loss.
    """

    data: Input
    columns: ColumnTypes = field(default_factory=Recognised)
    documents_per_step: Count = 16
    mix: PretrainingMix = field(default_factory=PretrainingMix)


class Texts:
    """The texts, in a new order each epoch."""

    def __init__(self, config: Pretraining, run: Run, policy: CausalPolicy, tokens_per_microbatch: int) -> None:
        self._config = config
        limit = policy.max_tokens or tokens_per_microbatch
        further: Further = {}
        rows = stream_texts(file_at(config.data, "corpus.jsonl"), columns=config.columns, further=further)
        self._trees = trees_of(run, rows, lambda document: document_trees(policy.tokenizer, document, limit), config.data, further=further)
        self._batches = packed(self._trees, tokens_per_microbatch)
        self._imitation = Imitation(policy, CrossEntropy(), tokens_per_microbatch)
        self._seed = derive_seed(run.seed, "pretraining", "order")

    def losses(self, step: int, policy_total: float) -> list[Callable[[], Sums]]:
        """Return the losses of an optimizer step's micro-batches, scaled for a sum that is divided by `policy_total`."""
        size = self._config.documents_per_step
        batches = list(self._batches(shuffled(self._seed, len(self._trees), step * size, size)))
        total = float(sum(int(batch.learned.sum()) for batch in batches))
        return [partial(self._loss, batch, total, policy_total) for batch in batches]

    def _loss(self, batch: PackedBatch, total: float, policy_total: float) -> Sums:
        return self._config.mix(self._imitation.loss(batch), total=total, policy_total=policy_total)
