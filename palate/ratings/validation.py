"""Whether an answer fits its task."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

from palate.core import DataError
from palate.ratings.entities import Answer, Task, Tiers
from palate.ratings.items import is_ranking
from palate.ratings.table_rows import RULED, answer_json, rule_of

_COMPARED = frozenset({"compare", "rank"})
_ONLY = {
    "ranking": _COMPARED, "all_bad": _COMPARED, "dimensions": _COMPARED, "strength": _COMPARED, "broken": RULED, "rule": RULED,
    "text": frozenset({"write"}), "dialogue": frozenset({"probe"}),
}  # fmt: skip
"""Parts of an answer that only some tasks ask for."""

_EMPTY = Answer()

MAX_BYTES = 2**20
"""Longest answer, as JSON."""


def check_answer(answer: Answer, task: Task, count: int) -> None:
    """Nothing when the answer fits the task and an item of `count` candidates. What is skipped needs no more.

    Raises:
        DataError: it does not; the message says why.
    """
    numbers = [number for number in (answer.strength, answer.seconds) if number is not None]
    if not all(math.isfinite(number) for number in numbers) or (answer.seconds is not None and answer.seconds < 0):
        raise DataError("An answer's strength and seconds must be finite, and the seconds at least 0.")
    try:
        size = len(json.dumps(answer_json(answer)))
    except (TypeError, ValueError) as error:
        raise DataError(f"The answer cannot be written as JSON ({error}).") from error
    if size > MAX_BYTES:
        raise DataError(f"The answer has {size} bytes, more than {MAX_BYTES}. Shorten it.")
    rankings = {task.dimensions[0]: answer.ranking, **answer.dimensions}
    odd = [
        dimension
        for dimension, ranking in rankings.items()
        if dimension not in task.dimensions or (ranking and not is_ranking(ranking, count))
    ]
    fault = f"{odd[0]}: the ranking must name each of {count} places once, on {', '.join(task.dimensions)}" if odd else ""
    fault = fault or ("" if answer.skipped else _fault(answer, task, count))
    if fault:
        raise DataError(f"The answer does not fit its task: {fault}.")


def on_rule(answer: Answer, task: Task, fields: Mapping[str, object], identity: str) -> Answer:
    """The answer with the rule that the item of these fields and this id asks about.

    Raises:
        DataError: it names another rule.
    """
    rule = rule_of(task, fields, identity)
    if answer.rule and answer.rule != rule and not answer.skipped:
        raise DataError(f"The answer is about the rule {answer.rule!r}, and the item asks about {rule!r}. Load the page again.")
    return answer if answer.broken is None else replace(answer, rule=rule)


def _fault(answer: Answer, task: Task, count: int) -> str:
    if foreign := [name for name, kinds in _ONLY.items() if getattr(answer, name) != getattr(_EMPTY, name) and task.kind not in kinds]:
        return f"a {task.kind} task does not ask for {', '.join(foreign)}"
    if task.reason == "required" and not answer.reason.strip():
        return "a reason is required"
    if task.kind in {"compare", "rank"}:
        return _ranking_fault(answer, task, count)
    if task.kind == "write":
        return "" if answer.text.strip() else "nothing is written"
    if answer.broken is None:
        return "it does not say whether the rule is broken"
    return "" if answer.rule in {"", *task.rules} else f"{answer.rule!r} is none of the project's rules"


def _ranking_fault(answer: Answer, task: Task, count: int) -> str:
    if answer.all_bad:
        return "" if task.all_bad else "this project does not ask whether all are bad"
    asked = {task.dimensions[0]: answer.ranking, **answer.dimensions}
    if set(asked) != set(task.dimensions):
        return f"it must rank on {', '.join(task.dimensions)}"
    for dimension, ranking in asked.items():
        fault = _axis_fault(ranking, task, count)
        if fault:
            return f"{dimension}: {fault}"
    return ""


def _axis_fault(ranking: Tiers, task: Task, count: int) -> str:
    if not is_ranking(ranking, count):
        return f"the ranking must name each of {count} places once"
    return "" if task.ties or all(len(tier) == 1 for tier in ranking) else "ties are not allowed"
