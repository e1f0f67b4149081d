"""Palate's own file of judgments: what is written is read, whatever it holds, and nothing is written half."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import DataError, Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, GuidelineText, RaterInfo, Vote, read_exchange, write_exchange
from palate.data.exchange.contents import MIN_CANDIDATES, RATER_KINDS, STATUSES, Tiers
from palate.data.exchange.project import TASKS
from palate.data.pseudonyms import is_address
from palate.data.rubrics import GRADE_WORDS
from tests.support.fuzz import sample

few = settings(max_examples=60)  # each example waits for the disk
words = st.text(st.characters(codec="utf-8"), max_size=6)
ids = words.filter(lambda word: bool(word.strip()) and not is_address(word))
finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers() | finite | words
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=4)


@st.composite
def rankings(draw: st.DrawFn, count: int) -> Tiers:
    numbers = draw(st.permutations(range(count)))
    cuts = sorted(draw(st.sets(st.integers(1, count - 1)))) if count > 1 else []
    return tuple(tuple(numbers[a:b]) for a, b in zip([0, *cuts], [*cuts, count], strict=True))


rubrics = st.lists(st.floats(0.1, 9), min_size=1, max_size=3).map(lambda given: [{"text": "x", "weight": weight} for weight in given])


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    raters = tuple(RaterInfo(name, draw(st.sampled_from(RATER_KINDS))) for name in draw(st.lists(ids, min_size=1, max_size=3, unique=True)))
    items = []
    for name in draw(st.lists(ids, max_size=3, unique=True)):
        task = draw(st.sampled_from(TASKS))
        count = draw(st.integers(MIN_CANDIDATES[task], 4))
        right = {"compare": rankings(count), "rank": rankings(count), "rule": st.booleans()}
        turns = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool", "text"]), words, words)
        items.append(
            ExchangeItem(
                name,
                tuple(draw(st.lists(turns, max_size=3))),
                tuple(draw(st.builds(Candidate, words, words, words, words)) for _ in range(count)),
                task,
                draw(words),
                draw(st.none() | right[task]) if task in right else None,
                draw(st.booleans()),
                draw(st.none() | st.floats(0, 1)),
                {**draw(st.dictionaries(words, values, max_size=2)), **({"rubric": draw(rubrics)} if task == "rubric" else {})},
            )
        )
    votes = []
    for number in range(draw(st.integers(0, 4)) if items else 0):
        item = draw(st.sampled_from(items))
        count = len(item.candidates)
        judgment = Judgment(
            item.id,
            draw(st.sampled_from(raters)).id,
            draw(rankings(count)) if count else (),
            draw(ids),
            draw(st.none() | st.permutations(range(count)).map(tuple)),
            draw(st.none() | finite),
            draw(words),
            draw(st.none() | st.floats(0, 1e9)),
            draw(words),
            probability=draw(st.none() | st.floats(0, 1)),
            is_consistent=draw(st.none() | st.booleans()),
        )
        broken = draw(st.none() | st.booleans()) if count else True
        rest = (draw(st.sampled_from(STATUSES)), draw(st.booleans()), draw(st.booleans()), draw(words), draw(words), broken)
        vote = Vote(judgment, draw(st.sampled_from(["", f"vote-{number}"])), draw(st.none() | finite), *rest)
        votes.append(replace(vote, grades=draw(st.dictionaries(words, st.sampled_from(GRADE_WORDS), max_size=2))))
    guidelines = tuple(GuidelineText(version, draw(words), draw(words)) for version in draw(st.lists(words, max_size=2, unique=True)))
    return Exchange(tuple(items), tuple(votes), raters, guidelines, draw(words))


@few
@given(exchange=exchanges())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> None:
    file = tmp_path_factory.mktemp("exchange") / "a.jsonl"
    write_exchange(exchange, file)
    assert read_exchange(file) == exchange


def lines(exchange: Exchange, file: Path) -> list[dict[str, dict[str, object]]]:
    """The rows of the exchange's file."""
    write_exchange(exchange, file)
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("what", "field", "value", "told"),
    [
        ("judgment", "ranking", [[0], [2]], "`ranking` names place 2; there are 2, counted from 0"),
        ("judgment", "ranking", [[0]], "`ranking` leaves out place 1"),
        ("judgment", "ranking", [[0], [0]], "`ranking` names a place twice"),
        ("judgment", "ranking", [[0], []], "`ranking` has an empty tier"),
        ("judgment", "ranking", [], "`ranking` is empty, and there is no other answer"),
        ("judgment", "order", [0, 0], "`order` is [0, 0]; it must name each of the 2 candidates once"),
        ("judgment", "rater", "eve", "`rater` 'eve' is not among the file's raters"),
        ("judgment", "item", "item-9", "`item` 'item-9' is not among the file's items"),
        ("judgment", "strength", float("inf"), "`strength` is not a finite number: inf"),
        ("judgment", "seconds", -1, "`seconds` is outside 0 to inf: -1"),
        ("judgment", "time", 10**400, "`time` is too large"),
        ("judgment", "reason", "\ud800", "`reason` is not valid Unicode: half a surrogate pair"),
        ("judgment", "status", "lost", "`status` is 'lost'; it can be kept, surplus, superseded"),
        ("judgment", "rankign", [], "`judgment.rankign` is not known"),
        ("item", "candidates", [{"text": "a"}], "`candidates` holds 1; to compare takes 2 or more"),
        ("item", "gold", [[0], [5]], "`gold` names candidate 5"),
        ("item", "id", " ", "empty `item.id`"),
        ("item", "fields", {"x": float("inf")}, "`fields.x` holds a number that is not finite"),
        ("item", "conversation", [{"role": "cook", "text": ""}], "`conversation.role` is 'cook'"),
        ("rater", "kind", "robot", "`rater.kind` is 'robot'"),
    ],
)  # fmt: skip
def test_a_fault_names_file_row_field_and_remedy(tmp_path: Path, what: str, field: str, value: object, told: str) -> None:
    file = tmp_path / "a.jsonl"
    rows = lines(sample(), file)
    number = next(k for k, row in enumerate(rows) if what in row)
    rows[number][what][field] = value
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_exchange(file)
    assert str(caught.value).startswith(f"{file}:{number + 1}: {told}")
    assert "Correct the row or take it out; docs/exchange.md" in str(caught.value)


def test_the_same_row_again_is_dropped_and_another_of_its_id_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = lines(sample(), file)
    again = next(row for row in rows if "judgment" in row)
    item = next(row for row in rows if "item" in row)
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, item, again]), encoding="utf-8")
    found = read_exchange(file)
    assert found == sample()
    assert [row.kind for row in found.dropped] == ["the same judgment again"]
    for changed in ({"item": {**item["item"], "stratum": "x"}}, {"judgment": {**again["judgment"], "reason": "x"}}):
        file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, changed]), encoding="utf-8")
        with pytest.raises(DataError, match=rf"a.jsonl:{len(rows) + 1}: `id` .* already, at .*a.jsonl:\d+\."):
            read_exchange(file)


def test_a_newer_version_and_a_file_without_its_first_row_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = lines(sample(), file)
    file.write_text(json.dumps({**rows[0], "version": 4}) + "\n")
    with pytest.raises(DataError, match=r"a.jsonl:1: `version` is 4: a newer Palate wrote the file"):
        read_exchange(file)
    file.write_text(json.dumps(rows[1]) + "\n")
    with pytest.raises(DataError, match=r"a.jsonl:1: `palate.guideline` is not known"):
        read_exchange(file, "palate")
    with pytest.raises(DataError, match=r"a.jsonl:1: the row has the columns guideline, which do not make a known shape"):
        read_exchange(file)


@pytest.mark.parametrize("kind", ["palate", "label-studio", "argilla", "trl", "mt-bench", "hh", "csv"])
def test_a_write_that_fails_leaves_the_former_file_and_no_other(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.json"
    file.write_text("before")
    media = ExchangeItem("m", (), (Candidate(media="a.png"),), task="rule", fields={"x": float("nan")})
    broken = Exchange((media,), (Vote(Judgment("m", "ann", (), "\ud800", (0,)), is_broken=True),), (RaterInfo("ann"),))
    with pytest.raises((DataError, UnicodeEncodeError)):
        write_exchange(broken, file, kind)
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_bom_and_windows_line_ends_are_read_and_utf16_is_not(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write_exchange(sample(), file)
    content = file.read_bytes()
    file.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert read_exchange(file) == sample()
    file.write_bytes(content.decode().encode("utf-16"))
    with pytest.raises(DataError, match=r"a.jsonl:1: is UTF-16 text, not UTF-8 text\. Save the file as UTF-8"):
        read_exchange(file)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.data.jsonl.LONGEST_LINE", 10_000)
    file = tmp_path / "a.jsonl"
    write_exchange(sample(), file)
    file.write_bytes(file.read_bytes() + b"x" * 20_000)
    number = len(file.read_bytes().splitlines())
    with pytest.raises(DataError, match=rf"a.jsonl:{number}: the line is longer than 10000 bytes"):
        read_exchange(file)
