"""The whole report as one frozen record. Sections left at None (or empty) do not appear on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from palate.core import DataError
from palate.evaluation.comparison_figures import PolicyComparison
from palate.evaluation.report.constitution_records import ModelCost, RevisionRounds
from palate.evaluation.report.fault_records import FaultCheck
from palate.evaluation.report.lever_records import ControlRow, KLSweep, Levers
from palate.evaluation.report.published_records import PublishedFigureRow
from palate.evaluation.report.records import (
    AuditRow,
    BestOfN,
    Eval,
    ExploitShare,
    GoldScores,
    LengthRow,
    LineageRow,
    PromptExample,
    Replicate,
    RewardModelCard,
    RunWarning,
    StageTiming,
    Takeaways,
    Variant,
    WinRates,
)
from palate.evaluation.report.rule_records import RuleBreachRow
from palate.evaluation.report.source_records import LabelSource
from palate.evaluation.report.tax_records import TaxRow
from palate.evaluation.report.training_records import Training, TrainingRun


@dataclass(frozen=True, slots=True)
class ReportData:
    """A whole report. `reference` is the variant that gains are measured against; `facts` are label-value pairs for the foot.

    `example_choice` says how the prompts and answers of `examples` were chosen; a reader must know whether they were picked.
    """

    title: str
    subtitle: str
    variants: tuple[Variant, ...]
    reference: str
    gold: GoldScores | None = None
    win_rates: WinRates | None = None
    takeaways: Takeaways | None = None
    training: Training | None = None
    reward_model: RewardModelCard | None = None
    sweep: KLSweep | None = None
    levers: Levers = Levers()
    controls: tuple[ControlRow, ...] = ()
    faults: FaultCheck | None = None
    revisions: RevisionRounds | None = None
    costs: tuple[ModelCost, ...] = ()
    sources: tuple[LabelSource, ...] = ()
    comparison: PolicyComparison | None = None
    evals: tuple[Eval, ...] = ()
    tax: tuple[TaxRow, ...] = ()
    lengths: tuple[LengthRow, ...] = ()
    audit: tuple[AuditRow, ...] = ()
    published: tuple[PublishedFigureRow, ...] = ()
    rules: tuple[RuleBreachRow, ...] = ()
    exploits: tuple[ExploitShare, ...] = ()
    best_of_n: BestOfN | None = None
    examples: tuple[PromptExample, ...] = ()
    example_choice: str = ""
    replicates: tuple[Replicate, ...] = ()
    warnings: tuple[RunWarning, ...] = ()
    timings: tuple[StageTiming, ...] = ()
    lineage: tuple[LineageRow, ...] = ()
    unmeasured: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    seeds: int = 1

    def __post_init__(self) -> None:
        """Refuse a key that does not name a variant, and two variants with one key."""
        keys = [variant.key for variant in self.variants]
        if len(set(keys)) != len(keys):
            raise DataError(f"Variants of a report need distinct keys; got {keys}.")
        for where, key in [("reference", self.reference), *self._named()]:
            if key not in keys:
                raise DataError(f"The report's {where} names the variant {key!r}, which is not declared. Declared: {', '.join(keys)}.")
        if self.training is not None:
            for run in self.training.runs:
                if not run.points:
                    raise DataError(f"The training run {run.name!r} has no points. Leave it out, or evaluate it at least once.")
            self.run(self.training.tuned)
            if self.training.without_kl is not None:
                self.run(self.training.without_kl)

    def variant(self, key: str) -> Variant:
        """The variant called `key`."""
        return next(variant for variant in self.variants if variant.key == key)

    def run(self, name: str) -> TrainingRun:
        """The training run called `name`."""
        runs = self.training.runs if self.training else ()
        for run in runs:
            if run.name == name:
                return run
        raise DataError(f"The report has no training run {name!r}. Known: {', '.join(run.name for run in runs) or 'none'}.")

    def _named(self) -> Iterator[tuple[str, str]]:
        """Yield every part of the report that names a variant, with the key."""
        yield from (("gold scores", row.variant) for row in (self.gold.scores if self.gold else ()))
        for win in self.win_rates.rows if self.win_rates else ():
            yield from (("win rates", key) for key in (win.variant, win.opponent))
        yield from ((f"eval {item.key!r}", row.variant) for item in self.evals for row in item.results)
        yield from (("training runs", run.variant) for run in (self.training.runs if self.training else ()) if run.variant)
        yield from (("lengths", row.variant) for row in self.lengths)
        yield from (("bias audit", row.variant) for row in self.audit)
        yield from (("published evals", key) for row in self.published for key in row.values)
        yield from (("rules", key) for row in self.rules for key in (*row.broken, *row.versus_reference))
        yield from (("exploits", row.variant) for row in self.exploits)
        yield from (("costs", row.variant) for row in self.costs)
        yield from (("controls", row.variant) for row in self.controls if row.variant)
        yield from (("sources of labels", row.variant) for row in self.sources if row.variant)
        yield from (("replicates", row.variant) for row in self.replicates)
        yield from (("examples", answer.variant) for example in self.examples for answer in example.answers)
        for part in (self.gold, self.win_rates):
            for contest in part.contests if part else ():
                yield from (("contests", key) for key in (contest.first, contest.second))
        if self.best_of_n is not None:
            yield "best-of-n curve", self.best_of_n.variant
