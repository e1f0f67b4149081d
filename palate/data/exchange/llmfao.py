"""Votes of a crowd as LLMFAO publishes them: a table of votes, with the texts, the qualification test and the guidelines beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from palate.core import Judgment, Message
from palate.data.containers import Found, read_container
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns, invalid
from palate.data.exchange.exchange import Candidate, ExchangeItem, GuidelineText, Tiers, Vote
from palate.data.exchange.gather import Gathering

TEXTS, TEST, GUIDELINES = "pairs-crowd.jsonl", "pairs-crowd-training.jsonl", "crowd-instruction.md"
_WINNERS = ("left", "right", "tie")
_RANKINGS: tuple[Tiers, ...] = (((0,), (1,)), ((1,), (0,)), ((0, 1),))


@dataclass(frozen=True)
class LLMFAOShape:
    """One vote a row: `id`, `left`, `right` (the systems), `worker`, `winner`. Without `worker` it is a table of a model's verdicts."""

    name: str = "llmfao"
    needs: str = "`id`, `left`, `right` and `winner`, `worker` for votes of people"

    def fits(self, row: Columns) -> bool:
        """Whether it is such a vote."""
        return {"id", "left", "right", "winner"} <= row.keys()

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; votes are gathered, with texts, qualification items and guidelines where they lie beside the table."""
        texts: dict[str, Columns] = {}
        folder = into.path.parent
        if (folder / TEXTS).is_file():
            into.each(read_container(folder / TEXTS), lambda found: texts.update({cells.name(found.row.get("id"), "id"): found.row}))
        version = ""
        if (folder / GUIDELINES).is_file():
            version = "1"
            into.guideline(GuidelineText(version, (folder / GUIDELINES).read_text(encoding="utf-8", errors="replace")))
        into.each(rows, lambda found: _take(found, texts, version, into))
        if (folder / TEST).is_file():
            into.each(read_container(folder / TEST), lambda found: into.item(_tested(found.row), found.source))


def _take(found: Found, texts: dict[str, Columns], version: str, into: Gathering) -> None:
    row = found.row
    item_id = cells.name(row.get("id"), "id")
    systems = [cells.name(cells.present(row, name), name) for name in ("left", "right")]
    winner = cells.choice(cells.present(row, "winner"), "winner", _WINNERS)
    into.item(_item(item_id, texts.get(item_id, {}), systems), found.source)
    if row.get("worker") is not None:
        rater = into.rater(f"worker-{cells.name(row['worker'], 'worker')}", "person")
    else:
        rater = into.rater(into.path.name.partition("-")[0] or "model", "model")
    judgment = Judgment(item_id, rater, _RANKINGS[_WINNERS.index(winner)], guideline=version)
    into.vote(Vote(judgment), found.source)


def _item(item_id: str, said: Columns, systems: list[str]) -> ExchangeItem:
    asked = said.get("text")
    conversation = () if asked is None else (Message("user", cells.text(asked, "text")),)
    answers = [cells.text(said.get(name, ""), name) for name in ("result_x", "result_y")]
    candidates = tuple(Candidate(text, policy=system) for text, system in zip(answers, systems, strict=True))
    return ExchangeItem(item_id, conversation, candidates, stratum=cells.text(said.get("slug") or "", "slug"))


def _tested(row: Columns) -> ExchangeItem:
    golden = row.get("golden")
    if golden not in _WINNERS:
        raise invalid("golden", f"is {cells.shown(golden)}; it can be {', '.join(_WINNERS)}")
    gold = _RANKINGS[_WINNERS.index(golden)]
    systems = [cells.name(row.get(name), name) for name in ("model_x", "model_y")]
    item = _item(cells.name(row.get("id"), "id"), row, systems)
    reason = {"reason": cells.text(row["reason"], "reason")} if row.get("reason") is not None else {}
    return ExchangeItem(item.id, item.conversation, item.candidates, gold=gold, is_qualification=True, fields=reason)
