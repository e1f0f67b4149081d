"""Several sources of rows in one setting: each with its own name, columns and limit, and with a weight in what a stage learns."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar, cast

from palate.config.artifacts import file_at
from palate.config.types import Count, Input
from palate.core import ConfigError, Demonstration, Preference, Prompt, UnpairedPreference
from palate.data.exclusions import excluded_now
from palate.data.formats import RECOGNISED, ColumnTypes, Dropped, Further, Recognised, Table, type_named
from palate.data.formats.excluded_rows import EXCLUDED_SOURCE

T = TypeVar("T")

SOURCE = "source"
"""The user's column that says which source a row is from. A row that has one already keeps it."""


@dataclass(frozen=True)
class DataSource:
    """One of several sources of rows.

    Attributes:
        path: a file, a directory, a run, or owner/name on the hub, as where a setting takes one path alone.
        name: what the source is called in ids, in the column `source` and in figures; none takes the file's name without its ending.
        weight: how large its share of what is learned is, above 0, beside the weights of the other sources. Give it to all sources or to
            none; without weights an epoch has every row once.
        limit: the most rows that are read; none takes the stage's limit.
        type: what its columns hold, by a name such as alpaca, sharegpt or chatml.intel.
        columns: what its columns hold, as in the stage's setting `columns`; `recognised` takes that setting.
    """

    path: Input
    name: str | None = None
    weight: float | None = None
    limit: Count | None = None
    type: str | None = None
    columns: ColumnTypes = field(default_factory=Recognised)

    def __post_init__(self) -> None:
        """Raise ConfigError when the weight is not above 0, the type is not known, or the columns are given beside it."""
        if self.weight is not None and not 0 < self.weight < math.inf:
            remedy = "Take the source out of the list to learn nothing of it, or give it a weight above 0"
            raise ConfigError(f"the source {self.called!r} has the weight {self.weight:g}. {remedy}")
        if self.name is not None and (not self.name.strip() or "/" in self.name):
            raise ConfigError(f"the name of a source must be a word without slashes, got {self.name!r}. Change it, or leave it out")
        if self.type is not None:
            type_named(self.type)
            if self.columns != RECOGNISED:
                words = f"columns: {{kind: {self.type}, ...}}"
                raise ConfigError(f"type and columns both say what the columns hold. Leave out type and write it as {words}")

    @property
    def called(self) -> str:
        """Return the name, or the file's name without its endings; for a run the name of its stage."""
        path = str(self.path)
        return self.name or re.sub(r"-[0-9a-f]{12}$", "", Path(path).name.split(".")[0]) or path

    def held(self, columns: ColumnTypes) -> ColumnTypes:
        """Return what the columns hold; `columns` where the source does not say it."""
        return type_named(self.type) if self.type is not None else columns if self.columns == RECOGNISED else self.columns


DataInput = Input | tuple[Input | DataSource, ...]
"""One path, or several sources."""


class Reader(Protocol[T]):
    """A function that reads the rows of one file."""

    def __call__(self, path: Path, *, limit: int | None, columns: ColumnTypes) -> Table[T]:
        """Return the rows of a file."""
        ...


class Streamer(Protocol):
    """A function that reads the demonstrations or texts of one file one by one."""

    def __call__(
        self, path: Path, *, limit: int | None, columns: ColumnTypes, further: Further | None
    ) -> Iterator[Demonstration | Dropped]:
        """Yield the rows of a file."""
        ...


def sources_of(data: DataInput | None) -> tuple[DataSource, ...]:
    """Return the sources of a setting that names several; () for one path alone, or none.

    Raises:
        ConfigError: there is none, two have one name or one path, or only some have a weight.
    """
    if not isinstance(data, tuple):
        return ()
    sources = tuple(one if isinstance(one, DataSource) else DataSource(one) for one in data)
    if not sources:
        raise ConfigError("there is no source in the list. Name a file")
    if (same_path := _named_again([one.path for one in sources])) is not None:
        raise ConfigError(f"two sources have the path {same_path!r}. Name each path once")
    if same := _first_alike([metric_word(one.called) for one in sources]):
        first, second = (sources[k].called for k in same)
        both = f"have the name {first!r}" if first == second else f"have one name in metrics: {first!r} and {second!r}"
        raise ConfigError(f"two sources {both}. Give each source a `name` of its own")
    bare = [one.called for one in sources if one.weight is None]
    if 0 < len(bare) < len(sources):
        raise ConfigError(f"the source {bare[0]!r} has no weight and others have one. Give every source a weight, or none")
    return sources


def require_each_once(setting: str, paths: Sequence[str]) -> None:
    """Refuse a setting that names a file or a run twice, however its path is written: each of its rows would count twice.

    Raises:
        ConfigError: it does.
    """
    if (same := _named_again(paths)) is not None:
        raise ConfigError(f"{setting} names {same!r} a second time, and each of its rows would count twice. Name each path once")


def _named_again(paths: Sequence[str]) -> str | None:
    """The first path that leads where an earlier one leads; None where all lead to different places."""
    same = _first_alike([os.path.realpath(path) for path in paths])
    return None if same is None else paths[same[1]]


def _first_alike(names: Sequence[str]) -> tuple[int, int] | None:
    """The first number whose name an earlier number has, after that one; None where all differ."""
    return next(((names.index(name), k) for k, name in enumerate(names) if name in names[:k]), None)


def metric_word(name: str) -> str:
    """Return the name of a source as a word in the names of metrics: letters, digits and `-` stay, and all else becomes `_`."""
    return re.sub(r"[^\w-]", "_", name)


def check_unweighted(*settings: DataInput | None) -> None:
    """Check settings that read every row once. Raises ConfigError as `sources_of`, and where a source has a weight."""
    if any(one.weight is not None for data in settings for one in sources_of(data)):
        raise ConfigError("every row is read once here, so a weight would have no effect. Leave weights out, or give a source a `limit`")


def weights_of(data: DataInput) -> dict[str, float]:
    """Return the weight of each source by its name, without sources that were withdrawn; {} where sources have no weights."""
    return {one.called: one.weight for one in sources_of(data) if one.weight is not None and not excluded_now().has_source(one.called)}


def data_name(data: DataInput) -> str:
    """Return what messages and records call the data: the path, or the names of the sources."""
    return str(data) if not isinstance(data, tuple) else " + ".join(one.called for one in sources_of(data))


def paths_of(data: DataInput) -> tuple[str, ...]:
    """Return every path that a setting names."""
    return (data,) if not isinstance(data, tuple) else tuple(one.path for one in sources_of(data))


def read_data(data: DataInput, file: str, read: Reader[T], limit: int | None, columns: ColumnTypes) -> Table[T]:
    """Read one path, or all sources one after another.

    Rows of several sources have the source's name before their id, and in the column `source` where they have none, so equal ids of two
    files stay apart. A source that was withdrawn by its name is left out.

    Args:
        data: the path or the sources.
        file: the file that a path to a run means.
        read: reads one file.
        limit: the most rows of each source that does not say it itself.
        columns: what the columns of each source hold that does not say it itself.

    Raises:
        ConfigError: as `sources_of`.
        DataError: a source has no usable row.
    """
    if not isinstance(data, tuple):
        return read(file_at(data, file), limit=limit, columns=columns)
    whole: Table[T] = Table([], [])
    for source in sources_of(data):
        own = read(file_at(source.path, file), limit=source.limit or limit, columns=source.held(columns))
        if excluded_now().has_source(source.called):
            whole.dropped.extend([Dropped(source.path, EXCLUDED_SOURCE)] * len(own.rows))
        else:
            whole.rows.extend(of_source(row, source.called) for row in own.rows)
        whole.dropped.extend(own.dropped)
        whole.further.update(own.further)
    return whole


def stream_data(
    data: DataInput, file: str, read: Streamer, limit: int | None, columns: ColumnTypes, further: Further
) -> Iterator[Demonstration | Dropped]:
    """Yield the rows of one path, or those of all sources, as `read_data` does; each row names its source."""
    if not isinstance(data, tuple):
        yield from read(file_at(data, file), limit=limit, columns=columns, further=further)
        return
    for source in sources_of(data):
        is_excluded = excluded_now().has_source(source.called)
        for row in read(file_at(source.path, file), limit=source.limit or limit, columns=source.held(columns), further=further):
            if isinstance(row, Dropped):
                yield row
            else:
                yield Dropped(row.source, EXCLUDED_SOURCE) if is_excluded else replace(row, source_name=source.called)


def taking_turns(rows: Sequence[T], source_name: Callable[[T], str]) -> list[T]:
    """Return the rows with the sources taking turns, so that the first of them are of all sources; one source keeps its order."""
    turns: Counter[str] = Counter()
    order = []
    for number, row in enumerate(rows):
        name = source_name(row)
        order.append((turns[name], number))
        turns[name] += 1
    return [rows[number] for _, number in sorted(order)]


def content_beside_source(prompt: Prompt) -> tuple[object, str]:
    """Return what makes it the same prompt as another, whichever source each is from."""
    if prompt.source_name and prompt.fields.get(SOURCE) == prompt.source_name:
        return replace(prompt, fields={name: value for name, value in prompt.fields.items() if name != SOURCE}).content
    return prompt.content


def of_source(row: T, name: str) -> T:
    """Return a row as one of several sources has it: with the source's name before its id, and in the column `source`."""
    made: object
    match cast("object", row):
        case Prompt() as prompt:
            made = replace(prompt, id=f"{name}/{prompt.id}", fields={SOURCE: name, **prompt.fields}, source_name=name)
        case Preference() as pair:
            made = replace(pair, prompt=of_source(pair.prompt, name))
        case Demonstration() as demonstration:
            made = replace(demonstration, source_name=name)
        case UnpairedPreference() as one:
            made = replace(one, prompt=of_source(one.prompt, name), id=one.id and f"{name}/{one.id}")
        case (Prompt() as prompt, completions):
            made = (of_source(prompt, name), completions)
        case _:
            raise TypeError(f"a {type(row).__name__} is not a row of a source")
    return cast("T", made)
