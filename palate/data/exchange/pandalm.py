"""PandaLM's pairs: an instruction, two responses, and a column per annotator with 0 for a tie, or 1 or 2 for the better response."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from palate.core import Judgment, Message
from palate.data import cells
from palate.data.cells import Columns, filled
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Candidate, ExchangeItem, Tiers, Vote
from palate.data.exchange.gather import Gathering

_ANNOTATOR = re.compile(r"annotator\d{1,6}")
_RANKINGS: tuple[Tiers, ...] = (((0, 1),), ((0,), (1,)), ((1,), (0,)))


@dataclass(frozen=True)
class PandaLMShape:
    """One pair per row, with the votes of `annotator1`, `annotator2`, ... on it."""

    name: str = "pandalm"
    needs: str = "`instruction`, `response1`, `response2` and `annotator1`"

    def fits(self, row: Columns) -> bool:
        """Whether it is such a pair."""
        return {"instruction", "response1", "response2"} <= row.keys()

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item and its votes of each row. NaN for a missing `input`, as the published file has it, is null."""
        into.each(rows, lambda entry: _take(entry, into))


def _take(entry: SourceRow, into: Gathering) -> None:
    row = entry.row
    instruction, extra = cells.text(cells.present(row, "instruction"), "instruction"), row.get("input")
    question = instruction if extra in (None, "") else f"{instruction}\n\n{cells.text(extra, 'input')}"
    filled(question, "instruction")
    responses = [cells.text(cells.present(row, name), name) for name in ("response1", "response2")]
    item_id = cells.name(row["idx"], "idx") if row.get("idx") is not None else entry.place
    fields: dict[str, object] = {"instruction": instruction, **({} if extra in (None, "") else {"input": extra})}
    known = ("idx", "instruction", "input", "response1", "response2")
    further = {name: value for name, value in row.items() if value is not None and name not in known and not _ANNOTATOR.fullmatch(name)}
    fields |= {name: cells.json_value(value, name) for name, value in further.items()}
    candidates = tuple(map(Candidate, responses, ("", ""), _policies(row.get("cmp_key"))))
    into.item(ExchangeItem(item_id, (Message("user", question),), candidates, fields=fields), entry.source)
    for name in row:
        if _ANNOTATOR.fullmatch(name) and row[name] is not None:
            verdict = _RANKINGS[cells.whole(row[name], name, least=0, most=2)]
            into.vote(Vote(Judgment(item_id, into.rater(name, "person"), verdict)), entry.source)


def _policies(key: object) -> tuple[str, str]:
    """The names in `MODEL_MODEL`, or empty names if that is not clear."""
    names = cells.text(key, "cmp_key").split("_") if key is not None else []
    return (names[0], names[1]) if len(names) == 2 else ("", "")
