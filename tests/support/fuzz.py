"""Damaged files of judgments in every shape; `python -m benchmarks.fuzz` reads many.

Each file is a good one with its bytes or its JSON structure changed at random. What comes out must be an `Exchange` that can be
written and read again, or one DataError that names the file, and the row wherever the file has rows at all.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.core import DataError, Judgment, Message
from palate.data.exchange import WRITABLE, Candidate, Exchange, ExchangeItem, GuidelineText, RaterInfo, Vote, read_exchange, write_exchange

ENDINGS = {"label-studio": "json", "argilla": "json"}
UNREAD = ("csv", "alpaca-outputs", "alpaca-leaderboard")
"""Shapes that are written, and not read back."""
NO_ROW = re.compile(
    r"holds no row|holds an object with|holds [a-z]+\. Give a list of rows|cannot be read|not JSON|not CSV|nested too deeply"
)
"""Faults of a file that has no rows, because it cannot be taken apart."""

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**30, 0.5, -1e308, float("nan"), float("inf"), 1e-320),
    *("", " ", "=1+1", "\u0000", "\ud800", "\u2028", "ä" * 300, "item-0", "left", "tie", "NaN", "../../etc", "<script>"),
    *([], [[]], {}, [None], {"": ""}, {"palate": {"order": [1, 1]}}, [0, 1], [[0], [1]], ["a", "a"]),
)


def sample(seed: int = 0, *, ties: bool = True) -> Exchange:
    """A small exchange with texts, several raters and dimensions, that every shape can hold."""
    rng = random.Random(seed)
    raters = (RaterInfo("ann"), RaterInfo("bob"), RaterInfo("judge-1", "model"))
    items = tuple(
        ExchangeItem(
            f"item-{k}",
            (Message("user", f"What goes with leeks, {k}?"),),
            (Candidate(f"Potatoes {k}.", policy="small-1"), Candidate(f"No idea {k}.", policy="large-2")),
            stratum="soup",
            gold=((0,), (1,)) if k == 0 else None,
            fields={"level": k},
        )
        for k in range(3)
    )
    rankings = (((0,), (1,)), ((1,), (0,)), *([((0, 1),)] if ties else []))
    votes = tuple(
        Vote(
            Judgment(
                item.id, rater.id, rng.choice(rankings), order=rng.choice(((0, 1), (1, 0))), seconds=4.5, reason="said why", guideline="1"
            ),
            id=f"{item.id}-{rater.id}",
            time=1e9,
        )
        for item in items
        for rater in raters
    )
    return Exchange(items, votes, raters, (GuidelineText("1", "Be fair."),), "soups")


def in_both_orders() -> Exchange:
    """The votes of the sample's judge, each with another in the other order."""
    whole = sample()
    mine = [replace(vote, judgment=replace(vote.judgment, order=(0, 1))) for vote in whole.votes if vote.judgment.rater == "judge-1"]
    turned = [replace(vote, judgment=replace(vote.judgment, order=(1, 0)), id=f"{vote.id}-turned") for vote in mine]
    return replace(whole, votes=(*mine, *turned))


def marked() -> Exchange:
    """The votes of the sample's judge, made from marks."""
    whole = sample()
    marks = {((0,), (1,)): (7.0, 2.5), ((1,), (0,)): (1.0, 9.0), ((0, 1),): (4.0, 4.0)}
    votes = []
    for vote in whole.votes:
        tiers = vote.tiers
        if vote.judgment.rater == "judge-1":
            gap = abs(marks[tiers][0] - marks[tiers][1])
            votes.append(replace(vote, judgment=replace(vote.judgment, ranking=tiers, order=None, strength=gap), marks=marks[tiers]))
    return replace(whole, votes=tuple(votes))


def good_files(folder: Path) -> list[Path]:
    """One good file in each shape that is read, by the shape's own writing and in forms that other tools write."""
    files = []
    for shape in WRITABLE:
        if shape.name not in UNREAD:
            files.append(folder / f"{shape.name}.{ENDINGS.get(shape.name, 'jsonl')}")
            special = {"mt-bench-pairs": in_both_orders, "mt-bench-single": marked}
            write_exchange(special.get(shape.name, sample)(), files[-1], shape.name)
    flat = {"id": "r", "prompt": "soup?", "response_1": "a", "response_2": "b"}
    answers = {
        "ranking.responses": [["response_1", "response_2"]],
        "ranking.responses.users": ["u"],
        "ranking.responses.status": ["submitted"],
    }
    ranked = {"id": 3, "data": {"prompt": "soup?", "items": [{"id": "x", "body": "a"}, {"id": "y", "body": "b"}, {"id": "z", "body": "c"}]}}
    ranked["annotations"] = [
        {"completed_by": {"id": 7, "email": "a@b"}, "created_at": "2024-05-06T07:08:09Z", "result": [
            {"from_name": "rank", "to_name": "items", "type": "ranker", "value": {"ranker": {"rank": ["z", "x", "y"]}}}
        ]}
    ]  # fmt: skip
    counted = {"prompt": [{"role": "user", "content": "soup?"}], "chosen": [{"role": "assistant", "content": "a"}]}
    counted |= {"rejected": [{"role": "assistant", "content": "b"}], "votes_chosen": 2, "votes_rejected": 1, "votes_tie": 1}
    items = [{"prompt": f"soup {k}?", "completions": ["a", {"text": "b", "policy": "p"}], "gold": k, "fields": {"x": k}} for k in range(2)]
    annotated = {"idx": 1, "instruction": "Name a side dish.", "input": "leeks", "response1": "a", "response2": "b", "annotator1": 1}
    others: dict[str, Any] = {"flat.jsonl": [flat | answers], "ranked.json": [ranked], "counted.jsonl": [counted], "items.jsonl": items}
    others["judgments.jsonl"] = [{"comparison": "c", "rater": who, "ranking": [[0], [1]], "order": [1, 0]} for who in ("ann", "bob")]
    others["annotated.json"] = [annotated, annotated | {"idx": 2, "response2": "c", "annotator2": 0}]
    completions = [{"text": "a", "policy": "p"}, {"text": "b"}]
    others["samples.jsonl"] = [
        {"id": f"s{k}", "prompt": [{"role": "user", "content": f"soup {k}?"}], "completions": completions} for k in "ab"
    ]
    for name, rows in others.items():
        files.append(folder / name)
        text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        files[-1].write_text(text, encoding="utf-8")
    return files


def damaged(content: bytes, rng: random.Random, *, is_json: bool) -> bytes:
    """The content with one to four changes of its bytes or of its structure."""
    changes: list[Callable[[bytes, random.Random], bytes]] = [_bytes, restructured] if is_json else [_bytes]
    change = rng.choice(changes)
    for _ in range(rng.randint(1, 4)):
        content = change(content, rng)
    return content


def _bytes(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return content
    at, end = sorted((rng.randrange(len(content)), rng.randrange(len(content))))
    piece = content[at : min(end, at + 40)]
    replacement = rng.choice(
        (bytes([rng.randrange(256)]), b"", piece * 2, b"\xff\xfe", b"\x00", b"\r\n", b'"', b"{", b"]", b"NaN", b"1e999", b"\xed\xa0\x80")
    )
    whole = rng.random()
    if whole < 0.05:
        return content[:at]
    if whole < 0.08:
        return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    if whole < 0.1:
        return content.decode("utf-8", "replace").encode("utf-16")
    if whole < 0.12:
        return content[:at] + b"[" * 5000 + content[at:]
    return content[:at] + replacement + content[at + len(piece) :]


def restructured(content: bytes, rng: random.Random) -> bytes:
    """The rows with one value replaced, removed, doubled or renamed; the bytes when they are no JSON any more."""
    try:
        text = content.decode("utf-8")
        is_lines = not text.lstrip().startswith("[")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()] if is_lines else json.loads(text)
    except (ValueError, RecursionError):
        return _bytes(content, rng)
    holders: list[tuple[Any, Any]] = []
    _walk(rows, holders)
    if not holders:
        return content
    holder, key = rng.choice(holders)
    what = rng.random()
    if what < 0.5:
        holder[key] = rng.choice(NASTY)
    elif what < 0.7:
        del holder[key]
    elif what < 0.85 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    elif isinstance(holder, dict):
        holder[rng.choice(("id", "item", "fields", "data", str(key) + "s"))] = holder[key]
    else:
        holder[key] = holder[rng.randrange(len(holder))]
    dumped = "\n".join(json.dumps(row) for row in rows) if is_lines else json.dumps(rows)
    return dumped.encode("utf-8")


def _walk(value: Any, holders: list[tuple[Any, Any]]) -> None:
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        holders.append((value, key))
        _walk(value[key], holders)


def outcome(path: Path, kind: str | None) -> str:
    """`valid`, `dropped` (valid, with rows that hold nothing to judge) or `error`.

    Raises:
        AssertionError: an exchange that is not what it was after writing and reading, or an error that does not say where.
    """
    try:
        exchange = read_exchange(path, kind)
    except DataError as error:
        said = str(error)
        if not (re.search(re.escape(str(path)) + r":\d+: ", said) or (str(path) in said and NO_ROW.search(said))):
            raise AssertionError(f"does not say where: {said}") from error
        if len(said) > 3000 or "\n" in said:
            raise AssertionError(f"not one short message: {said}") from error
        return "error"
    copy = path.with_name("copy.jsonl")
    write_exchange(exchange, copy)
    if read_exchange(copy) != exchange:
        raise AssertionError(f"{path}: read, but not what it was after writing and reading again")
    return "dropped" if exchange.dropped else "valid"


def fuzz(files: int, seed: int, folder: Path) -> Counter[str]:
    """How often each outcome came about."""
    good = good_files(folder)
    contents = {path: path.read_bytes() for path in good}
    counts: Counter[str] = Counter()
    for number in range(files):
        rng = random.Random(f"{seed}/{number}")
        path = rng.choice(good)
        victim = folder / f"damaged{path.suffix}"
        victim.write_bytes(damaged(contents[path], rng, is_json=path.suffix != ".csv"))
        kind = path.stem if path.stem in {shape.name for shape in WRITABLE} and rng.random() < 0.5 else None
        try:
            counts[outcome(victim, kind)] += 1
        except Exception as error:
            error.add_note(f"file {number} of seed {seed}, made of {path.name}: {victim.read_bytes()[:2000]!r}")
            raise
    return counts
