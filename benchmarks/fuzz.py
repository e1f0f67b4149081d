"""Reads damaged files of judgments in every shape: `python -m benchmarks.fuzz --files 10000`.

What is damaged how, and what must come out, is written in tests/support/fuzz.py; the tests read fewer files. What is read is then added
to a database of ratings, all of a file's items or none.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from palate.core import DataError
from palate.data.exchange import ExchangeItem as Judged
from palate.data.exchange import read_exchange
from palate.ratings import Candidate, Item, Project, Task, open_ratings
from tests.support.fuzz import damaged, fuzz, good_files


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
        began = time.perf_counter()
        added = into_a_database(options.files, options.seed, Path(folder))
    told = ", ".join(f"{count} {name}" for name, count in sorted(added.items()))
    print(f"the same files into a database in {time.perf_counter() - began:.1f} s: {told}")
    return 0


def into_a_database(files: int, seed: int, folder: Path) -> Counter[str]:
    """How many damaged files were read not at all, refused by the database, or added; a file added in part raises."""
    ratings = open_ratings(str(folder / "ratings.db"), create=True)
    project = ratings.add_project(Project("fuzz", Task("rank")), 1.0)
    good = {path: path.read_bytes() for path in good_files(folder)}
    counts: Counter[str] = Counter()
    there = 0
    for number in range(files):
        rng = random.Random(f"{seed}/{number}")
        path = rng.choice(list(good))
        victim = folder / f"damaged{path.suffix}"
        victim.write_bytes(damaged(good[path], rng, is_json=path.suffix != ".csv"))
        try:
            items = [_item(one) for one in read_exchange(victim).items]
        except DataError:
            counts["not read"] += 1
            continue
        try:
            added = ratings.add_items(project.id, items, 2.0)
            there += len(added.ids)
            counts["added"] += 1
            if len(added.ids) + added.duplicates != len(items):
                raise AssertionError(f"file {number} of seed {seed}: {len(items)} items, but {added}")
        except DataError:
            counts["refused"] += 1
        if ratings.project_state(project.id).items != there:
            raise AssertionError(f"file {number} of seed {seed}: added in part")
    if len(list(ratings.items(project.id))) != there or ratings.check():
        raise AssertionError("the database does not hold what it said it took")
    ratings.close()
    return counts


def _item(one: Judged) -> Item:
    candidates = tuple(Candidate(side.text, side.media, side.policy) for side in one.candidates)
    return Item(one.conversation, candidates, one.fields, one.stratum, gold=one.gold)


if __name__ == "__main__":
    sys.exit(main())
