"""Votes on MT-bench answers: `question_id`, `model_a`, `model_b`, `winner`, `judge`, `turn`, with or without the conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from palate.core import Conversation, DataError, Judgment
from palate.data.cells import shared_length
from palate.data.containers import Found
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns
from palate.data.exchange.exchange import Candidate, Exchange, ExchangeItem, RaterKind, Tiers, Vote, places
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import Written, unheld
from palate.data.formats.dropped import Dropped
from palate.data.formats.write import turns_of
from palate.data.jsonl import Row, write_rows

SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}
WINNERS = ("model_a", "model_b", "tie", "tie (inconsistent)")


@dataclass(frozen=True)
class MTBenchShape:
    """One vote a row. A judge whose name speaks of `gpt`, or of a prompt for a pair, is a model; others are people."""

    name: str = "mt-bench"
    needs: str = "`question_id`, `model_a`, `model_b`, `winner` and `judge`"
    loses: str = (
        "votes on other dimensions than `overall`, and the strength, reason and time of a vote. Each candidate must name its policy"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is such a vote."""
        return {"model_a", "model_b", "winner", "judge"} <= row.keys()

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; a question's turn with two models is an item, its candidates in the order of the models' names."""
        into.each(rows, lambda found: _take(found.row, found.source, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """What was written: one row a vote, model_a the one shown first. Raises DataError for items that are no pairs of policies."""
        written = list(_votes(exchange))
        rows = [one for one in written if not isinstance(one, Dropped)]
        return Written(write_rows(path, rows), tuple(one for one in written if isinstance(one, Dropped)))


def _take(row: Columns, source: str, into: Gathering) -> None:
    question, turn = cells.name(cells.present(row, "question_id"), "question_id"), cells.whole(row.get("turn", 1), "turn", least=1, most=99)
    first, second = (cells.name(cells.present(row, name), name) for name in ("model_a", "model_b"))
    winner = cells.choice(cells.present(row, "winner"), "winner", WINNERS)
    if first == second:
        raise cells.invalid("model_b", f"is {second!r}, as model_a is; two are compared")
    conversations = [row.get(name) for name in ("conversation_a", "conversation_b")]
    said = dict.fromkeys((first, second), "")
    prompt: Conversation = ()
    if None not in conversations:
        both = [_said(row, name)[: 2 * turn] for name in ("conversation_a", "conversation_b")]
        shared = min(shared_length(*both), *(len(one) - 1 for one in both))
        prompt, said = both[0][:shared], dict(zip((first, second), (_rest(one[shared:]) for one in both), strict=True))
    models = tuple(sorted((first, second)))
    item_id = cells.name(row["item"], "item") if row.get("item") is not None else f"{question}/{turn}/{models[0]}/{models[1]}"
    candidates = tuple(Candidate(said[name], policy=name) for name in models)
    into.item(ExchangeItem(item_id, prompt, candidates, fields={"question_id": row["question_id"], "turn": turn}), source)
    order = (models.index(first), models.index(second))
    shown: Tiers = ((0,), (1,)) if winner == "model_a" else ((1,), (0,)) if winner == "model_b" else ((0, 1),)
    judge, kind = _judge(row)
    into.vote(Vote(Judgment(item_id, into.rater(judge, kind), shown, order=order)), source)


def _said(row: Columns, name: str) -> Conversation:
    turns = cells.turns(row[name], name)
    if not turns:
        raise cells.invalid(name, "is empty")
    return turns


def _judge(row: Columns) -> tuple[str, RaterKind]:
    """Who judged; FastChat writes a model's name and its prompt as a list."""
    judge = cells.present(row, "judge")
    told = "/".join(cells.name(part, "judge") for part in judge) if isinstance(judge, list) else cells.name(judge, "judge")
    told = told or "unknown"
    return told, "model" if isinstance(judge, list) or "gpt" in told.lower() or told.endswith("_pair") else "person"


def _rest(turns: Conversation) -> str:
    """What differs: one answer, or the answers and questions from there on as a transcript."""
    if len(turns) == 1:
        return turns[0].text
    rest = (f"\n\n{SPEAKERS.get(turn.role, turn.role)}: {turn.text}" for turn in turns[1:])
    return turns[0].text + "".join(rest)


def _votes(exchange: Exchange) -> Iterator[Row | Dropped]:
    votes = exchange.votes_of()
    for number, item in enumerate(exchange.items, start=1):
        if len(item.candidates) != 2 or not all(one.policy for one in item.candidates):
            raise DataError(f"item {item.id!r}: MT-bench votes are about two candidates that both name their policy. Leave it out.")
        question = item.fields.get("question_id", number)
        turn = item.fields.get("turn", 1)
        models = tuple(one.policy for one in item.candidates)
        own = {} if item.id == "/".join((str(question), str(turn), *sorted(models))) else {"item": item.id}
        texts = _conversations(item)
        for vote in votes[item.id]:
            judgment, tiers = vote.judgment, vote.tiers
            if not vote.is_ranking or judgment.dimension != "overall":
                yield unheld(item.id, "not a ranking on `overall`, or not kept")
                continue
            shown = places(tiers, judgment.order)
            winner = "tie" if len(shown) == 1 else ("model_a", "model_b")[shown[0][0]]
            first, second = judgment.order
            row: Row = {"question_id": question, "model_a": models[first], "model_b": models[second], "winner": winner}
            row |= {"judge": judgment.rater, "turn": turn, **own}
            yield row | ({"conversation_a": texts[first], "conversation_b": texts[second]} if texts else {})


def _conversations(item: ExchangeItem) -> list[list[dict[str, object]]]:
    """The conversation with each answer; none where there are no texts."""
    if not item.conversation or not any(one.text for one in item.candidates):
        return []
    return [[*turns_of(item.conversation), {"role": "assistant", "content": one.text}] for one in item.candidates]
