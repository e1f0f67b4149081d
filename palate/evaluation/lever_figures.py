"""What a setting did to the accuracy of reward models and to the gold of policies: the points of a lever, read from runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.agreement.estimates import clustered_share
from palate.config.types import Input
from palate.core import ConfigError, DataError
from palate.data.jsonl import read_rows
from palate.data.prompt_region import PromptRegion
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.intervals import Estimate, clustered_mean, mean, paired_difference
from palate.evaluation.report.lever_records import AccuracyEffect, Lever, LeverPoint, Levers
from palate.runs.record import read_record


@dataclass(frozen=True)
class ReportedPoint:
    """One setting of a lever.

    Attributes:
        at: the setting in words, such as a number.
        policy: the rerank or evaluate run whose gold it led to.
        reward: the reward run in between, for its accuracy.
    """

    at: str
    policy: Input
    reward: Input | None = None


@dataclass(frozen=True)
class ReportedLever:
    """A setting that was turned while all else stayed.

    Attributes:
        name: the lever's name on the page.
        points: its settings in order, the least of it first.
        setting: what the points say, for the axis.
        region: a regular expression; gold is then shown on the prompts that it finds and on the others.
    """

    name: str
    points: tuple[ReportedPoint, ...]
    setting: str = ""
    region: str | None = None

    def check(self) -> None:
        """Raise ConfigError when there are fewer than two points, or the region is not a regular expression."""
        if len(self.points) < 2:
            raise ConfigError(f"levers: {self.name!r} has {len(self.points)} points. Give at least two settings")
        if self.region is not None:
            PromptRegion(self.region)


@dataclass(frozen=True)
class PolicyGold:
    """Gold by the prompt's id, and the prompts' texts."""

    gold: Mapping[str, float]
    texts: Mapping[str, str]


@dataclass(frozen=True)
class JudgedRight:
    """How far a reward model agrees with the votes on each held-out pair, and the number of the pair's prompt."""

    right: tuple[float, ...]
    prompts: tuple[int, ...]
    votes: tuple[float, ...]

    @property
    def accuracy(self) -> Estimate:
        """The share of votes that it agrees with; its interval counts prompts, not pairs."""
        return clustered_share(np.array(self.right), np.array(self.prompts, dtype=np.int64))


def levers_of(levers: Sequence[ReportedLever], ceiling: float | None) -> Levers:
    """Return the levers with their figures, and gold against accuracy over the points of those that are not about a region.

    Raises:
        DataError: a run measured no gold, or the policies of a lever answered no common prompt.
    """
    policies = {point.policy: _policy_gold(point.policy) for lever in levers for point in lever.points}
    models = {point.reward: _judged_right(point.reward) for lever in levers for point in lever.points if point.reward is not None}
    found = tuple(_lever(lever, policies, models) for lever in levers)
    return Levers(found, _accuracy_effect([one for one in levers if one.region is None], policies, models, ceiling))


def _lever(lever: ReportedLever, policies: Mapping[str, PolicyGold], models: Mapping[str, JudgedRight]) -> Lever:
    ids = _shared([policies[point.policy] for point in lever.points], lever.name)
    texts = policies[lever.points[0].policy].texts
    region = None if lever.region is None else PromptRegion(lever.region)
    inside = [] if region is None else [one for one in ids if region.has(texts[one])]
    outside = [one for one in ids if one not in set(inside)]
    if region is not None and not (inside and outside):
        raise DataError(f"levers: {lever.region!r} finds {len(inside)} of the {len(ids)} prompts of {lever.name!r}. Correct the pattern")
    parts = {"gold": ids, **({"inside": inside, "outside": outside} if inside else {})}
    columns = [{part: [policies[point.policy].gold[one] for one in named] for part, named in parts.items()} for point in lever.points]
    judged = [None if point.reward is None else models[point.reward] for point in lever.points]
    points = tuple(
        LeverPoint(
            point.at,
            mean(column["gold"]),
            None if model is None else model.accuracy,
            *((mean(column["inside"]), mean(column["outside"])) if inside else ()),
        )
        for point, column, model in zip(lever.points, columns, judged, strict=True)
    )
    changes = {part: paired_difference(columns[-1][part], columns[0][part]) for part in parts}
    first, last = judged[0], judged[-1]
    if first is not None and last is not None and (first.prompts, first.votes) == (last.prompts, last.votes):
        changes["accuracy"] = _paired_accuracy(first, last)
    return Lever(lever.name, lever.setting, points, changes, len(ids))


def _shared(policies: Sequence[PolicyGold], name: str) -> list[str]:
    ids = [one for one in policies[0].gold if all(one in policy.gold for policy in policies)]
    if not ids:
        raise DataError(f"levers: the policies of {name!r} answered no common prompt. Measure all on the same prompts")
    return ids


def _paired_accuracy(first: JudgedRight, last: JudgedRight) -> Estimate:
    """Return by how much the accuracy grew on the same pairs, clustered by prompt."""
    groups: dict[int, list[float]] = {}
    for prompt, before, after in zip(first.prompts, first.right, last.right, strict=True):
        groups.setdefault(prompt, []).append(after - before)
    return clustered_mean(list(groups.values()))


def _accuracy_effect(
    levers: Sequence[ReportedLever], policies: Mapping[str, PolicyGold], models: Mapping[str, JudgedRight], ceiling: float | None
) -> AccuracyEffect | None:
    """Return gold against accuracy over all points with both, each policy once; None for fewer than three points.

    The slope of least squares is a weighted sum of the points' golds, so its error is that of the weighted sum of each prompt.
    """
    named = {point.policy: (lever.name, point) for lever in levers for point in lever.points if point.reward is not None}
    if len(named) < 3:
        return None
    accuracies = [models[str(point.reward)].accuracy for _, point in named.values()]
    x = np.array([one.value for one in accuracies])
    if np.ptp(x) < 1e-9:
        return None
    ids = _shared([policies[policy] for policy in named], "all levers")
    table = np.array([[policies[policy].gold[one] for one in ids] for policy in named])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    points = tuple(
        (name, point.at, accuracy, mean(gold)) for (name, point), accuracy, gold in zip(named.values(), accuracies, table, strict=True)
    )
    return AccuracyEffect(points, mean(0.1 * weights @ table), ceiling)


def _policy_gold(directory: str) -> PolicyGold:
    """Return the gold of a policy: of a rerank run at its largest n, or of an evaluate run.

    Raises:
        ConfigError: it is a run of another stage.
        DataError: it measured no gold.
    """
    home = Path(directory)
    record = read_record(home)
    stage = None if record is None else record.stage
    if stage not in {"rerank", "evaluate"}:
        raise ConfigError(f"levers: {directory} is not a run of rerank or evaluate. Give the run that measured gold as the policy")
    if stage == "rerank":
        curves: list[Any] = [row for _, row in read_rows(home / "curve.jsonl")]
        rows: list[Any] = [row for _, row in read_rows(home / "samples.jsonl")]
        if all("gold" in row for row in curves):
            gold = {str(row["id"]): float(row["gold"][-1]) for row in curves}
            return PolicyGold(gold, {str(row["id"]): str(row["prompt"][-1]["content"]) for row in rows})
    else:
        measured: list[Any] = [row for _, row in read_rows(home / "completions.jsonl") if row.get("gold") is not None]
        if measured:
            return PolicyGold({row["id"]: float(row["gold"]) for row in measured}, {row["id"]: str(row["prompt"]) for row in measured})
    raise DataError(f"levers: {directory} measured no gold. Set gold in {stage}")


def _judged_right(directory: str) -> JudgedRight:
    rows: list[Any] = [row for _, row in read_rows(Path(directory) / "predictions.jsonl")]
    votes = [float(row["observed"]) for row in rows]
    right = vote_agreement([float(row["chosen"]) - float(row["rejected"]) for row in rows], votes)
    return JudgedRight(tuple(right.tolist()), tuple(int(row["prompt"]) for row in rows), tuple(votes))
