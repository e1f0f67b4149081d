"""PandaLM's pairs: an instruction, two responses, and a column for each annotator: 0 a tie, 1 or 2 the better response."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.core import DataError, Judgment, Message
from palate.data.containers import Found
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns, invalid
from palate.data.exchange.exchange import Candidate, Exchange, ExchangeItem, Tiers, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written, unheld
from palate.data.files import write_json

_WHOLE = re.compile(r"0|[1-9][0-9]{0,16}")
_ANNOTATOR = re.compile(r"annotator\d{1,6}")
_RANKINGS: tuple[Tiers, ...] = (((0, 1),), ((0,), (1,)), ((1,), (0,)))


@dataclass(frozen=True)
class PandaLMShape:
    """One pair a row, with the votes of `annotator1`, `annotator2`, ... on it."""

    name: str = "pandalm"
    needs: str = "`instruction`, `response1`, `response2` and `annotator1`"
    loses: str = (
        "names of raters, which become numbers. Only a rater's last vote on `overall` and the last turn of a conversation are kept. "
        "Each item must be a pair of texts"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is such a pair."""
        return {"instruction", "response1", "response2"} <= row.keys()

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; each row becomes an item and its votes. The published file writes NaN for an `input` that is not there."""
        into.each(rows, lambda found: _take(found, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """What was written: one row an item. Raises DataError for items that are no pairs of texts."""
        columns = {rater.id: f"annotator{number}" for number, rater in enumerate(exchange.raters, start=1)}
        votes, left_out, rows = exchange.votes_of(), [], []
        for item in exchange.items:
            row = _row(item)
            for vote in votes[item.id]:
                if not vote.is_ranking or vote.judgment.dimension != "overall":
                    left_out.append(unheld(item.id, "not a ranking on `overall`, or not kept"))
                    continue
                if columns[vote.judgment.rater] in row:
                    left_out.append(unheld(item.id, "an earlier vote of the same rater"))
                row[columns[vote.judgment.rater]] = _RANKINGS.index(vote.tiers)
            rows.append(row)
        write_json(path, rows)
        return Written(len(rows), tuple(left_out))


def _take(found: Found, into: Gathering) -> None:
    row = found.row
    asked, given = cells.text(cells.present(row, "instruction"), "instruction"), row.get("input")
    if isinstance(given, float) and math.isnan(given):
        given = None
    question = asked if given in (None, "") else f"{asked}\n\n{cells.text(given, 'input')}"
    if not question.strip():
        raise invalid("instruction", "is empty")
    said = [cells.text(cells.present(row, name), name) for name in ("response1", "response2")]
    item_id = cells.name(row["idx"], "idx") if row.get("idx") is not None else found.place
    fields: dict[str, object] = {"instruction": asked, **({} if given in (None, "") else {"input": given})}
    fields |= {name: cells.plain(row[name], name) for name in ("motivation_app", "cmp_key") if row.get(name) is not None}
    candidates = tuple(map(Candidate, said, ("", ""), _policies(row.get("cmp_key"))))
    into.item(ExchangeItem(item_id, (Message("user", question),), candidates, fields=fields), found.source)
    for name in row:
        if _ANNOTATOR.fullmatch(name) and row[name] is not None:
            verdict = _RANKINGS[cells.whole(row[name], name, least=0, most=2)]
            into.vote(Vote(Judgment(item_id, into.rater(name, "person"), verdict)), found.source)


def _policies(key: object) -> tuple[str, str]:
    """The names in `MODEL_MODEL`; none where that is not clear."""
    names = cells.text(key, "cmp_key").split("_") if key is not None else []
    return (names[0], names[1]) if len(names) == 2 else ("", "")


def _row(item: ExchangeItem) -> dict[str, Any]:
    if len(item.candidates) != 2 or not item.conversation or any(one.media for one in item.candidates):
        raise DataError(f"item {item.id!r}: PandaLM's rows are an instruction with two texts. Leave it out, or join texts with --items.")
    first, second = item.candidates
    asked = item.fields.get("instruction", item.conversation[-1].text)
    policies = f"{first.policy}_{second.policy}" if first.policy and second.policy else None
    named = {name: value for name in ("motivation_app",) if (value := item.fields.get(name)) is not None}
    key = item.fields.get("cmp_key", policies)
    row: dict[str, Any] = {
        "idx": int(item.id) if _WHOLE.fullmatch(item.id) else item.id,
        **named,
        **({} if key is None else {"cmp_key": key}),
    }
    return row | {"instruction": asked, "input": item.fields.get("input", ""), "response1": first.text, "response2": second.text}
