"""Palate's own file of judgments: JSON lines that hold everything an `Exchange` does, one thing a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from palate.core import Conversation, Judgment, Message, Role
from palate.data.containers import Found
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns, invalid
from palate.data.exchange.exchange import ENTRIES, RATER_KINDS, STATUSES, Candidate, Exchange, ExchangeItem, GuidelineText, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.project import project_of, project_row
from palate.data.exchange.shape import Written
from palate.data.exchange.task import TASKS
from palate.data.jsonl import Row, write_rows

VERSION = 2
_ROLES: tuple[Role, ...] = get_args(Role)
_MESSAGE = ("role", "text", "tool_fields")
_CANDIDATE = ("text", "media", "policy", "tool_fields")
_ITEM = (
    *("id", "conversation", "candidates", "task", "stratum", "gold"),
    *("is_qualification", "selection_probability", "fields", "policy", "created", "removed"),
)
_VOTE = (
    *("item", "rater", "ranking", "order", "dimension", "strength", "reason", "seconds", "guideline"),
    *("id", "time", "status", "is_all_bad", "is_skipped", "flag", "text", "is_broken"),
    *("entry", "supersedes", "answer", "was_surplus", "rule", "dialogue"),
)


@dataclass(frozen=True)
class LosslessShape:
    """Rows of one key each: `palate` (the first), `project`, `guideline`, `rater`, `item`, `judgment`."""

    name: str = "palate"
    needs: str = '{"palate": "exchange", ...} as the first row, then rows of project, guideline, rater, item, judgment'
    loses: str = ""

    def fits(self, row: Columns) -> bool:
        """Whether it is the first row of such a file."""
        return row.get("palate") == "exchange"

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; what the rows say is gathered."""
        is_open = False

        def take(found: Found) -> None:
            nonlocal is_open
            if not is_open:
                _open(found.row, into)
                is_open = True
            else:
                _take(found, into)

        into.each(rows, take)

    def write(self, exchange: Exchange, path: Path) -> Written:
        """What was written; nothing is lost but the list of rows that were dropped on reading."""
        return Written(write_rows(path, _rows(exchange)))


def _open(row: Columns, into: Gathering) -> None:
    cells.only(row, ("palate", "version", "name"), "palate")
    if row.get("palate") != "exchange":
        raise invalid("palate", "is not the first row's: it says what the file is")
    if cells.whole(row.get("version"), "version", least=1, most=10**6) > VERSION:
        raise invalid("version", f"is {row['version']}: a newer Palate wrote the file; this one reads up to {VERSION}")
    into.name = cells.text(row.get("name", ""), "name")


def _take(found: Found, into: Gathering) -> None:
    if len(found.row) != 1:
        raise invalid(
            "row", f"has {len(found.row)} keys ({', '.join(found.row)}); each has one: project, guideline, rater, item or judgment"
        )
    (what,) = found.row
    said = cells.mapping(found.row[what], what)
    if what == "project":
        into.project(project_of(said, into.name), found.source)
    elif what == "guideline":
        cells.only(said, ("version", "text", "warning", "created"), what)
        version, told, warning = (cells.text(said.get(name, ""), name) for name in ("version", "text", "warning"))
        into.guideline(GuidelineText(version, told, warning, _maybe_number(said, "created")))
    elif what == "rater":
        cells.only(said, ("id", "kind"), what)
        into.rater(cells.name(said.get("id"), "rater.id"), cells.choice(said.get("kind"), "rater.kind", RATER_KINDS))
    elif what == "item":
        into.item(_item(said), found.source)
    elif what == "judgment":
        into.vote(_vote(said), found.source)
    else:
        raise invalid(what, "is not known; a row is a project, guideline, rater, item or judgment")


def _item(said: Columns) -> ExchangeItem:
    cells.only(said, _ITEM, "item")
    offered = cells.sequence(cells.present(said, "candidates"), "candidates")
    share, gold = said.get("selection_probability"), said.get("gold")
    fields = cells.mapping(said.get("fields", {}), "fields")
    return ExchangeItem(
        id=cells.name(said.get("id"), "item.id"),
        conversation=_turns(cells.present(said, "conversation"), "conversation"),
        candidates=tuple(_candidate(one) for one in offered),
        task=cells.choice(said.get("task", "compare"), "task", TASKS),
        stratum=cells.text(said.get("stratum", ""), "stratum"),
        gold=gold if gold is None or isinstance(gold, bool) else cells.tiers(gold, "gold"),
        is_qualification=cells.truth(said.get("is_qualification", False), "is_qualification"),
        selection_probability=None if share is None else cells.number(share, "selection_probability", least=0, most=1),
        fields={cells.text(key, "fields"): cells.plain(value, f"fields.{key}") for key, value in fields.items()},
        policy=None if said.get("policy") is None else cells.text(said["policy"], "policy"),
        created=_maybe_number(said, "created"),
        removed=_maybe_number(said, "removed"),
    )


def _turns(value: object, field: str) -> Conversation:
    return tuple(_message(turn, field) for turn in cells.sequence(value, field))


def _message(value: object, field: str) -> Message:
    said = cells.mapping(value, field)
    cells.only(said, _MESSAGE, field)
    role = cells.choice(said.get("role"), f"{field}.role", _ROLES)
    words, about = (cells.text(said.get(name, ""), f"{field}.{name}") for name in ("text", "tool_fields"))
    return Message(role, words, about)


def _maybe_number(said: Columns, field: str) -> float | None:
    return None if said.get(field) is None else cells.number(said[field], field)


def _candidate(value: object) -> Candidate:
    said = cells.mapping(value, "candidates")
    cells.only(said, _CANDIDATE, "candidates")
    return Candidate(*(cells.text(said.get(name, ""), f"candidates.{name}") for name in _CANDIDATE))


def _vote(said: Columns) -> Vote:
    cells.only(said, _VOTE, "judgment")
    seconds, broken = said.get("seconds"), said.get("is_broken")
    judgment = Judgment(
        comparison=cells.name(said.get("item"), "judgment.item"),
        rater=cells.name(said.get("rater"), "judgment.rater"),
        ranking=cells.tiers(said.get("ranking", []), "ranking"),
        dimension=cells.name(said.get("dimension", "overall"), "dimension"),
        order=cells.numbers(cells.present(said, "order"), "order"),
        strength=_maybe_number(said, "strength"),
        reason=cells.text(said.get("reason", ""), "reason"),
        seconds=None if seconds is None else cells.number(seconds, "seconds", least=0),
        guideline=cells.text(said.get("guideline", ""), "guideline"),
    )
    return Vote(
        judgment,
        id=cells.text(said.get("id", ""), "judgment.id"),
        time=_maybe_number(said, "time"),
        status=cells.choice(said.get("status", "kept"), "status", STATUSES),
        is_all_bad=cells.truth(said.get("is_all_bad", False), "is_all_bad"),
        is_skipped=cells.truth(said.get("is_skipped", False), "is_skipped"),
        flag=cells.text(said.get("flag", ""), "flag"),
        text=cells.text(said.get("text", ""), "text"),
        is_broken=None if broken is None else cells.truth(broken, "is_broken"),
        entry=cells.choice(said.get("entry", "answer"), "entry", ENTRIES),
        supersedes=cells.text(said.get("supersedes", ""), "supersedes"),
        answer=cells.text(said.get("answer", ""), "answer"),
        was_surplus=cells.truth(said.get("was_surplus", False), "was_surplus"),
        rule=cells.text(said.get("rule", ""), "rule"),
        dialogue=_turns(said.get("dialogue", []), "dialogue"),
    )


def _rows(exchange: Exchange) -> Iterator[Row]:
    yield {"palate": "exchange", "version": VERSION, "name": exchange.name}
    if exchange.project is not None:
        yield {"project": project_row(exchange.project)}
    for guideline in exchange.guidelines:
        about = _said(warning=guideline.warning, created=guideline.created)
        yield {"guideline": {"version": guideline.version, "text": guideline.text, **about}}
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
        "candidates": [_candidate_row(one) for one in item.candidates],
        "task": item.task,
        **_said(stratum=item.stratum, is_qualification=item.is_qualification or None, fields=dict(item.fields) or None),
        **_said(gold=item.gold, selection_probability=item.selection_probability, created=item.created, removed=item.removed),
        **({} if item.policy is None else {"policy": item.policy}),
    }


def _turn_rows(conversation: Conversation) -> list[Row]:
    return [{"role": turn.role, "text": turn.text, **_said(tool_fields=turn.tool_fields)} for turn in conversation]


def _candidate_row(one: Candidate) -> Row:
    return _said(text=one.text, media=one.media, policy=one.policy, tool_fields=one.tool_fields)


def vote_row(vote: Vote) -> Row:
    """The vote as a JSON object."""
    judgment = vote.judgment
    return {
        "item": judgment.comparison,
        "rater": judgment.rater,
        "ranking": judgment.ranking,
        "order": judgment.order,
        "dimension": judgment.dimension,
        **_said(strength=judgment.strength, reason=judgment.reason, seconds=judgment.seconds, guideline=judgment.guideline),
        **_said(id=vote.id, time=vote.time, flag=vote.flag, text=vote.text, is_broken=vote.is_broken),
        **_said(is_all_bad=vote.is_all_bad or None, is_skipped=vote.is_skipped or None),
        **({} if vote.status == "kept" else {"status": vote.status}),
        **({} if vote.entry == "answer" else {"entry": vote.entry}),
        **_said(supersedes=vote.supersedes, answer=vote.answer, was_surplus=vote.was_surplus or None, rule=vote.rule),
        **({"dialogue": _turn_rows(vote.dialogue)} if vote.dialogue else {}),
    }


def _said(**fields: object) -> Row:
    """Those that are not None or "", which is what the reader takes for what is not there."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}
