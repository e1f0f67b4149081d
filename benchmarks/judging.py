"""Comparisons by a judge over real HTTP, with planted faults and a kill -9 in the middle: none lost, none paid twice, the budget kept.

    python -m benchmarks.judging                  2,000 comparisons, 4,000 requests
    python -m benchmarks.judging --pairs 200 --concurrency 4

The server refuses a tenth of the requests with 429 and a tenth with 500, breaks off in 2 % of the answers, and cuts 5 % of the replies. The
command is killed when half of the requests are answered, and typed again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from palate.data.jsonl import read_rows
from palate.judges.judge_ledger import LEDGER
from palate.testing.completions_server import CompletionsServer
from tests.support.paid_judge import PRICE_IN, PRICE_OUT, PaidJudge, write_pairs
from tests.support.waiting import LIMIT_SECONDS, wait_until


def collect(folder: Path, url: str, concurrency: int, budget: float | None = None) -> list[str]:
    """The command."""
    model = {
        "kind": "openai", "url": url, "model": "small", "price_in": PRICE_IN, "price_out": PRICE_OUT, "concurrency": concurrency,
        "max_tokens": 64, **({} if budget is None else {"budget": {"cost": budget}}),
    }  # fmt: skip
    settings = {
        "samples": str(folder / "samples"),
        "dimensions": ["helpful"],
        "from": {"kind": "judge", "model": model, "verdict": "written"},
    }
    file = folder / "collect.yaml"
    file.write_text(json.dumps({"stages": {"judged": {"stage": "collect", **settings}}}))
    return [sys.executable, "-m", "palate", "run", str(file), "--runs", str(folder / "runs")]


def run(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ})


def finished(command: list[str]) -> tuple[int, str]:
    """Exit code and messages of a command."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def killed(command: list[str], judge: PaidJudge, after: int) -> None:
    """Kill the command when the judge has answered so often."""
    process = run(command)
    wait_until(lambda: sum(judge.answered.values()) >= after or process.poll() is not None, limit=10 * LIMIT_SECONDS)
    assert process.poll() is None, process.communicate()[1].decode()
    process.send_signal(signal.SIGKILL)
    process.communicate()


def outcome(folder: Path) -> tuple[dict[str, Any], int, int]:
    """The summary, the pairs that have a judgment in both orders, and those that have an abstention."""
    (directory,) = (folder / "runs").glob("judged-*")
    judgments = [row for _, row in read_rows(directory / "judgments.jsonl")]
    abstained = {row["comparison"] for _, row in read_rows(directory / "abstentions.jsonl")}
    orders: dict[object, set[str]] = {}
    for row in judgments:
        orders.setdefault(row["comparison"], set()).add(str(row["order"]))
    assert all(len(both) == 2 for both in orders.values())
    assert not abstained & orders.keys()
    return json.loads((directory / "summary.json").read_text()), len(orders), len(abstained)


def orphans(folder: Path) -> int:
    """How many requests were under way when the command was killed: their charges were never settled."""
    (ledger,) = (folder / "runs").glob(f"judged-*/{LEDGER}")
    with closing(sqlite3.connect(ledger)) as database:
        return int(database.execute("SELECT COUNT(*) FROM charges WHERE state = 'reserved'").fetchone()[0])


def measured(folder: Path, pairs: int, concurrency: int) -> dict[str, float]:
    """Judge the pairs with a kill in the middle, and once more with a budget that runs out; figures of both."""
    write_pairs(folder / "samples", pairs)
    judge = PaidJudge()
    server = CompletionsServer(judge)
    try:
        begin = time.monotonic()
        killed(collect(folder, server.url, concurrency), judge, pairs)
        code, text = finished(collect(folder, server.url, concurrency))
        assert code == 0, text
        seconds = time.monotonic() - begin
        summary, judged, abstained = outcome(folder)
        in_flight = orphans(folder)
        assert 0 <= judge.paid_twice <= in_flight, (judge.paid_twice, in_flight)
        figures: dict[str, float] = {
            "pairs": pairs, "judged": judged, "abstained": abstained, "lost": pairs - judged - abstained,
            "requests": sum(judge.answered.values()) + sum(judge.refused.values()), "refused": sum(judge.refused.values()),
            "broken_off": judge.broken_off, "in_flight_when_killed": in_flight, "of_which_answered": judge.paid_twice, "seconds": seconds,
            "requests_per_second": sum(judge.answered.values()) / seconds, "cost": summary["judges"]["cost"], "bill": judge.bill,
        }  # fmt: skip
    finally:
        server.close()
    return figures


def budget_kept(folder: Path, pairs: int, concurrency: int, share: float = 0.5) -> dict[str, float]:
    """Judge the pairs with a budget for a share of them, killed on the way; then with a larger one."""
    write_pairs(folder / "samples", pairs)
    judge = PaidJudge()
    server = CompletionsServer(judge)
    try:
        whole = pairs * 2 * 500 * PRICE_IN / 1e6  # about 500 tokens per question
        budget = round(share * whole, 4)
        killed(collect(folder, server.url, concurrency, budget), judge, pairs // 4)
        code, text = finished(collect(folder, server.url, concurrency, budget))
        assert code == 4, text
        assert "the budget is spent" in text, text
        bill = judge.bill
        code, text = finished(collect(folder, server.url, concurrency, 10 * whole))
        assert code == 0, text
        _, judged, abstained = outcome(folder)
    finally:
        server.close()
    return {"budget": budget, "bill_when_spent": bill, "lost_after_raising": pairs - judged - abstained}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "whole").mkdir()
        for name, value in measured(Path(folder) / "whole", options.pairs, options.concurrency).items():
            print(f"{name:22} {value:12.4f}")
        (Path(folder) / "budget").mkdir()
        for name, value in budget_kept(Path(folder) / "budget", options.pairs // 4, options.concurrency).items():
            print(f"{name:22} {value:12.4f}")


if __name__ == "__main__":
    main()
