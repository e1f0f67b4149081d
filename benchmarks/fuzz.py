"""Read damaged files of judgments in every format: `python -m benchmarks.fuzz --files 10000`.

tests/support/fuzz.py has the kinds of damage and the results that are allowed; the tests read fewer files. The items that were read are
then added to a database of ratings, which must take all items of a file or none.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.core import DataError
from palate.data.exchange import ExchangeItem, read_exchange
from palate.ratings import Candidate, Item, Project, Task, open_ratings
from tests.support.fuzz import damaged, fuzz, good_files


def main(words: Sequence[str] | None = None) -> int:
    """Print how many files had which result; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = fuzz(options.files, options.seed, Path(folder))
        print(f"{options.files} files in {time.perf_counter() - began:.1f} s: {_listed(counts)}")
        began = time.perf_counter()
        added = into_a_database(options.files, options.seed, Path(folder))
    print(f"the same files into a database in {time.perf_counter() - began:.1f} s: {_listed(added)}")
    return 0


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def into_a_database(files: int, seed: int, folder: Path) -> Counter[str]:
    """Count the damaged files that were not read, that the database refused, and that were added. A file added in part raises."""
    ratings = open_ratings(str(folder / "ratings.db"), create=True)
    project = ratings.add_project(Project("fuzz", Task("rank")), 1.0)
    good = {path: path.read_bytes() for path in good_files(folder)}
    counts: Counter[str] = Counter()
    total = 0
    for number in range(files):
        rng = random.Random(f"{seed}/{number}")
        path = rng.choice(list(good))
        victim = folder / f"damaged{path.suffix}"
        victim.write_bytes(damaged(good[path], rng, is_json=path.suffix != ".csv"))
        try:
            items = [_item(item) for item in read_exchange(victim).items]
        except DataError:
            counts["not read"] += 1
            continue
        try:
            added = ratings.add_items(project.id, items, 2.0)
            total += len(added.ids)
            counts["added"] += 1
            if len(added.ids) + added.duplicates != len(items):
                raise AssertionError(f"file {number} of seed {seed}: {len(items)} items, but {added}")
        except DataError:
            counts["refused"] += 1
        if ratings.project_state(project.id).items != total:
            raise AssertionError(f"file {number} of seed {seed}: added in part")
    if len(list(ratings.items(project.id))) != total or ratings.check():
        raise AssertionError("the database does not hold the items that it reported as added")
    ratings.close()
    return counts


def _item(item: ExchangeItem) -> Item:
    candidates = tuple(Candidate(side.text, side.media, side.policy) for side in item.candidates)
    return Item(item.conversation, candidates, item.fields, item.stratum, gold=item.gold)


if __name__ == "__main__":
    sys.exit(main())
