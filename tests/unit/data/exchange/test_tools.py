"""Through other tools and back: whatever was judged, the same is said about the same candidates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import DataError, Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Tiers, Vote, join_items, read_exchange, write_exchange
from palate.data.pseudonyms import is_address

few = settings(max_examples=60)  # each example waits for the disk
words = st.text(st.characters(codec="utf-8"), max_size=6)
ids = words.filter(lambda word: bool(word.strip()) and not is_address(word))
names = st.sampled_from(["overall", "helpful", "a_strength", "dimension_b", "b_verdict", "reason", "<&\"'>", "é"])


@st.composite
def judged(draw: st.DrawFn) -> Exchange:
    """Items of two or more texts with votes of people that rank them."""
    raters = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    items, votes = [], []
    for name in draw(st.lists(ids, min_size=1, max_size=3, unique=True)):
        count = draw(st.integers(2, 4))
        turns = ((Message("user", draw(ids)),), (Message("system", draw(words)), Message("user", draw(ids))))
        texts = tuple(draw(st.lists(ids, min_size=count, max_size=count)))
        items.append(ExchangeItem(name, draw(st.sampled_from(turns)), tuple(map(Candidate, texts)), "compare" if count == 2 else "rank"))
        for _ in range(draw(st.integers(0, 3))):
            order = draw(st.none() | st.permutations(range(count)).map(tuple))
            votes.append(Vote(Judgment(name, draw(st.sampled_from(raters)), draw(rankings(count)), draw(names), order, reason=draw(words))))
    return Exchange(tuple(items), tuple(votes), tuple(map(RaterInfo, raters)))


@st.composite
def rankings(draw: st.DrawFn, count: int) -> Tiers:
    numbers = draw(st.permutations(range(count)))
    cuts = sorted(draw(st.sets(st.integers(1, count - 1))))
    return tuple(tuple(numbers[a:b]) for a, b in zip([0, *cuts], [*cuts, count], strict=True))


@few
@given(exchange=judged())
def test_label_studio_gives_back_who_said_what(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> None:
    file = tmp_path_factory.mktemp("tasks") / "a.json"
    assert write_exchange(exchange, file, "label-studio").left_out == ()
    back = join_items(read_exchange(file), exchange)
    assert back.items == exchange.items

    def said(found: Exchange) -> Counter[tuple[object, ...]]:
        asked = ((vote.judgment, vote.tiers) for vote in found.votes)
        return Counter((one.comparison, one.rater, one.dimension, one.order, tiers) for one, tiers in asked)

    assert said(back) == said(exchange)


@few
@given(exchange=judged())
def test_argilla_gives_back_what_was_said(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> None:
    file = tmp_path_factory.mktemp("records") / "a.json"
    assert write_exchange(exchange, file, "argilla").left_out == ()
    back = read_exchange(file)

    def said(found: Exchange) -> Counter[tuple[object, ...]]:
        return Counter((vote.judgment.comparison, vote.judgment.dimension, vote.tiers) for vote in found.votes)

    assert said(back) == said(exchange)
    assert {vote.judgment.order for vote in back.votes} <= {None}  # Argilla does not keep it
    assert [item.conversation for item in back.items] == [item.conversation for item in exchange.items]


@few
@given(exchange=judged())
def test_mt_bench_gives_back_orders_and_leaves_unknown_ones_unknown(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> None:
    policies = ("a", "b")  # in the order of their names, as the reader has them
    items = tuple(
        replace(item, candidates=tuple(replace(one, policy=name) for one, name in zip(item.candidates, policies, strict=True)))
        for item in exchange.items
        if len(item.candidates) == 2
    )
    kept = {item.id for item in items}
    votes = tuple(
        replace(vote, judgment=replace(vote.judgment, dimension="overall"))
        for vote in exchange.votes
        if vote.judgment.comparison in kept and not vote.judgment.rater.endswith("_pair")
    )
    if not votes:
        return
    file = tmp_path_factory.mktemp("votes") / "a.jsonl"
    assert write_exchange(replace(exchange, items=items, votes=votes), file, "mt-bench").left_out == ()
    back = read_exchange(file)

    def said(found: Sequence[Vote]) -> Counter[tuple[object, ...]]:
        return Counter((one.judgment.comparison, one.judgment.rater, one.judgment.order, one.tiers) for one in found)

    assert said(back.votes) == said(votes)


def task(**data: object) -> ExchangeItem:
    turns = (Message("user", str(data.get("prompt", "soup?"))),)
    return ExchangeItem(str(data["id"]), turns, tuple(map(Candidate, ("yes", "no")[:: int(str(data.get("step", 1)))])))


def test_votes_join_items_by_what_they_ask_and_never_by_a_name() -> None:
    known = Exchange((task(id="a"), task(id="b", prompt="tea?"), task(id="c", prompt="pie?", step=-1)))
    said = tuple(Vote(Judgment(name, "ann", ((0,), (1,)))) for name in ("b", "x", "y"))
    raters = (RaterInfo("ann"),)
    judged_items = (task(id="b", prompt="soup?"), task(id="x", prompt="tea?"), task(id="y", prompt="pie?"))
    with pytest.raises(DataError, match=r"item 'z': is not among the items"):
        join_items(Exchange((task(id="z", prompt="nuts?"),), (), raters), known)
    with pytest.raises(DataError, match=r"item 'a': has another conversation among the items"):
        join_items(Exchange((task(id="a", prompt="nuts?"),), (), raters), known)
    joined = join_items(Exchange(judged_items, said, raters), known)
    assert [(vote.judgment.comparison, vote.tiers) for vote in joined.votes] == [
        ("a", ((0,), (1,))),
        ("b", ((0,), (1,))),
        ("c", ((1,), (0,))),  # its candidates stand the other way round there
    ]


@pytest.mark.parametrize(
    ("judge", "winner", "order"),
    [
        ("ann", "model_a", (1, 0)),
        ("ann", "tie (inconsistent)", None),  # two verdicts, one in each order
        (["gpt-4", "pair-v2"], "model_a", None),
        ("gpt4_pair", "model_b", None),
    ],
)
def test_verdicts_in_both_orders_have_none(tmp_path: Path, judge: object, winner: str, order: object) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"question_id": 1, "model_a": "b", "model_b": "a", "winner": winner, "judge": judge, "turn": 1}))
    (vote,) = read_exchange(file).votes
    assert vote.judgment.order == order
    assert vote.tiers == {"model_a": ((1,), (0,)), "model_b": ((0,), (1,))}.get(winner, ((0, 1),))


def labelled(*results: dict[str, object]) -> list[object]:
    answer = {"from_name": "pw", "to_name": "answer1,answer2", "type": "pairwise", "value": {"selected": "left"}}
    data = {"prompt": "q", "answer1": "A", "answer2": "B"}
    return [{"id": 1, "data": data, "annotations": [{"completed_by": 1, "result": [answer, *results]}]}]


def rating(target: str, stars: int) -> dict[str, object]:
    return {"from_name": f"stars of {target}", "to_name": target, "type": "rating", "value": {"rating": stars}}


@pytest.mark.parametrize(
    ("results", "strength"),
    [
        ([rating("answer1", 5), rating("answer2", 1)], None),
        ([rating("answer2", 1)], None),
        ([rating("prompt", 2)], None),
        ([rating("answer1,answer2", 3)], 3.0),
        ([rating("answer1", 5), rating("answer1,answer2", 2)], 2.0),
    ],
)
def test_a_rating_is_a_strength_only_of_the_pair(tmp_path: Path, results: list[dict[str, object]], strength: float | None) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(labelled(*results)))
    found = read_exchange(file)
    assert [vote.judgment.strength for vote in found.votes] == [strength]
    assert bool(found.dropped) == any(result["to_name"] != "answer1,answer2" for result in results)


def test_annotators_without_a_name_are_not_one_person(tmp_path: Path) -> None:
    (one,) = labelled()
    entry = {key: value for key, value in one["annotations"][0].items() if key != "completed_by"}
    (tmp_path / "a.json").write_text(json.dumps([{**one, "annotations": [entry, entry]}]))
    assert [vote.judgment.rater for vote in read_exchange(tmp_path / "a.json").votes] == ["unknown", "unknown-2"]
    (tmp_path / "b.json").write_text(json.dumps(labelled()).replace('"completed_by": 1', '"completed_by": {"email": "a@b.c"}'))
    with pytest.raises(DataError, match="completed_by` has no id"):
        read_exchange(tmp_path / "b.json")


def test_no_file_of_judgments_holds_an_address(tmp_path: Path) -> None:
    exchange = Exchange((task(id="a"),), (Vote(Judgment("a", "ann@example.org", ((0,), (1,)))),), (RaterInfo("ann@example.org"),))
    for kind in ("palate", "trl", "csv"):
        with pytest.raises(DataError, match="1 raters are email addresses"):
            write_exchange(exchange, tmp_path / "a", kind)
    assert not list(tmp_path.iterdir())


def test_what_nobody_can_judge_is_dropped_and_listed(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completions": texts} for texts in (["a", "a"], ["a", "b"], ["c", ""], ["a", "b", "a"])]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_exchange(tmp_path / "a.jsonl")
    assert [[one.text for one in item.candidates] for item in found.items] == [["a", "b"]]
    assert [row.reason for row in found.dropped] == ["the two sides are equal", "empty completion", "two candidates are equal"]
