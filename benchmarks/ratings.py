"""Load the rating store alone, also under `kill -9`: `python -m benchmarks.ratings --judgments 20000 --raters 100 --kills 50`.

Raters are threads in `--processes` processes. Each claims an item, fetches the next one ahead, submits, and goes on at once, or after
`--pause` seconds on average. Every receipt is noted here and then looked for in the database. `--kills` repeatedly kills a process of
eight raters at a random moment and looks for its receipts. `--url` names an empty database; the default is a new SQLite file in a
temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from palate.core import Message
from palate.ratings import Answer, Candidate, Item, Project, Ratings, open_ratings

WRITERS = 8
"""Raters in the process that is killed."""

ANSWER = Answer(ranking=((0,), (1,)), seconds=4.0, reason="clearer")


Result = TypeVar("Result")


class Load(NamedTuple):
    """The results of a load run. Times are in milliseconds. `faults` are sentences; a sound store has none."""

    judgments: int
    seconds: float
    p50: dict[str, float]
    p99: dict[str, float]
    slowest: dict[str, float]
    faults: list[str]


class Kills(NamedTuple):
    """The results of the kills."""

    kills: int
    acknowledged: int
    lost: int
    faults: list[str]


def load(url: str, *, judgments: int, raters: int, processes: int, overlap: int, pause: float, python: str = sys.executable) -> Load:
    """Let raters judge until every item has its votes. Every receipt must be in the database once."""
    ratings = open_ratings(url, create=True)
    project = _project(ratings, "load", judgments // overlap, raters, overlap)
    begun = time.perf_counter()
    groups = [[str(number) for number in range(at, raters, processes)] for at in range(processes)]
    workers = [_start(python, url, "--work", project, str(pause), ",".join(group)) for group in groups]
    outputs = [worker.communicate()[0] for worker in workers]
    seconds = time.perf_counter() - begun
    receipts: list[str] = []
    times: dict[str, list[float]] = {}
    for text in outputs:
        result = json.loads(text.splitlines()[-1])
        receipts += result["receipts"]
        for name, values in result["times"].items():
            times.setdefault(name, []).extend(values)
    faults = [f"a worker ended with {worker.returncode}" for worker in workers if worker.returncode]
    faults += _missing(ratings, project, receipts) + list(ratings.check())
    kept = sum(entry.status == "kept" for entry in ratings.judgments(project))
    if kept != judgments // overlap * overlap:
        faults.append(f"{kept} judgments kept, where {judgments // overlap * overlap} were wanted")
    ratings.close()
    quantiles = {name: statistics.quantiles(values, n=100) for name, values in times.items()}
    return Load(
        judgments=len(receipts),
        seconds=seconds,
        p50={name: _ms(cuts[49]) for name, cuts in quantiles.items()},
        p99={name: _ms(cuts[98]) for name, cuts in quantiles.items()},
        slowest={name: _ms(max(values)) for name, values in times.items()},
        faults=faults,
    )


def kill(url: str, *, kills: int, seed: int = 0, python: str = sys.executable) -> Kills:
    """Kill a process of raters `kills` times. Every answer with a receipt must be in the database."""
    ratings = open_ratings(url, create=True)
    project = _project(ratings, "kills", 400 * max(kills, 1), WRITERS, 1)
    draw = random.Random(seed)
    acknowledged: list[str] = []
    lost, faults = 0, []
    for number in range(kills):
        writer = _start(python, url, "--write", project, str(number))
        assert writer.stdout is not None
        receipts = [writer.stdout.readline().strip()]  # it is at work
        timer = threading.Timer(draw.uniform(0.01, 0.4), writer.send_signal, [signal.SIGKILL])
        timer.start()
        receipts += [line.strip() for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        timer.join()
        if writer.returncode != -signal.SIGKILL:
            faults.append(f"kill {number}: the writer ended by itself with {writer.returncode}")
        acknowledged += receipts
        missing = _missing(ratings, project, acknowledged)
        lost += len(missing)
        faults += missing + list(ratings.check())
    if ratings.database.is_sqlite:
        with ratings.database.read() as connection:
            result = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
        faults += [] if result == "ok" else [f"integrity: {result}"]
    ratings.close()
    return Kills(kills, len(acknowledged), lost, faults)


def _project(ratings: Ratings, name: str, items: int, raters: int, overlap: int) -> str:
    project = ratings.add_project(Project(f"{name} {time.time_ns()}", overlap=overlap, lease_seconds=3600.0), time.time())
    pairs = (Candidate("Rice with beans, in ten minutes. " * 8), Candidate("No salt, so try lemon instead. " * 8))
    ratings.add_items(project.id, [Item((Message("user", f"What can we cook? {number}"),), pairs) for number in range(items)], time.time())
    for number in range(raters):
        account = ratings.account_by_name(f"rater {number}") or ratings.add_account(f"rater {number}", "rater", time.time())
        ratings.join(project.id, account.id, time.time())
    return project.id


def _missing(ratings: Ratings, project: str, receipts: Iterable[str]) -> list[str]:
    """Return a sentence for each receipt whose judgment is missing, and for each that was given twice."""
    known = {entry.id for entry in ratings.judgments(project)}
    receipts = list(receipts)
    doubles = len(receipts) - len(set(receipts))
    return [f"judgment {receipt} is lost" for receipt in receipts if receipt not in known] + (
        [f"{doubles} receipts were given twice"] if doubles else []
    )


def _start(python: str, url: str, *words: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[1]
    command = [python, "-m", "benchmarks.ratings", "--url", url, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})


def _work(url: str, project: str, pause: float, crew: list[str]) -> None:
    """Judge as some of the raters until no items are left; print receipts and times."""
    ratings = open_ratings(url)
    times: dict[str, list[float]] = {"claim": [], "fetch ahead": [], "submit": []}
    receipts: list[str] = []

    def rate(name: str) -> None:
        account = ratings.account_by_name(f"rater {name}")
        assert account is not None
        draw, turn = random.Random(name), 0
        while True:
            held = _timed(times["claim"], lambda: ratings.claim(project, account.id, time.time(), draw))
            if held is None:
                return
            _timed(times["fetch ahead"], lambda: ratings.claim_many(project, account.id, time.time(), draw, 2))
            key, turn = f"{project} {turn}", turn + 1
            time.sleep(draw.expovariate(1 / pause) if pause else 0.0)
            receipt = _timed(times["submit"], lambda: ratings.submit(held.id, account.id, ANSWER, key, time.time()))  # noqa: B023 (run at once)
            receipts.append(receipt.judgment)

    _all_at_once([threading.Thread(target=rate, args=(name,)) for name in crew])
    print(json.dumps({"receipts": receipts, "times": times}))


def _write(url: str, project: str, turn: str) -> None:
    """Judge as eight raters without end, and print each receipt in one write, so what the reader has was acknowledged."""
    ratings = open_ratings(url)

    def rate(name: str) -> None:
        account = ratings.account_by_name(f"rater {name}")
        assert account is not None
        draw, number = random.Random(f"{turn} {name}"), 0
        while held := ratings.claim(project, account.id, time.time(), draw):
            receipt = ratings.submit(held.id, account.id, ANSWER, f"{project} {turn} {number}", time.time())
            os.write(1, f"{receipt.judgment}\n".encode())
            number += 1

    _all_at_once([threading.Thread(target=rate, args=(str(name),)) for name in range(WRITERS)])


def _all_at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _timed(times: list[float], work: Callable[[], Result]) -> Result:
    begun = time.perf_counter()
    result = work()
    times.append(time.perf_counter() - begun)
    return result


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _print_load(result: Load) -> None:
    print(f"{result.judgments} judgments in {result.seconds:.1f} s ({result.judgments / result.seconds:.0f} a second)")
    for name, middle in result.p50.items():
        print(f"  {name:12} p50 {middle:7.1f} ms   p99 {result.p99[name]:7.1f} ms   slowest {result.slowest[name]:7.1f} ms")


def main() -> None:
    """Print the figures; return exit status 1 when something was lost, double or over-assigned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--judgments", type=int, default=0)
    parser.add_argument("--raters", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--overlap", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        project, pause, crew = args.work
        return _work(args.url, project, float(pause), crew.split(","))
    if args.write:
        return _write(args.url, *args.write)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        url = args.url or f"sqlite:///{folder}/ratings.db"
        if args.judgments:
            result = load(
                url, judgments=args.judgments, raters=args.raters, processes=args.processes, overlap=args.overlap, pause=args.pause
            )
            _print_load(result)
            faults += result.faults
        if args.kills:
            done = kill(url, kills=args.kills)
            print(f"{done.kills} kills, {done.acknowledged} judgments acknowledged, {done.lost} lost")
            faults += done.faults
    print("\n".join(faults[:20]) or "none lost, none double, none over-assigned")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
