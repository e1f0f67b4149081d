"""Rows of the tables as nouns, and back."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from palate.core import Message
from palate.ratings.entities import Answer, Assignment, Candidate, Gold, Item, Project, Task, Tiers

Json = Mapping[str, Any]

RULED = frozenset({"rule", "probe"})
"""Kinds of tasks that ask whether a rule is broken."""


def tiers(value: Sequence[Sequence[int]]) -> Tiers:
    """A ranking from JSON lists."""
    return tuple(tuple(int(place) for place in tier) for tier in value)


def gold_of(value: Any) -> Gold | None:
    """A right answer from JSON: true or false, or lists."""
    return value if value is None or isinstance(value, bool) else tiers(value)


def turns(value: Sequence[Json]) -> tuple[Message, ...]:
    """A conversation from JSON objects."""
    return tuple(Message(turn["role"], turn["text"], turn.get("tool_fields", "")) for turn in value)


def turns_json(conversation: Sequence[Message]) -> list[dict[str, str]]:
    """A conversation as JSON objects; `tool_fields` only where there are some."""
    return [
        {"role": turn.role, "text": turn.text} | ({"tool_fields": turn.tool_fields} if turn.tool_fields else {}) for turn in conversation
    ]


def candidates_json(candidates: Sequence[Candidate]) -> list[dict[str, str]]:
    """Candidates as JSON objects without what is empty."""
    return [{name: value for name, value in asdict(candidate).items() if value} for candidate in candidates]


def project_of(row: Row[Any]) -> Project:
    """The project in a row of `projects`."""
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
    """The item in a row of `items`."""
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
    """The assignment in a row of `assignments`."""
    return Assignment(row.id, row.project, row.item, row.rater, tuple(row.shown), row.claimed, row.expires, row.state, row.guideline)


def answer_of(value: Json) -> Answer:
    """The answer in a JSON object."""
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
        flag=value.get("flag", ""),
        skipped=value.get("skipped", False),
        seconds=value.get("seconds"),
    )


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as a JSON object without what was not said."""
    value = asdict(answer) | {"dialogue": turns_json(answer.dialogue)}
    # Not `in (False, ...)`: 0.0 seconds are equal to False, and were said.
    said = {name: one for name, one in value.items() if one is not None and one is not False and one not in ("", (), [], {})}
    return said | ({} if answer.broken is None else {"broken": answer.broken})


def rule_of(task: Task, fields: Json, identity: str) -> str:
    """The rule that an item is about: the one that its field `rule` names, else one by the item's id, the same for all raters.

    "" where the task asks about none.
    """
    if task.kind not in RULED or not task.rules:
        return ""
    named = fields.get("rule")
    return str(named) if named in task.rules else task.rules[int(identity[:8], 16) % len(task.rules)]


def digest(item: Item, task: Task) -> str:
    """SHA-256 of what is asked: conversation and candidates whatever their order, so that a pair swapped is the same question.

    Where the task is about rules, the one that the item names is part of it.
    """
    rule = [item.fields["rule"]] if task.kind in RULED and item.fields.get("rule") else []
    shown = sorted(json.dumps(candidate, sort_keys=True) for candidate in candidates_json(item.candidates))
    asked = json.dumps([turns_json(item.conversation), shown, *rule], sort_keys=True)
    return hashlib.sha256(asked.encode("utf-8", errors="surrogatepass")).hexdigest()


def name_key(name: str) -> str:
    """What two names share that look alike: composed, without case and outer blanks."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def is_text(value: str) -> bool:
    """Whether a text column takes the value: PostgreSQL has no NUL, and half a surrogate pair is no character."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value
