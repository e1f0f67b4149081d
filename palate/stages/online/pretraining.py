"""Plain texts that the policy also learns from, so that it does not forget what it knew: PPO-ptx."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from palate.config.types import Count
from palate.core import derive_seed
from palate.data.data_sources import DataInput, data_name, stream_data
from palate.data.formats import ColumnTypes, Further, Recognised, stream_texts
from palate.models.causal import CausalPolicy
from palate.objectives.reduce import Sums
from palate.objectives.supervised import CrossEntropy, PretrainingMix
from palate.runs.run import Run
from palate.text.pack import PackedBatch
from palate.text.spans import document_trees
from palate.training.epochs import mixture_of, series
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

    data: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    documents_per_step: Count = 16
    mix: PretrainingMix = field(default_factory=PretrainingMix)


class Texts:
    """The texts, in a new order each epoch."""

    def __init__(self, config: Pretraining, run: Run, policy: CausalPolicy, tokens_per_microbatch: int) -> None:
        self._config = config
        limit = policy.max_tokens or tokens_per_microbatch
        further: Further = {}
        rows, name = stream_data(config.data, "corpus.jsonl", stream_texts, None, config.columns, further), data_name(config.data)
        self._trees = trees_of(run, rows, lambda document: document_trees(policy.tokenizer, document, limit), name, further=further)
        self._mixture = mixture_of(run, self._trees.source_names, config.data)
        self._batches = packed(self._trees, tokens_per_microbatch)
        self._imitation = Imitation(policy, CrossEntropy(), tokens_per_microbatch)
        self._seed = derive_seed(run.seed, "pretraining", "order")

    def losses(self, step: int, policy_total: float) -> list[Callable[[], Sums]]:
        """Return the losses of an optimizer step's micro-batches, scaled for a sum that is divided by `policy_total`."""
        size = self._config.documents_per_step
        batches = list(self._batches(series(self._seed, len(self._trees), self._mixture, step * size, size)))
        total = float(sum(int(batch.learned.sum()) for batch in batches))
        return [partial(self._loss, batch, total, policy_total) for batch in batches]

    def _loss(self, batch: PackedBatch, total: float, policy_total: float) -> Sums:
        return self._config.mix(self._imitation.loss(batch), total=total, policy_total=policy_total)
