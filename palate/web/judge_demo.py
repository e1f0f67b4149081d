"""`palate judge`: judge some pairs of a finished pipeline, and see how the reward model changes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from palate.core import ConfigError
from palate.evaluation.own_agreement import agreement_sentences
from palate.runs.pointer import swap
from palate.runs.record import RunRecord, list_runs

PROJECT = "Which answer is better?"


def judge(runs: Path, pairs: int, port: int, say: Callable[[str], None]) -> int:
    """Serve the pairs, wait until all are judged, refresh the reward model with the judgments, and say with whom they agree.

    Returns:
        The exit status of the first command that failed, or 0.

    Raises:
        ConfigError: a finished run is missing in the folder, or `pairs` is below 5.
    """
    if pairs < 5:
        raise ConfigError(f"--pairs is {pairs}: give 5 or more, because some are kept for testing")
    (samples, _), (judged, record), (reward, _) = (first_done(runs, stage) for stage in ("sample", "collect", "reward"))
    ratings, mine, refreshed, link = (runs / name for name in ("ratings.db", "judged-by-you", "reward-refreshed", "reward"))
    if not link.exists():
        swap(link, reward)  # so that a rollback has a target
    dimensions = record.config["dimensions"]
    assert isinstance(dimensions, list)
    people = {"from": "people", "from.database": ratings, "from.project": PROJECT, "from.poll_seconds": 1, "dimensions": dimensions[0]}
    sampling = {"samples": samples, "pairs_per_prompt": 1, "limit": pairs, "held_out": 0}
    learning = {"reward": reward, "preferences": mine, "replay": judged, "held_out": judged, "samples": samples, "epochs": 3}
    collect = ["collect", *options({**sampling, **people, "out": mine})]
    refresh = ["refresh", *options({**learning, "out": refreshed})]
    server = start(["label", *options({"ratings": ratings, "port": port}), "--open"], say)
    try:
        say(f"Open the link, choose a name, and judge the {pairs} pairs of {PROJECT!r}. Ctrl-C stops; the same command goes on.")
        for words in (collect, refresh):
            status = start(words, say).wait()
            if status:
                return status
    finally:
        server.terminate()
        server.wait()
    raters = record.config["from"]
    gold = raters.get("gold") if isinstance(raters, dict) else None
    crowd = [judged / "preferences.jsonl", judged / "held_out.jsonl"]
    for sentence in agreement_sentences(mine / "preferences.jsonl", crowd, samples / "samples.jsonl", gold, str(dimensions[0])):
        say(sentence)
    return 0


def options(settings: Mapping[str, object]) -> list[str]:
    """Return settings as words of a command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def first_done(runs: Path, stage: str) -> tuple[Path, RunRecord]:
    """Return the first finished run of a stage and its record. The controls of a pipeline come later in the list.

    Raises:
        ConfigError: no run of the stage is finished.
    """
    for directory, record in list_runs(runs):
        if record.stage == stage and record.status == "done":
            return directory, record
    raise ConfigError(f"{runs} does not hold a finished run of stage {stage}. Run the pipeline first (make demo)")


def start(words: list[str], say: Callable[[str], None]) -> subprocess.Popen[bytes]:
    """Print a Palate command as you would type it, and start it."""
    say(f"$ palate {shlex.join(words)}")
    return subprocess.Popen([sys.executable, "-m", "palate", *words])
