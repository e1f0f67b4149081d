"""The sections of the report, filled from the files that stages wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from palate.core import DataError
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.data.published import BENCHMARK
from palate.evaluation.calibration import calibration_bins, expected_calibration_error, pair_log_loss
from palate.evaluation.evaluated_model import EvaluatedModel, Row, bias_pairs, compared, is_known, matched, unmatched_note, wins_of
from palate.evaluation.intervals import Estimate, mean, paired_difference, proportion, win_rate
from palate.evaluation.intervals import share as share_of
from palate.evaluation.report import (
    AuditRow,
    BestOfN,
    BestOfNPoint,
    Contest,
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
    Training,
    TrainingPoint,
    TrainingRun,
    VariantRole,
    WinRate,
    WinRates,
)
from palate.evaluation.sycophancy import SYCOPHANCY

EVALS = {
    "facts": ("facts", "capability", "How to cook an ingredient: the method and the minutes."),
    "sums": ("sums", "capability", "Two cooking times added up."),
    "must_refuse": ("refused what it must", "refusal", "Requests to poison somebody."),
    "must_help": ("helped with what only sounds dangerous", "refusal", "Harmless requests with an alarming remark."),
    "xstest_unsafe": ("refused what it must (XSTest)", "refusal", "Unsafe requests."),
    "xstest_safe": ("helped with what only sounds dangerous (XSTest)", "refusal", "Safe requests with an alarming word."),
    "jailbreak": (
        "stood firm under pressure",
        "refusal",
        "A guest talks the cook out of what the table cannot eat; gold on the harmless dimension.",
    ),
}
"""Name, kind and question of the evals that are known; others appear under their own name as capabilities."""


def gold_of(models: Sequence[EvaluatedModel], reference: EvaluatedModel, prompts: str = "") -> GoldScores | None:
    """Gold by dimension with intervals, and paired differences to the reference. None where there is no gold.

    Args:
        models: the evaluated models.
        reference: the one of them that the others are compared with.
        prompts: what is known about the prompts, a sentence.
    """
    if not reference.has("gold"):
        return None
    dimensions = tuple(reference.rows[0]["dimensions"])
    measured = [m for m in models if m.has("gold")]
    scores = []
    for dimension in ("gold", *dimensions):
        for m in measured:
            pairs = [] if m is reference else compared(m, reference, "gold")
            versus = paired_difference(*_columns(pairs, dimension)) if pairs else None
            scores.append(
                DimensionScore(m.key, dimension, mean([_gold(row, dimension) for row in m.rows if is_known(row, "gold")]), versus)
            )
    contests = tuple(
        Contest(first.key, second.key, paired_difference(*_columns(pairs, "gold")))
        for first, second in combinations([m for m in measured if m is not reference], 2)
        if (pairs := compared(first, second, "gold"))
    )
    how = f"One completion for each of {len(reference.rows)} prompts; intervals are 95 %, differences are paired by prompt."
    return GoldScores(
        ("gold", *dimensions), tuple(scores), how=_joined(how, unmatched_note(measured, reference), prompts), contests=contests
    )


def _gold(row: Row, dimension: str) -> float:
    return float(row["gold"] if dimension == "gold" else row["dimensions"][dimension])


def _columns(pairs: Sequence[tuple[Row, Row]], dimension: str) -> tuple[list[float], list[float]]:
    return [_gold(row, dimension) for row, _ in pairs], [_gold(row, dimension) for _, row in pairs]


def _joined(*sentences: str) -> str:
    return " ".join(text for text in sentences if text)


def win_rates_of(models: Sequence[EvaluatedModel], reference: EvaluatedModel, prompts: str = "") -> WinRates | None:
    """How often the reward model prefers a model's completion to the reference's; None where there are no scores.

    Args:
        models: the evaluated models.
        reference: the one of them that the others are compared with.
        prompts: what is known about the prompts, a sentence.
    """
    if not reference.has("score"):
        return None
    others = [m for m in models if m is not reference]
    rows = []
    for m in others:
        wins = wins_of(compared(m, reference, "score"))
        ties = wins.count(0.5)
        if not wins:
            continue
        rows.append(WinRate(m.key, reference.key, win_rate(wins.count(1.0), wins.count(0.0), ties), ties))
    contests = tuple(
        Contest(first.key, second.key, mean([won - 0.5 for won in wins_of(pairs)]))
        for first, second in combinations(others, 2)
        if (pairs := compared(first, second, "score"))
    )
    how = "The judge is the reward model that the online run was trained against: its verdict on that run is not evidence of quality."
    how = _joined(how, unmatched_note([reference, *others], reference), prompts)
    return WinRates("the reward model", tuple(rows), held_out=False, how=how, contests=contests)


def training_of(runs: Mapping[str, str], tuned: str, without_kl: str | None, models: Mapping[str, str]) -> Training:
    """Reward, score and gold of every iteration's own completions, by run. `models` names the models of the report that runs made."""
    training_runs = []
    proxies = set[str]()
    learns_texts: dict[str | None, bool] = {}
    for name, directory in runs.items():
        points = []
        for _, row in read_rows(Path(directory) / "metrics.jsonl"):
            number: Mapping[str, Any] = row
            if "online/score/mean" not in number:  # every score of this iteration failed
                continue
            # A score that compares the completions of a prompt has one mean at all times. Their wins over the start's answers change.
            proxy = "win_rate" if "online/win_rate/mean" in number else "score"
            proxies.add(proxy)
            points.append(
                TrainingPoint(
                    step=int(number["step"]),
                    kl=number["online/kl/mean"],
                    proxy=number[f"online/{proxy}/mean"],
                    proxy_se=number.get(f"online/{proxy}/se"),
                    reward=number.get("online/reward/mean") if proxy == "score" else None,
                    reward_se=number.get("online/reward/se") if proxy == "score" else None,
                    gold=number.get("online/gold/mean"),
                    gold_se=number.get("online/gold/se"),
                    length=number["online/length/mean"],
                    tax=_tax_of(number),
                )
            )
        config: Any = read_json(Path(directory) / "run.json")
        role: VariantRole = "ablation" if name == without_kl else "online"
        learns_texts[name] = config["config"].get("pretraining") is not None
        kl_coef, episodes = first_kl_coef(Path(directory)), _episodes(config["config"])
        training_runs.append(TrainingRun(name, kl_coef, tuple(points), role, episodes, models.get(name, "")))
    wins = {"proxy_name": "win rate over the start\u2019s answers"} if proxies == {"win_rate"} else {}
    texts_off = without_kl is not None and learns_texts[tuned] and not learns_texts[without_kl]
    return Training(tuple(training_runs), tuned, without_kl, "texts" if texts_off else "", **wins)


def _tax_of(row: Mapping[str, Any]) -> dict[str, tuple[float, float | None]]:
    """Return the changes of texts and evals since the start that an iteration measured, with their standard errors."""
    changes = (match for name in row if (match := re.fullmatch(r"tax/(.+)_change/mean", name)))
    return {change[1]: (row[change[0]], row.get(f"tax/{change[1]}_change/se")) for change in changes}


def first_kl_coef(directory: Path) -> float:
    """The KL coefficient of an online run's first iteration."""
    first: Mapping[str, Any] | None = next((row for _, row in read_rows(directory / "metrics.jsonl")), None)
    if first is None:
        raise DataError(f"{directory}: metrics.jsonl has no iteration. Name a run that has trained.")
    return float(first["online/kl_coef/value"])


def _episodes(config: Mapping[str, Any]) -> int:
    return int(config["prompts_per_iteration"]) * int(config["samples_per_prompt"])


def reward_of(directory: str, control: str | None, judgments: str | None) -> RewardModelCard:
    """Accuracy by dimension beside its floors and its ceiling, by source, and calibration, from held-out predictions."""
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
    for name, figures in summary.get("held_out_sources", {}).items():
        accuracy = proportion_of(figures["accuracy"], int(figures["n"]))
        rows.append(RewardAccuracy(f"from {name}", accuracy, figures["longer_wins"], figures["shorter_wins"]))
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
        is_sycophancy = any(row["eval"] == key and row.get("fields", {}).get(BENCHMARK) == SYCOPHANCY for row in reference.evals)
        if key in {"bias", "crows_pairs"} or is_sycophancy:  # none is a grade of what is right, asked plainly
            continue
        answered = {m.key: [row for row in m.evals if row["eval"] == key] for m in graded}
        results = tuple(
            EvalResult(m.key, _graded(rows), None if m is reference else _grade_change(rows, answered[reference.key]))
            for m in graded
            if (rows := answered[m.key])
        )
        name, kind, question = EVALS.get(key, (key.replace("_", " "), "capability", ""))
        evals.append(Eval(key, name, kind, results, question=question))  # type: ignore[arg-type]
    return tuple(evals)


def _graded(rows: Sequence[Row]) -> Estimate:
    grades = [float(row["grade"]) for row in rows]
    return proportion(grades) if set(grades) <= {0.0, 1.0} else mean(grades)


def _grade_change(rows: Sequence[Row], reference: Sequence[Row]) -> Estimate | None:
    """Return the paired difference in grade over the questions that both answered; None where there are none."""
    pairs = matched(rows, reference)
    return paired_difference([float(a["grade"]) for a, _ in pairs], [float(b["grade"]) for _, b in pairs]) if pairs else None


def audit_of(models: Sequence[EvaluatedModel]) -> tuple[AuditRow, ...]:
    """For each model the paired difference in grade between two groups of guests who ask for the same."""
    rows = []
    for m in models:
        if (found := bias_pairs(m.evals)) is not None:
            first, second, pairs = found.first, found.second, found.grades
            difference = paired_difference([p[first] for p in pairs.values()], [p[second] for p in pairs.values()])
            rows.append(AuditRow(m.key, "origin", first, second, difference))
    return tuple(rows)


def lengths_of(models: Sequence[EvaluatedModel]) -> tuple[LengthRow, ...]:
    """Lengths of each model's completions in tokens, and the share that ended with EOS; without models of which that is not known."""
    known = [m for m in models if all("tokens" in row and row["stop"] != "unknown" for row in m.rows)]
    return tuple(length_row(m.key, m.column("tokens"), [row["stop"] == "eos" for row in m.rows]) for m in known)


def length_row(key: str, tokens: Sequence[float], is_eos: Sequence[bool]) -> LengthRow:
    """Sum up the lengths (n,) in tokens of one model's completions, and whether each (n,) ended with EOS."""
    p10, median, p90 = (float(q) for q in np.quantile(np.asarray(tokens, dtype=np.float64), [0.1, 0.5, 0.9]))
    return LengthRow(key, mean(tokens), p10, median, p90, proportion(is_eos))


def exploits_of(models: Sequence[EvaluatedModel]) -> tuple[ExploitShare, ...]:
    """Share of completions in which a probe counts two or more, for the models that were probed."""
    names = dict.fromkeys(name for m in models for name in m.rows[0].get("probes", {}))
    return tuple(
        ExploitShare(m.key, f"{name}: two or more per completion", proportion([float(row["probes"][name] >= 2) for row in m.rows]))
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


def examples_of(
    models: Sequence[EvaluatedModel], reference: EvaluatedModel, count: int, phrases: Sequence[str]
) -> tuple[PromptExample, ...]:
    """The first prompts of the reference, with the completion of every model that answered them."""
    chosen = reference.rows[:count]
    answers: list[list[ExampleAnswer]] = [[] for _ in chosen]
    for m in models:
        places = {id(other): row for row, other in matched(m.rows, chosen)}
        for at, other in enumerate(chosen):
            if (row := places.get(id(other))) is not None:
                gold, marks = tuple(row.get("dimensions", {}).items()), _highlights(row["text"], phrases)
                answers[at].append(ExampleAnswer(m.key, row["text"], gold, marks, row["stop"] == "length"))
    return tuple(PromptExample(row["prompt"], tuple(texts)) for row, texts in zip(chosen, answers, strict=True))


def _highlights(text: str, phrases: Sequence[str]) -> tuple[Highlight, ...]:
    highlights = []
    for phrase in phrases:
        start = text.find(phrase)
        while start >= 0:
            highlights.append(Highlight(start, start + len(phrase), "exploit", "pleases raters but says nothing"))
            start = text.find(phrase, start + len(phrase))
    return tuple(sorted(highlights, key=lambda part: part.start))
