"""Stage `report`: write one page that shows what got better, what got worse, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from palate.agreement.estimates import json_values
from palate.config.functions import load_gold
from palate.config.types import FunctionInput, Input
from palate.core import ConfigError
from palate.data.jsonl import read_rows
from palate.evaluation import report_sections
from palate.evaluation.comparison_figures import read_comparison
from palate.evaluation.control_figures import control_rows
from palate.evaluation.evaluated_model import EvaluatedModel, read_evaluated
from palate.evaluation.kl_sweep import kl_sweep
from palate.evaluation.label_sources import GoldScoreCache, label_source
from palate.evaluation.lever_figures import ReportedLever, levers_of
from palate.evaluation.model_costs import measured_runs, model_cost
from palate.evaluation.published_sections import published_of
from palate.evaluation.report import LabelSource, LineageRow, ReportData, RunWarning, StageTiming, Variant, VariantRole, write_report
from palate.evaluation.report.lever_records import Levers
from palate.evaluation.report.what_was_learned import learned_and_not
from palate.evaluation.report_faults import FaultFigures
from palate.evaluation.revision_figures import revision_rounds
from palate.evaluation.rule_sections import rules_of
from palate.evaluation.tax_figures import tax_rows
from palate.evaluation.training_prompts import training_prompts
from palate.runs.record import RunRecord, ancestry, read_record
from palate.runs.run import WARNINGS, Run


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
class ReportedSource:
    """A source of labels, such as people or a judge.

    Attributes:
        name: the source's name on the page.
        judgments: the collect run with its labels.
        reward: the reward run that learned from them. Test all sources on the same `held_out` pairs.
        model: name of the model of the report that was trained with that reward model.
        cost_per_label: price of an answer of a person, in the currency of the judges' prices. Default: what hybrid labelling paid.
    """

    name: str
    judgments: Input
    reward: Input | None = None
    model: str | None = None
    cost_per_label: Annotated[float, Ge(0)] | None = None


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
        revisions: a revise run, for what each principle did.
        revision_labels: a collect run on the revise run's samples, for how often revisions are preferred to their originals.
        comparison: a compare run, for who wins by people, judges, rewards and gold.
        costs: whether the page says what each model cost in labels and in tokens.
        sources: who judged, to compare what labels cost and what they were worth.
        gold: the function that knows the truth, for the share of labels that are right.
        sweep: online runs that differ in the KL coefficient, or evaluate runs of their models: gold and reward models' scores against
            the KL.
        levers: settings that were turned one at a time, with what each did to reward models and to policies.
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
    revisions: Input | None = None
    revision_labels: Input | None = None
    comparison: Input | None = None
    costs: bool = False
    sources: tuple[ReportedSource, ...] = ()
    gold: FunctionInput | None = None
    sweep: tuple[Input, ...] = ()
    levers: tuple[ReportedLever, ...] = ()
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
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ConfigError(f"two models of the report are called {twice[0]!r}. Give each model a name of its own")
        if self.revision_labels is not None and self.revisions is None:
            raise ConfigError("revision_labels are about revisions: name the revise run in revisions too")
        if len(self.sweep) == 1:
            raise ConfigError("sweep has one run. Give at least two runs that differ in the KL coefficient")
        for lever in self.levers:
            lever.check()
        for source in self.sources:
            if source.model not in (None, *names):
                raise ConfigError(f"sources: the model {source.model!r} is not one of the models. Use one of: {', '.join(names)}")
        for name in (self.tuned, self.without_kl):
            if name is not None and name not in self.training:
                raise ConfigError(f"{name!r} is not one of the training runs. Use one of: {', '.join(self.training)}")

    def run(self, run: Run) -> None:
        """Write `report.html`, and to `summary.json` the faults and warnings that it names, and the figures of sweep and levers."""
        data = self._data(run)
        write_report(data, run.directory / "report.html")
        warnings = [{"run": one.run, "guard": one.guard, "step": one.step, "times": one.times} for one in data.warnings]
        figures = {
            name: json_values(asdict(value))
            for name, value in (("faults", data.faults), ("sweep", data.sweep), ("levers", data.levers if data.levers.levers else None))
            if value is not None
        }
        run.summary({"page": "report.html", "models": [model.name for model in self.models], **figures, "warnings": warnings})

    def _data(self, run: Run) -> ReportData:
        self._refuse_names_of_two_models()
        models = [read_evaluated(model.name, model.evaluation) for model in self.models]
        reference = next(model for model in models if model.key == self.reference)
        figures = self._figures(models, reference)
        prompts = figures.prompts.sentence
        reward = None if self.reward is None else report_sections.reward_of(self.reward, self.control, self.judgments)
        training = None
        if self.training:
            training = report_sections.training_of(self.training, self.tuned or next(iter(self.training)), self.without_kl, self._trained())
        gold = report_sections.gold_of(models, reference, prompts)
        wins = report_sections.win_rates_of(models, reference, prompts) if gold is None else None
        lengths = report_sections.lengths_of(models)
        searched = next((model.name for model in self.models if model.role == "search"), self.reference)
        record = read_record(run.directory)
        ancestors = ancestry(run.directory)
        return ReportData(
            title=self.title,
            subtitle=self.subtitle,
            variants=tuple(Variant(model.name, model.name, model.role, model.note) for model in self.models),
            reference=self.reference,
            gold=gold,
            win_rates=wins,
            takeaways=None
            if gold is not None
            else learned_and_not(reward, wins, training.runs if training else (), lengths, {model.key: model.key for model in models}),
            training=training,
            reward_model=reward,
            sweep=kl_sweep(self.sweep, reference, self.reference, self.training.get(self.tuned or "")) if self.sweep else None,
            levers=levers_of(self.levers, None if reward is None else reward.rows[0].ceiling) if self.levers else Levers(),
            controls=figures.controls,
            faults=figures.check(),
            revisions=None if self.revisions is None else revision_rounds(self.revisions, self.revision_labels),
            comparison=None if self.comparison is None else read_comparison(Path(self.comparison)),
            costs=tuple(model_cost(model.name, model.evaluation) for model in self.models) if self.costs else (),
            sources=self._sources(),
            evals=report_sections.evals_of(models, reference),
            tax=figures.tax,
            lengths=lengths,
            audit=figures.audit,
            published=published_of(models),
            rules=rules_of(models, reference),
            exploits=report_sections.exploits_of(models),
            best_of_n=None if self.best is None else report_sections.best_of_n_of(self.best, searched),
            example_choice=f"The first {self.examples} prompts of {self.reference} in file order, not a selection, one completion each.",
            examples=report_sections.examples_of(models, reference, self.examples, self.exploit_phrases),
            warnings=_warnings(ancestors),
            timings=_timings(ancestors),
            lineage=_lineage(ancestors),
            unmeasured=(*self.unmeasured, *((prompts,) if prompts else ())),
            facts=()
            if record is None
            else tuple((name, str(value)) for name, value in {"seed": run.seed, **record.versions, **record.code}.items()),
        )

    def _figures(self, models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> FaultFigures:
        """Return what faults are looked for in; the page shows these figures too."""
        contents = [str(row["content"]) for model in models for row in model.rows if "content" in row]
        return FaultFigures(
            models,
            {model.name: model.role for model in self.models},
            reference,
            report_sections.audit_of(models),
            tax_rows({**self.training, **self._other_runs()}),
            control_rows(models, reference),
            training_prompts([model.evaluation for model in self.models], contents),
            self.reward,
            self.judgments,
        )

    def _sources(self) -> tuple[LabelSource, ...]:
        gold = None if self.gold is None else load_gold(self.gold)
        scores: GoldScoreCache = {}
        return tuple(
            label_source(one.name, one.judgments, one.reward, one.model or "", gold, one.cost_per_label, scores) for one in self.sources
        )

    def _other_runs(self) -> dict[str, str]:
        """Return the runs that made models of the report and are not among the training runs, by the models' names."""
        seen = {Path(directory).resolve() for directory in self.training.values()}
        runs = {}
        for model in self.models:
            for home in measured_runs(Path(model.evaluation)):
                if home.resolve() not in seen:
                    seen.add(home.resolve())
                    runs[model.name] = str(home)
        return runs

    def _trained(self) -> dict[str, str]:
        """Return the model of the report that each training run made, by the run's name; without runs that made none of them.

        A model may be made from a run's model, as an average is. Where several are, the first one of the report counts.
        """
        behind = [(one.name, list(ancestry(home))) for one in self.models for home in measured_runs(Path(one.evaluation))]
        made: dict[str, str] = {}
        for name, directory in self.training.items():
            record = read_record(Path(directory)) if behind else None
            found = [model for model, keys in behind if record is not None and record.key in keys]
            itself = [model for model, keys in behind if record is not None and record.key == keys[0]]
            named = [model.name for model in self.models if model.name == name]
            if every := [*named, *itself, *found]:
                made[name] = every[0]
        return made

    def _refuse_names_of_two_models(self) -> None:
        """Refuse a name that stands for one model among the models and for another one among the training runs.

        Raises:
            ConfigError: the model that was evaluated under a name is not the one that the training run of this name made.
        """
        for model in self.models:
            trained = self.training.get(model.name)
            evaluation, run = read_record(Path(model.evaluation)), None if trained is None else read_record(Path(trained))
            if evaluation is None or run is None:
                continue
            measured = [parent.key.split("/")[0] for parent in evaluation.parents if parent.field in {"model", "completions"}]
            if measured and run.key not in measured:
                raise ConfigError(
                    f"{model.name!r} is the name of two models: {model.evaluation} measured {measured[0]}, and the training run of this "
                    f"name is {run.name}-{run.key}. Give the model or the training run another name"
                )


Ancestors = Mapping[str, tuple[Path, RunRecord]]
"""Every run that led to the report, by key, with its directory."""


def _timings(ancestors: Ancestors) -> tuple[StageTiming, ...]:
    """Return the seconds of every stage that led to the report, oldest first."""
    return tuple(StageTiming(one.name, one.seconds, one.stage) for _, one in _oldest_first(ancestors) if one.finished is not None)


def _oldest_first(ancestors: Ancestors) -> list[tuple[Path, RunRecord]]:
    return sorted(ancestors.values(), key=lambda one: one[1].started)


def _warnings(ancestors: Ancestors) -> tuple[RunWarning, ...]:
    """Return what the guards of every run behind the report said, each guard of a run once, by the names of the runs."""
    warnings: dict[tuple[str, str], RunWarning] = {}
    for directory, record in sorted(ancestors.values(), key=lambda one: one[1].name):
        path = directory / WARNINGS
        for _, row in read_rows(path) if path.is_file() else ():
            name = (record.name, str(row["guard"]))
            first = warnings.get(name)
            step, text = int(str(row["step"])), str(row["text"])
            warnings[name] = RunWarning(*name, step, text) if first is None else replace(first, times=first.times + 1)
    return tuple(warnings.values())


def _lineage(ancestors: Ancestors) -> tuple[LineageRow, ...]:
    """Return every run that led to the report with its parents, oldest first."""
    return tuple(
        LineageRow(one.stage, f"{one.name}-{one.key}", tuple(f"{p.field}: {p.key}" for p in one.parents), one.key)
        for _, one in _oldest_first(ancestors)
    )
