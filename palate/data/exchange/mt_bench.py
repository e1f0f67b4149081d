"""Votes on MT-bench answers: `question_id`, `model_a`, `model_b`, `winner`, `judge`, `turn`, with or without the conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from palate.core import Conversation, DataError, Judgment
from palate.data import cells
from palate.data.cells import Columns
from palate.data.containers import SourceRow
from palate.data.conversations import possibly_empty_turns, shared_length
from palate.data.exchange.contents import Candidate, Exchange, ExchangeItem, RaterKind, Tiers, Vote, shown_places
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written, parted, unheld
from palate.data.formats.dropped import Dropped
from palate.data.formats.write import turns_of
from palate.data.jsonl import Row, write_rows

SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}
COLUMNS = ("question_id", "model_a", "model_b", "winner", "judge", "turn", "conversation_a", "conversation_b", "item", "order")
INCONSISTENT = "tie (inconsistent)"
WINNERS = ("model_a", "model_b", "tie", INCONSISTENT)

UNKNOWN_ORDER, KNOWN_ORDER = "unknown", "model_a"
"""In the column `order`, which only Palate writes: nobody knows which model was shown first, or it was `model_a`, also for a judge that
FastChat would ask in both orders."""


@dataclass(frozen=True)
class MTBenchShape:
    """One vote per row. A judge is a model if the name contains `gpt`, ends in `_pair`, or is a list; other judges are people.

    FastChat asks judges of the last two kinds in both orders, so their verdict has none, and says whether both were the same.
    """

    name: str = "mt-bench"
    needs: str = "`question_id`, `model_a`, `model_b`, `winner` and `judge`"
    loses: str = (
        "votes on other dimensions than `overall`, and the probability, strength, reason and time of a vote. "
        "Each candidate must name its policy"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is such a vote."""
        return {"model_a", "model_b", "winner", "judge"} <= row.keys()

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item of each question, turn and pair of models, with the candidates in the order of the models' names."""
        into.each(rows, lambda entry: _take(entry.row, entry.source, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write one row per vote; `model_a` was shown first. Raises DataError for an item that is not a pair of named policies."""
        rows, left_out = parted(_votes(exchange))
        return Written(write_rows(path, rows), left_out)


def _take(row: Columns, source: str, into: Gathering) -> None:
    question, turn = cells.name(cells.present(row, "question_id"), "question_id"), cells.whole(row.get("turn", 1), "turn", least=1, most=99)
    first, second = (cells.name(cells.present(row, name), name) for name in ("model_a", "model_b"))
    into.leave_unread(row, COLUMNS)
    winner = cells.choice(cells.present(row, "winner"), "winner", WINNERS)
    if first == second:
        raise cells.invalid("model_b", f"is {second!r}, the same as model_a; name two models")
    conversations = [row.get(name) for name in ("conversation_a", "conversation_b")]
    answers = dict.fromkeys((first, second), "")
    prompt: Conversation = ()
    if None not in conversations:
        both = [_turns(row, name)[: 2 * turn] for name in ("conversation_a", "conversation_b")]
        shared = min(shared_length(*both), *(len(turns) - 1 for turns in both))
        prompt, answers = both[0][:shared], dict(zip((first, second), (_transcript(turns[shared:]) for turns in both), strict=True))
    models = tuple(sorted((first, second)))
    item_id = cells.name(row["item"], "item") if row.get("item") is not None else f"{question}/{turn}/{models[0]}/{models[1]}"
    candidates = tuple(Candidate(answers[name], policy=name) for name in models)
    into.item(ExchangeItem(item_id, prompt, candidates, fields={"question_id": row["question_id"], "turn": turn}), source)
    judge, kind = judge_and_kind(row)
    order = (models.index(first), models.index(second))
    ranking: Tiers = ((0,), (1,)) if winner == "model_a" else ((1,), (0,)) if winner == "model_b" else ((0, 1),)
    judgment = Judgment(item_id, into.rater(judge, kind), ranking, order=order)
    in_both = winner == INCONSISTENT or ((isinstance(row["judge"], list) or judge.endswith("_pair")) and row.get("order") is None)
    if in_both or row.get("order") == UNKNOWN_ORDER:
        judgment = replace(judgment, ranking=judgment.tiers, order=None, is_consistent=winner != INCONSISTENT if in_both else None)
    into.vote(Vote(judgment), source)


def _turns(row: Columns, name: str) -> Conversation:
    turns = possibly_empty_turns(row[name], name)
    if not turns:
        raise cells.InvalidRow(f"empty `{name}`")
    return turns


def judge_and_kind(row: Columns) -> tuple[str, RaterKind]:
    """The judge and its kind. FastChat writes a model's name and its prompt as a list."""
    judge = cells.list_or_text(cells.present(row, "judge"), "judge")
    rater = "/".join(cells.name(part, "judge") for part in judge) if isinstance(judge, list) else cells.name(judge, "judge")
    rater = rater or "unknown"
    return rater, "model" if isinstance(judge, list) or "gpt" in rater.lower() or rater.endswith("_pair") else "person"


def _transcript(turns: Conversation) -> str:
    """The turns in which the conversations differ: one answer, or several turns as a transcript."""
    if len(turns) == 1:
        return turns[0].text
    rest = (f"\n\n{SPEAKERS.get(turn.role, turn.role)}: {turn.text}" for turn in turns[1:])
    return turns[0].text + "".join(rest)


def _votes(exchange: Exchange) -> Iterator[Row | Dropped]:
    votes = exchange.votes_of()
    for number, item in enumerate(exchange.items, start=1):
        if len(item.candidates) != 2 or not all(candidate.policy for candidate in item.candidates):
            raise DataError(f"item {item.id!r}: an MT-bench vote is about two candidates that both name their policy. Leave the item out.")
        question = item.fields.get("question_id", number)
        turn = item.fields.get("turn", 1)
        models = tuple(candidate.policy for candidate in item.candidates)
        own = {} if item.id == "/".join((str(question), str(turn), *sorted(models))) else {"item": item.id}
        texts = _conversations(item)
        for vote in votes[item.id]:
            judgment, tiers = vote.judgment, vote.tiers
            if not vote.is_ranking or judgment.dimension != "overall":
                yield unheld(item.id, "not a ranking on `overall`, or not kept")
                continue
            order = judgment.order or (0, 1)
            ranking = shown_places(tiers, order)
            winner = "tie" if len(ranking) == 1 else ("model_a", "model_b")[ranking[0][0]]
            winner = INCONSISTENT if judgment.is_consistent is False else winner
            first, second = order
            row: Row = {"question_id": question, "model_a": models[first], "model_b": models[second], "winner": winner}
            row |= {"judge": judgment.rater, "turn": turn, **own}
            row |= _order_column(judgment)
            yield row | ({"conversation_a": texts[first], "conversation_b": texts[second]} if texts else {})


def _order_column(judgment: Judgment) -> Row:
    """What the column `order` must say so that the row is read back as it is: nothing, where the judge's name says the same."""
    in_both = judgment.rater.endswith("_pair")
    if judgment.is_consistent is not None and (in_both or not judgment.is_consistent):
        return {}
    if judgment.order is None:
        return {"order": UNKNOWN_ORDER}
    return {"order": KNOWN_ORDER} if in_both else {}


def _conversations(item: ExchangeItem) -> list[list[dict[str, object]]]:
    """The conversation with each answer; an empty list if there are no texts."""
    if not item.conversation or not any(candidate.text for candidate in item.candidates):
        return []
    return [[*turns_of(item.conversation), {"role": "assistant", "content": candidate.text}] for candidate in item.candidates]
