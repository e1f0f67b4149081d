"""Questions alone, as people write them: `{"prompt": "...", "completions": ["...", "..."]}` and what may stand beside these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from palate.core import Conversation, Message, Role
from palate.data.containers import Found
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns, invalid
from palate.data.exchange.exchange import Candidate, ExchangeItem, Gold
from palate.data.exchange.gather import Gathering
from palate.data.exchange.task import TASKS, TaskKind

KEYS = ("id", "prompt", "conversation", "completions", "task", "stratum", "gold", "qualification", "rule", "fields")
_ROLES: tuple[Role, ...] = get_args(Role)
_BY_COUNT: tuple[TaskKind, ...] = ("write", "rule", "compare")
"""What is asked about so many completions where the row does not say; more are ranked."""


@dataclass(frozen=True)
class ItemsShape:
    """A prompt (or conversation) a row with the completions to be judged; nobody judged them yet."""

    name: str = "items"
    needs: str = "`prompt` or `conversation`, with `completions` where there are some"

    def fits(self, row: Columns) -> bool:
        """Whether it is a question that nobody answered yet."""
        return bool({"prompt", "conversation"} & row.keys())

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; each row becomes an item."""
        into.each(rows, lambda found: into.item(_item(found), found.source))


def _item(found: Found) -> ExchangeItem:
    row = {name: value for name, value in found.row.items() if value is not None}
    for name in row:
        if name not in KEYS:
            raise invalid(name, f"is not known; there are {', '.join(KEYS)}. Put further columns into `fields`")
    candidates = tuple(
        _candidate(one, f"completions[{k}]") for k, one in enumerate(cells.sequence(row.get("completions", []), "completions"))
    )
    task = _BY_COUNT[len(candidates)] if len(candidates) < 3 else "rank"
    fields = cells.mapping(row.get("fields", {}), "fields")
    if "rule" in row:
        rule = cells.text(row["rule"], "rule")
        if fields.get("rule", rule) != rule:
            raise invalid("rule", "is another one in `fields`; give one of them")
        fields = {**fields, "rule": rule}
    return ExchangeItem(
        id=cells.name(row.get("id", found.place), "id"),
        conversation=_conversation(row),
        candidates=candidates,
        task=cells.choice(row.get("task", task), "task", TASKS),
        stratum=cells.text(row.get("stratum", ""), "stratum"),
        gold=_gold(row["gold"], len(candidates)) if "gold" in row else None,
        is_qualification=cells.truth(row.get("qualification", False), "qualification"),
        fields={cells.text(key, "fields"): cells.plain(value, f"fields.{key}") for key, value in fields.items()},
    )


def _conversation(row: Columns) -> Conversation:
    if ("prompt" in row) == ("conversation" in row):
        raise invalid("prompt", "is a text, `conversation` a list of {role, text}: give one of them")
    if "prompt" in row:
        return (Message("user", cells.text(row["prompt"], "prompt")),)
    turns = [cells.mapping(turn, "conversation") for turn in cells.sequence(row["conversation"], "conversation")]
    for turn in turns:
        cells.only(turn, ("role", "text"), "conversation")
    return tuple(
        Message(cells.choice(turn.get("role"), "conversation.role", _ROLES), cells.text(turn.get("text"), "conversation.text"))
        for turn in turns
    )


def _candidate(value: object, field: str) -> Candidate:
    if isinstance(value, str):
        return Candidate(cells.text(value, field))
    said = cells.mapping(value, field)
    cells.only(said, ("text", "media", "policy"), field)
    return Candidate(*(cells.text(said.get(name, ""), f"{field}.{name}") for name in ("text", "media", "policy")))


def _gold(value: object, count: int) -> Gold:
    """Tiers of completions numbered from 0: `1` (the better of two), `[1, 0]` or `[[0, 2], [1]]`; true or false of a rule."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        better = cells.whole(value, "gold", least=0, most=1)
        if count != 2:
            raise invalid("gold", f"is {better} of {count} completions; give all of them, best first, such as [[0, 2], [1]]")
        return ((better,), (1 - better,))
    tiers = [one if isinstance(one, list) else [one] for one in cells.sequence(value, "gold")]
    return cells.tiers(tiers, "gold")
