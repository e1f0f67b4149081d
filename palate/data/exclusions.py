"""What no run of a folder may learn from any more: raters, sources of rows, and inputs that were withdrawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from palate.core import RunError
from palate.data.files import read_json, write_json
from palate.data.judge_names import judge_of
from palate.data.pseudonyms import hidden

FILE = "exclusions.json"
"""The file of a folder of runs that lists what its runs leave out."""

ExclusionKind = Literal["rater", "source", "input"]


@dataclass(frozen=True)
class Exclusion:
    """One thing that was withdrawn.

    Attributes:
        kind: a rater, the value of the column `source`, or an input by the key of its content.
        name: the rater's pseudonym or its digest, the column's value, or the key.
    """

    kind: ExclusionKind
    name: str

    def is_rater(self, rater: str) -> bool:
        """Whether it is this rater; a judge's name stands for all its principles."""
        return self.kind == "rater" and self.name in {rater, judge_of(rater), hidden(rater)}

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Exclusions:
    """What was withdrawn, in the order in which it was."""

    entries: tuple[Exclusion, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything was withdrawn."""
        return bool(self.entries)

    def has_rater(self, rater: str) -> bool:
        """Whether the rater was withdrawn."""
        return any(entry.is_rater(rater) for entry in self.entries)

    def has_source(self, source: str) -> bool:
        """Whether rows of this source were withdrawn."""
        return any(entry.kind == "source" and entry.name == source for entry in self.entries)

    def has_input(self, key: str) -> bool:
        """Whether the input with this key, or the run that it lies in, was withdrawn."""
        return any(entry.kind == "input" and entry.name in {key, key.split("/")[0]} for entry in self.entries)

    def earlier(self) -> Iterator[Exclusions]:
        """Yield what was withdrawn before each entry, beginning with nothing."""
        for count in range(len(self.entries)):
            yield Exclusions(self.entries[:count])

    def plain(self) -> list[dict[str, str]]:
        """Return the entries as JSON values."""
        return [asdict(entry) for entry in self.entries]


def read_exclusions(root: Path) -> Exclusions:
    """Return what the runs of a folder leave out.

    Raises:
        RunError: the file is not a list of exclusions.
    """
    path = root / FILE
    if not path.is_file():
        return Exclusions()
    try:
        rows = cast("list[dict[str, Any]]", cast("dict[str, Any]", read_json(path))["excluded"])
        return Exclusions(tuple(Exclusion(row["kind"], row["name"]) for row in rows))
    except (TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path} is not a list of exclusions ({error!r}). Restore it from a copy.") from error


def exclude(root: Path, exclusion: Exclusion) -> None:
    """Add an exclusion to those of a folder of runs."""
    before = read_exclusions(root)
    if exclusion not in before.entries:
        write_json(root / FILE, {"excluded": Exclusions((*before.entries, exclusion)).plain()})


_now = Exclusions()


@contextmanager
def excluding(exclusions: Exclusions) -> Iterator[None]:
    """Read no row meanwhile that these exclusions withdraw. A process runs one stage at a time, whichever of its threads reads."""
    global _now
    before, _now = _now, exclusions
    try:
        yield
    finally:
        _now = before


def excluded_now() -> Exclusions:
    """Return what the stage that runs now leaves out."""
    return _now
