"""FastChat's marks of single answers: `question_id`, `model`, `score`, `turn`, `judgment`, `judge` as a model and its prompt."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from palate.core import DataError, Judgment
from palate.data import cells
from palate.data.cells import Columns
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Candidate, Exchange, ExchangeItem, Tiers, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.mt_bench import judge_and_kind
from palate.data.exchange.shape import Written, parted, unheld
from palate.data.formats.dropped import Dropped
from palate.data.jsonl import Row, write_rows

COLUMNS = ("question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp")
NO_GRADE = -1
"""The score that FastChat writes where the judge's reply holds no grade."""

_WRITTEN = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
"""A grade in the judge's text, as FastChat asks for it, and as FastChat reads it where the first is missing."""


@dataclass(frozen=True)
class MTBenchSingleShape:
    """One mark of one answer per row. A judge's marks of two answers to one question are its vote on that pair; equal marks are a tie.

    A score of -1 stands for a reply without a mark, and the row is listed.
    """

    name: str = "mt-bench-single"
    needs: str = "`question_id`, `model`, `judge` and `score`"
    loses: str = (
        "votes that do not come from marks, votes on other dimensions than `overall`, the texts of judges and of answers, and the time of "
        "a vote. Each candidate must name its policy"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is such a mark."""
        return {"question_id", "model", "judge"} <= row.keys() and bool({"score", "judgment"} & row.keys())

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item of each question, turn and pair of models that one judge marked, and a vote of both marks."""
        marks: dict[tuple[str, str, int], dict[str, tuple[float, SourceRow]]] = {}
        into.each(rows, lambda entry: _take(entry, marks, into))
        for (judge, question, turn), by_model in marks.items():
            if len(by_model) == 1:
                ((_, entry),) = by_model.values()
                into.drop(entry.source, "the judge's only mark for this question and turn, which makes no pair")
            for one, other in itertools.combinations(sorted(by_model), 2):
                _pair(judge, (question, turn), {name: by_model[name] for name in (one, other)}, into)

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per mark. Raises DataError where no vote comes from marks, or a marked candidate does not name its policy."""
        rows, left_out = parted(_rows(exchange))
        if not rows:
            raise DataError(f"{path}: nothing to write: no rater marked single answers. Write another kind.")
        return Written(write_rows(path, rows), left_out)


def _take(entry: SourceRow, marks: dict[tuple[str, str, int], dict[str, tuple[float, SourceRow]]], into: Gathering) -> None:
    row = entry.row
    question, turn = cells.name(cells.present(row, "question_id"), "question_id"), cells.whole(row.get("turn", 1), "turn", least=1, most=99)
    model = cells.name(cells.present(row, "model"), "model")
    into.leave_unread(row, COLUMNS)
    judge, kind = judge_and_kind(row)
    into.rater(judge, kind)
    mark = _mark(row)
    if mark == NO_GRADE:
        into.drop(entry.source, "a score of -1, which stands for a reply without a grade")
        return
    own = marks.setdefault((judge, question, turn), {})
    if model in own:
        into.drop(own[model][1].source, "an earlier mark of the same answer by the same judge")
    own[model] = mark, entry


def _mark(row: Columns) -> float:
    """The score of a row. Without one it is read from the judge's text; -1 where that holds none."""
    if row.get("score") is not None:
        score = cells.number(row["score"], "score", least=NO_GRADE)
        if NO_GRADE < score < 0:
            raise cells.invalid("score", f"is {score:g}; a mark is 0 or more, and -1 says that there is none")
        return score
    text = cells.text(row.get("judgment") or "", "judgment")
    found = next((match for pattern in _WRITTEN if (match := pattern.search(text))), None)
    return NO_GRADE if found is None else float(found[1])


def _pair(judge: str, asked: tuple[str, int], marked: dict[str, tuple[float, SourceRow]], into: Gathering) -> None:
    question, turn = asked
    (one, other), entries = marked, [entry for _, entry in marked.values()]
    item_id = f"{question}/{turn}/{one}/{other}"
    fields: dict[str, object] = {"question_id": cells.json_value(entries[0].row["question_id"], "question_id"), "turn": turn}
    into.item(ExchangeItem(item_id, (), (Candidate(policy=one), Candidate(policy=other)), fields=fields), entries[0].source)
    first, second = (mark for mark, _ in marked.values())
    ranking: Tiers = ((0, 1),) if first == second else ((0,), (1,)) if first > second else ((1,), (0,))
    judgment = Judgment(item_id, judge, ranking, strength=abs(first - second))
    into.vote(Vote(judgment, marks=(first, second)), entries[1].source)


def _rows(exchange: Exchange) -> Iterator[Row | Dropped]:
    votes = exchange.votes_of()
    written: dict[tuple[str, str, object, str], float] = {}
    for number, item in enumerate(exchange.items, start=1):
        question, turn = item.fields.get("question_id", number), item.fields.get("turn", 1)
        for vote in votes[item.id]:
            if not vote.marks or not vote.is_counted or vote.judgment.dimension != "overall":
                yield unheld(item.id, "not a vote that comes from marks on `overall`, or not kept")
                continue
            for candidate, mark in zip(item.candidates, vote.marks, strict=True):
                if not candidate.policy:
                    raise DataError(f"item {item.id!r}: a mark is about a candidate that names its policy. Leave the item out.")
                judge = vote.judgment.rater
                key = (judge, str(question), turn, candidate.policy)
                if key in written:
                    if written[key] != mark:
                        yield unheld(item.id, f"another mark of {candidate.policy} by {judge}")
                    continue
                written[key] = mark
                score = int(mark) if mark.is_integer() else mark
                parts = judge.rsplit("/", 1) if "/" in judge else judge
                row: Row = {"question_id": question, "model": candidate.policy, "judge": parts}
                yield row | {"judgment": f"[[{score}]]", "score": score, "turn": turn}
