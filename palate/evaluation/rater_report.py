"""The report of `palate agreement` on the raters of a file or run. It needs neither torch nor a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.agreement import AgreementReport, CurvePoint, analyse, learning_curve
from palate.core import ConfigError, DataError, derive_seed
from palate.data.exchange import Exchange
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.evaluation.judge_table import judge_figures, people_alone, summary_of_judges
from palate.evaluation.policy_table import policy_figures
from palate.evaluation.rater_votes import read_judgments, votes_in
from palate.judges.hybrid import ROUTES

CURVE = "curve.jsonl"


def report_on(
    source: Path | Exchange,
    *,
    dimension: str | None = None,
    curve: Path | None = None,
    rewards: tuple[Path, ...] = (),
    seed: int = 0,
) -> AgreementReport:
    """Report on the votes in a file of judgments, in a run of `collect`, or in a project of a database.

    Args:
        source: the file or run, or what a database holds.
        dimension: only judgments on this dimension.
        curve: a file of rows `labels`, `accuracy`, `pairs` of reward models that learned from more and more judgments, or a run of refresh.
        rewards: runs of stage reward, each one such measurement.
        seed: seed of the bootstrap.

    Raises:
        DataError: there are no votes, or a row is not a judgment.
    """
    rng = np.random.default_rng(derive_seed(seed, "agreement"))
    exchange, place = read_judgments(source) if isinstance(source, Path) else (source, "the database")
    people = people_alone(exchange, dimension)
    table, left_out = votes_in(people or exchange, dimension, place)
    judges = judge_figures(exchange, dimension, rng, summary_of_judges(source) if isinstance(source, Path) else {})
    is_random = not (isinstance(source, Path) and (source / ROUTES).is_file())  # a router gave people what the judge knew least
    policies, rates = policy_figures(exchange, dimension, rng, is_random=is_random)
    report = replace(analyse(table, rng), left_out=left_out, judges=judges, policies=policies, win_rates=rates)
    points = (*(() if curve is None else read_curve(curve)), *map(read_reward, rewards))
    if not points:
        return report
    limit = 1.0 if report.ceiling is None else report.ceiling.accuracy
    return replace(report, curve=learning_curve(points, rng, max(limit, *(point.accuracy for point in points))))


def read_curve(source: Path) -> tuple[CurvePoint, ...]:
    """Read the measurements in a file of rows `labels`, `accuracy`, `pairs`, or in a run of stage refresh that has such a file.

    Raises:
        ConfigError: a run without such a file.
        DataError: a row lacks one of them, or one is not a number.
    """
    path = source / CURVE if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        raise ConfigError(f"{source} holds no {CURVE}. Give a run of stage refresh whose `curve` names shares, or a file.")
    points = []
    for number, row in read_rows(path):
        values: Any = row
        try:
            points.append(CurvePoint(int(values["labels"]), float(values["accuracy"]), int(values["pairs"])))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{number}: a measurement needs `labels`, `accuracy` and `pairs` (held out), all numbers") from error
    return tuple(points)


def read_reward(run: Path) -> CurvePoint:
    """Read the measurement of a run of stage reward; its labels are the preferences it learned from.

    Raises:
        DataError: its summary has no accuracy on held-out pairs.
    """
    file = run / "summary.json"
    summary: Any = read_json(file) if file.is_file() else {}
    try:
        overall = summary["held_out"]["overall"]
        return CurvePoint(int(summary["preferences"]), float(overall["accuracy"]), int(overall["n"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: has no accuracy on held-out pairs. Give finished runs of stage reward.") from error
