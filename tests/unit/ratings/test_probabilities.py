"""The probability kept with an item is how often the draw takes it: found by drawing from one state again and again.

Chance is in two places: where a draw begins, and in which order the items lie, which is drawn when they are added. Both are drawn anew.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from sqlalchemy import bindparam, update

from palate.ratings import Ratings, schema
from palate.ratings.queue import draw_item
from tests.support.ratings import Team, pair, team

DRAWS = {"sqlite": 600, "postgresql": 200}
"""By kind of database: a draw from a server takes longer, and the question is the same."""


class UndoneError(Exception):
    """Takes a transaction back."""


def drawn(crew: Team, items: Sequence[str], seed: int) -> tuple[str, float]:
    """(item, probability kept) of a draw that leaves nothing behind."""
    found, random = [], Random(seed)
    with pytest.raises(UndoneError), crew.ratings.database.write() as connection:
        numbers = [{"which": item, "anew": random.random()} for item in items]
        connection.execute(update(schema.items).where(schema.items.c.id == bindparam("which")).values(draw=bindparam("anew")), numbers)
        row = draw_item(connection, crew.project, crew.raters[0].id, random, is_tested=False)
        assert row is not None
        found.append((row.id, row.selection_probability))
        raise UndoneError
    return found[0]


def compared(crew: Team) -> dict[str, float]:
    """The probability kept by item, once every draw agreed about it and its frequency lay within four standard errors of it."""
    draws = DRAWS["sqlite" if crew.ratings.database.is_sqlite else "postgresql"]
    items = [item.id for item in crew.ratings.items(crew.project.id)]
    results = [drawn(crew, items, seed) for seed in range(draws)]
    kept = dict(results)
    assert {(item, kept[item]) for item in kept} == set(results), "an item has two probabilities"
    assert sum(kept.values()) == pytest.approx(1), "items that no draw took, or too high a probability"
    for item, count in Counter(item for item, _ in results).items():
        error = (kept[item] * (1 - kept[item]) / draws) ** 0.5
        assert abs(count / draws - kept[item]) < 4 * error, (count / draws, kept[item])
    return kept


STRATA = (*(pair(f"large {n}", stratum="large") for n in range(6)), *(pair(f"small {n}", stratum="small") for n in range(2)))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_of_an_uncertain_queue(ratings: Ratings, share: float) -> None:
    crew = team(ratings, items=0, extra=STRATA, queue="uncertain", random_share=share)
    items = list(ratings.items(crew.project.id))
    # Some are not scored: they come by chance alone.
    ratings.set_scores(crew.project.id, [{"item": item.id, "spread": float(k)} for k, item in enumerate(items[1:], start=1)])
    chances = compared(crew)
    top = max(chances, key=lambda item: chances[item])
    assert chances[top] == pytest.approx(1 - share + share / (2 * 2))  # of two strata, the smaller one's two
    assert sorted(chances.values())[0] == pytest.approx(share / (2 * 6))


def test_of_strata_of_which_one_is_begun_to_its_end(ratings: Ratings) -> None:
    crew = team(ratings, items=0, extra=STRATA, overlap=2)
    while any(item.stratum == "small" and item.selection_probability is None for item in ratings.items(crew.project.id)):
        crew.judge()
    left = [item for item in ratings.items(crew.project.id) if item.selection_probability is None]
    assert left, "another seed"
    assert compared(crew) == pytest.approx({item.id: 1 / len(left) for item in left})
