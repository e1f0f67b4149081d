"""FastChat's judgments of pairs in both orders: `model_1`, `model_2`, `g1_winner`, `g2_winner`, `judge` as a model and its prompt."""

from __future__ import annotations

from collections import defaultdict
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

WINNERS = ("model_1", "model_2", "tie", "error")
GAMES = ((0, 1), (1, 0))
"""Numbers of the models in the order in which each game shows them."""
COLUMNS = (
    *("question_id", "turn", "model_1", "model_2", "judge", "tstamp", "item"),
    *(f"g{game}_{name}" for game in (1, 2) for name in ("winner", "judgment", "user_prompt")),
)


@dataclass(frozen=True)
class MTBenchPairsShape:
    """One row per pair, with the verdict of a judge in each order. Game 1 shows `model_1` first, game 2 `model_2`.

    A verdict `error` is none: the judge's reply could not be read, and the row is listed.
    """

    name: str = "mt-bench-pairs"
    needs: str = "`question_id`, `model_1`, `model_2`, `g1_winner`, `g2_winner` and `judge`"
    loses: str = (
        "votes of people, votes in one order alone, votes on other dimensions than `overall`, probabilities, the texts of the answers, and "
        "the strength and time of a vote. Each candidate must name its policy"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is such a row."""
        return {"model_1", "model_2", "g1_winner", "g2_winner"} <= row.keys()

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item of each question, turn and pair of models, and a vote of each game."""
        into.each(rows, lambda entry: _take(entry, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per pair and judge that answered in both orders. Raises DataError for an item that is not a pair of policies."""
        rows, left_out = parted(_rows(exchange))
        if not rows:
            raise DataError(f"{path}: nothing to write: no judge answered a pair in both orders. Write another kind.")
        return Written(write_rows(path, rows), left_out)


def _take(entry: SourceRow, into: Gathering) -> None:
    row = entry.row
    question, turn = cells.name(cells.present(row, "question_id"), "question_id"), cells.whole(row.get("turn", 1), "turn", least=1, most=99)
    models = tuple(cells.name(cells.present(row, name), name) for name in ("model_1", "model_2"))
    if models[0] == models[1]:
        raise cells.invalid("model_2", f"is {models[1]!r}, the same as model_1; name two models")
    into.leave_unread(row, COLUMNS)
    sorted_models = tuple(sorted(models))
    own = f"{question}/{turn}/{sorted_models[0]}/{sorted_models[1]}"
    item_id = cells.name(row["item"], "item") if row.get("item") is not None else own
    fields: dict[str, object] = {"question_id": cells.json_value(row["question_id"], "question_id"), "turn": turn}
    into.item(ExchangeItem(item_id, (), tuple(Candidate(policy=name) for name in sorted_models), fields=fields), entry.source)
    judge, _ = judge_and_kind(row)
    into.rater(judge, "model")
    for game, shown in enumerate(GAMES, start=1):
        winner = cells.choice(cells.present(row, f"g{game}_winner"), f"g{game}_winner", WINNERS)
        if winner == "error":
            into.drop(entry.source, f"g{game}_winner: a reply that held no verdict")
            continue
        order = tuple(sorted_models.index(models[number]) for number in shown)
        ranking: Tiers = ((0, 1),)
        if winner != "tie":
            first = shown[0] == WINNERS.index(winner)
            ranking = ((0,), (1,)) if first else ((1,), (0,))
        reason = cells.text(row.get(f"g{game}_judgment") or "", f"g{game}_judgment")
        into.vote(Vote(Judgment(item_id, judge, ranking, order=order, reason=reason)), entry.source)


def _rows(exchange: Exchange) -> Iterator[Row | Dropped]:
    votes, kinds = exchange.votes_of(), exchange.kinds()
    for number, item in enumerate(exchange.items, start=1):
        if len(item.candidates) != 2 or not all(candidate.policy for candidate in item.candidates):
            raise DataError(f"item {item.id!r}: such a row is about two candidates that both name their policy. Leave the item out.")
        question, turn = item.fields.get("question_id", number), item.fields.get("turn", 1)
        models = [candidate.policy for candidate in item.candidates]
        own = {} if item.id == "/".join((str(question), str(turn), *sorted(models))) else {"item": item.id}
        by_judge: dict[str, dict[tuple[int, ...], Judgment]] = defaultdict(dict)
        for vote in votes[item.id]:
            judgment = vote.judgment
            is_verdict = vote.is_ranking and judgment.dimension == "overall" and kinds[judgment.rater] == "model"
            if is_verdict and judgment.order is not None:
                by_judge[judgment.rater][judgment.order] = judgment
            else:
                yield unheld(item.id, "not a model's ranking on `overall` in a known order, or not kept")
        for judge, games in by_judge.items():
            if len(games) < 2:
                yield unheld(item.id, "a judge's vote in one order alone")
                continue
            row: Row = {"question_id": question, "model_1": models[0], "model_2": models[1]}
            for game, shown in enumerate(GAMES, start=1):
                tiers = games[shown].tiers
                row[f"g{game}_winner"] = "tie" if len(tiers) == 1 else WINNERS[tiers[0][0]]
                row |= {f"g{game}_judgment": games[shown].reason} if games[shown].reason else {}
            yield row | {"judge": judge.rsplit("/", 1) if "/" in judge else [judge], "turn": turn, **own}
