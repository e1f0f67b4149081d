"""What a report finds wrong: with its models, its prompts, its reward model and its raters. docs/methods/faults.md describes each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from palate.agreement.advice import SWAY
from palate.agreement.bias import side_bias
from palate.agreement.estimates import Z95, from_normal
from palate.core import ConfigError, DataError, derive_seed
from palate.data.jsonl import read_rows
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.evaluated_model import EvaluatedModel
from palate.evaluation.fault_tests import FaultTest, check_of
from palate.evaluation.intervals import mean
from palate.evaluation.model_faults import audit_tests, model_tests, tax_tests
from palate.evaluation.rater_votes import read_votes
from palate.evaluation.report import AuditRow, TaxRow
from palate.evaluation.report.fault_records import FaultCheck
from palate.evaluation.report.formatting import listed, number, percent
from palate.evaluation.report.lever_records import ControlRow
from palate.evaluation.training_prompts import TrainingPrompts
from palate.runs.record import read_record

UNTUNED = ("base", "sft")
"""Roles of models that are not tested: they come before what is reported."""

WORSE = 0.05
"""A reward model is called blind to a dimension on which it is right so much less often than on the others."""

HELD_OUT_PROMPT = "its prompt is held out"
"""Why stage `reward` leaves out a preference that it was to learn."""


@dataclass(frozen=True)
class FaultFigures:
    """The figures of a report in which faults are looked for.

    Attributes:
        models: the models of the report.
        roles: what each model is for the reader, by its key.
        reference: the model that the others are compared with.
        audit: differences between groups of users.
        tax: what training runs lost.
        controls: answers without content, and what the reward model gives them.
        prompts: prompts of training among those of the evaluation.
        reward: the reward run.
        judgments: the collect run.
    """

    models: Sequence[EvaluatedModel]
    roles: Mapping[str, str]
    reference: EvaluatedModel
    audit: tuple[AuditRow, ...] = ()
    tax: tuple[TaxRow, ...] = ()
    controls: tuple[ControlRow, ...] = ()
    prompts: TrainingPrompts = field(default_factory=TrainingPrompts)
    reward: str | None = None
    judgments: str | None = None

    def check(self) -> FaultCheck:
        """Return the faults that the figures show, with at most 5 % of false alarms over all that is looked for."""
        tuned = [model for model in self.models if model is not self.reference and self.roles[model.key] not in UNTUNED]
        asked = [str(row["eval"]) for model in tuned for row in model.evals]
        tests = [
            *(test for model in tuned for test in model_tests(model, self.reference)),
            *audit_tests(self.audit, [model.key for model in tuned]),
            *tax_tests(self.tax, asked),
            *_of_prompts(self.prompts),
            *_of_controls(self.controls, self.reference.key),
            *(() if self.reward is None else (*_of_split(Path(self.reward)), *_of_dimensions(Path(self.reward)))),
            *(() if self.judgments is None else _of_sides(Path(self.judgments))),
        ]
        facts = {"leaked_prompts": self.prompts.is_known, "repeated_split": self.reward is not None}
        return check_of(tests, [name for name, is_known in facts.items() if is_known])


def _of_prompts(prompts: TrainingPrompts) -> Iterator[FaultTest]:
    if prompts.shared:
        yield FaultTest("leaked_prompts", listed(list(prompts.shared)), prompts.sentence, None)


def _of_controls(controls: Sequence[ControlRow], reference: str) -> Iterator[FaultTest]:
    for row in controls:
        if not row.variant and row.score_gap is not None:
            sentence = f"The reward model scores \u201c{row.name}\u201d {number(row.score_gap.value)} above {reference}."
            yield FaultTest("empty_answers", "the reward model", sentence, row.score_gap)


def _of_split(reward: Path) -> Iterator[FaultTest]:
    """Yield a fact where preferences to learn were about prompts of the held-out ones: the two files are no split."""
    record = read_record(reward)
    count = 0 if record is None else sum(reasons.get(HELD_OUT_PROMPT, 0) for reasons in record.dropped.values())
    if count:
        sentence = (
            f"The held-out judgments have prompts of the preferences to learn: {count:,} preferences were left out of training for that. "
            "Check how the files were split."
        )
        yield FaultTest("repeated_split", "the judgments", sentence, None)


def _of_dimensions(reward: Path) -> Iterator[FaultTest]:
    """Yield a test of each dimension against the others, paired by prompt, where the model is not shown to beat chance."""
    file = reward / "predictions.jsonl"
    by_prompt: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _, row in read_rows(file) if file.is_file() else ():
        if "prompt" not in row:
            continue
        gap = np.array([float(str(row["chosen"])) - float(str(row["rejected"]))])
        right = float(vote_agreement(gap, np.array([float(str(row["observed"]))]))[0])
        by_prompt[str(row["dimension"])][str(row["prompt"])].append(right)
    for name, own in by_prompt.items() if len(by_prompt) > 1 else ():
        others = {prompt: [x for other, rows in by_prompt.items() if other != name for x in rows.get(prompt, [])] for prompt in own}
        means = [(_mean(own[prompt]), _mean(rest)) for prompt, rest in others.items() if rest]
        if not means:
            continue
        here, elsewhere = (mean([pair[side] for pair in means]) for side in (0, 1))
        harm = mean([rest - mine for mine, rest in means])
        rates = f"right on {percent(here.value)} of the votes, and on {percent(elsewhere.value)} elsewhere"
        sentence = f"The reward model is blind to {name}: {rates}."
        is_blind = here.low <= 0.5
        yield FaultTest("blind", "the reward model", sentence, harm if is_blind else replace(harm, low=min(harm.low, 0.0)), WORSE)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _of_sides(judgments: Path) -> Iterator[FaultTest]:
    """Yield a test of the taste of all raters together for the side that is shown first."""
    try:
        table, _ = read_votes(judgments)
    except (ConfigError, DataError):  # of other questions than which completion is better
        return
    bias = side_bias(table, np.random.default_rng(derive_seed(0, "report faults")))
    if not bias.logit.n or math.isnan(bias.logit.value):
        return
    taste, error = bias.logit.value, bias.logit.se
    if math.isinf(taste):  # one side won all votes, so only the interval of the share has a width
        taste, error = 4 * (bias.share.value - 0.5), 2 * (bias.share.high - bias.share.low) / Z95
    if not math.isnan(bias.rater_se):
        error = max(error, bias.rater_se)  # raters differ in their habits, and the next ones may be others
    side, share = "first" if taste > 0 else "second", 1 / (1 + math.exp(-abs(taste)))
    sentence = f"Raters prefer what they see {side}: of two equal answers it wins {percent(share)}. Show sides in random order."
    yield FaultTest("side", "the raters", sentence, from_normal(abs(taste), error, bias.logit.n), math.log(SWAY / (1 - SWAY)), sides=2)
