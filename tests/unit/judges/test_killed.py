"""Judging through the command line with faults of the server: killed and continued, and with a budget that runs out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.judging import budget_kept, collect, finished, measured, outcome
from palate.testing.completions_server import CompletionsServer
from tests.support.paid_judge import PaidJudge, write_pairs
from tests.support.warm_python import executable


@pytest.fixture(autouse=True)
def is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are forked from a process that has loaded everything: each alone loads for a second and more."""
    monkeypatch.setattr(sys, "executable", executable())


@pytest.mark.slow
def test_without_a_kill_every_pair_is_judged_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    write_pairs(tmp_path / "samples", 60)
    judge = PaidJudge()
    server = CompletionsServer(judge)
    try:
        code, text = finished(collect(tmp_path, server.url, 4))
    finally:
        server.close()
    assert code == 0, text
    summary, judged, abstained = outcome(tmp_path)
    assert judged + abstained == 60
    assert abstained == summary["judges"]["abstained_questions"] > 0
    assert judge.paid_twice == 0
    assert set(judge.refused) == {429, 500}
    assert judge.broken_off > 0


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_what_was_paid(tmp_path: Path) -> None:
    figures = measured(tmp_path, pairs=60, concurrency=4)
    assert figures["lost"] == 0
    assert figures["of_which_answered"] <= figures["in_flight_when_killed"] <= 4


@pytest.mark.slow
def test_the_servers_bill_stays_within_the_budget_though_it_was_killed(tmp_path: Path) -> None:
    figures = budget_kept(tmp_path, pairs=60, concurrency=4)
    assert 0 < figures["bill_when_spent"] <= figures["budget"]
    assert figures["lost_after_raising"] == 0
