"""Reads a file of judgments in whatever shape it is, and writes one in the shape asked for."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from palate.core import ConfigError, DataError
from palate.data.containers import Found, read_container
from palate.data.exchange.argilla import ArgillaShape
from palate.data.exchange.cells import brief
from palate.data.exchange.exchange import Exchange, ExchangeItem
from palate.data.exchange.gather import Gathering
from palate.data.exchange.hh import HHShape
from palate.data.exchange.item_list import ItemsShape
from palate.data.exchange.label_studio import LabelStudioShape
from palate.data.exchange.llmfao import LLMFAOShape
from palate.data.exchange.lossless import LosslessShape
from palate.data.exchange.mt_bench import MTBenchShape
from palate.data.exchange.pandalm import PandaLMShape
from palate.data.exchange.shape import Readable, Writable, Written
from palate.data.exchange.spreadsheet import COLUMNS, CSVShape
from palate.data.exchange.trl import TRLShape

READABLE: tuple[Readable, ...] = (
    LosslessShape(),
    LabelStudioShape(),
    ArgillaShape(),
    MTBenchShape(),
    PandaLMShape(),
    LLMFAOShape(),
    HHShape(),
    TRLShape(),
    ItemsShape(),
)
"""Every shape that is read. A file is read in the first that its first row fits."""

WRITABLE: tuple[Writable, ...] = (
    LosslessShape(),
    LabelStudioShape(),
    ArgillaShape(),
    TRLShape(),
    MTBenchShape(),
    PandaLMShape(),
    HHShape(),
    CSVShape(),
)
"""Every shape that is written."""


def read_exchange(path: str | Path, kind: str | None = None) -> Exchange:
    """All that a file of judgments says. It is whole: a file with a fault gives nothing.

    Args:
        path: JSON lines, JSON, CSV or Parquet; a directory of these, a ZIP with one of them, or a dataset of the Hugging Face hub.
        kind: name of the shape; by default the first row tells it.

    Raises:
        DataError: the file cannot be read, is in no shape known, or a row is faulty; the message names file, row, field and remedy.
        ConfigError: there is no such kind.
    """
    if Path(path).suffix.lower() == ".zip" and Path(path).is_file():
        return _unpacked(Path(path), kind)
    # NaN and Infinity pass the parser, so that the shapes can name the field that holds them.
    rows = read_container(path, parse=json.loads)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: holds no row. Give a file of judgments; docs/exchange.md shows the shapes.")
    shape = _sniffed(first) if kind is None else _readable(kind)
    into = Gathering(shape.name, Path(path))
    shape.read(itertools.chain([first], rows), into)
    return into.exchange()


def _unpacked(path: Path, kind: str | None) -> Exchange:
    """What the file of judgments says that lies in an archive, as the pages pack it with what the other tool needs beside it."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="palate-zip-") as folder:
            names = [name for name in archive.namelist() if PurePosixPath(name).suffix in {".json", ".jsonl"}]
            if len(names) != 1:
                raise DataError(f"{path}: holds {len(names)} files of judgments. Unpack it, and give the one to read.")
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
    """What was written. The file holds all of it afterwards, or its former content when writing fails.

    Raises:
        DataError: an item cannot be written in this shape; the message names it and the remedy.
        ConfigError: there is no such kind.
    """
    names = [shape.name for shape in WRITABLE]
    if kind not in names:
        raise ConfigError(f"there is no kind {kind!r} to write. Written are {', '.join(names)}.")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return WRITABLE[names.index(kind)].write(exchange, target)


def join_items(judged: Exchange, known: Exchange) -> Exchange:
    """The votes of `judged` on the items of `known`, by id: what another tool never saw (policies, gold, strata) is there again.

    Raises:
        DataError: a judged item is not known, or its candidates are others.
    """
    items = {item.id: item for item in known.items}
    for item in judged.items:
        mine = items.get(item.id)
        if mine is None or [_shown(item, k) for k in range(len(item.candidates))] != [_shown(mine, k) for k in range(len(mine.candidates))]:
            what = "is not among the items" if mine is None else "has other candidates there"
            raise DataError(f"item {item.id!r}: {what} to be joined with. Give the file that the judged one was written from.")
    guidelines = {guideline.version: guideline for guideline in (*known.guidelines, *judged.guidelines)}
    return replace(
        judged,
        items=known.items,
        name=known.name or judged.name,
        guidelines=tuple(guidelines.values()),
        project=known.project,
        places=replace(judged.places, project=known.places.project, items=known.places.items),
    )


def _shown(item: ExchangeItem, number: int) -> str:
    return item.candidates[number].text + item.candidates[number].media


def _sniffed(first: Found) -> Readable:
    if first.fault:
        raise DataError(f"{first.source}: {brief(first.fault)}. Correct the row; docs/exchange.md shows the shapes.")
    shape = next((shape for shape in READABLE if shape.fits(first.row)), None)
    if shape is None and first.row.keys() >= set(COLUMNS):
        raise DataError(f"{first.source}: is a table for spreadsheets, which holds no texts. Export the kind palate, and give that.")
    if shape is None:
        known = "; ".join(f"{one.name}: {one.needs}" for one in READABLE)
        columns = brief(", ".join(map(str, first.row))) or "none"
        raise DataError(f"{first.source}: the row has the columns {columns}, which make no shape of judgments. Read are {known}.")
    return shape


def _readable(kind: str) -> Readable:
    names = [shape.name for shape in READABLE]
    if kind not in names:
        raise ConfigError(f"there is no kind {kind!r} to read. Read are {', '.join(names)}.")
    return READABLE[names.index(kind)]
