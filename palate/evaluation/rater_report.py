"""The report of `palate agreement` on the raters of a file or run. It needs neither torch nor a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.agreement import AgreementReport, CurvePoint, Votes, VoteTable, analyse, learning_curve
from palate.core import ConfigError, DataError, Judgment, derive_seed
from palate.data.cells import InvalidRow
from palate.data.exchange import read_exchange
from palate.data.files import read_json
from palate.data.jsonl import Row, read_lines, read_rows
from palate.data.judgment_rows import judgment_of, votes_of
from palate.runs.record import read_record

JUDGMENTS = "judgments.jsonl"
CURVE = "curve.jsonl"
_CONCLUSIONS = ("preferences.jsonl", "held_out.jsonl")


def report_on(
    path: Path, *, dimension: str | None = None, curve: Path | None = None, rewards: tuple[Path, ...] = (), seed: int = 0
) -> AgreementReport:
    """Report on the votes in a file of judgments, a file of preferences with votes, or a run of `collect`.

    Args:
        path: the file or run.
        dimension: only judgments on this dimension.
        curve: a file of rows `labels`, `accuracy`, `pairs` of reward models that learned from more and more judgments, or a run of refresh.
        rewards: runs of stage reward, each one such measurement.
        seed: seed of the bootstrap.

    Raises:
        DataError: there are no votes, or a row is not a judgment.
    """
    rng = np.random.default_rng(derive_seed(seed, "agreement"))
    report = analyse(read_votes(path, dimension), rng)
    points = (*(() if curve is None else read_curve(curve)), *map(read_reward, rewards))
    if not points:
        return report
    limit = 1.0 if report.ceiling is None else report.ceiling.accuracy
    return replace(report, curve=learning_curve(points, rng, max(limit, *(point.accuracy for point in points))))


def read_votes(path: Path, dimension: str | None = None) -> VoteTable:
    """Read the votes at `path`, with what is known beside them."""
    file = path / JUDGMENTS if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        note = "" if read_record(path) is None else " It is a run, but not of stage collect."
        raise ConfigError(f"{path} holds no {JUDGMENTS}.{note} Give a run of collect, a file of judgments, or of preferences with votes.")
    if not path.is_dir() and _is_exchange(file):
        return _exchange_votes(file, dimension)
    rows = [(number, row) for number, row in read_rows(file) if dimension in (None, row.get("dimension", "overall"))]
    if not rows:
        raise _no_judgment(file, dimension)
    if "ranking" in rows[0][1]:
        table = VoteTable.of_judgments(_judgment(file, number, row) for number, row in rows)
        return table if not path.is_dir() else _with_words(table, path)
    if "votes" in rows[0][1]:
        return _preference_votes(file, rows)
    columns = ", ".join(rows[0][1])
    raise DataError(
        f"{file}:{rows[0][0]}: no judgments: columns are {columns}. Give rows with `comparison`, `rater` and `ranking`, or preferences "
        "with `votes` and `raters`."
    )


def _no_judgment(file: Path, dimension: str | None) -> DataError:
    about = "" if dimension is None else f" on dimension {dimension!r}"
    return DataError(f"{file}: there is no judgment{about}. Give a file with at least one row, or another --dimension.")


def _is_exchange(file: Path) -> bool:
    """Return whether `palate.data.exchange` reads the file. It does not read a run's rows of judgments, or preferences."""
    if ".jsonl" not in file.suffixes or not file.is_file():
        return file.exists()
    first = next((line.row for line in read_lines(file)), {})
    return (
        bool(first) and not first.keys() & {"ranking", "chosen"} and bool({"palate", "data", "winner", "idx", "responses"} & first.keys())
    )


def _exchange_votes(file: Path, dimension: str | None) -> VoteTable:
    """Read the votes that count from an export of Palate or another tool, with lengths, policies and hidden tests of its items."""
    exchange = read_exchange(file)
    tests = {item.id for item in exchange.items if item.is_qualification}  # raters know that these are tests
    judgments = [one for _, one in exchange.answers() if dimension in (None, one.dimension) and one.comparison not in tests]
    if not judgments:
        raise _no_judgment(file, dimension)
    gold = {item.id: item.gold for item in exchange.items if item.gold is not None and not isinstance(item.gold, bool)}
    first = None if exchange.project is None else exchange.project.task.dimensions[0]
    return VoteTable.of_judgments(judgments, (item.comparison() for item in exchange.items), gold, first)


def _judgment(file: Path, number: int, row: Row) -> Judgment:
    try:
        return judgment_of(row)
    except InvalidRow as error:
        raise DataError(
            f"{file}:{number}: not a judgment: {error.reason}. A row needs `comparison`, `rater` and `ranking`, tiers of places shown such "
            "as [[0], [1]], and with other orders than 0, 1, ... the `order`."
        ) from error


def _preference_votes(file: Path, rows: list[tuple[int, Row]]) -> VoteTable:
    """Read preferences with votes. Each is a pair whose first completion is the chosen one; the side shown first is not known."""
    codes = {1.0: 0, 0.5: 1, 0.0: 2}
    cast: list[tuple[str, str, int]] = []
    words: dict[str, tuple[int, int]] = {}
    together: dict[str, int] = {}
    prompts: dict[str, int] = {}
    dimension_of: dict[str, str] = {}
    for number, row in rows:
        try:
            if "raters" not in row:
                raise InvalidRow("no `raters`")
            votes = votes_of(row)
        except InvalidRow as error:
            raise DataError(f"{file}:{number}: {error.reason}. Give `votes`, and one name per vote in `raters`.") from error
        name = str(row.get("id", number))
        words[name] = _words(row.get("chosen")), _words(row.get("rejected"))
        dimension_of[name] = str(row.get("dimension", "overall"))
        # A ranking is written as its pairs: the pairs of one prompt count as one comparison.
        together[name] = prompts.setdefault(json.dumps(row.get("prompt", name), sort_keys=True), len(prompts))
        cast += [(name, rater, codes[vote]) for rater, vote in votes]
    if not cast:
        raise DataError(f"{file}: all lists of votes are empty. Give preferences with at least one vote.")
    table = Votes.of(cast)
    names = tuple(sorted(set(dimension_of.values())))
    lengths = np.array([words[item] for item in table.items], dtype=np.float64)
    dimension = np.array([names.index(dimension_of[item]) for item in table.items])
    comparison = np.array([together[item] for item in table.items])
    return VoteTable.of(table, words=lengths).with_dimensions(dimension, names).with_comparisons(comparison)


def _with_words(table: VoteTable, run: Path) -> VoteTable:
    """Return the table of a run of collect with the lengths of its completions, as far as its preferences show them.

    A preference's chosen side is the pair's first completion when it has more votes, as `collect` decides it.
    """
    place = {name: k for k, name in enumerate(table.votes.items)}
    counts = table.votes.counts()
    words = table.words.copy()
    for row in _conclusions(run):
        k = place.get(str(row.get("id")))
        if k is not None:
            sides = _words(row.get("chosen")), _words(row.get("rejected"))
            words[k] = sides if counts[k, 0] >= counts[k, 2] else sides[::-1]
    return table.with_words(words)


def _conclusions(run: Path) -> Iterator[Row]:
    for name in _CONCLUSIONS:
        if (run / name).is_file():
            yield from (row for _, row in read_rows(run / name))


def _words(side: object) -> int:
    """Count the words of a completion as files have it: a string, or turns of a chat."""
    if isinstance(side, list):
        return sum(len(str(turn.get("content", "")).split()) for turn in side if isinstance(turn, Mapping))
    return len(str(side).split())


def read_curve(source: Path) -> tuple[CurvePoint, ...]:
    """Read the measurements in a file of rows `labels`, `accuracy`, `pairs`, or in a run of stage refresh that has such a file.

    Raises:
        ConfigError: a run without such a file.
        DataError: a row lacks one of them, or one is not a number.
    """
    path = source / CURVE if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        raise ConfigError(f"{source} holds no {CURVE}. Give a run of stage refresh whose `curve` names shares, or a file.")
    points = []
    for number, row in read_rows(path):
        values: Any = row
        try:
            points.append(CurvePoint(int(values["labels"]), float(values["accuracy"]), int(values["pairs"])))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}:{number}: a measurement needs `labels`, `accuracy` and `pairs` (held out), all numbers") from error
    return tuple(points)


def read_reward(run: Path) -> CurvePoint:
    """Read the measurement of a run of stage reward; its labels are the preferences it learned from.

    Raises:
        DataError: its summary has no accuracy on held-out pairs.
    """
    file = run / "summary.json"
    summary: Any = read_json(file) if file.is_file() else {}
    try:
        overall = summary["held_out"]["overall"]
        return CurvePoint(int(summary["preferences"]), float(overall["accuracy"]), int(overall["n"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: has no accuracy on held-out pairs. Give finished runs of stage reward.") from error
