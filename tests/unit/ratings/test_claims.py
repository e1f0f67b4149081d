"""Handing out items: never too often, never twice to one rater, gold unseen, sides even, the newest policy first."""

import threading
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import select

from palate.core import DataError
from palate.ratings import Answer, Ratings, schema
from tests.support.ratings import FIRST, pair, team
from tests.support.waiting import LIMIT_SECONDS, joined

SECOND = Answer(ranking=((1,), (0,)))


def test_a_rater_keeps_an_assignment_until_it_is_answered(ratings: Ratings) -> None:
    crew = team(ratings)
    first = crew.sure()
    assert crew.claim() == first
    (_, shown), (ahead, coming) = ratings.claim_many(crew.project.id, crew.raters[0].id, crew.now, crew.random, 2)
    assert ahead.item != first.item
    assert [shown.id, coming.id] == [first.item, ahead.item]
    crew.submit(first)
    assert crew.claim() == ahead


def test_assignments_of_one_moment_keep_the_order_they_were_made_in(ratings: Ratings) -> None:
    crew = team(ratings, items=12)
    for count in range(1, 9):
        held = [one.id for one, _ in ratings.claim_many(crew.project.id, crew.raters[0].id, crew.now, crew.random, count)]
        again = [one.id for one, _ in ratings.claim_many(crew.project.id, crew.raters[0].id, crew.now, crew.random, 9 - count)]
        assert held[: 9 - count] == again[:count]
        assert len(set(held)) == count


def test_fewer_are_held_where_fewer_are_left(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    assert len(ratings.claim_many(crew.project.id, crew.raters[0].id, crew.now, crew.random, 2)) == 1
    assert ratings.claim_many(crew.project.id, crew.raters[1].id, crew.now, crew.random, 2) == []


def test_every_item_is_given_as_often_as_wanted_and_once_to_each_rater(ratings: Ratings) -> None:
    crew = team(ratings, items=6, raters=3, overlap=2)
    given = [(crew.judge(rater).item, rater) for _ in range(4) for rater in range(3)]
    assert [crew.claim(rater) for rater in range(3)] == [None, None, None]
    assert Counter(Counter(item for item, _ in given).values()) == {2: 6}
    assert len(set(given)) == 12
    assert ratings.check() == ()


def test_a_rater_alone_gets_each_item_once(ratings: Ratings) -> None:
    crew = team(ratings, items=6, overlap=2)
    assert len({crew.judge().item for _ in range(6)}) == 6
    assert crew.claim() is None
    assert crew.judge(1).item


def test_items_that_others_began_come_first(ratings: Ratings) -> None:
    crew = team(ratings, items=30, overlap=2)
    done = {crew.judge(0).item for _ in range(5)}
    assert {crew.judge(1).item for _ in range(5)} == done


def test_who_is_no_member_gets_nothing(ratings: Ratings) -> None:
    crew = team(ratings)
    stranger = ratings.add_account("stranger", "rater", 5.0)
    with pytest.raises(DataError, match="Let it join"):
        ratings.claim(crew.project.id, stranger.id, crew.now, crew.random)
    ratings.leave(crew.project.id, crew.raters[1].id)
    with pytest.raises(DataError, match="Let it join"):
        crew.claim(1)


def test_a_lease_that_ran_out_goes_to_another_rater_or_back_to_the_same(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    first = crew.sure(0)
    assert crew.claim(1) is None
    crew.now += 60.0
    again = crew.sure(0)
    assert (again.id, again.order) == (first.id, first.order)
    crew.now += 60.0
    assert crew.sure(1).item == first.item
    assert crew.claim(0) is None
    assert ratings.check() == ()


def test_what_is_given_back_is_free_at_once(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    held = crew.sure(0)
    assert not ratings.release(held.id, crew.raters[1].id)
    assert ratings.release(held.id, crew.raters[0].id)
    assert not ratings.release(held.id, crew.raters[0].id)
    assert crew.sure(1).item == held.item
    assert ratings.check() == ()


def test_a_removed_item_is_held_by_nobody(ratings: Ratings) -> None:
    crew = team(ratings, items=2)
    held = crew.sure()
    ratings.remove_item(held.item, crew.now)
    assert crew.sure().item != held.item
    assert [item.id for item in ratings.items(crew.project.id)] != []
    assert held.item not in [item.id for item in ratings.items(crew.project.id)]
    assert ratings.check() == ()


def test_raters_who_race_never_over_assign(ratings: Ratings) -> None:
    crew = team(ratings, items=40, raters=8, overlap=3)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        random, account = Random(number), crew.raters[number].id
        try:
            turn = 0
            while True:
                held = ratings.claim(crew.project.id, account, crew.now, random)
                if held is None:
                    return
                ratings.claim_many(crew.project.id, account, crew.now, random, 2)
                ratings.submit(held.id, account, FIRST, f"{number} {turn}", crew.now)
                turn += 1
        except BaseException as error:  # noqa: BLE001 (shown by the test's own thread)
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert failures == []
    assert ratings.check() == ()
    progress = ratings.progress(crew.project.id, crew.now)
    assert (progress.judgments, progress.complete, progress.surplus) == (120, 40, 0)


def test_two_pages_of_one_rater_share_their_assignment(ratings: Ratings) -> None:
    crew = team(ratings, items=20)
    barrier, found = threading.Barrier(6), []

    def work(number: int) -> None:
        barrier.wait(LIMIT_SECONDS)
        found.append(ratings.claim(crew.project.id, crew.raters[0].id, crew.now, Random(number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert len({held.id for held in found if held}) == 1


def test_the_database_itself_refuses_a_place_too_many(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    crew.sure()
    with pytest.raises(Exception, match=r"(?i)constraint"), ratings.database.write() as connection:
        connection.execute(schema.items.update().values(taken=schema.items.c.taken + 1))


def test_check_names_what_does_not_agree(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    held = crew.sure()
    assert ratings.check() == ()
    row = {"project": held.project, "item": held.item, "rater": crew.raters[1].id, "shown": [0, 1], "claimed": 0.0, "expires": 9e9}
    with ratings.database.write() as connection:
        connection.execute(schema.assignments.insert().values(row | {"id": "extra", "state": "open", "guideline": 1}))
    wrong, many = ratings.check()
    assert "1 places taken, but 0 votes and 2 leases" in wrong
    assert "2 leases, where 1 are wanted" in many


def test_gold_items_are_mixed_in_at_their_share_and_once_to_each_rater(ratings: Ratings) -> None:
    gold = tuple(pair(f"gold {n}", gold=((1,), (0,))) for n in range(30))
    crew = team(ratings, items=40, raters=2, gold_share=0.3, extra=gold)
    known = {item.id for item in ratings.items(crew.project.id) if item.gold is not None}
    given = [crew.judge(0).item for _ in range(30)]
    assert 2 <= len(known & set(given)) <= 20
    assert len(set(given)) == 30
    assert {crew.judge(1).item for _ in range(20)} & known


def test_gold_answers_are_judged_whatever_the_order_shown(ratings: Ratings) -> None:
    gold = tuple(pair(f"gold {n}", gold=((1,), (0,))) for n in range(10))
    crew = team(ratings, items=10, gold_share=0.5, extra=gold)
    known = {item.id for item in ratings.items(crew.project.id) if item.gold is not None}
    right = asked = 0
    for turn in range(14):
        held = crew.sure()
        is_right = turn % 3 > 0
        best = held.order.index(1 if is_right else 0)
        crew.submit(held, Answer(ranking=((best,), (1 - best,))))
        asked += held.item in known
        right += held.item in known and is_right
    record = ratings.gold_record(crew.project.id, crew.raters[0].id)
    assert asked > 2
    assert (record.asked, record.right) == (asked, right)


def test_the_qualification_comes_before_everything_else(ratings: Ratings) -> None:
    test = tuple(pair(f"test {n}", gold=((0,), (1,)), is_qualification=True) for n in range(3))
    crew = team(ratings, items=3, extra=test)
    wanted = {item.id for item in ratings.items(crew.project.id) if item.is_qualification}
    assert {crew.judge().item for _ in range(3)} == wanted
    assert crew.claim() is None
    record = ratings.gold_record(crew.project.id, crew.raters[0].id)
    assert (record.qualification_items, record.qualification_asked) == (3, 3)
    ratings.qualify(crew.project.id, crew.raters[0].id, crew.now)
    assert ratings.account(crew.raters[0].id).qualified == (crew.project.id,)
    assert crew.sure().item not in wanted


def test_sides_are_even_on_each_item_and_for_each_rater(ratings: Ratings) -> None:
    crew = team(ratings, items=20, raters=4, overlap=4)
    given = [(rater, crew.judge(rater)) for _ in range(20) for rater in range(4)]
    by_item: Counter[str] = Counter()
    for _, held in given:
        by_item[held.item] += 1 if held.order == (0, 1) else -1
    assert set(by_item.values()) == {0}
    orders = [held.order for rater, held in given if rater == 0]
    assert {(0, 1), (1, 0)} == set(orders)


def test_with_one_rater_an_item_sides_are_nearly_even_and_hard_to_guess(ratings: Ratings) -> None:
    crew = team(ratings, items=240)
    signs = [1 if crew.judge().order == (0, 1) else -1 for _ in range(240)]
    ahead = [sum(signs[:at]) for at in range(241)]
    assert max(map(abs, ahead)) <= 9  # plain coins: 15 and more
    forced = [sign * before < 0 for sign, before in zip(signs, ahead, strict=False) if before]
    assert 0.55 < sum(forced) / len(forced) < 0.78  # 2/3


def test_gold_comes_only_while_ordinary_items_do(ratings: Ratings) -> None:
    gold = tuple(pair(f"gold {n}", gold=((0,), (1,))) for n in range(30))
    crew = team(ratings, items=10, extra=gold, gold_share=0.5)
    plain = {item.id for item in ratings.items(crew.project.id) if item.gold is None}
    given = []
    while held := crew.claim():
        given.append(held.item)
        crew.submit(held)
    assert given[-1] in plain
    assert len(given) > len(plain)
    assert [crew.claim() for _ in range(40)] == [None] * 40


def test_the_newest_policy_comes_first(ratings: Ratings) -> None:
    crew = team(ratings, items=0)
    for policy in ("first", "second", "third"):
        ratings.add_items(crew.project.id, [pair(f"{policy} {n}", policy=policy) for n in range(2)], 5.0)
    given = [ratings.item(crew.judge().item).policy for _ in range(6)]
    assert given == ["third", "third", "second", "second", "first", "first"]


def test_strata_are_drawn_alike_however_large_they_are(ratings: Ratings) -> None:
    extra = (*(pair(f"large {n}", stratum="large") for n in range(90)), *(pair(f"small {n}", stratum="small") for n in range(30)))
    crew = team(ratings, items=0, extra=extra)
    first = ratings.item(crew.judge().item)
    assert first.selection_probability == pytest.approx(1 / 2 / {"large": 90, "small": 30}[first.stratum])
    strata = Counter(ratings.item(crew.judge().item).stratum for _ in range(40))
    assert 10 <= strata["small"] <= 30
    chances = {item.stratum: item.selection_probability for item in ratings.items(crew.project.id) if item.selection_probability}
    assert 0 < chances["large"] < chances["small"]


def test_the_first_draw_of_an_item_leaves_its_probability(ratings: Ratings) -> None:
    crew = team(ratings, items=4, overlap=2)
    first = crew.judge(0).item
    assert ratings.item(first).selection_probability == pytest.approx(1 / 4)
    second = crew.judge(0).item
    assert ratings.item(second).selection_probability == pytest.approx(1 / 3)
    crew.judge(1)
    assert [ratings.item(item).selection_probability for item in (first, second)] == [pytest.approx(1 / 4), pytest.approx(1 / 3)]


def test_an_uncertain_queue_asks_what_is_uncertain_but_a_third_at_random(ratings: Ratings) -> None:
    crew = team(ratings, items=200, queue="uncertain")
    spreads = {item.id: number for number, item in enumerate(ratings.items(crew.project.id))}
    assert ratings.set_scores(crew.project.id, [{"item": item, "spread": float(spread)} for item, spread in spreads.items()]) == 200
    given = [crew.judge().item for _ in range(60)]
    chances = [ratings.item(item).selection_probability or 0.0 for item in given]
    by_chance = [chance < 0.1 for chance in chances]
    assert 10 <= sum(by_chance) <= 28
    sure = [spreads[item] for item, chance in zip(given, by_chance, strict=True) if not chance]
    lucky = [spreads[item] for item, chance in zip(given, by_chance, strict=True) if chance]
    assert sum(sure) / len(sure) > sum(lucky) / len(lucky) + 30
    assert sum(lucky) / len(lucky) < 140


def test_uncertain_items_that_are_alike_do_not_follow_each_other(ratings: Ratings) -> None:
    crew = team(ratings, items=6, queue="uncertain")
    ids = [item.id for item in ratings.items(crew.project.id)]
    rows = [{"item": item, "spread": 1.0 - n / 100, "features": [1.0, 0.0] if n < 4 else [0.0, 1.0]} for n, item in enumerate(ids)]
    ratings.set_scores(crew.project.id, rows)
    with ratings.database.read() as connection:
        order = list(connection.execute(select(schema.items.c.id).order_by(schema.items.c.priority.desc())).scalars())
    assert order[:2] == [ids[0], ids[4]]


@pytest.mark.parametrize(
    "row",
    [
        {"spread": 1.0},
        {"item": "x", "spread": 1.0},
        {"item": 0, "spread": float("nan")},
        {"item": 0, "spread": -1.0},
        {"item": 0, "spread": True},
    ],
)
def test_a_bad_score_changes_nothing(ratings: Ratings, row: dict[str, object]) -> None:
    crew = team(ratings, items=2)
    first, second = (item.id for item in ratings.items(crew.project.id))
    ratings.set_scores(crew.project.id, [{"item": first, "spread": 1.0}])
    bad = row | ({"item": second} if row.get("item") == 0 else {})
    with pytest.raises(DataError, match="row 2"):
        ratings.set_scores(crew.project.id, [{"item": second, "spread": 1.0}, bad])
    with ratings.database.read() as connection:
        left = connection.execute(select(schema.items.c.id).where(schema.items.c.priority.is_not(None))).scalars()
        assert list(left) == [first]


def test_a_third_rater_is_asked_where_two_disagree(ratings: Ratings) -> None:
    crew = team(ratings, items=2, raters=4, overlap=2, max_overlap=3)
    for item in [crew.sure(0).item]:
        held = [crew.sure(0)]
        crew.submit(held[0], FIRST, 0)
        other = crew.sure(1)
        assert other.item == item
        same = other.order == held[0].order
        crew.submit(other, SECOND if same else FIRST, 1)
        assert ratings.undecided_items(crew.project.id) == ()
        third = crew.sure(2)
        assert third.item == item
        crew.submit(third, FIRST, 2)
    agreed = crew.sure(0)
    crew.submit(agreed, FIRST, 0)
    last = crew.sure(1)
    crew.submit(last, FIRST if last.order == agreed.order else SECOND, 1)
    assert [crew.claim(rater) for rater in range(4)] == [None] * 4
    assert ratings.check() == ()


def test_raters_without_a_majority_leave_the_item_to_a_reviewer(ratings: Ratings) -> None:
    crew = team(ratings, items=1, overlap=2)
    first = crew.judge(0)
    second = crew.sure(1)
    crew.submit(second, SECOND if second.order == first.order else FIRST, 1)
    assert ratings.undecided_items(crew.project.id) == (first.item,)
    with pytest.raises(DataError, match="reviewer"):
        ratings.adjudicate(first.item, crew.raters[1].id, FIRST, "decision", crew.now)
    receipt = ratings.adjudicate(first.item, crew.raters[0].id, FIRST, "decision", crew.now)
    assert ratings.adjudicate(first.item, crew.raters[0].id, FIRST, "decision", crew.now) == replace(receipt, status="repeat")
    assert ratings.undecided_items(crew.project.id) == ()
    assert ratings.progress(crew.project.id, crew.now).judgments == 2
    assert ratings.check() == ()
