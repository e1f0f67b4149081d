"""Samples, as stage `sample` writes them, as items that nobody judged: `prompt` as messages, and `completions`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from palate.data import cells
from palate.data.cells import Columns, InvalidRow
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Candidate, ExchangeItem
from palate.data.exchange.gather import Gathering, NothingToJudge, nothing_to_judge
from palate.data.exchange.project import TaskKind
from palate.data.formats.column_types import standard_row
from palate.data.formats.row_types import SampledCompletions, content_of
from palate.data.formats.samples import SamplesFormat

_TASKS: tuple[TaskKind, ...] = ("write", "write", "compare")


@dataclass(frozen=True)
class SamplesShape:
    """A prompt per row, with its completions. Outputs in the shape of AlpacaEval are read so too, one completion per row."""

    name: str = "samples"
    needs: str = "`prompt` as messages with `completions`, or `instruction`, `output` and `generator`"

    def fits(self, row: Columns) -> bool:
        """Whether it is such a row. A prompt that is a text makes it a row of `items`."""
        if {"instruction", "output", "generator"} <= row.keys():
            return True
        return isinstance(row.get("prompt"), list) and SamplesFormat().fits(row)

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item of each row."""
        into.each(rows, lambda entry: into.item(_item(entry), entry.source))


def _item(entry: SourceRow) -> ExchangeItem:
    row = standard_row(entry.row).row
    if not SamplesFormat().fits(row):
        raise InvalidRow("no `prompt` with `completions`")
    content = content_of(SamplesFormat(), row)
    if not isinstance(content, SampledCompletions):
        raise InvalidRow("no completions of a prompt")
    candidates = tuple(Candidate(each.text, policy=each.policy, tool_fields=each.tool_fields) for each in content.completions)
    if nothing := nothing_to_judge(candidates):
        raise NothingToJudge(nothing)
    name = cells.name(row["id"], "id") if row.get("id") is not None else entry.place
    return ExchangeItem(name, content.prompt, candidates, _TASKS[len(candidates)] if len(candidates) < 3 else "rank")
