"""The sections of the report, filled from the files that stages wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.evaluation.calibration import calibration_bins, expected_calibration_error, pair_log_loss
from palate.evaluation.intervals import Estimate, mean, paired_difference, proportion, win_rate
from palate.evaluation.intervals import share as share_of
from palate.evaluation.report import (
    AuditRow,
    BestOfN,
    BestOfNPoint,
    DimensionScore,
    Eval,
    EvalResult,
    ExampleAnswer,
    ExploitShare,
    GoldScores,
    Highlight,
    LengthRow,
    PromptExample,
    RewardAccuracy,
    RewardModelCard,
    Takeaways,
    Training,
    TrainingPoint,
    TrainingRun,
    WinRate,
    WinRates,
)

EVALS = {
    "facts": ("facts", "capability", "How to cook an ingredient: the method and the minutes."),
    "sums": ("sums", "capability", "Two cooking times added up."),
    "must_refuse": ("refused what it must", "refusal", "Requests to poison somebody."),
    "must_help": ("helped with what only sounds dangerous", "refusal", "Harmless requests with an alarming remark."),
    "jailbreak": (
        "stood firm under pressure",
        "refusal",
        "A guest talks the cook out of what the table cannot eat; gold on the harmless dimension.",
    ),
}
"""Name, kind and question of the evals that are known; others appear under their own name as capabilities."""


@dataclass(frozen=True)
class EvaluatedModel:
    """One evaluated model: its key on the page, and the rows that its evaluate run wrote."""

    key: str
    rows: Sequence[Mapping[str, Any]]
    evals: Sequence[Mapping[str, Any]]

    def column(self, name: str) -> list[float]:
        """Return a figure of every completion, NaN where it is not known."""
        return [float("nan") if row[name] is None else float(row[name]) for row in self.rows]


def evaluated(key: str, directory: str) -> EvaluatedModel:
    """Read what the evaluate run in `directory` wrote."""
    evals = Path(directory) / "evals.jsonl"
    rows = [row for _, row in read_rows(Path(directory) / "completions.jsonl")]
    return EvaluatedModel(key, rows, [row for _, row in read_rows(evals)] if evals.exists() else [])


def gold_of(models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> GoldScores | None:
    """Gold by dimension with intervals, and paired differences to the reference. None where there is no gold."""
    if "gold" not in reference.rows[0]:
        return None
    dimensions = tuple(reference.rows[0]["dimensions"])
    scores = []
    for dimension in ("gold", *dimensions):
        own = {m.key: [float(row["gold"] if dimension == "gold" else row["dimensions"][dimension]) for row in m.rows] for m in models}
        for m in models:
            versus = None if m is reference else paired_difference(own[m.key], own[reference.key])
            scores.append(DimensionScore(m.key, dimension, mean(own[m.key]), versus))
    how = f"One completion for each of {len(reference.rows)} held-out prompts; intervals are 95 %, differences are paired by prompt."
    return GoldScores(("gold", *dimensions), tuple(scores), how=how)


def win_rates_of(models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> WinRates | None:
    """How often the reward model prefers a model's completion to the reference's; None where there are no scores."""
    if "score" not in reference.rows[0]:
        return None
    rows = []
    for m in models:
        if m is not reference:
            difference = np.array(m.column("score")) - np.array(reference.column("score"))
            difference = difference[~np.isnan(difference)]  # a completion without a score is not compared
            if not len(difference):
                continue
            wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
            rows.append(
                WinRate(m.key, reference.key, win_rate(wins, losses, len(difference) - wins - losses), len(difference) - wins - losses)
            )
    how = "The judge is the reward model that the online run was trained against: its verdict on that run is not evidence of quality."
    return WinRates("the reward model", tuple(rows), held_out=False, how=how)


def training_of(runs: Mapping[str, str], tuned: str, without_kl: str | None, roles: Mapping[str, str]) -> Training:
    """Proxy and gold of every iteration's own completions, by run."""
    training_runs = []
    for name, directory in runs.items():
        points = []
        for _, row in read_rows(Path(directory) / "metrics.jsonl"):
            number: Mapping[str, Any] = row
            points.append(
                TrainingPoint(
                    step=int(number["step"]),
                    kl=number["online/kl/mean"],
                    proxy=number["online/score/mean"],
                    gold=number.get("online/gold/mean"),
                    gold_se=number.get("online/gold/se"),
                    length=number["online/length/mean"],
                )
            )
        config: Any = read_json(Path(directory) / "run.json")
        role: Any = roles.get(name, "online")
        training_runs.append(TrainingRun(name, float(first_kl_coef(Path(directory))), tuple(points), role, _episodes(config["config"])))
    return Training(tuple(training_runs), tuned, without_kl)


def first_kl_coef(directory: Path) -> float:
    """The KL coefficient of an online run's first iteration."""
    first: Mapping[str, Any] = next(row for _, row in read_rows(directory / "metrics.jsonl"))
    return float(first["online/kl_coef/value"])


def _episodes(config: Mapping[str, Any]) -> int:
    return int(config["prompts_per_iteration"]) * int(config["samples_per_prompt"])


def reward_of(directory: str, control: str | None, judgments: str | None) -> RewardModelCard:
    """Accuracy by dimension beside its floors and its ceiling, and calibration, from held-out predictions."""
    summary: Any = read_json(Path(directory) / "summary.json")
    shuffled: Any = {} if control is None else read_json(Path(control) / "summary.json")
    collected: Any = {} if judgments is None else read_json(Path(judgments) / "summary.json")
    held_out = summary["held_out"]
    rows = []
    for name in sorted(held_out, key=lambda name: name != "overall"):
        figures = held_out[name]
        ceiling = collected.get("ceilings", {}).get(name)
        accuracy = proportion_of(figures["accuracy"], int(figures["n"]))
        other = shuffled.get("held_out", {}).get(name, {}).get("accuracy")
        rows.append(RewardAccuracy(name, accuracy, figures["longer_wins"], figures["shorter_wins"], other, ceiling))
    predictions: list[Any] = [row for _, row in read_rows(Path(directory) / "predictions.jsonl")]
    bins = calibration_bins(predictions)
    chosen, rejected, observed = ([float(row[name]) for row in predictions] for name in ("chosen", "rejected", "observed"))
    loss = pair_log_loss(chosen, rejected, observed).value
    how = "Held-out prompts. Predictions are for the longer side of each pair. What came true is the share of votes."
    return RewardModelCard(tuple(rows), int(summary["preferences"]), bins, expected_calibration_error(bins), loss, how)


def proportion_of(share: float, n: int) -> Estimate:
    """Return a share with Wilson's interval, from its value and n."""
    return share_of(share * n, n)


def evals_of(models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> tuple[Eval, ...]:
    """Grades by eval and model. Bias pairs are left to the audit."""
    graded = [m for m in models if m.evals]
    evals = []
    for key in dict.fromkeys(str(row["eval"]) for row in reference.evals):
        if key == "bias":
            continue
        grades = {m.key: [float(row["grade"]) for row in m.evals if row["eval"] == key] for m in graded}
        results = tuple(
            EvalResult(m.key, proportion(grades[m.key]) if set(grades[m.key]) <= {0.0, 1.0} else mean(grades[m.key]),
                       None if m is reference else paired_difference(grades[m.key], grades[reference.key]))
            for m in graded
        )  # fmt: skip
        name, kind, question = EVALS.get(key, (key.replace("_", " "), "capability", ""))
        evals.append(Eval(key, name, kind, results, question=question))  # type: ignore[arg-type]
    return tuple(evals)


def audit_of(models: Sequence[EvaluatedModel]) -> tuple[AuditRow, ...]:
    """For each model the paired difference in grade between two groups of guests who ask for the same."""
    rows = []
    for m in models:
        pairs: dict[int, dict[str, float]] = {}
        for row in m.evals:
            if row["eval"] == "bias":
                pairs.setdefault(int(row["pair"]), {})[str(row["group"])] = float(row["grade"])
        if pairs:
            first, second = sorted(next(iter(pairs.values())))
            difference = paired_difference([p[first] for p in pairs.values()], [p[second] for p in pairs.values()])
            rows.append(AuditRow(m.key, "origin", first, second, difference))
    return tuple(rows)


def lengths_of(models: Sequence[EvaluatedModel]) -> tuple[LengthRow, ...]:
    """Lengths of each model's completions in tokens, and the share that ended with EOS."""
    return tuple(length_row(m.key, m.column("tokens"), [row["stop"] == "eos" for row in m.rows]) for m in models)


def length_row(key: str, tokens: Sequence[float], is_eos: Sequence[bool]) -> LengthRow:
    """Sum up the lengths (n,) in tokens of one model's completions, and whether each (n,) ended with EOS."""
    p10, median, p90 = (float(q) for q in np.quantile(np.asarray(tokens, dtype=np.float64), [0.1, 0.5, 0.9]))
    return LengthRow(key, mean(tokens), p10, median, p90, proportion(is_eos))


def exploits_of(models: Sequence[EvaluatedModel]) -> tuple[ExploitShare, ...]:
    """Share of completions in which a probe counts two or more, for the models that were probed."""
    names = dict.fromkeys(name for m in models for name in m.rows[0].get("probes", {}))
    return tuple(
        ExploitShare(m.key, f"two or more {name}", proportion([float(row["probes"][name] >= 2) for row in m.rows]))
        for name in names
        for m in models
        if name in m.rows[0].get("probes", {})
    )


def best_of_n_of(directory: str, key: str) -> BestOfN:
    """The curve over n of a rerank run."""
    summary: Any = read_json(Path(directory) / "summary.json")
    curve = summary["curve"]
    points = [
        BestOfNPoint(
            int(n), curve["score"][k], curve["kl_at_most"][k], *((curve["gold"][k], curve["gold_se"][k]) if "gold" in curve else ())
        )
        for k, n in enumerate(curve["n"])
    ]
    return BestOfN(key, tuple(points), int(summary["prompts"]))


def examples_of(models: Sequence[EvaluatedModel], count: int, phrases: Sequence[str]) -> tuple[PromptExample, ...]:
    """The first prompts evaluated, with every model's answer."""
    examples = []
    for k, row in enumerate(models[0].rows[:count]):
        answers = [
            ExampleAnswer(
                m.key,
                m.rows[k]["text"],
                tuple(m.rows[k].get("dimensions", {}).items()),
                _highlights(m.rows[k]["text"], phrases),
                m.rows[k]["stop"] == "length",
            )
            for m in models
        ]
        examples.append(PromptExample(row["prompt"], tuple(answers)))
    return tuple(examples)


def _highlights(text: str, phrases: Sequence[str]) -> tuple[Highlight, ...]:
    highlights = []
    for phrase in phrases:
        start = text.find(phrase)
        while start >= 0:
            highlights.append(Highlight(start, start + len(phrase), "exploit", "pleases raters but says nothing"))
            start = text.find(phrase, start + len(phrase))
    return tuple(sorted(highlights, key=lambda part: part.start))


def takeaways_of(
    reward: RewardModelCard | None, wins: WinRates | None, training: Sequence[TrainingRun], names: Mapping[str, str]
) -> Takeaways:
    """Say what was and was not learned. Each sentence is decided by its own interval."""
    learned: list[str] = []
    not_learned: list[str] = []

    def add(is_learned: bool, sentence: str) -> None:  # noqa: FBT001 (a local verb)
        (learned if is_learned else not_learned).append(sentence)

    if reward is not None:
        overall = reward.rows[0]
        floor = max(overall.longer_wins or 0.5, overall.shorter_wins or 0.5, 0.5)
        a = overall.accuracy
        text = f"the reward model is right on {_interval(a)} of {a.n} held-out pairs; the better length rule on {floor:.1%}"
        add(
            a.low > floor,
            f"{text}. {'It is better than the length rule.' if a.low > floor else 'It is not measurably better than the length rule.'}",
        )
    for win in wins.rows if wins is not None else ():
        e = win.estimate
        add(
            e.low > 0.5,
            f"{names[win.variant]} is scored above {names[win.opponent]} on {_interval(e)} of {e.n} prompts",
        )
    for run in training:
        gain = run.points[-1].proxy - run.points[0].proxy
        kl, count = run.points[-1].kl, len(run.points)
        add(gain > 0, f"{run.name}: the score moved by {gain:+.2f} deviations at a KL of {kl:.1f} nats in {count} iterations")
    return Takeaways(tuple(map(_sentence, learned)), tuple(map(_sentence, not_learned)))


def _interval(e: Estimate) -> str:
    return f"{e.value:.1%} (95 %: {e.low:.1%} to {e.high:.1%})"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
