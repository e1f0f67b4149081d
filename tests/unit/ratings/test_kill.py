"""A process of raters is killed with `kill -9`, and several of them race: what was acknowledged is there, once, within its places."""

import pytest

from benchmarks.ratings import kill, load
from tests.support.warm_python import executable


def test_every_acknowledged_answer_outlives_a_kill(url: str) -> None:
    done = kill(url, kills=3, python=executable())
    assert done.faults == []
    assert (done.lost, done.kills) == (0, 3)
    assert done.acknowledged >= 3


@pytest.mark.slow
def test_processes_that_race_lose_nothing_and_never_over_assign(url: str) -> None:
    done = load(url, judgments=240, raters=12, processes=3, overlap=3, pause=0.0, python=executable())
    assert done.faults == []
    assert done.judgments == 240
