"""Stage `report`: write one page that shows what got better, what got worse, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from palate.config.types import Input
from palate.core import ConfigError
from palate.evaluation import report_sections as sections
from palate.evaluation.report import LineageRow, ReportData, StageTiming, Variant, VariantRole, write_report
from palate.runs.record import RunRecord, lineage, read_record
from palate.runs.run import Run


@dataclass(frozen=True)
class ReportedModel:
    """A model of the report.

    Attributes:
        evaluation: the model's evaluate run.
        name: the model's name on the page.
        role: what the model is for the reader; it decides the colour.
        note: how the model was made, in a few words.
    """

    evaluation: Input
    name: str
    role: VariantRole = "other"
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Write a report of the runs with tables and plots.

    Attributes:
        models: the models, in the page's order.
        reference: name of the model that gains are measured against.
        title: the page's title.
        subtitle: one line below the title.
        reward: the reward run.
        control: a reward run on shuffled preferences, which must stay at chance.
        judgments: the collect run, which gives the raters' noise ceiling.
        training: online runs by name, for plots of score and gold against the KL.
        tuned: name of the online run that is compared with `without_kl`.
        without_kl: name of the online run without a KL penalty.
        best: a rerank run, for the curve over n.
        exploit_phrases: sentences to mark in completions.
        examples: prompts shown side by side.
        unmeasured: what was not measured, for the reader to know.
    """

    models: tuple[ReportedModel, ...]
    reference: str
    title: str = "What alignment changed"
    subtitle: str = ""
    reward: Input | None = None
    control: Input | None = None
    judgments: Input | None = None
    training: dict[str, Input] = field(default_factory=dict)
    tuned: str | None = None
    without_kl: str | None = None
    best: Input | None = None
    exploit_phrases: tuple[str, ...] = ()
    examples: int = 10
    unmeasured: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ConfigError when a name does not exist."""
        names = [model.name for model in self.models]
        if self.reference not in names:
            raise ConfigError(f"reference {self.reference!r} is not one of the models. Use one of: {', '.join(names)}")
        for name in (self.tuned, self.without_kl):
            if name is not None and name not in self.training:
                raise ConfigError(f"{name!r} is not one of the training runs. Use one of: {', '.join(self.training)}")

    def run(self, run: Run) -> None:
        """Write `report.html`."""
        data = self._data(run)
        write_report(data, run.directory / "report.html")
        run.summary({"page": "report.html", "models": [model.name for model in self.models]})

    def _data(self, run: Run) -> ReportData:
        models = [sections.measured(model.name, model.evaluation) for model in self.models]
        reference = next(model for model in models if model.key == self.reference)
        reward = None if self.reward is None else sections.reward_of(self.reward, self.control, self.judgments)
        roles = {model.name: model.role for model in self.models}
        training = None
        if self.training:
            training = sections.training_of(self.training, self.tuned or next(iter(self.training)), self.without_kl, roles)
        gold = sections.gold_of(models, reference)
        wins = sections.win_rates_of(models, reference) if gold is None else None
        searched = next((model.name for model in self.models if model.role == "search"), self.reference)
        record = read_record(run.directory)
        ancestors = list(lineage(run.directory))
        return ReportData(
            title=self.title,
            subtitle=self.subtitle,
            variants=tuple(Variant(model.name, model.name, model.role, model.note) for model in self.models),
            reference=self.reference,
            gold=gold,
            win_rates=wins,
            lessons=None
            if gold is not None
            else sections.lessons_of(reward, wins, training.runs if training else (), {name: name for name in roles}),
            training=training,
            reward_model=reward,
            exams=sections.exams_of(models, reference),
            lengths=sections.lengths_of(models),
            audit=sections.audit_of(models),
            exploits=sections.exploits_of(models),
            best_of_n=None if self.best is None else sections.best_of_n_of(self.best, searched),
            example_choice=f"The first {self.examples} evaluated prompts in file order, not a selection, with one completion each.",
            examples=sections.examples_of(models, self.examples, self.exploit_phrases),
            timings=_timings(ancestors),
            lineage=_lineage(ancestors),
            unmeasured=self.unmeasured,
            facts=()
            if record is None
            else tuple((name, str(value)) for name, value in {"seed": run.seed, **record.versions, **record.code}.items()),
        )


Ancestors = Sequence[tuple[int, str, Path, RunRecord | None]]


def _timings(ancestors: Ancestors) -> tuple[StageTiming, ...]:
    """Return the seconds of every stage that led to the report, oldest first."""
    records = {record.key: record for _, _, _, record in ancestors if record is not None and record.finished is not None}
    return tuple(StageTiming(r.name, r.seconds, r.stage) for r in sorted(records.values(), key=lambda r: r.started))


def _lineage(ancestors: Ancestors) -> tuple[LineageRow, ...]:
    """Return every run that led to the report with its parents, oldest first."""
    records = {record.key: record for _, _, _, record in ancestors if record is not None}
    ordered = sorted(records.values(), key=lambda r: r.started)
    return tuple(LineageRow(r.stage, f"{r.name}-{r.key}", tuple(f"{p.field}: {p.key}" for p in r.parents), r.key) for r in ordered)
