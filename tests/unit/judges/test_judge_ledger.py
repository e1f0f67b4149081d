"""The ledger: answers are kept once, budgets hold whatever runs at the same time, and runs may share a cache."""

import sqlite3
import threading
from pathlib import Path

import pytest

from palate.core import RunError
from palate.judges.judge_ledger import Budget, BudgetSpent, Charge, JudgeLedger, KeptAnswer, digest_of
from tests.support.waiting import happened, joined


def kept(text: str = "A", tokens: int = 10, cost: float = 1.0) -> KeptAnswer:
    return KeptAnswer({"text": text}, tokens, 0, cost)


def pay(ledger: JudgeLedger, key: str, answer: KeptAnswer, most: Charge) -> None:
    ledger.keep(ledger.reserve(key, most), key, ("small", {"q": key}), answer)


def test_an_answer_is_there_for_the_next_process_and_never_changes(tmp_path: Path) -> None:
    first = JudgeLedger(tmp_path / "ledger")
    assert first.kept("k") is None
    pay(first, "k", kept("A"), Charge(20, 2.0))
    pay(first, "k", kept("B"), Charge(20, 2.0))
    first.close()
    second = JudgeLedger(tmp_path / "ledger")
    assert second.kept("k") == kept("A")
    assert second.spent() == Charge(20, 2.0)  # both answers cost what they cost
    second.close()
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        sqlite3.connect(tmp_path / "ledger").execute("UPDATE answers SET answer = '1'")


def test_what_broke_off_counts_as_the_most_and_what_was_refused_counts_nothing(tmp_path: Path) -> None:
    ledger = JudgeLedger(tmp_path / "ledger", Budget(cost=5.0))
    ledger.give_up(ledger.reserve("a", Charge(9, 2.0)), "broke off", is_charged=True)
    ledger.give_up(ledger.reserve("b", Charge(9, 2.0)), "429", is_charged=False)
    assert ledger.spent() == Charge(9, 2.0)
    pay(ledger, "c", kept(cost=1.0), Charge(9, 3.0))
    with pytest.raises(BudgetSpent, match=r"3\.0000 of 5"):
        ledger.reserve("d", Charge(9, 2.1))
    ledger.reserve("d", Charge(9, 2.0))
    ledger.close()


def test_a_reservation_of_a_process_that_was_killed_counts(tmp_path: Path) -> None:
    dead = JudgeLedger(tmp_path / "ledger", Budget(tokens=30))
    dead.reserve("a", Charge(20))
    dead.close()
    ledger = JudgeLedger(tmp_path / "ledger", Budget(tokens=30))
    with pytest.raises(BudgetSpent, match="20 of 30 tokens"):
        ledger.reserve("b", Charge(11))
    ledger.close()


def test_a_request_waits_while_only_requests_under_way_stand_in_its_way(tmp_path: Path) -> None:
    ledger = JudgeLedger(tmp_path / "ledger", Budget(cost=3.0))
    charge = ledger.reserve("a", Charge(0, 2.0))
    got, begun = threading.Event(), threading.Event()

    def second() -> None:
        begun.set()
        ledger.reserve("b", Charge(0, 2.0))
        got.set()

    thread = threading.Thread(target=second)
    thread.start()
    happened(begun)
    assert not got.is_set()
    ledger.keep(charge, "a", ("small", {}), kept(cost=0.5))
    joined(thread)
    assert got.is_set()
    assert ledger.spent() == Charge(10, 2.5)
    ledger.close()


def test_many_at_once_never_reserve_more_than_there_is(tmp_path: Path) -> None:
    ledger, spent, turned_away = JudgeLedger(tmp_path / "ledger", Budget(tokens=100)), [], []

    def ask(number: int) -> None:
        try:
            charge = ledger.reserve(str(number), Charge(10))
        except BudgetSpent:
            turned_away.append(number)
            return
        spent.append(ledger.spent().tokens)
        ledger.keep(charge, str(number), ("small", {}), kept(tokens=7, cost=0.0))

    threads = [threading.Thread(target=ask, args=[k]) for k in range(40)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert max(spent) <= 100
    assert len(turned_away) == 40 - 13  # thirteen answers of 7 leave 9, which is less than 10
    ledger.close()


def test_runs_share_a_cache_and_the_second_pays_nothing(tmp_path: Path) -> None:
    first = JudgeLedger(tmp_path / "one" / "ledger", cache=tmp_path / "cache")
    pay(first, "k", kept(cost=2.0), Charge(20, 2.0))
    second = JudgeLedger(tmp_path / "two" / "ledger", cache=tmp_path / "cache")
    assert second.kept("k") == kept(cost=0.0)
    assert second.spent() == Charge()
    assert second.kept("other") is None
    for ledger in (first, second):
        ledger.close()


def test_a_ledger_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("this is not a database, and long enough to be seen as none " * 40)
    with pytest.raises(RunError, match="the ledger of judges cannot be used"):
        JudgeLedger(tmp_path / "ledger")


def test_keys_depend_on_content_alone() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert digest_of({"a": "\ud800"}) != digest_of({"a": ""})
