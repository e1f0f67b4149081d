"""Converting rows of the tables to dataclasses and back."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from palate.core import Message
from palate.data.rubrics import Criterion, rubric_of
from palate.ratings.entities import Answer, Assignment, Candidate, Gold, Item, Project, Task, Tiers

Json = Mapping[str, Any]

RULED = frozenset({"rule", "probe"})
"""The kinds of task that ask whether a rule is broken."""


def tiers(value: Sequence[Sequence[int]]) -> Tiers:
    """Return the ranking in JSON lists."""
    return tuple(tuple(int(place) for place in tier) for tier in value)


def gold_of(value: Any) -> Gold | None:
    """Return the right answer in JSON: true, false or lists."""
    return value if value is None or isinstance(value, bool) else tiers(value)


def turns(value: Sequence[Json]) -> tuple[Message, ...]:
    """Return the conversation in JSON objects."""
    return tuple(Message(turn["role"], turn["text"], turn.get("tool_fields", "")) for turn in value)


def turns_json(conversation: Sequence[Message]) -> list[dict[str, str]]:
    """Return the conversation as JSON objects, with `tool_fields` only in turns that have them."""
    return [
        {"role": turn.role, "text": turn.text} | ({"tool_fields": turn.tool_fields} if turn.tool_fields else {}) for turn in conversation
    ]


def candidates_json(candidates: Sequence[Candidate]) -> list[dict[str, str]]:
    """Return the candidates as JSON objects without empty fields."""
    return [{name: value for name, value in asdict(candidate).items() if value} for candidate in candidates]


def project_of(row: Row[Any]) -> Project:
    """Return the project in a row of `projects`."""
    task = dict(row.task)
    return Project(
        name=row.name,
        task=Task(**(task | {"dimensions": tuple(task["dimensions"]), "rules": tuple(task["rules"])})),
        overlap=row.overlap,
        max_overlap=row.max_overlap,
        lease_seconds=row.lease_seconds,
        gold_share=row.gold_share,
        queue=row.queue,
        random_share=row.random_share,
        id=row.id,
        created=row.created,
    )


def item_of(row: Row[Any]) -> Item:
    """Return the item in a row of `items`."""
    return Item(
        conversation=turns(row.conversation),
        candidates=tuple(Candidate(**candidate) for candidate in row.candidates),
        fields=row.fields,
        stratum=row.stratum,
        policy=row.policy,
        gold=gold_of(row.gold),
        is_qualification=row.pool == "qualification",
        id=row.id,
        project=row.project,
        selection_probability=row.selection_probability,
    )


def assignment_of(row: Row[Any]) -> Assignment:
    """Return the assignment in a row of `assignments`."""
    return Assignment(row.id, row.project, row.item, row.rater, tuple(row.shown), row.claimed, row.expires, row.state, row.guideline)


def order_of(shown: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the candidate at each place shown, from the column of a judgment; None where nobody knows the order."""
    return None if shown is None else tuple(shown)


def answer_of(value: Json) -> Answer:
    """Return the answer in a JSON object."""
    return Answer(
        ranking=tiers(value.get("ranking", ())),
        all_bad=value.get("all_bad", False),
        dimensions={dimension: tiers(ranking) for dimension, ranking in value.get("dimensions", {}).items()},
        strength=value.get("strength"),
        reason=value.get("reason", ""),
        text=value.get("text", ""),
        dialogue=turns(value.get("dialogue", ())),
        broken=value.get("broken"),
        rule=value.get("rule", ""),
        grades=value.get("grades", {}),
        grade_probabilities=value.get("grade_probabilities", {}),
        flag=value.get("flag", ""),
        skipped=value.get("skipped", False),
        seconds=value.get("seconds"),
        probability=value.get("probability"),
        is_consistent=value.get("is_consistent"),
        probabilities=tuple(value.get("probabilities", ())),
        marks=tuple(value.get("marks", ())),
    )


def answer_json(answer: Answer) -> dict[str, Any]:
    """Return the answer as a JSON object without empty fields."""
    value = asdict(answer) | {"dialogue": turns_json(answer.dialogue)}
    # Not `in (False, ...)`, because 0.0 seconds are equal to False but not empty.
    fields = {name: part for name, part in value.items() if part is not None and part is not False and part not in ("", (), [], {})}
    stated = {"broken": answer.broken, "is_consistent": answer.is_consistent}  # false is an answer here
    return fields | {name: said for name, said in stated.items() if said is not None}


def rule_of(task: Task, fields: Json, identity: str) -> str:
    """Return the rule that an item is about; "" if the task does not ask about rules.

    It is the one that the field `rule` names. Otherwise the item's id chooses one, the same for all raters.
    """
    if task.kind not in RULED or not task.rules:
        return ""
    named = fields.get("rule")
    return str(named) if named in task.rules else task.rules[int(identity[:8], 16) % len(task.rules)]


def criteria_of(task: Task, fields: Json) -> tuple[Criterion, ...]:
    """Return the criteria that an item is graded by; () if the task does not ask about rubrics."""
    return rubric_of(fields["rubric"]).criteria if task.kind == "rubric" else ()


def digest(item: Item, task: Task) -> str:
    """Return the SHA-256 of the conversation and the candidates in any order, so that a swapped pair is the same question.

    If the task is about rules or rubrics, the rule that the item names, or ids and texts of its criteria, are part of it.
    """
    rule = [item.fields["rule"]] if task.kind in RULED and item.fields.get("rule") else []
    rule += [rubric_of(item.fields["rubric"]).question] if task.kind == "rubric" else []
    candidates = sorted(json.dumps(candidate, sort_keys=True) for candidate in candidates_json(item.candidates))
    question = json.dumps([turns_json(item.conversation), candidates, *rule], sort_keys=True)
    return hashlib.sha256(question.encode("utf-8", errors="surrogatepass")).hexdigest()


def name_key(name: str) -> str:
    """Return the name composed (NFKC), without case and outer blanks, so that names that look alike are equal."""
    return unicodedata.normalize("NFKC", name).strip().casefold()
