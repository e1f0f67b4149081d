"""The report card of a judge as a file: which judge was measured on what, and the calibration that this gave.

`palate judge-fit` writes it. A judge's setting `calibration` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.core import ConfigError, DataError, RunError
from palate.data import cells
from palate.data.cells import Columns, InvalidRow
from palate.data.files import read_json, write_json
from palate.data.judge_names import judge_name, judge_of

VERSION = 1

OVERALL = "overall"
"""The dimension of judgments that are about none in particular, and of all grades of criteria."""

NO_MARKS = "it gave no marks of single completions"
"""Why the marks of a judge that only compares are not calibrated."""

CLIP = 1e-4
"""Probabilities closer than this to 0 or 1 count as this. A judge that only ranks is as certain as that."""


def log_odds(probability: ArrayLike) -> NDArray[np.float64]:
    """Return the log-odds of probabilities, which are clipped to `CLIP` from 0 and 1."""
    p = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))


@dataclass(frozen=True, slots=True)
class Calibration:
    """From a judge's probability to the share of people who say the same: sigma((log-odds - log-odds of the threshold) / temperature).

    Attributes:
        temperature: divides the judge's log-odds; more than 1 for a judge that is too sure.
        threshold: the judge's probability for what is shown first at which people are even; not 0.5 for a judge with a taste for a side.
    """

    temperature: float
    threshold: float = 0.5

    @classmethod
    def of(cls, slope: float, offset: float) -> Calibration:
        """Return the calibration that is sigma(slope x log-odds + offset)."""
        return cls(1 / slope, 1 / (1 + math.exp(min(offset / slope, 700.0))))

    def of_probability(self, probability: float) -> float:
        """Return the share of people who prefer what was shown first, for the judge's probability of it."""
        logit = float(log_odds(probability) - log_odds(self.threshold)) / self.temperature
        return 0.5 * (1 + math.tanh(logit / 2))


@dataclass(frozen=True, slots=True)
class MarkCalibration:
    """From a judge's mark of one completion to a score in nats: (mark - threshold) / temperature.

    The difference of two scores is the log-odds that people prefer the one to the other, as with a reward model that learned from people.

    Attributes:
        temperature: marks per nat; more than those of another judge for one whose marks are far apart for little.
        threshold: the mark with score 0: the judge's mean mark of the completions that it was measured on.
    """

    temperature: float
    threshold: float

    def score(self, mark: float) -> float:
        """Return the score of a mark, nats."""
        return (mark - self.threshold) / self.temperature


@dataclass(frozen=True, slots=True)
class CardEntry:
    """What a card says about one dimension.

    Attributes:
        pairs: pairs that the judge and people judged.
        missing: why the judge is not calibrated; "" where it is.
        calibration: temperature and threshold; None where the judge is not calibrated.
        marks: what its marks of single completions are worth; None where they are not calibrated.
        marks_missing: why they are not; "" where they are.
        figures: everything that was measured, as JSON.
    """

    pairs: int
    missing: str = ""
    calibration: Calibration | None = None
    marks: MarkCalibration | None = None
    marks_missing: str = NO_MARKS
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgeCard:
    """The report card of one judge. A judge is a model with one version of its instructions.

    Attributes:
        judge: its name.
        dimensions: what was measured, by dimension.
        data: digest of the judgments that it was measured on.
        place: the file; "" for a card that was not read.
    """

    judge: str
    dimensions: Mapping[str, CardEntry]
    data: str = ""
    place: str = ""

    def calibration_of(self, rater: str, dimension: str) -> Calibration:
        """Return the calibration of a judge on a dimension.

        Raises:
            ConfigError: the card is another judge's, or its judge is not calibrated on the dimension.
        """
        entry = self._entry(rater, dimension)
        if entry.calibration is None:
            raise ConfigError(f"{self.place}: says that {self.judge} is not calibrated for {dimension}: {entry.missing}. {_REMEDY}")
        return entry.calibration

    def mark_calibration_of(self, rater: str, dimension: str | None) -> MarkCalibration:
        """Return the calibration of a judge's marks.

        Args:
            rater: the judge's name.
            dimension: what its instructions are about; None where they do not say, and then the card must be about one dimension alone.

        Raises:
            ConfigError: the card is another judge's, or the marks are not calibrated on the dimension.
        """
        if dimension is None and len(self.dimensions) == 1:
            (dimension,) = self.dimensions
        entry = self._entry(rater, dimension)
        if entry.marks is None:
            raise ConfigError(
                f"{self.place}: says that marks of {self.judge} are not calibrated for {dimension}: {entry.marks_missing}. {_REMEDY}"
            )
        return entry.marks

    def _entry(self, rater: str, dimension: str | None) -> CardEntry:
        if rater != self.judge and judge_of(rater) != self.judge:
            raise ConfigError(f"{self.place}: is the card of {self.judge}, and the judge is {rater}{_other(self.judge, rater)}. {_REMEDY}")
        entry = None if dimension is None else self.dimensions.get(dimension)
        if entry is None:
            asked = "the instructions name none" if dimension is None else f"the question is {dimension}"
            raise ConfigError(f"{self.place}: is about {', '.join(self.dimensions)}, and {asked}. {_REMEDY}")
        return entry

    def write(self, path: Path) -> None:
        """Write the card in one step."""
        name = judge_name(self.judge)
        parts = {} if name is None else {"model": name.model, "instructions": name.instructions, "instructions_version": name.version}
        parts |= {"principle": name.principle} if name is not None and name.principle else {}
        rows = {dimension: _row(entry) for dimension, entry in self.dimensions.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"palate": "judge card", "version": VERSION, "judge": self.judge, **parts, "data": self.data, "dimensions": rows})


_REMEDY = "Measure this judge with `palate judge-fit`, or leave out `calibration`"


def read_card(path: Path) -> JudgeCard:
    """Read the report card of a judge.

    Raises:
        ConfigError: there is no such file.
        DataError: it is not a report card.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file. Give a card that `palate judge-fit --out` wrote.")
    try:
        row = cells.mapping(read_json(path), "card")
        if row.get("palate") != "judge card":
            raise cells.invalid("palate", 'is not "judge card"')
        if cells.whole(row.get("version"), "version", least=1, most=10**6) > VERSION:
            raise cells.invalid("version", f"is {row['version']}: a newer Palate wrote the file; this one reads up to {VERSION}")
        entries = {
            str(name): _entry(cells.mapping(entry, "dimensions"))
            for name, entry in cells.mapping(row.get("dimensions"), "dimensions").items()
        }
        return JudgeCard(cells.name(row.get("judge"), "judge"), entries, cells.text(row.get("data", ""), "data"), str(path))
    except (InvalidRow, RunError) as error:
        raise DataError(f"{path}: is not the report card of a judge: {error}. Give a card that `palate judge-fit --out` wrote.") from error


def read_cards(paths: Sequence[str], judges: Collection[str], place: str) -> dict[str, JudgeCard]:
    """Read the cards of some of these judges, by the judge's name.

    Raises:
        ConfigError: a card is about none of them, or two are about one; `place` is the setting that names the cards.
        DataError: a file is not a card.
    """
    cards: dict[str, JudgeCard] = {}
    for path in paths:
        card = read_card(Path(path))
        mine = [judge for judge in judges if judge_of(judge) == judge_of(card.judge)]
        if not mine:
            others = f"the judges are {', '.join(judges)}" if judges else "there is no judge that it could be about"
            raise ConfigError(f"{place}: {path} is the card of {card.judge}, and {others}. {_REMEDY}")
        if mine[0] in cards:
            raise ConfigError(f"{place}: {cards[mine[0]].place} and {path} are both cards of {card.judge}. Name one of them")
        cards |= dict.fromkeys(mine, card)
    return cards


def _row(entry: CardEntry) -> dict[str, object]:
    fitted = entry.calibration
    numbers = {} if fitted is None else {"temperature": fitted.temperature, "threshold": fitted.threshold}
    missing = {"missing": entry.missing} if entry.missing else {}
    marks: dict[str, object] = {"calibrated": entry.marks is not None}
    if entry.marks is None:
        marks["missing"] = entry.marks_missing
    else:
        marks |= {"temperature": entry.marks.temperature, "threshold": entry.marks.threshold}
    return {"pairs": entry.pairs, "calibrated": fitted is not None, **missing, **numbers, "marks": marks, "figures": dict(entry.figures)}


def _entry(row: Columns) -> CardEntry:
    pairs, missing = cells.whole(row.get("pairs"), "pairs", least=0, most=10**12), cells.text(row.get("missing", ""), "missing")
    figures = cells.mapping(row.get("figures", {}), "figures")
    marks, marks_missing = _marks(cells.mapping(row.get("marks"), "marks"))
    if not cells.boolean(row.get("calibrated"), "calibrated"):
        return CardEntry(pairs, missing, None, marks, marks_missing, figures)
    threshold = cells.number(row.get("threshold"), "threshold", least=0, most=1)
    return CardEntry(pairs, missing, Calibration(_temperature(row, "temperature"), threshold), marks, marks_missing, figures)


def _marks(row: Columns) -> tuple[MarkCalibration | None, str]:
    if not cells.boolean(row.get("calibrated"), "marks.calibrated"):
        return None, cells.text(row.get("missing"), "marks.missing")
    return MarkCalibration(_temperature(row, "marks.temperature"), cells.number(row.get("threshold"), "marks.threshold")), ""


def _temperature(row: Columns, field: str) -> float:
    return cells.number(row.get("temperature"), field, least=1e-9)


def _other(judge: str, rater: str) -> str:
    """What differs between two judges, in words; "" where it is more than the version."""
    one, other = judge_name(judge), judge_name(rater)
    if one is None or other is None or (one.model, one.instructions) != (other.model, other.instructions):
        return ""
    return ": another version of the instructions is another judge" if one.version != other.version else ": another principle"
