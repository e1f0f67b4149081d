"""Through other tools and back: whatever was judged, the same is said about the same candidates."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Tiers, Vote, join_items, read_exchange, write_exchange

few = settings(max_examples=60)  # each example waits for the disk
words = st.text(st.characters(codec="utf-8"), max_size=6)
ids = words.filter(lambda word: bool(word.strip()))
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
            order = tuple(draw(st.permutations(range(count))))
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
    assert [item.conversation for item in back.items] == [item.conversation for item in exchange.items]
