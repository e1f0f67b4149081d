"""Rows of judgments and of voted preferences come back as they were written, and invalid ones are named."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.core import Completion, Judgment, Message, Preference, Prompt
from palate.data.cells import InvalidRow
from palate.data.judgment_rows import judgment_of, judgment_row, voted_preference_row, votes_of
from palate.data.pseudonyms import is_address, masked, pseudonym

WORDS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda word: bool(word.strip()) and not is_address(word))


@st.composite
def judgments(draw: st.DrawFn) -> Judgment:
    """Any judgment of two to five completions."""
    count = draw(st.integers(2, 5))
    places = draw(st.permutations(range(count)))
    cuts = [0, *sorted(draw(st.sets(st.integers(1, count - 1)))), count]
    return Judgment(
        draw(WORDS),
        draw(WORDS),
        tuple(tuple(places[start:end]) for start, end in itertools.pairwise(cuts)),
        draw(WORDS),
        draw(st.none() | st.permutations(range(count)).map(tuple)),
        draw(st.none() | st.floats(-5, 5)),
        draw(st.text(st.characters(codec="utf-8"))),
        draw(st.none() | st.floats(0, 1e6)),
        draw(st.text(st.characters(codec="utf-8"))),
        is_decision=draw(st.booleans()),
        probabilities=tuple(draw(st.just([]) | st.lists(st.floats(0, 1), min_size=math.comb(count, 2), max_size=math.comb(count, 2)))),
    )


@given(judgments())
def test_a_judgment_comes_back_as_it_was_written(judgment: Judgment) -> None:
    assert judgment_of(json.loads(json.dumps(judgment_row(judgment)))) == judgment


def test_what_a_row_leaves_out_is_as_in_a_judgment() -> None:
    found = judgment_of({"comparison": "c", "rater": "ann", "ranking": [[2], [0, 1]]})
    assert found == Judgment("c", "ann", ((2,), (0, 1)))
    assert (found.order, found.tiers) == (None, ((2,), (0, 1)))  # who stood where is not known


def test_renumbered_judgments_say_the_same_of_the_same_completions() -> None:
    shown = Judgment("c", "ann", ((1,), (0,), (2,)), order=(2, 0, 1))  # completion 0 is best, then 2, then 1
    for judgment in (shown, replace(shown, ranking=shown.tiers, order=None)):
        there = judgment.renumbered("d", (1, 2, 0))  # completion 0 has the number 1 there
        assert (there.comparison, there.tiers) == ("d", ((1,), (0,), (2,)))
        assert (there.order is None) == (judgment.order is None)


@pytest.mark.parametrize("order", [(2, 0, 1), None])
@pytest.mark.parametrize("numbers", list(itertools.permutations(range(3))))
def test_probabilities_stay_with_their_completions(order: tuple[int, ...] | None, numbers: tuple[int, ...]) -> None:
    """The places are 0-1, 0-2 and 1-2, whatever stands there."""
    given = Judgment("c", "judge", ((0,), (1,), (2,)), order=order, probabilities=(0.6, 0.9, 0.8))
    places = (0, 1, 2) if order is None else tuple(order.index(k) for k in range(3))
    by_places = {(0, 1): 0.6, (0, 2): 0.9, (1, 2): 0.8}
    by_places |= {(b, a): 1 - share for (a, b), share in by_places.items()}
    there = given.renumbered("d", numbers)
    for i, j in itertools.permutations(range(3), 2):
        assert given.first_probability(i, j) == pytest.approx(by_places[places[i], places[j]])
        assert there.first_probability(numbers[i], numbers[j]) == pytest.approx(by_places[places[i], places[j]])


def test_a_probability_without_an_order_turns_with_the_numbers() -> None:
    alone = Judgment("c", "judge", ((0,), (1,)), probability=0.8)
    turned = alone.renumbered("d", (1, 0))
    assert (turned.ranking, turned.probability) == (((1,), (0,)), pytest.approx(0.2))
    assert alone.renumbered("d", (0, 1)).probability == 0.8
    assert replace(alone, order=(1, 0)).renumbered("d", (1, 0)).probability == 0.8
    assert Judgment("c", "ann", ((0,), (1,))).first_probability() is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"probabilities": [0.5, 0.5]}, "`probabilities` holds 2 numbers; a ranking of 3 has 3"),
        ({"probabilities": [0.5, 0.5, 1.5]}, r"`probabilities\[2\]` is outside 0 to 1"),
        ({"probabilities": 0.5}, "`probabilities` is not a list"),
    ],
)
def test_probabilities_that_do_not_fit_are_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRow, match=told):
        judgment_of({"comparison": "c", "rater": "judge", "ranking": [[2], [0, 1]], **change})


@pytest.mark.parametrize("rater", ["ann@example.org", "Ann <ann@example.org>", "ann\uff20example.org", "ann@desk"])
def test_an_address_of_mail_is_no_pseudonym(rater: str) -> None:
    with pytest.raises(InvalidRow, match=r"`rater` is an email address"):
        judgment_of({**GOOD, "rater": rater})
    with pytest.raises(InvalidRow, match=r"`raters\[1\]` is an email address"):
        votes_of({"votes": [1, 0], "raters": ["bob", rater]})
    assert masked(rater) == masked(rater) != masked(f"x{rater}")
    assert "@" not in masked(rater)


def test_a_models_revision_is_no_address() -> None:
    assert pseudonym("judge@v2", "judge", "model") == masked("judge@v2", "model") == "judge@v2"
    with pytest.raises(InvalidRow):
        pseudonym("bot@example.org", "judge", "model")


def test_a_null_among_votes_is_no_vote() -> None:
    assert votes_of({"votes": [1, None, 0.5], "raters": ["a", "b", "c"]}) == [("a", 1.0), ("c", 0.5)]


GOOD = {"comparison": "c", "rater": "ann", "ranking": [[0], [1]]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"comparison": None}, "no `comparison`"),
        ({"rater": []}, r"`rater` is not a string: \[\]"),
        ({"ranking": [[0]]}, "`ranking` holds 1 places"),
        ({"ranking": [[0], []]}, "`ranking` has an empty tier"),
        ({"ranking": [[0], [2]]}, "`ranking` names place 2; there are 2"),
        ({"order": [0, 0]}, r"`order` is \[0, 0\]; it must name each"),
        ({"seconds": float("nan")}, "`seconds` is not a finite number"),
        ({"strength": "much"}, "`strength` is not a number: 'much'"),
        ({"is_decision": 2}, "`is_decision` is not true or false: 2"),
    ],
)
def test_an_invalid_judgment_names_its_field(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRow, match=reason):
        judgment_of({**GOOD, **change})


def test_a_preference_keeps_its_votes_and_raters() -> None:
    prompt = Prompt("p", (Message("user", "soup?"),), {"level": 2})
    preference = Preference(prompt, Completion("yes"), Completion("no"), 0.75, dimension="kind")
    row = json.loads(json.dumps(voted_preference_row("p/0-1/kind", preference, [1, 0.5, 1], ["ann", "bob", "cid"])))
    assert votes_of(row) == [("ann", 1), ("bob", 0.5), ("cid", 1)]
    assert (row["id"], row["dimension"], row["probability"]) == ("p/0-1/kind", "kind", 0.75)
    assert (row["prompt"], row["chosen"]) == ([{"role": "user", "content": "soup?"}], [{"role": "assistant", "content": "yes"}])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"raters": ["ann"]}, "no `votes`"),
        ({"votes": [0.7]}, "`votes` holds other numbers"),
        ({"votes": [1, 0], "raters": ["ann"]}, "`raters` names 1 for 2 votes"),
        ({"votes": [1], "raters": [""]}, r"empty `raters\[0\]`"),
    ],
)
def test_invalid_votes_name_their_field(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRow, match=reason):
        votes_of(row)


def test_votes_without_raters_are_of_unknown_ones() -> None:
    assert votes_of({"votes": [1, 0]}) == [("unknown-1", 1), ("unknown-2", 0)]
