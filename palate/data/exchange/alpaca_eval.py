"""AlpacaEval's annotations: an instruction, two outputs with their generators, and a `preference` from 1 (the first) to 2 (the second)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from palate.core import DataError, Judgment, Message
from palate.data import cells
from palate.data.cells import Columns, filled
from palate.data.containers import SourceRow
from palate.data.exchange.contents import RATER_KINDS, Candidate, Exchange, ExchangeItem, RaterKind, Tiers, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written, parted, unheld
from palate.data.files import write_json
from palate.data.formats.dropped import Dropped
from palate.data.jsonl import Row, write_rows

NEEDED = ("instruction", "output_1", "output_2", "preference")
TIE = 1.5
_KNOWN = (*NEEDED, "input", "generator_1", "generator_2", "annotator", "annotator_kind", "raw_completion", "idx")


@dataclass(frozen=True)
class AlpacaEvalShape:
    """One vote per row. A preference between 1 and 2 is a probability; 1.5 and 0 are ties; null means that there was no verdict.

    An annotator that is a number is a person, any other a model. The file does not say which output the annotator saw first.
    """

    name: str = "alpaca-eval"
    needs: str = "`instruction`, `output_1`, `output_2` and `preference`, with `generator_1`, `generator_2` and `annotator`"
    loses: str = (
        "orders shown, votes on other dimensions than `overall`, rankings of more than two, conversations of several turns, the strength "
        "of a vote, and its time"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is such a vote."""
        return set(NEEDED) <= row.keys()

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item and a vote of each row."""
        into.each(rows, lambda entry: _take(entry, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per vote: a list in a `.json` file, else lines. Raises DataError if there is none."""
        rows, left_out = parted(_rows(exchange))
        if not rows:
            raise DataError(f"{path}: nothing to write: no vote on a pair of texts that answer one user turn. Write another kind.")
        return Written(write_list(path, rows), left_out)


def write_list(path: Path, rows: list[Row]) -> int:
    """Write rows as the list that AlpacaEval reads, or as lines where the name does not end in `.json`; return their number."""
    if path.suffix != ".json":
        return write_rows(path, rows)
    write_json(path, rows)
    return len(rows)


def one_question(item: ExchangeItem) -> str | None:
    """Return the text of the only turn of an item's conversation, by a user; None for any other conversation."""
    roles = [turn.role for turn in item.conversation]
    return item.conversation[0].text if roles in (["user"], ["text"]) else None


def preference_of(judgment: Judgment) -> float:
    """Return 1 where a pair's first completion is better, 2 where its second is, or 2 less the probability of the first."""
    if judgment.probability is not None:
        is_turned = judgment.order is not None and judgment.order[0] == 1
        return 1 + judgment.probability if is_turned else 2 - judgment.probability
    return TIE if len(judgment.tiers) == 1 else 1.0 + judgment.tiers[0][0]


def _take(entry: SourceRow, into: Gathering) -> None:
    row = entry.row
    instruction, extra = cells.text(cells.present(row, "instruction"), "instruction"), row.get("input")
    question = instruction if extra in (None, "") else f"{instruction}\n\n{cells.text(extra, 'input')}"
    filled(question, "instruction")
    outputs = [cells.text(cells.present(row, f"output_{k}"), f"output_{k}") for k in (1, 2)]
    generators = [cells.text(row.get(f"generator_{k}") or "", f"generator_{k}") for k in (1, 2)]
    item_id = cells.name(row["idx"], "idx") if row.get("idx") is not None else entry.place
    fields = {name: cells.json_value(value, name) for name, value in row.items() if value is not None and name not in _KNOWN}
    candidates = tuple(Candidate(text, policy=policy) for text, policy in zip(outputs, generators, strict=True))
    into.item(ExchangeItem(item_id, (Message("user", question),), candidates, fields=fields), entry.source)
    if row.get("preference") is None:
        into.drop(entry.source, "an annotator gave no preference")
        return
    preference = cells.number(row["preference"], "preference", least=0, most=2)
    if 0 < preference < 1:
        raise cells.invalid("preference", f"is {preference}; it goes from 1 (output_1) to 2 (output_2), and 0 is a tie")
    rater = cells.name(row["annotator"], "annotator") if row.get("annotator") is not None else "unknown"
    into.rater(rater, _kind(row, rater))
    ranking: Tiers = ((0, 1),) if preference in (0, TIE) else ((0,), (1,)) if preference < TIE else ((1,), (0,))
    probability = None if preference in (0, 1, TIE, 2) else 2 - preference
    reason = cells.text(row["raw_completion"], "raw_completion") if isinstance(row.get("raw_completion"), str) else ""
    into.vote(Vote(Judgment(item_id, rater, ranking, reason=reason, probability=probability)), entry.source)


def _kind(row: Columns, rater: str) -> RaterKind:
    if row.get("annotator_kind") is not None:
        return cells.choice(row["annotator_kind"], "annotator_kind", RATER_KINDS)
    return _implied(rater)


def _implied(rater: str) -> RaterKind:
    return "unknown" if rater == "unknown" else "person" if rater.isdecimal() else "model"


def _rows(exchange: Exchange) -> Iterator[Row | Dropped]:
    kinds, items = exchange.kinds(), {item.id: item for item in exchange.items}
    for vote in exchange.votes:
        judgment, item = vote.judgment, items[vote.judgment.comparison]
        question = one_question(item)
        if question is None or len(item.candidates) != 2 or not all(side.text for side in item.candidates):
            yield unheld(item.id, "not a pair of texts that answer one user turn")
        elif not vote.is_ranking or judgment.dimension != "overall":
            yield unheld(item.id, "not a ranking on `overall`, or not kept")
        else:
            first, second = item.candidates
            kind = kinds[judgment.rater]
            yield {
                "instruction": question,
                "output_1": first.text,
                "generator_1": first.policy,
                "output_2": second.text,
                "generator_2": second.policy,
                **{name: value for name, value in item.fields.items() if name not in _KNOWN},
                "annotator": judgment.rater,
                "preference": preference_of(judgment),
                **({} if kind == _implied(judgment.rater) else {"annotator_kind": kind}),
                **({"raw_completion": judgment.reason} if judgment.reason else {}),
                "idx": item.id,
            }
