"""Projects, guidelines and items: what is kept, and what is refused whole."""

import pytest

from palate.core import ConfigError, DataError, Message
from palate.ratings import Candidate, Item, Project, Ratings, Task
from tests.support.ratings import pair, team


def test_a_project_comes_back_as_it_was_made(ratings: Ratings) -> None:
    task = Task("rank", ("helpful", "honest"), ties=False, all_bad=True, strength=True, reason="required", rules=("r",))
    made = ratings.add_project(Project("p", task, 2, 4, 30.0, 0.1, "uncertain", 0.5), 12.5)
    assert ratings.project(made.id) == made
    assert ratings.projects() == (made,)
    with pytest.raises(ConfigError, match="already"):
        ratings.add_project(Project("p"), 13.0)
    with pytest.raises(DataError, match="no project"):
        ratings.project("nothing")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": " "},
        {"name": "\x00"},
        {"overlap": 0},
        {"overlap": 3, "max_overlap": 2},
        {"lease_seconds": 0.0},
        {"lease_seconds": float("nan")},
        {"gold_share": 0.6},
        {"queue": "uncertain", "random_share": 0.2},
        {"task": Task(dimensions=())},
        {"task": Task(dimensions=("a", "a"))},
        {"task": Task("rule")},
    ],
)
def test_settings_that_contradict_each_other_are_refused(ratings: Ratings, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="cannot be made"):
        ratings.add_project(Project(**({"name": "p"} | changes)), 1.0)  # type: ignore[arg-type]


def test_guidelines_are_versioned_and_named_by_assignments(ratings: Ratings) -> None:
    crew = team(ratings)
    assert crew.judge().guideline == 1
    kept = ratings.set_guideline(crew.project.id, "# Be kind", 5.0, warning="knives")
    assert kept.version == 2
    assert crew.judge().guideline == 2
    assert ratings.guideline(crew.project.id) == kept
    assert ratings.guideline(crew.project.id, 1).text == ""
    assert [entry.guideline for entry in ratings.judgments(crew.project.id)] == [1, 2]
    with pytest.raises(DataError, match="no guideline 3"):
        ratings.guideline(crew.project.id, 3)


def test_duplicates_are_counted_and_left_out(ratings: Ratings) -> None:
    crew = team(ratings, items=3)
    again = pair("0", candidates=pair("0").candidates[::-1])
    added = ratings.add_items(crew.project.id, [again, pair("new"), pair("new")], 9.0)
    assert (len(added.ids), added.duplicates) == (1, 2)
    assert [item.conversation[0].text for item in ratings.items(crew.project.id)] == [f"question {name}" for name in ("0", "1", "2", "new")]


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (Item((), pair("x").candidates), "conversation"),
        (pair("x", candidates=pair("x").candidates[:1]), "1 given"),
        (pair("x", candidates=(*pair("x").candidates, Candidate("c"))), "3 given"),
        (pair("x", candidates=(Candidate("a"), Candidate(policy="p"))), "neither text nor media"),
        (pair("x", candidates=(Candidate("a"), Candidate("a"))), "the same"),
        (pair("x", gold=((0,),)), "gold"),
        (pair("x", gold=((0, 2),)), "gold"),
        (pair("x", is_qualification=True), "qualification"),
        (pair("x", fields={"n": float("nan")}), "fields"),
        (pair("x", fields={"n": {1, 2}}), "fields"),
        (pair("x", stratum="\x00"), "stratum"),
        (pair("x", policy="\ud800"), "policy"),
    ],
)
def test_one_bad_item_and_nothing_is_added(ratings: Ratings, item: Item, fault: str) -> None:
    crew = team(ratings, items=0)
    with pytest.raises(DataError, match=f"Item 3.*{fault}"):
        ratings.add_items(crew.project.id, [pair("a"), pair("b"), item], 4.0)
    assert list(ratings.items(crew.project.id)) == []


def test_odd_text_is_kept_to_the_letter(ratings: Ratings) -> None:
    words = ["\x00", "\u2028", "'; DROP TABLE items; --", "%s {0}", "\u202e", "\U0001f600", "a\r\nb"]
    items = [Item((Message("user", word),), (Candidate(f"1{word}"), Candidate(f"2{word}")), fields={"w": word}) for word in words]
    crew = team(ratings, items=0, extra=tuple(items))
    assert [(item.conversation[0].text, item.fields["w"]) for item in ratings.items(crew.project.id)] == [(word, word) for word in words]


def test_many_items_are_read_page_by_page(ratings: Ratings) -> None:
    crew = team(ratings, items=1203)
    assert len({item.id for item in ratings.items(crew.project.id)}) == 1203
