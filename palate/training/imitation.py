"""Imitation: cross-entropy on rows of data, which are tokenised once into trees on disk. For sft, pretrain, raft and a pretraining mix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from palate.core import DataError, Demonstration
from palate.data.formats import Dropped
from palate.distributed.sharing import microbatches
from palate.models.causal import CausalPolicy
from palate.objectives.reduce import Sums
from palate.objectives.supervised import SupervisedObjective, TokenLogps
from palate.runs.run import Run
from palate.text.pack import PackedBatch, Tree, pack
from palate.text.remarks import Remarks
from palate.text.template import Unusable
from palate.text.treefile import TreeFile, write_trees
from palate.training.epochs import sources_summary
from palate.training.examples import FirstPrompts, examples_of, prompt_of
from palate.training.fit import Epochs, fit, measured
from palate.training.keep import HeldOut, HeldOutMeasurement
from palate.training.learner import Learner
from palate.training.source_losses import with_sources


@dataclass(frozen=True)
class Imitation:
    """A policy that learns the learned tokens of trees."""

    policy: CausalPolicy
    objective: SupervisedObjective
    tokens_per_microbatch: int

    def loss(self, batch: PackedBatch) -> Sums:
        """Return the loss of a micro-batch."""
        weights = batch.learned.float()
        total, logps = self.policy.nll(batch, weights)

        def of_rows(rows: Tensor) -> Sums:
            return self.objective(TokenLogps(logps[rows], weights[rows]))

        return with_sources(self.objective.from_summed_nll(total, weights), batch, batch.branch, of_rows)

    def measured(self, trees: Sequence[Tree]) -> HeldOutMeasurement:
        """Return the loss per learned token over all trees, and that of each source, without gradient."""
        return measured(packed(trees, self.tokens_per_microbatch)(list(range(len(trees)))), self.loss)

    def learn(
        self, run: Run, trees: TreeFile, epochs: Epochs, learner: Learner, held_out: HeldOut | None = None, unseen: TreeFile | None = None
    ) -> None:
        """Train the policy and write the summary. `unseen` are the trees of `held_out`."""
        examples = examples_of(run, self.policy, (trees if unseen is None else unseen).prompts, epochs.steps)
        last = fit(run, learner, epochs, packed(trees, self.tokens_per_microbatch), self.loss, held_out, examples)
        size = {"examples": len(trees), "tokens": trees.tokens, "learned_tokens": trees.learned}
        sources = sources_summary(trees.source_names, epochs.mixture)
        run.summary({**size, **sources, "steps": epochs.steps, "last": last, "path": self.policy.path})


def trees_of(
    run: Run,
    rows: Iterable[Demonstration | Dropped],
    make: Callable[[Demonstration], Sequence[Tree]],
    path: str,
    folder: str = "trees",
    further: Iterable[str] = (),
    remarks_on: Callable[[Demonstration, Sequence[Tree]], Iterable[str]] = lambda _row, _trees: (),
) -> TreeFile:
    """Write the trees that `make` builds from the rows to the run's state, and open them. A resumed run reads those written before.

    Rows that cannot be used are counted in the run, by reason, and so is what `remarks_on` says of the others. `further` holds the columns
    that the rows do not use, once all are read.

    Raises:
        DataError: no row can be used.
    """
    directory = run.state / folder
    if directory.is_dir():
        return TreeFile(directory)
    reasons: Counter[str] = Counter()
    first: list[Dropped] = []
    remarks = Remarks()
    sources: Counter[str] = Counter()
    prompts = FirstPrompts()

    def trees() -> Iterator[tuple[str, Tree]]:
        for row in rows:
            run.check_stop()
            try:
                if not isinstance(row, Dropped):
                    made = make(row)
                    sources[row.source_name] += len(made)
                    prompts.add(prompt_of(row))
                    remarks.add(row.source, remarks_on(row, made))
                    yield from ((row.source, tree) for tree in made)
                    continue
                dropped = row
            except Unusable as unusable:
                dropped = Dropped(row.source, unusable.reason)
            reasons[dropped.kind] += 1
            first[:] = first or [dropped]

    written = write_trees(directory, trees(), sources, prompts)
    run.dropped(path, reasons.elements())
    run.columns_left_out(path, further)
    run.note(path, remarks.lines())
    if not written:
        counts = "; ".join(f"{count} x {kind}" for kind, count in reasons.most_common())
        raise DataError(
            f"{path}: no row can be learned from: {counts}; the first, {first[0].source}, says: {first[0].reason}. "
            "For rows that are too long raise max_tokens (up to the model's limit) or shorten them; docs/data.md explains the other reasons"
        )
    return written


def packed(trees: Sequence[Tree], tokens_per_microbatch: int) -> Callable[[list[int]], Iterator[PackedBatch]]:
    """Return a function from tree numbers to their micro-batches, which are packed one after another."""

    def batches(indices: list[int]) -> Iterator[PackedBatch]:
        chosen = [trees[k] for k in indices]
        return (pack([chosen[k] for k in part]) for part in microbatches(chosen, tokens_per_microbatch))

    return batches
