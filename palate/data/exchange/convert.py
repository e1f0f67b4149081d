"""Read a file of judgments in any shape, and write one in a chosen shape."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import zipfile
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from palate.core import ConfigError, DataError
from palate.data.cells import one_line
from palate.data.containers import MOST_UNPACKED, SourceRow, read_container
from palate.data.exchange.alpaca_eval import AlpacaEvalShape
from palate.data.exchange.alpaca_leaderboard import AlpacaLeaderboardShape
from palate.data.exchange.alpaca_outputs import AlpacaOutputsShape
from palate.data.exchange.argilla import ArgillaShape
from palate.data.exchange.contents import Exchange, ExchangeItem
from palate.data.exchange.gather import Gathering
from palate.data.exchange.hh import HHShape
from palate.data.exchange.item_list import ItemsShape
from palate.data.exchange.judgment_list import JudgmentsShape
from palate.data.exchange.label_studio import LabelStudioShape
from palate.data.exchange.lossless import LosslessShape
from palate.data.exchange.mt_bench import MTBenchShape
from palate.data.exchange.mt_bench_pairs import MTBenchPairsShape
from palate.data.exchange.mt_bench_single import MTBenchSingleShape
from palate.data.exchange.pandalm import PandaLMShape
from palate.data.exchange.sampled_items import SamplesShape
from palate.data.exchange.shape import Readable, Writable, Written
from palate.data.exchange.spreadsheet import COLUMNS, CSVShape
from palate.data.exchange.trl import TRLShape
from palate.data.pseudonyms import is_address

READABLE: tuple[Readable, ...] = (
    LosslessShape(),
    JudgmentsShape(),
    LabelStudioShape(),
    ArgillaShape(),
    MTBenchPairsShape(),
    MTBenchSingleShape(),
    MTBenchShape(),
    AlpacaEvalShape(),
    PandaLMShape(),
    HHShape(),
    TRLShape(),
    SamplesShape(),
    ItemsShape(),
)
"""Every shape that Palate reads. It reads a file in the first shape that the file's first row fits."""

WRITABLE: tuple[Writable, ...] = (
    LosslessShape(),
    LabelStudioShape(),
    ArgillaShape(),
    TRLShape(),
    MTBenchShape(),
    MTBenchPairsShape(),
    MTBenchSingleShape(),
    AlpacaEvalShape(),
    AlpacaOutputsShape(),
    AlpacaLeaderboardShape(),
    HHShape(),
    CSVShape(),
)
"""Every shape that Palate writes."""


def read_exchange(path: str | Path, kind: str | None = None) -> Exchange:
    """Read all that a file of judgments says. One invalid row makes the whole file an error.

    Args:
        path: JSON lines, JSON, CSV or Parquet; a directory of these, a ZIP with one of them, or a dataset of the Hugging Face hub.
        kind: the name of the shape; by default the first row decides.

    Raises:
        DataError: the file cannot be read, is in no shape known, or a row is faulty; the message names file, row, field and remedy.
        ConfigError: there is no such kind.
    """
    if Path(path).suffix.lower() == ".zip" and Path(path).is_file():
        return _unpacked(Path(path), kind)
    rows = read_container(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: holds no row. Give a file of judgments; docs/exchange.md shows the shapes.")
    shape = _recognised(first) if kind is None else _readable(kind)
    into = Gathering(shape.name, Path(path))
    shape.read(itertools.chain([first], rows), into)
    return into.exchange()


def _unpacked(path: Path, kind: str | None) -> Exchange:
    """Read the one file of judgments in an archive, as the rating pages pack it with the files that the other tool needs."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="palate-zip-") as folder:
            names = [name for name in archive.namelist() if PurePosixPath(name).suffix in {".json", ".jsonl"}]
            if len(names) != 1:
                raise DataError(f"{path}: holds {len(names)} files of judgments. Unpack it, and give one of them.")
            size = archive.getinfo(names[0]).file_size  # the reader of the archive stops there
            if size > MOST_UNPACKED:
                raise DataError(f"{path}: unpacks to {size} bytes, more than {MOST_UNPACKED}. Unpack it yourself, and give the file in it.")
            inner = Path(folder) / PurePosixPath(names[0]).name
            with archive.open(names[0]) as packed, inner.open("wb") as copy:
                shutil.copyfileobj(packed, copy)
            try:
                return read_exchange(inner, kind)
            except DataError as error:
                raise DataError(str(error).replace(str(inner), f"{path}/{inner.name}")) from error
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be unpacked ({error}). Unpack it with another program, and give the file in it.") from error


def write_exchange(exchange: Exchange, path: str | Path, kind: str = "palate") -> Written:
    """Write the exchange in one step and say what was written. If writing fails, the file keeps its former content.

    Raises:
        DataError: an item cannot be written in this shape; the message names it and the remedy.
        ConfigError: there is no such kind.
    """
    names = [shape.name for shape in WRITABLE]
    if kind not in names:
        raise ConfigError(f"there is no kind {kind!r} to write. Palate writes {', '.join(names)}.")
    if named := [rater.id for rater in exchange.raters if is_address(rater.id, rater.kind)]:
        raise DataError(f"{path}: {len(named)} raters are email addresses. Replace them by pseudonyms; a file of judgments holds no names.")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return WRITABLE[names.index(kind)].write(exchange, target)


def join_items(judged: Exchange, known: Exchange) -> Exchange:
    """The votes of `judged` on the items of `known` with the same texts, with what another tool never got (policies, gold, strata).

    An item is joined with one of the same conversation and the same candidates in any order. The id only chooses among several of these.

    Raises:
        DataError: a judged item is not among those of `known`, or has other texts there.
    """
    ids = {item.id: item for item in known.items}
    same: dict[Hashable, ExchangeItem] = {}
    for item in known.items:
        same.setdefault(_question(item), item)
    places: dict[str, tuple[str, tuple[int, ...]]] = {}
    for item in judged.items:
        named = ids.get(item.id)
        # A tool that gives back the candidates alone leaves nothing but the id to tell the conversation.
        asks_same = named is not None and (_question(named) == _question(item) or (not item.conversation and _is_like(named, item)))
        mine = named if asks_same else same.get(_question(item))
        if mine is None:
            problem = "is not among the items to join with" if named is None else _difference(item, named)
            raise DataError(f"item {item.id!r}: {problem}. Give the file from which the tasks were written.")
        theirs, ours = _contents(item), _contents(mine)
        places[item.id] = mine.id, tuple(range(len(ours))) if theirs == ours else tuple(map(ours.index, theirs))
    votes = tuple(vote.renumbered(*places[vote.judgment.comparison]) for vote in judged.votes)
    guidelines = {guideline.version: guideline for guideline in (*known.guidelines, *judged.guidelines)}
    return replace(
        judged,
        items=known.items,
        votes=votes,
        name=known.name or judged.name,
        guidelines=tuple(guidelines.values()),
        project=known.project,
        places=replace(judged.places, project=known.places.project, items=known.places.items),
    )


def _contents(item: ExchangeItem) -> list[str]:
    return [candidate.text + candidate.media for candidate in item.candidates]


def _question(item: ExchangeItem) -> Hashable:
    """What the item asks, whoever tells it: the turns, and the candidates in any order. Tools differ in the role of a single text."""
    return tuple(turn.text.strip() for turn in item.conversation), tuple(sorted(_contents(item)))


def _is_like(known: ExchangeItem, item: ExchangeItem) -> bool:
    return sorted(_contents(item)) == sorted(_contents(known))


def _difference(item: ExchangeItem, known: ExchangeItem) -> str:
    other = "another conversation" if _is_like(known, item) else "other candidates"
    return f"has {other} among the items to join with"


def _recognised(first: SourceRow) -> Readable:
    if first.fault:
        raise DataError(f"{first.source}: {one_line(first.fault)}. Correct the row; docs/exchange.md shows the shapes.")
    shape = next((shape for shape in READABLE if shape.fits(first.row)), None)
    if shape is None and first.row.keys() >= set(COLUMNS):
        raise DataError(
            f"{first.source}: is a table for spreadsheets, which does not hold the texts. Export as palate, and give that file."
        )
    if shape is None:
        columns = one_line(", ".join(map(str, first.row))) or "none"
        raise DataError(
            f"{first.source}: the row has the columns {columns}, which do not make a known shape. "
            f"Palate reads {', '.join(readable.name for readable in READABLE)}. "
            "Rename the columns; docs/exchange.md shows rows of each kind."
        )
    return shape


def _readable(kind: str) -> Readable:
    names = [shape.name for shape in READABLE]
    if kind not in names:
        raise ConfigError(f"there is no kind {kind!r} to read. Palate reads {', '.join(names)}.")
    return READABLE[names.index(kind)]
