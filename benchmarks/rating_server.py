"""Load the rating server over real HTTP: `python -m benchmarks.rating_server --raters 100 --judgments 20000 --pause 2`.

Each rater does what the page does: they ask for the first items, wait as long as a person would (`--pause` seconds on average,
exponential), answer, and get the item after the next one with the receipt. They begin within one pause, or all at once with `--storm`.
`--processes` servers run on one database. `--kills` kills one of them (SIGKILL) that many times and starts it again while raters go on.
At the end every acknowledged judgment must be stored once, and no item may have too many. `--url` names an empty PostgreSQL database;
the default is a new SQLite file in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.started_server import StartedServer
from palate.core import Message
from palate.ratings import Candidate, Item, Project, Ratings, open_ratings
from palate.web.credentials import hashed


@dataclass
class Observed:
    """What the raters observed: response times, receipts, and requests sent again."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"first items": [], "answer, and the next item": []})
    receipts: list[tuple[str, str]] = field(default_factory=list)
    again: int = 0


class Client:
    """One connection that is kept. When it is lost, a new one sends the same request again."""

    def __init__(self, port: int, key: str, seen: Observed) -> None:
        self._port, self._key, self._seen = port, key, seen
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, content: object, what: str) -> Any:
        """Return the reply's JSON. The request is sent until there is a reply."""
        body = json.dumps(content).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._key}\r\n"
        request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        while True:
            begun = time.perf_counter()
            try:
                status, reply = await asyncio.wait_for(self._sent(request), 60)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self._close()
                self._seen.again += 1
                await asyncio.sleep(0.2 + random.random() * 0.3)
                continue
            if status >= 500:
                self._seen.again += 1
                await asyncio.sleep(0.5)
                continue
            if status >= 400:
                raise RuntimeError(f"{status}: {reply[:300]!r}")
            self._seen.seconds[what].append(time.perf_counter() - begun)
            return json.loads(reply)

    async def _sent(self, request: bytes) -> tuple[int, bytes]:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(request)
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        return int(head[9:12]), await self._reader.readexactly(int(length.group(1)))

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def rater(client: Client, project: str, options: argparse.Namespace, seen: Observed) -> None:
    """Judge until no items are left."""
    first, after = seen.seconds
    if not options.storm:
        await asyncio.sleep(random.random() * options.pause)
    while held := (await client.post(f"/api/projects/{project}/assignments", {}, first))["assignments"]:
        while held:
            under_way, *ahead = (one["id"] for one in held)
            await asyncio.sleep(random.expovariate(1 / options.pause) if options.pause else 0)
            ranking = random.choice([[[0], [1]], [[1], [0]]])
            judgment = {
                "assignment": under_way,
                "key": f"{random.getrandbits(96):024x}",
                "answer": {"ranking": ranking, "seconds": options.pause},
            }
            receipt = await client.post(f"/api/projects/{project}/judgments", judgment | {"held": ahead}, after)
            seen.receipts.append((receipt["judgment"], receipt["status"]))
            held = held[1:] + receipt["assignments"]


def prepared(ratings: Ratings, judgments: int, overlap: int, raters: int) -> tuple[str, list[str]]:
    """Make a project with enough items, and a key for each rater."""
    now = time.time()
    project = ratings.add_project(Project("load", overlap=overlap, lease_seconds=120), now)
    items = [
        Item((Message("user", f"question {k}"),), (Candidate(f"answer {k} a"), Candidate(f"answer {k} b")))
        for k in range(judgments // overlap)
    ]
    ratings.add_items(project.id, items, now)
    keys = []
    for number in range(raters):
        account = ratings.add_account(f"rater {number}", "rater", now)
        ratings.join(project.id, account.id, now)
        keys.append(f"{random.getrandbits(256):064x}")
        ratings.start_session(account.id, hashed(keys[-1], "key"), "", now, now + 86_400)
    return project.id, keys


async def run(servers: list[StartedServer], project: str, keys: list[str], options: argparse.Namespace) -> Observed:
    """Run all raters at once, with kills in between."""
    seen = Observed()
    clients = [Client(servers[k % len(servers)].port, key, seen) for k, key in enumerate(keys)]
    work = asyncio.gather(*(rater(client, project, options, seen) for client in clients))

    async def disturb() -> None:
        for number in range(options.kills):
            await asyncio.sleep(random.uniform(0.5, 2.0))
            if work.done():
                print(f"only {number} kills: the work was done", flush=True)
                return
            server = servers[number % len(servers)]
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

    await asyncio.gather(work, disturb())
    return seen


def main() -> int:
    """Print what was observed; return exit status 1 when something was lost, double or too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rating_server", description=__doc__)
    parser.add_argument("--raters", type=int, default=100)
    parser.add_argument("--judgments", type=int, default=20_000)
    parser.add_argument("--overlap", type=int, default=2)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds a rater thinks, on average")
    parser.add_argument("--storm", action="store_true", help="all raters begin at once")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--url", help="an empty database; by default a new SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or str(Path(folder) / "ratings.db")
        ratings = open_ratings(url, create=True)
        project, keys = prepared(ratings, options.judgments, options.overlap, options.raters)
        servers = [StartedServer("label", "--ratings", url) for _ in range(options.processes)]
        begun = time.perf_counter()
        try:
            for server in servers:
                server.start()
            started = sum(server.processor() for server in servers)
            seen = asyncio.run(run(servers, project, keys, options))
            spent = sum(server.processor() for server in servers) - started
            if not options.kills:
                print(f"servers: {1000 * spent / len(seen.receipts):.1f} ms of processor time per judgment")
        finally:
            for server in servers:
                server.kill()
        took = time.perf_counter() - begun
        return report(ratings, project, seen, took, options)


def report(ratings: Ratings, project: str, seen: Observed, took: float, options: argparse.Namespace) -> int:
    """Print the table; return the exit status."""
    entries = [entry for entry in ratings.judgments(project) if entry.kind == "answer"]
    stored = Counter(entry.id for entry in entries)
    per_item = Counter(entry.item for entry in entries if entry.status == "kept")
    twice = sum(count > 1 for count in Counter((entry.item, entry.rater) for entry in entries if entry.status == "kept").values())
    lost = sum(stored[judgment] != 1 for judgment, _ in seen.receipts)
    over = sum(count > options.overlap for count in per_item.values())
    print(
        f"{len(seen.receipts)} judgments acknowledged by {options.raters} raters at {options.processes} server(s) in {took:.0f} s; "
        f"{options.kills} kills, {seen.again} requests sent again"
    )
    print("| | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|")
    for what, seconds in seen.seconds.items():
        cuts = quantiles(seconds, n=100)
        print(f"| {what} | {1e3 * cuts[49]:.0f} | {1e3 * cuts[98]:.0f} | {1e3 * max(seconds):.0f} |")
    print(f"kept {sum(per_item.values())} of {options.judgments}, lost {lost}, twice by one rater {twice}, items with too many {over}")
    print(f"checks: {ratings.check() or 'sound'}")
    return int(bool(lost or twice or over or ratings.check()))


if __name__ == "__main__":
    sys.exit(main())
