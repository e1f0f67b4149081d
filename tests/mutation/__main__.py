"""Plant each mutant in a copy of the repository and run its tests: `python -m tests.mutation [AREA ...] [--jobs N] [--only TEXT]`.

Prints who killed each mutant as it goes, and a Markdown table at the end. Exits with 1 if a mutant survived.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.table import ROOT, Mutant, areas, faults, read_mutants

SECONDS = 180.0
"""A mutant that makes its tests hang counts as killed after this long."""
SKIPPED = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.pyc")
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", flags=re.MULTILINE)
SURVIVED = "SURVIVED"


def tested(root: Path, tests: Iterable[str], seconds: float) -> tuple[int, str]:
    """Exit code and output of a pytest run in `root`; code 1 where it took too long."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # Without bytecode on the disk: an edit of the same size within the same second would not be seen.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 1, f"FAILED timeout after {seconds:.0f} s"
    return done.returncode, done.stdout + done.stderr


def killer(root: Path, mutant: Mutant) -> str:
    """The first test that fails with the mutant in the copy at `root`, or `SURVIVED`."""
    path = root / mutant.file
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        code, output = tested(root, mutant.tests, SECONDS)
    finally:
        path.write_text(text, encoding="utf-8")
    if code == 0:
        return SURVIVED
    found = FAILED.search(output)
    if code != 1 or found is None:
        raise SystemExit(f"{mutant.name}: pytest could not run the tests, exit code {code}:\n{output[-3000:]}")
    return found[1]


def results(mutants: list[Mutant], jobs: int) -> list[str]:
    """Who killed each mutant, in order; `SURVIVED` where nobody did."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / str(number), ignore=SKIPPED)))

        def run(mutant: Mutant) -> str:
            if mutant.survives:
                return f"argued away: {mutant.survives}"
            root = copies.get()
            try:
                answer = killer(root, mutant)
            finally:
                copies.put(root)
            print(f"{mutant.name} | {answer}", flush=True)
            return answer

        first = copies.get()
        code, output = tested(first, sorted({test for m in mutants for test in m.tests}), SECONDS * max(len(mutants), 1))
        copies.put(first)
        if code != 0 and any(m.tests for m in mutants):
            raise SystemExit(f"the tests fail without any mutant:\n{output[-3000:]}")
        return list(pool.map(run, mutants))


def main() -> int:
    """Runs the mutants that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("areas", nargs="*", choices=[[], *areas()], metavar="AREA", help=f"of {', '.join(areas())}; all without one")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--only", default="", help="mutants whose name contains this text")
    chosen = parser.parse_args()
    mutants = [m for area in chosen.areas or areas() for m in read_mutants(area) if chosen.only in m.name]
    wrong = faults(mutants)
    if wrong:
        raise SystemExit("\n".join(wrong))
    found = results(mutants, chosen.jobs)
    print("\n| mutant | killed by |\n|---|---|")
    for mutant, answer in zip(mutants, found, strict=True):
        print(f"| {mutant.name} | {answer} |")
    lived, argued = found.count(SURVIVED), sum(bool(m.survives) for m in mutants)
    print(f"\n{len(mutants)} mutants: {len(mutants) - lived - argued} killed, {argued} argued away, {lived} survived")
    return int(lived > 0)


if __name__ == "__main__":
    sys.exit(main())
