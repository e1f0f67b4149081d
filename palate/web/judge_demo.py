"""`palate judge`: a newcomer judges some pairs of a finished pipeline, and sees the reward model move."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from palate.core import ConfigError
from palate.runs.pointer import swap
from palate.runs.record import RunRecord, list_runs

PROJECT = "Which answer is better?"


def judge(runs: Path, pairs: int, port: int, say: Callable[[str], None]) -> int:
    """Exit status of the first command that failed, or 0: the pages are opened, and once all pairs are judged the reward model learns.

    Raises:
        ConfigError: the folder does not hold what is needed, or fewer than five pairs are asked for.
    """
    if pairs < 5:
        raise ConfigError(f"--pairs is {pairs}: give 5 or more, for some are kept for testing")
    (samples, _), (judged, record), (reward, _) = (first_done(runs, stage) for stage in ("sample", "collect", "reward"))
    ratings, mine, refreshed, link = (runs / name for name in ("ratings.db", "judged-by-you", "reward-refreshed", "reward"))
    if not link.exists():
        swap(link, reward)  # so that there is something to go back to
    dimensions = record.config["dimensions"]
    assert isinstance(dimensions, list)
    people = {"from": "people", "from.database": ratings, "from.project": PROJECT, "from.poll_seconds": 1, "dimensions": dimensions[0]}
    pairs_of = {"samples": samples, "pairs_per_prompt": 1, "limit": pairs, "held_out": 0}
    learning = {"reward": reward, "preferences": mine, "old": judged, "held_out": judged, "samples": samples, "epochs": 3}
    collect = ["collect", *options({**pairs_of, **people, "out": mine})]
    refresh = ["refresh", *options({**learning, "out": refreshed})]
    server = started(["label", *options({"ratings": ratings, "port": port})], say)
    try:
        say(f"Open the link, choose a name, and judge the {pairs} pairs of {PROJECT!r}. Ctrl-C stops; the same command goes on.")
        for words in (collect, refresh):
            done = started(words, say).wait()
            if done:
                return done
    finally:
        server.terminate()
        server.wait()
    return 0


def options(settings: Mapping[str, object]) -> list[str]:
    """Settings as words of a command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def first_done(runs: Path, stage: str) -> tuple[Path, RunRecord]:
    """The first run of a stage that is done, and its record; a pipeline's controls come later.

    Raises:
        ConfigError: there is none.
    """
    for directory, record in list_runs(runs):
        if record.stage == stage and record.status == "done":
            return directory, record
    raise ConfigError(f"{runs} holds no finished run of stage {stage}: run the pipeline first (make demo)")


def started(words: list[str], say: Callable[[str], None]) -> subprocess.Popen[bytes]:
    """A command of Palate's, shown as one would type it."""
    say(f"$ palate {shlex.join(words)}")
    return subprocess.Popen([sys.executable, "-m", "palate", *words])
