"""Reads damaged files of judgments in every shape: `python -m benchmarks.fuzz --files 10000`.

What is damaged how, and what must come out, is written in tests/support/fuzz.py; the tests read fewer files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.fuzz import fuzz


def main(words: Sequence[str] | None = None) -> int:
    """Exit status 0; prints how many files came out how."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = fuzz(options.files, options.seed, Path(folder))
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{options.files} files in {time.perf_counter() - began:.1f} s: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
