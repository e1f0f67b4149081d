"""Whether projects, items and answers fit: a project's settings, an item its task, and an answer both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from palate.core import ConfigError, DataError
from palate.data.cells import InvalidRow
from palate.data.rubrics import GRADE_WORDS, rubric_of
from palate.ratings.columns import INDEXED_BYTES, is_text
from palate.ratings.entities import Answer, Candidate, Gold, Item, Project, Task, Tiers
from palate.ratings.table_rows import RULED, answer_json, candidates_json, criteria_of, rule_of

MIN_RANDOM_SHARE = 0.3
"""Smallest share of an uncertain queue that is drawn at random. Below it, figures would describe only the items that were chosen."""

MAX_BYTES = 2**20
"""Longest answer, as JSON."""

_UNSTORABLE = f"holds a character that a database cannot store, or more than {INDEXED_BYTES} bytes"

_END_OF_TIME = 253402300800.0
"""The year 10000, which calendars cannot show."""

_NUM_CANDIDATES = {"compare": (2, 2), "rank": (2, 26), "rule": (1, 1), "rubric": (1, 1), "probe": (0, 1), "write": (0, 1)}
_RANKED, _UNKNOWN = "must name each candidate once, best first", "must be left out, because nobody knows the right answer to this task"
_GOLD = {
    "compare": _RANKED,
    "rank": _RANKED,
    "rule": "must be true or false: whether the rule is broken",
    "rubric": _UNKNOWN,
    "probe": _UNKNOWN,
    "write": _UNKNOWN,
}
_COMPARED = frozenset({"compare", "rank"})
_ONLY = {
    "ranking": _COMPARED, "all_bad": _COMPARED, "dimensions": _COMPARED, "strength": _COMPARED, "broken": RULED, "rule": RULED,
    "text": frozenset({"write"}), "dialogue": frozenset({"probe"}), "grades": frozenset({"rubric"}),
}  # fmt: skip
"""Parts of an answer that only some tasks ask for."""

_EMPTY = Answer()


def check_project(project: Project) -> None:
    """Raise ConfigError, with each fault, if the project's settings do not fit together."""
    task = project.task
    faults = {
        f"name: is empty, {_UNSTORABLE}": not project.name.strip() or not _fits_index(project.name),
        "overlap: must be at least 1": project.overlap < 1,
        "max_overlap: must be 0 or at least overlap": project.max_overlap != 0 and project.max_overlap < project.overlap,
        "lease_seconds: must be above 0": not project.lease_seconds > 0,
        "gold_share: must be between 0 and 0.5": not 0 <= project.gold_share <= 0.5,
        f"random_share: must be between {MIN_RANDOM_SHARE} and 1": not MIN_RANDOM_SHARE <= project.random_share <= 1,
        "queue: must be random or uncertain": project.queue not in {"random", "uncertain"},
        "task.dimensions: name at least one, each once": not task.dimensions
        or len(set(task.dimensions)) != len(task.dimensions)
        or not all(dimension.strip() for dimension in task.dimensions),
        "task.rules: name at least one": task.kind in RULED and not task.rules,
    }
    present = [fault for fault, is_present in faults.items() if is_present]
    if present:
        raise ConfigError(f"Project {project.name!r} cannot be made: {'; '.join(present)}.")


def check_item(item: Item, task: Task, place: str) -> None:
    """Raise DataError, with `place` and the field at fault, if the item does not fit the task."""
    least, most = _NUM_CANDIDATES[task.kind]
    count = len(item.candidates)
    faults = {
        "conversation: is empty": not item.conversation,
        f"candidates: {count} given, a task of kind {task.kind} takes {least if least == most else f'{least} to {most}'}": not (
            least <= count <= most
        ),
        f"candidates: {unjudgeable(item.candidates)}": bool(unjudgeable(item.candidates)),
        f"gold: {_GOLD[task.kind]}": item.gold is not None and not _is_right_kind(item.gold, task, count),
        "is_qualification: needs a gold answer": item.is_qualification and item.gold is None,
        f"fields: the rule {item.fields.get('rule')!r} is none of the project's ({', '.join(task.rules)})": _has_unknown_rule(item, task),
        f"fields.rubric: {_rubric_fault(item, task)}": bool(_rubric_fault(item, task)),
        "fields: hold what JSON does not have": not _is_json(item.fields),
        f"stratum or policy: {_UNSTORABLE}": not (_fits_index(item.stratum) and _fits_index(item.policy)),
    }
    for fault, is_present in faults.items():
        if is_present:
            raise DataError(f"{place}, {fault}. Nothing was added; correct the item or leave it out.")


def unjudgeable(candidates: Sequence[Candidate]) -> str:
    """Return why nobody could judge the candidates: two are the same, or one is empty; "" if somebody can."""
    if any(not (candidate.text or candidate.media) for candidate in candidates):
        return "one has neither text nor media"
    return "two are the same" if len(set(map(json.dumps, candidates_json(candidates)))) < len(candidates) else ""


def check_answer(answer: Answer, task: Task, count: int) -> None:
    """Check that the answer fits the task and an item of `count` candidates. An answer that skips the item need not be complete.

    Raises:
        DataError: it does not fit; the message says why.
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
    wrong = [
        dimension
        for dimension, ranking in rankings.items()
        if dimension not in task.dimensions or (ranking and not is_ranking(ranking, count))
    ]
    fault = f"{wrong[0]}: the ranking must name each of {count} places once, on {', '.join(task.dimensions)}" if wrong else ""
    fault = fault or ("" if answer.skipped else _fault(answer, task, count))
    if fault:
        raise DataError(f"The answer does not fit its task: {fault}.")


def with_rule(answer: Answer, task: Task, fields: Mapping[str, object], identity: str) -> Answer:
    """Return the answer with the rule that the item with these fields and this id asks about.

    Raises:
        DataError: the answer names another rule, or other criteria than the item's rubric.
    """
    check_criteria(answer, [criterion.id for criterion in criteria_of(task, fields)])
    rule = rule_of(task, fields, identity)
    if answer.rule and answer.rule != rule and not answer.skipped:
        raise DataError(f"The answer is about the rule {answer.rule!r}, and the item asks about {rule!r}. Load the page again.")
    return answer if answer.broken is None else replace(answer, rule=rule)


def check_criteria(answer: Answer, criteria: Sequence[str]) -> None:
    """Raise DataError if an answer that is not skipped does not say something of each of these criteria, and of no other."""
    if answer.skipped or set(answer.grades) == set(criteria):
        return
    odd = sorted(set(answer.grades) ^ set(criteria))
    raise DataError(f"The answer must grade each criterion of the item once ({', '.join(criteria)}); see {odd[0]!r}. Load the page again.")


def check_time(time: float | None, field: str, place: str) -> None:
    """Raise DataError if a calendar cannot show the time."""
    if time is not None and not 0 <= time < _END_OF_TIME:
        raise DataError(f"{place}: `{field}` is {time}, which is not a time in seconds since 1970. Nothing was added; correct the row.")


def _fits_index(value: str) -> bool:
    """Return whether a text fits into a column that is part of an index."""
    return is_text(value) and len(value.encode("utf-8")) <= INDEXED_BYTES


def is_ranking(tiers: Tiers, count: int) -> bool:
    """Return whether the tiers name each of the numbers 0 to `count - 1` once."""
    return all(tiers) and sorted(place for tier in tiers for place in tier) == list(range(count))


def _is_right_kind(gold: Gold, task: Task, count: int) -> bool:
    if isinstance(gold, bool):
        return task.kind == "rule"
    return task.kind in _COMPARED and is_ranking(gold, count)


def _has_unknown_rule(item: Item, task: Task) -> bool:
    """Return whether the item names a rule that the project does not have. Raters would be asked about another one."""
    return task.kind in RULED and bool(item.fields.get("rule")) and item.fields["rule"] not in task.rules


def _rubric_fault(item: Item, task: Task) -> str:
    """Return why nobody could grade by the item's rubric; "" where the task does not ask for that, or somebody can."""
    if task.kind != "rubric":
        return ""
    if item.fields.get("rubric") is None:
        return "is missing; a task of kind rubric grades by it"
    try:
        rubric_of(item.fields["rubric"])
    except InvalidRow as error:
        return error.reason
    return ""


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        return False
    return True


def _fault(answer: Answer, task: Task, count: int) -> str:
    if foreign := [name for name, kinds in _ONLY.items() if getattr(answer, name) != getattr(_EMPTY, name) and task.kind not in kinds]:
        return f"a {task.kind} task does not ask for {', '.join(foreign)}"
    if task.reason == "required" and not answer.reason.strip():
        return "a reason is required"
    if task.kind in _COMPARED:
        return _ranking_fault(answer, task, count)
    if task.kind == "write":
        return "" if answer.text.strip() else "nothing is written"
    if task.kind == "rubric":
        wrong = [word for word in answer.grades.values() if word not in GRADE_WORDS]
        return f"a grade is {', '.join(GRADE_WORDS)}, not {wrong[0]!r}" if wrong else "" if answer.grades else "nothing is graded"
    if answer.broken is None:
        return "it does not say whether the rule is broken"
    return "" if answer.rule in {"", *task.rules} else f"{answer.rule!r} is none of the project's rules"


def _ranking_fault(answer: Answer, task: Task, count: int) -> str:
    if answer.all_bad:
        return "" if task.all_bad else "this project does not ask whether all are bad"
    rankings = {task.dimensions[0]: answer.ranking, **answer.dimensions}
    if set(rankings) != set(task.dimensions):
        return f"it must rank on {', '.join(task.dimensions)}"
    for dimension, ranking in rankings.items():
        fault = _dimension_fault(ranking, task, count)
        if fault:
            return f"{dimension}: {fault}"
    return ""


def _dimension_fault(ranking: Tiers, task: Task, count: int) -> str:
    if not is_ranking(ranking, count):
        return f"the ranking must name each of {count} places once"
    return "" if task.ties or all(len(tier) == 1 for tier in ranking) else "ties are not allowed"
