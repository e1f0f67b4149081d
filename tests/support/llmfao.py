"""Read the votes of LLMFAO's crowd: a table of votes, with the texts, the qualification test and the guidelines beside it.

Source: LLMFAO, CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

from palate.core import Judgment, Message
from palate.data import cells
from palate.data.cells import Columns, invalid
from palate.data.containers import SourceRow, read_container
from palate.data.exchange.contents import Candidate, Exchange, ExchangeItem, GuidelineText, Tiers, Vote
from palate.data.exchange.gather import Gathering

TEXTS, TEST, GUIDELINES = "pairs-crowd.jsonl", "pairs-crowd-training.jsonl", "crowd-instruction.md"
_WINNERS = ("left", "right", "tie")
_RANKINGS: tuple[Tiers, ...] = (((0,), (1,)), ((1,), (0,)), ((0, 1),))


def read_llmfao(path: Path) -> Exchange:
    """The votes of a table, with texts, qualification items and guidelines if they lie beside it. A table without `worker` is a model's."""
    into = Gathering("llmfao", path)
    folder = path.parent
    texts: dict[str, Columns] = {}
    if (folder / TEXTS).is_file():
        into.each(read_container(folder / TEXTS), lambda entry: texts.update({cells.name(entry.row.get("id"), "id"): entry.row}))
    version = ""
    if (folder / GUIDELINES).is_file():
        version = "1"
        into.guideline(GuidelineText(version, (folder / GUIDELINES).read_text(encoding="utf-8", errors="replace")))
    into.each(read_container(path), lambda entry: _take(entry, texts, version, into))
    if (folder / TEST).is_file():
        into.each(read_container(folder / TEST), lambda entry: into.item(_tested(entry.row), entry.source))
    return into.exchange()


def _take(entry: SourceRow, texts: dict[str, Columns], version: str, into: Gathering) -> None:
    row = entry.row
    item_id = cells.name(row.get("id"), "id")
    systems = [cells.name(cells.present(row, name), name) for name in ("left", "right")]
    winner = cells.choice(cells.present(row, "winner"), "winner", _WINNERS)
    into.item(_item(item_id, texts.get(item_id, {}), systems), entry.source)
    if row.get("worker") is not None:
        rater = into.rater(f"worker-{cells.name(row['worker'], 'worker')}", "person")
    else:
        rater = into.rater(into.path.name.partition("-")[0] or "model", "model")
    judgment = Judgment(item_id, rater, _RANKINGS[_WINNERS.index(winner)], guideline=version)
    into.vote(Vote(judgment), entry.source)


def _item(item_id: str, row: Columns, systems: list[str]) -> ExchangeItem:
    question = row.get("text")
    conversation = () if question is None else (Message("user", cells.text(question, "text")),)
    answers = [cells.text(row.get(name, ""), name) for name in ("result_x", "result_y")]
    candidates = tuple(Candidate(text, policy=system) for text, system in zip(answers, systems, strict=True))
    return ExchangeItem(item_id, conversation, candidates, stratum=cells.text(row.get("slug") or "", "slug"))


def _tested(row: Columns) -> ExchangeItem:
    golden = row.get("golden")
    if golden not in _WINNERS:
        raise invalid("golden", f"is {cells.quoted(golden)}; it can be {', '.join(_WINNERS)}")
    gold = _RANKINGS[_WINNERS.index(golden)]
    systems = [cells.name(row.get(name), name) for name in ("model_x", "model_y")]
    item = _item(cells.name(row.get("id"), "id"), row, systems)
    reason = {"reason": cells.text(row["reason"], "reason")} if row.get("reason") is not None else {}
    return ExchangeItem(item.id, item.conversation, item.candidates, gold=gold, is_qualification=True, fields=reason)
