"""What labels cost and what they were worth, from runs of collect and of the reward models that learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from palate.agreement.estimates import clustered_share
from palate.core import Gold, Prompt
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.data.judge_names import titled
from palate.data.voted_labels import VotedLabel, read_voted_labels
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.intervals import Estimate, proportion
from palate.evaluation.report.formatting import listed, thousands
from palate.evaluation.report.source_records import LabelSource

GoldScoreCache = dict[tuple[str, str, str], Mapping[str, float]]
"""Gold by dimension of the completions that were scored: by the prompt's text, the completion's, and the prompt's further columns."""

REASONS = {
    "calibration": "to compare both",
    "assigned": "on dimensions that people judge alone",
    "not as good": "the judge is not as good as people there",
    "abstained": "the judge abstained",
    "disputed": "two judges disagree",
    "uncertain": "the judge is unsure",
}
"""Why people answer a question of hybrid labelling, in words."""


def label_source(
    name: str,
    judgments: str,
    reward: str | None,
    variant: str,
    gold: Gold | None,
    cost_per_label: float | None = None,
    scores: GoldScoreCache | None = None,
) -> LabelSource:
    """Return what one source of labels cost and what it was worth.

    Args:
        name: what the page calls it; a source with an uncalibrated judge is named so.
        judgments: the run of collect.
        reward: the run of the reward model that learned from its labels, if any.
        variant: the model of the report that was trained with that reward model; "" for none.
        gold: the truth, if it is known.
        cost_per_label: price of an answer of a person; None for the price that hybrid labelling paid, if there is one.
        scores: gold that is known already, and that this adds to: sources label the same completions.
    """
    summary: Any = read_json(Path(judgments) / "summary.json")
    mix: Mapping[str, Any] = summary.get("mix", {})
    judge: Mapping[str, Any] = summary.get("judges", {})
    sources: Mapping[str, Any] = mix.get("sources", {})
    people_labels = sources["people"]["labels"] if mix else 0 if judge else summary["judgments"]
    judge_labels = sources["judge"]["labels"] if mix else summary["judgments"] if judge else 0
    tokens = sources["judge"]["tokens"] if mix else judge.get("tokens_in", 0) + judge.get("tokens_out", 0)
    paid = (sources["people"]["cost"] or None) if mix else None
    people_cost = people_labels * cost_per_label if cost_per_label is not None else paid if people_labels else 0.0
    judge_cost = float(sources["judge"]["cost"] if mix else judge.get("cost", 0.0))
    return LabelSource(
        titled(name, is_calibrated=False) if judge.get("calibrated") is False else name,
        people_labels,
        judge_labels,
        tokens,
        summary["questions"],
        None if people_cost is None else people_cost + judge_cost,
        bool(judge_labels) and not judge_cost,
        None if gold is None else label_accuracy(judgments, gold, scores=scores),
        None if reward is None else reward_accuracy(reward),
        variant,
        mix_sentence(mix) if mix else "",
    )


def label_accuracy(judgments: str, gold: Gold, dimension: str | None = None, scores: GoldScoreCache | None = None) -> Estimate | None:
    """Return the share of a run's labels on the side of the gold, clustered by prompt: of one dimension, or of all.

    A label without a side counts one half. Pairs on which the gold sees no difference are left out; None where there are no others.
    `scores` is as in `label_source`.
    """
    paths = (Path(judgments) / "preferences.jsonl", Path(judgments) / "held_out.jsonl")
    every = [label for path in paths if path.is_file() for label in read_voted_labels(path)]
    labels = [label for label in every if dimension in (None, label.dimension)]
    known_scores: GoldScoreCache = {} if scores is None else scores

    def gold_of(prompt: Prompt, text: str) -> Mapping[str, float]:
        key = prompt.text, text, repr(prompt.fields)
        if key not in known_scores:
            known_scores[key] = gold(prompt.text, text, **prompt.fields)
        return known_scores[key]

    def gap(label: VotedLabel) -> float:
        chosen, rejected = gold_of(label.prompt, label.chosen), gold_of(label.prompt, label.rejected)
        names = [label.dimension] if label.dimension in chosen else list(chosen)
        return sum(chosen[name] - rejected[name] for name in names) / len(names)

    gaps = np.array([gap(label) for label in labels])
    flags = np.array([0.5 if label.probability == 0.5 else float(own > 0) for label, own in zip(labels, gaps, strict=True)])
    _, prompts = np.unique([label.prompt.text for label in labels], return_inverse=True)
    known = np.abs(gaps) > 1e-9
    return clustered_share(flags[known], prompts[known]) if known.any() else None


def reward_accuracy(reward: str) -> Estimate | None:
    """Return the accuracy of a reward model on its held-out pairs, without those that are ties; None where all are."""
    rows: list[Any] = [row for _, row in read_rows(Path(reward) / "predictions.jsonl")]
    rows = [row for row in rows if abs(row["observed"] - 0.5) > 1e-9]
    if not rows:
        return None
    agreed = vote_agreement([row["chosen"] - row["rejected"] for row in rows], [float(row["observed"] > 0.5) for row in rows])
    return proportion(agreed)


def mix_sentence(mix: Mapping[str, Any]) -> str:
    """Return who answered how many questions of hybrid labelling, and why people answered theirs."""
    sources, routes = mix["sources"], mix["routes"]
    reasons = [f"{thousands(routes[name])} {words}" for name, words in REASONS.items() if routes.get(name)]
    believed = [name for name, one in mix["dimensions"].items() if one["believed"]]
    text = f"the judge answered {thousands(sources['judge']['questions'])} questions and people {thousands(sources['people']['questions'])}"
    if believed:
        text += f"; the judge is as good as people on {listed(believed)}"
    if reasons:
        text += f"; routed to people: {listed(reasons)}"
    if mix["unanswered"]:
        text += f"; {thousands(mix['unanswered'])} questions stayed without an answer"
    return text
