"""Plant each mutant in a copy of the repository and run its tests: `python -m tests.mutation [AREA ...] [--jobs N] [--only TEXT]`.

Prints who killed each mutant as it goes, and a Markdown table at the end. Exits with 1 if a mutant survived.
Tests run in forks of one process that has loaded the large libraries: loading them for each mutant would take most of the time.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutation.table import ROOT, Mutant, areas, faults, read_mutants

SECONDS = 300.0
"""A mutant that makes its tests hang counts as killed after this long."""
SKIPPED = shutil.ignore_patterns(".*", "__pycache__", "*.pyc")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", flags=re.MULTILINE)
SURVIVED = "SURVIVED"


@dataclass(frozen=True)
class Running:
    """A pytest run in a fork: its process, its output, when it is given up, and what to do with its exit code and output."""

    pid: int
    log: Path
    deadline: float
    done: Callable[[int, str], None]


def preload() -> None:
    """Loads what most tests need, so that forks have it; nothing of Palate itself."""
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, LlamaForCausalLM, Qwen3ForCausalLM  # noqa: F401


def copies(folder: Path, count: int) -> list[Path]:
    """Copies of the repository, with bytecode that is checked against the source and not against the time of its last change."""

    def skipped(parent: str, names: list[str]) -> set[str]:
        return SKIPPED(parent, names) | ({"runs"} & set(names) if Path(parent) == ROOT else set())

    first = Path(shutil.copytree(ROOT, folder / "copy0", ignore=skipped))
    compileall.compile_dir(first / "palate", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return [first, *(Path(shutil.copytree(first, folder / f"copy{number}")) for number in range(1, count))]


def start(root: Path, tests: Iterable[str], log: Path) -> int:
    """Starts pytest on tests of the copy at `root` in a fork; returns its process number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(root)
        os.environ["PYTHONPATH"] = str(root)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        # Bytecode written now would be checked by time: an edit of the same size within the same second would not be seen.
        sys.dont_write_bytecode = True
        sys.path[:] = [str(root), *(path for path in sys.path if path not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "palate")]:
            del sys.modules[name]
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finished(running: Running) -> bool:
    """Whether a run is over; then it has been dealt with."""
    pid, status = os.waitpid(running.pid, os.WNOHANG)
    if pid == 0 and time.monotonic() < running.deadline:
        return False
    if pid == 0:
        os.kill(running.pid, signal.SIGKILL)
        os.waitpid(running.pid, 0)
        running.done(1, f"FAILED timeout after {SECONDS:.0f} s")
    else:
        running.done(os.waitstatus_to_exitcode(status), running.log.read_text(encoding="utf-8", errors="replace"))
    return True


def planted(root: Path, mutant: Mutant, tell: Callable[[Mutant, str], None]) -> Running:
    """A run of a mutant's tests with the mutant in the copy at `root`, which is mended when the run is over."""
    path = root / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")

    def done(code: int, output: str) -> None:
        path.write_text(text, encoding="utf-8")
        found = FAILED.search(output)
        if code == 0:
            tell(mutant, SURVIVED)
        elif code == 1 and found is not None:
            tell(mutant, found[1])
        else:
            raise SystemExit(f"{mutant.name}: pytest could not run the tests, exit code {code}:\n{output[-3000:]}")

    log = root.with_suffix(".log")
    return Running(start(root, mutant.tests, log), log, time.monotonic() + SECONDS, done)


def unmutated(root: Path, tests: Iterable[str]) -> None:
    """Exits when the tests fail as things are: then they could kill anything."""
    log = root.with_suffix(".log")
    _, status = os.waitpid(start(root, tests, log), 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"the tests fail without any mutant:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


def results(mutants: list[Mutant], jobs: int, *, trusted: bool) -> dict[str, str]:
    """Who killed each mutant, by its name; `SURVIVED` where nobody did. Tests that are trusted are not run without a mutant first."""
    answers = {m.name: f"argued away: {m.survives}" for m in mutants if m.survives}
    waiting = [m for m in mutants if not m.survives]
    preload()

    def tell(mutant: Mutant, answer: str) -> None:
        answers[mutant.name] = answer
        print(f"{mutant.name} | {answer}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        free = copies(Path(folder), jobs)
        if waiting and not trusted:
            unmutated(free[0], sorted({test for m in waiting for test in m.tests}))
        running: dict[Path, Running] = {}
        while waiting or running:
            while waiting and free:
                root = free.pop()
                running[root] = planted(root, waiting.pop(0), tell)
            for root in [root for root, run in running.items() if finished(run)]:
                del running[root]
                free.append(root)
            time.sleep(0.1)
    return answers


def main() -> int:
    """Runs the mutants that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(areas())}; all without one")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--only", default="", help="mutants whose name contains this text")
    parser.add_argument("--trusted", action="store_true", help="do not run the tests without a mutant first")
    chosen = parser.parse_args()
    mutants = [m for area in chosen.areas or areas() for m in read_mutants(area) if chosen.only in m.name]
    wrong = faults(mutants)
    if wrong:
        raise SystemExit("\n".join(wrong))
    answers = results(mutants, chosen.jobs, trusted=chosen.trusted)
    print("\n| mutant | killed by |\n|---|---|")
    for mutant in mutants:
        print(f"| {mutant.name} | {answers[mutant.name]} |")
    lived, argued = list(answers.values()).count(SURVIVED), sum(bool(m.survives) for m in mutants)
    print(f"\n{len(mutants)} mutants: {len(mutants) - lived - argued} killed, {argued} argued away, {lived} survived")
    return int(lived > 0)


if __name__ == "__main__":
    sys.exit(main())
