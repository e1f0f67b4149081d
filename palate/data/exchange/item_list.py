"""Items without judgments, as people write them: `{"prompt": "...", "completions": ["...", "..."]}` and further columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from palate.core import Conversation, Message, Role
from palate.data import cells
from palate.data.cells import Columns, invalid
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Candidate, ExchangeItem, Gold
from palate.data.exchange.gather import Gathering, NothingToJudge, nothing_to_judge
from palate.data.exchange.project import TASKS, TaskKind

KEYS = ("id", "prompt", "conversation", "completions", "task", "stratum", "gold", "qualification", "rule", "rubric", "fields")
_ROLES: tuple[Role, ...] = get_args(Role)
_BY_COUNT: tuple[TaskKind, ...] = ("write", "rule", "compare")
"""The default task for zero, one and two completions. More completions are ranked."""


@dataclass(frozen=True)
class ItemsShape:
    """A prompt (or conversation) per row, with the completions that raters will judge."""

    name: str = "items"
    needs: str = "`prompt` or `conversation`, with `completions` where there are some"

    def fits(self, row: Columns) -> bool:
        """Whether there is a `prompt` or a `conversation`."""
        return bool({"prompt", "conversation"} & row.keys())

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item of each row."""
        into.each(rows, lambda entry: into.item(_item(entry), entry.source))


def _item(entry: SourceRow) -> ExchangeItem:
    row = {name: value for name, value in entry.row.items() if value is not None}
    for name in row:
        if name not in KEYS:
            raise invalid(name, f"is not known; there are {', '.join(KEYS)}. Put further columns into `fields`")
    candidates = tuple(
        _candidate(completion, f"completions[{k}]")
        for k, completion in enumerate(cells.sequence(row.get("completions", []), "completions"))
    )
    if nothing := nothing_to_judge(candidates):
        raise NothingToJudge(nothing)
    task = _BY_COUNT[len(candidates)] if len(candidates) < 3 else "rank"
    fields = cells.mapping(row.get("fields", {}), "fields")
    if "rubric" in fields or "rubric" in row:
        task = "rubric" if len(candidates) == 1 else task
    own: dict[str, object] = {"rule": cells.text(row["rule"], "rule")} if "rule" in row else {}
    own |= {"rubric": list(cells.sequence(row["rubric"], "rubric"))} if "rubric" in row else {}
    for name, value in own.items():
        if fields.get(name, value) != value:
            raise invalid(name, f"differs from `{name}` in `fields`; give only one of them")
    fields = {**fields, **own}
    return ExchangeItem(
        id=cells.name(row.get("id", entry.place), "id"),
        conversation=_conversation(row),
        candidates=candidates,
        task=cells.choice(row.get("task", task), "task", TASKS),
        stratum=cells.text(row.get("stratum", ""), "stratum"),
        gold=_gold(row["gold"], len(candidates)) if "gold" in row else None,
        is_qualification=cells.boolean(row.get("qualification", False), "qualification"),
        fields={cells.text(key, "fields"): cells.json_value(value, f"fields.{key}") for key, value in fields.items()},
    )


def _conversation(row: Columns) -> Conversation:
    if ("prompt" in row) == ("conversation" in row):
        raise invalid("prompt", "is a text and `conversation` a list of {role, text}; give one of them")
    if "prompt" in row:
        return (Message("user", cells.text(row["prompt"], "prompt")),)
    turns = [cells.mapping(turn, "conversation") for turn in cells.sequence(row["conversation"], "conversation")]
    for turn in turns:
        cells.only_known(turn, ("role", "text"), "conversation")
    return tuple(
        Message(cells.choice(turn.get("role"), "conversation.role", _ROLES), cells.text(turn.get("text"), "conversation.text"))
        for turn in turns
    )


def _candidate(value: object, field: str) -> Candidate:
    if isinstance(value, str):
        return Candidate(cells.text(value, field))
    completion = cells.mapping(value, field)
    cells.only_known(completion, ("text", "media", "policy"), field)
    return Candidate(*(cells.text(completion.get(name) or "", f"{field}.{name}") for name in ("text", "media", "policy")))


def _gold(value: object, count: int) -> Gold:
    """Tiers of completions counted from 0: `1` (the better of two), `[1, 0]` or `[[0, 2], [1]]`. For a rule, true or false."""
    value = cells.scalar_or_list(value, "gold")
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        better = cells.whole(value, "gold", least=0, most=1)
        if count != 2:
            raise invalid("gold", f"is {better} for {count} completions; give all of them, the best first, such as [[0, 2], [1]]")
        return ((better,), (1 - better,))
    tiers = [tier if isinstance(tier, list) else [tier] for tier in cells.sequence(value, "gold")]
    return cells.tiers(tiers, "gold")
