"""Servers in turn: who is asked, who is left out, and when all are prepared again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from palate.clients.completions import CompletionsClient, completions_endpoint
from palate.clients.http import RequestFailed
from palate.clients.vllm_control import VLLMControl
from palate.core import RunError, TrainingError
from palate.samplers import server_pool
from palate.samplers.server_pool import PooledServer, ServerPool
from tests.support.waiting import joined

BROKEN, SLOW = RequestFailed("answered 500: ''", "status", 500), RequestFailed("no answer within the deadline", "timeout")

Prepare = Callable[[PooledServer], None]


def pool_of(*names: str, attempts: int = 3) -> tuple[ServerPool, list[str]]:
    """The pool, and what it says."""
    said: list[str] = []
    client = CompletionsClient(completions_endpoint("sampler", "http://host/v1"), "model")
    return ServerPool([PooledServer(name, VLLMControl("sampler", name), client) for name in names], said.append, attempts), said


def failing(failures: dict[str, list[Exception]]) -> tuple[Prepare, list[str]]:
    """What prepares servers and fails as told, and the servers that it prepared, in order."""
    prepared: list[str] = []

    def prepare(server: PooledServer) -> None:
        prepared.append(server.url)
        if failures.get(server.url):
            raise failures[server.url].pop(0)

    return prepare, prepared


def test_servers_take_turns() -> None:
    pool, said = pool_of("a", "b", "c")
    prepare, prepared = failing({})
    pool.prepare(prepare)
    assert sorted(prepared) == ["a", "b", "c"]
    taken = [pool.take().server.url for _ in range(6)]
    assert taken[:3] == taken[3:]
    assert sorted(taken[:3]) == ["a", "b", "c"]
    assert said == []


def test_one_that_cannot_be_prepared_is_named_once_and_tried_again_with_the_next_weights() -> None:
    pool, said = pool_of("a", "b")
    prepare, prepared = failing({"a": [TrainingError("a has other numbers"), BROKEN]})
    pool.prepare(prepare)
    assert said == ["a has other numbers. Nothing is drawn there until it takes the weights"]
    assert {pool.take().server.url for _ in range(4)} == {"b"}
    pool.prepare(prepare)
    assert len(said) == 1
    pool.prepare(prepare)
    assert said[1:] == ["a takes part again"]
    assert {pool.take().server.url for _ in range(4)} == {"a", "b"}
    assert prepared.count("a") == 3


def test_one_that_fails_at_a_request_is_left_out_and_takes_part_again_with_the_next_weights() -> None:
    pool, said = pool_of("a", "b")
    prepare, _ = failing({})
    pool.prepare(prepare)
    turn = pool.take()
    pool.leave_out(turn, BROKEN)
    pool.leave_out(turn, BROKEN)
    name = turn.server.url
    assert said == [f"{name} answered 500: ''. Nothing is drawn there until it takes the weights"]
    assert not turn.is_valid
    assert {pool.take().server.url for _ in range(4)} == {"a", "b"} - {name}
    pool.prepare(prepare)
    assert said[1:] == [f"{name} takes part again"]
    assert not turn.is_valid


def test_where_none_is_left_all_are_prepared_and_a_failure_from_before_counts_no_more() -> None:
    pool, _ = pool_of("a")
    prepare, prepared = failing({})
    pool.prepare(prepare)
    first, second = pool.take(), pool.take()
    pool.leave_out(first, BROKEN)
    third = pool.take()
    assert prepared == ["a", "a"]
    pool.leave_out(second, BROKEN)  # of a request that was sent before that
    assert third.is_valid
    assert pool.take().server.url == "a"
    assert prepared == ["a", "a"]


def test_those_who_ask_meanwhile_wait_and_nobody_prepares_twice() -> None:
    pool, _ = pool_of("a", "b")
    prepare, prepared = failing({})
    pool.prepare(prepare)
    for turn in pool.turns():
        pool.leave_out(turn, BROKEN)
    taken: list[str] = []
    threads = [threading.Thread(target=lambda: taken.append(pool.take().server.url)) for _ in range(8)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert len(taken) == 8
    assert len(prepared) == 4


def test_a_slow_one_is_tried_again_only_where_no_other_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_pool, "FIRST_PAUSE", 0.0)
    pool, _ = pool_of("a", "b")
    prepare, prepared = failing({"a": [SLOW], "b": []})
    pool.prepare(prepare)
    pool.prepare(prepare)
    assert prepared.count("a") == 1
    (turn,) = pool.turns()
    pool.leave_out(turn, SLOW)
    assert {pool.take().server.url for _ in range(4)} == {"a", "b"}
    assert prepared.count("a") == 2


def test_after_all_attempts_one_message_names_every_server_and_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_pool, "FIRST_PAUSE", 0.0)
    pool, _ = pool_of("a", "b", attempts=3)
    prepare, prepared = failing({"a": [BROKEN] * 3, "b": [SLOW] * 3})
    with pytest.raises(RunError, match=r"no server of sampler\.servers draws completions: a answered 500: ''; b gave no answer within the"):
        pool.prepare(prepare)
    assert sorted(prepared) == ["a", "a", "a", "b", "b", "b"]
    pool.prepare(prepare)
    assert {pool.take().server.url for _ in range(2)} == {"a"}
