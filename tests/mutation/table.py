"""The table of mutants, read from `mutants/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "mutants"


@dataclass(frozen=True)
class Mutant:
    """One edit of one file, and the tests that must fail with it.

    Attributes:
        name: what the edit breaks, in a few words.
        file: the file edited, relative to the repository's root.
        old: text that occurs once in the file.
        new: what replaces it.
        tests: files or node ids, as pytest takes them.
        survives: why no test can notice the edit; then none is run.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    survives: str = ""


def areas() -> list[str]:
    """The names of the tables."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_mutants(area: str) -> list[Mutant]:
    """The mutants of an area, in the file's order."""
    rows = tomllib.loads((FOLDER / f"{area}.toml").read_text(encoding="utf-8")).get("mutant", [])
    return [Mutant(**{**row, "tests": tuple(row.get("tests", ()))}) for row in rows]


def faults(mutants: Collection[Mutant], root: Path = ROOT) -> list[str]:
    """What is wrong with a table: names used twice, edits that do not fit their file, tests that do not exist."""
    found = [f"{name}: used twice" for name in {m.name for m in mutants} if sum(m.name == name for m in mutants) > 1]
    for mutant in mutants:
        path = root / mutant.file
        count = path.read_text(encoding="utf-8").count(mutant.old) if path.is_file() and mutant.old else 0
        if count != 1:
            found.append(f"{mutant.name}: its old text occurs {count} times in {mutant.file}")
        if mutant.old == mutant.new:
            found.append(f"{mutant.name}: it changes nothing")
        if bool(mutant.tests) == bool(mutant.survives):
            found.append(f"{mutant.name}: give either tests that notice it or the reason why none can")
        found += [f"{mutant.name}: there is no test {test}" for test in mutant.tests if not _exists(root, test)]
    return found


def _exists(root: Path, test: str) -> bool:
    place, *names = test.split("[")[0].split("::")
    path = root / place
    if not names or not path.is_file():
        return path.exists()
    text = path.read_text(encoding="utf-8")
    return all(f"def {name}(" in text or f"class {name}" in text for name in names)
