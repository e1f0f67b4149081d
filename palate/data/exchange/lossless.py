"""Palate's own file of judgments: JSON lines that hold everything in an `Exchange`, one thing per row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from palate.core import Conversation, Judgment, Message, Role
from palate.data import cells
from palate.data.cells import Columns, invalid
from palate.data.containers import SourceRow
from palate.data.exchange.contents import ENTRIES, RATER_KINDS, STATUSES, Candidate, Exchange, ExchangeItem, GuidelineText, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.project import TASKS, project_of, project_row
from palate.data.exchange.shape import Written
from palate.data.jsonl import Row, write_rows
from palate.data.judgment_rows import consistency_of, order_of, probabilities_of, probability_of
from palate.data.rubrics import GRADE_WORDS

VERSION = 3
"""From version 3 on, a judgment without `order` is one whose order shown is not known."""
_ROLES: tuple[Role, ...] = get_args(Role)
_MESSAGE = ("role", "text", "tool_fields")
_CANDIDATE = ("text", "media", "policy", "tool_fields")
_ITEM = (
    *("id", "conversation", "candidates", "task", "stratum", "gold"),
    *("is_qualification", "selection_probability", "fields", "policy", "created", "removed"),
)
_VOTE = (
    *("item", "rater", "ranking", "order", "dimension", "strength", "reason", "seconds", "guideline"),
    *("probability", "probabilities", "is_consistent", "marks"),
    *("id", "time", "status", "is_all_bad", "is_skipped", "flag", "text", "is_broken"),
    *("entry", "supersedes", "answer", "was_surplus", "rule", "dialogue", "grades", "grade_probabilities"),
)


@dataclass(frozen=True)
class LosslessShape:
    """Rows with one key: `project`, `guideline`, `rater`, `item` or `judgment`. The first row has `palate`."""

    name: str = "palate"
    needs: str = '{"palate": "exchange", ...} as the first row, then rows of project, guideline, rater, item, judgment'
    loses: str = ""

    def fits(self, row: Columns) -> bool:
        """Whether it is the first row of such a file."""
        return row.get("palate") == "exchange"

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Collect what the rows say."""
        is_open = False

        def take(entry: SourceRow) -> None:
            nonlocal is_open
            if not is_open:
                _open(entry.row, into)
                is_open = True
            else:
                _take(entry, into)

        into.each(rows, take)

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write everything except the list of rows that were dropped on reading."""
        return Written(write_rows(path, _rows(exchange)))


def _open(row: Columns, into: Gathering) -> None:
    cells.only_known(row, ("palate", "version", "name"), "palate")
    if row.get("palate") != "exchange":
        raise invalid("palate", "is missing in the first row, which says what the file is")
    if cells.whole(row.get("version"), "version", least=1, most=10**6) > VERSION:
        raise invalid("version", f"is {row['version']}: a newer Palate wrote the file; this one reads up to {VERSION}")
    into.name = cells.text(row.get("name", ""), "name")


def _take(entry: SourceRow, into: Gathering) -> None:
    if len(entry.row) != 1:
        raise invalid(
            "row", f"has {len(entry.row)} keys ({', '.join(entry.row)}); each row has one: project, guideline, rater, item or judgment"
        )
    (kind,) = entry.row
    content = cells.mapping(entry.row[kind], kind)
    if kind == "project":
        into.project(project_of(content, into.name), entry.source)
    elif kind == "guideline":
        cells.only_known(content, ("version", "text", "warning", "created"), kind)
        version, text, warning = (cells.text(content.get(name, ""), name) for name in ("version", "text", "warning"))
        into.guideline(GuidelineText(version, text, warning, _number_or_none(content, "created")))
    elif kind == "rater":
        cells.only_known(content, ("id", "kind"), kind)
        into.rater(cells.name(content.get("id"), "rater.id"), cells.choice(content.get("kind"), "rater.kind", RATER_KINDS))
    elif kind == "item":
        into.item(_item(content), entry.source)
    elif kind == "judgment":
        into.vote(_vote(content), entry.source)
    else:
        raise invalid(kind, "is not known; a row is a project, guideline, rater, item or judgment")


def _item(row: Columns) -> ExchangeItem:
    cells.only_known(row, _ITEM, "item")
    candidates = cells.sequence(cells.present(row, "candidates"), "candidates")
    share, gold = row.get("selection_probability"), row.get("gold")
    fields = cells.mapping(row.get("fields", {}), "fields")
    return ExchangeItem(
        id=cells.name(row.get("id"), "item.id"),
        conversation=_turns(cells.present(row, "conversation"), "conversation"),
        candidates=tuple(_candidate(candidate) for candidate in candidates),
        task=cells.choice(row.get("task", "compare"), "task", TASKS),
        stratum=cells.text(row.get("stratum", ""), "stratum"),
        gold=gold if gold is None or isinstance(gold, bool) else cells.tiers(gold, "gold"),
        is_qualification=cells.boolean(row.get("is_qualification", False), "is_qualification"),
        selection_probability=None if share is None else cells.number(share, "selection_probability", least=0, most=1),
        fields={cells.text(key, "fields"): cells.json_value(value, f"fields.{key}") for key, value in fields.items()},
        policy=None if row.get("policy") is None else cells.text(row["policy"], "policy"),
        created=_number_or_none(row, "created"),
        removed=_number_or_none(row, "removed"),
    )


def _turns(value: object, field: str) -> Conversation:
    return tuple(_message(turn, field) for turn in cells.sequence(value, field))


def _message(value: object, field: str) -> Message:
    row = cells.mapping(value, field)
    cells.only_known(row, _MESSAGE, field)
    role = cells.choice(row.get("role"), f"{field}.role", _ROLES)
    text, calls = (cells.text(row.get(name, ""), f"{field}.{name}") for name in ("text", "tool_fields"))
    return Message(role, text, calls)


def _number_or_none(row: Columns, field: str) -> float | None:
    return None if row.get(field) is None else cells.number(row[field], field)


def _candidate(value: object) -> Candidate:
    row = cells.mapping(value, "candidates")
    cells.only_known(row, _CANDIDATE, "candidates")
    return Candidate(*(cells.text(row.get(name, ""), f"candidates.{name}") for name in _CANDIDATE))


def _vote(row: Columns) -> Vote:
    cells.only_known(row, _VOTE, "judgment")
    seconds, broken = row.get("seconds"), row.get("is_broken")
    grades, met = (cells.mapping(row.get(name, {}), name) for name in ("grades", "grade_probabilities"))
    judgment = Judgment(
        comparison=cells.name(row.get("item"), "judgment.item"),
        rater=cells.name(row.get("rater"), "judgment.rater"),
        ranking=cells.tiers(row.get("ranking", []), "ranking"),
        dimension=cells.name(row.get("dimension", "overall"), "dimension"),
        order=order_of(row),
        strength=_number_or_none(row, "strength"),
        reason=cells.text(row.get("reason", ""), "reason"),
        seconds=None if seconds is None else cells.number(seconds, "seconds", least=0),
        guideline=cells.text(row.get("guideline", ""), "guideline"),
        probability=probability_of(row),
        is_consistent=consistency_of(row),
        probabilities=probabilities_of(row),
    )
    return Vote(
        judgment,
        id=cells.text(row.get("id", ""), "judgment.id"),
        time=_number_or_none(row, "time"),
        status=cells.choice(row.get("status", "kept"), "status", STATUSES),
        is_all_bad=cells.boolean(row.get("is_all_bad", False), "is_all_bad"),
        is_skipped=cells.boolean(row.get("is_skipped", False), "is_skipped"),
        flag=cells.text(row.get("flag", ""), "flag"),
        text=cells.text(row.get("text", ""), "text"),
        is_broken=None if broken is None else cells.boolean(broken, "is_broken"),
        entry=cells.choice(row.get("entry", "answer"), "entry", ENTRIES),
        supersedes=cells.text(row.get("supersedes", ""), "supersedes"),
        answer=cells.text(row.get("answer", ""), "answer"),
        was_surplus=cells.boolean(row.get("was_surplus", False), "was_surplus"),
        rule=cells.text(row.get("rule", ""), "rule"),
        dialogue=_turns(row.get("dialogue", []), "dialogue"),
        grades={name: cells.choice(word, f"grades.{name}", GRADE_WORDS) for name, word in grades.items()},
        grade_probabilities={name: cells.number(p, f"grade_probabilities.{name}", least=0, most=1) for name, p in met.items()},
        marks=tuple(cells.number(mark, f"marks[{k}]") for k, mark in enumerate(cells.sequence(row.get("marks", []), "marks"))),
    )


def _rows(exchange: Exchange) -> Iterator[Row]:
    yield {"palate": "exchange", "version": VERSION, "name": exchange.name}
    if exchange.project is not None:
        yield {"project": project_row(exchange.project)}
    for guideline in exchange.guidelines:
        optional = _without_empty(warning=guideline.warning, created=guideline.created)
        yield {"guideline": {"version": guideline.version, "text": guideline.text, **optional}}
    for rater in exchange.raters:
        yield {"rater": {"id": rater.id, "kind": rater.kind}}
    for item in exchange.items:
        yield {"item": item_row(item)}
    for vote in exchange.votes:
        yield {"judgment": vote_row(vote)}


def item_row(item: ExchangeItem) -> Row:
    """The item as a JSON object."""
    return {
        "id": item.id,
        "conversation": _turn_rows(item.conversation),
        "candidates": [_candidate_row(candidate) for candidate in item.candidates],
        "task": item.task,
        **_without_empty(stratum=item.stratum, is_qualification=item.is_qualification or None, fields=dict(item.fields) or None),
        **_without_empty(gold=item.gold, selection_probability=item.selection_probability, created=item.created, removed=item.removed),
        **({} if item.policy is None else {"policy": item.policy}),
    }


def _turn_rows(conversation: Conversation) -> list[Row]:
    return [{"role": turn.role, "text": turn.text, **_without_empty(tool_fields=turn.tool_fields)} for turn in conversation]


def _candidate_row(candidate: Candidate) -> Row:
    return _without_empty(text=candidate.text, media=candidate.media, policy=candidate.policy, tool_fields=candidate.tool_fields)


def vote_row(vote: Vote) -> Row:
    """The vote as a JSON object."""
    judgment = vote.judgment
    return {
        "item": judgment.comparison,
        "rater": judgment.rater,
        "ranking": judgment.ranking,
        **({} if judgment.order is None else {"order": judgment.order}),
        "dimension": judgment.dimension,
        **_without_empty(strength=judgment.strength, reason=judgment.reason, seconds=judgment.seconds, guideline=judgment.guideline),
        **_without_empty(probability=judgment.probability, is_consistent=judgment.is_consistent),
        **_without_empty(id=vote.id, time=vote.time, flag=vote.flag, text=vote.text, is_broken=vote.is_broken),
        **_without_empty(is_all_bad=vote.is_all_bad or None, is_skipped=vote.is_skipped or None),
        **({} if vote.status == "kept" else {"status": vote.status}),
        **({} if vote.entry == "answer" else {"entry": vote.entry}),
        **_without_empty(supersedes=vote.supersedes, answer=vote.answer, was_surplus=vote.was_surplus or None, rule=vote.rule),
        **({"dialogue": _turn_rows(vote.dialogue)} if vote.dialogue else {}),
        **({"grades": dict(vote.grades)} if vote.grades else {}),
        **({"grade_probabilities": dict(vote.grade_probabilities)} if vote.grade_probabilities else {}),
        **({"probabilities": judgment.probabilities} if judgment.probabilities else {}),
        **({"marks": vote.marks} if vote.marks else {}),
    }


def _without_empty(**fields: object) -> Row:
    """The fields that are not None or "", which the reader takes for missing ones."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}
