"""Judgments alone, as stage `collect` writes them: `comparison`, `rater`, `ranking`, without the texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from palate.data.cells import Columns
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Candidate, ExchangeItem, Vote
from palate.data.exchange.gather import Gathering
from palate.data.judge_names import judge_name
from palate.data.judgment_rows import judgment_of


@dataclass(frozen=True)
class JudgmentsShape:
    """One judgment per row. Only a judge's name says what kind of rater gave it: a model."""

    name: str = "judgments"
    needs: str = "`comparison`, `rater` and `ranking`, tiers of places shown such as [[0], [1]], and the `order` where it is known"

    def fits(self, row: Columns) -> bool:
        """Whether it is a judgment."""
        return {"comparison", "ranking"} <= row.keys()

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item without texts of each comparison, and a vote of each row."""
        into.each(rows, lambda entry: _take(entry, into))


def _take(entry: SourceRow, into: Gathering) -> None:
    judgment = judgment_of(entry.row)
    into.rater(judgment.rater, "unknown" if judge_name(judgment.rater) is None else "model")
    count = sum(map(len, judgment.ranking))
    candidates = (Candidate(),) * count
    into.item(ExchangeItem(judgment.comparison, (), candidates, "compare" if count == 2 else "rank"), entry.source)
    into.vote(Vote(judgment, entry="adjudication" if judgment.is_decision else "answer"), entry.source)
