"""Every stage in words, read from the file `settings.json`, so that help and completion do not import what trains.

`palate reference` writes the file from the classes, and a test keeps it up to date. For a stage outside the file, the class is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from palate.pipeline.option import Option
from palate.pipeline.table import StageEntry, Stages

TABLE = Path(__file__).with_name("settings.json")


@dataclass(frozen=True)
class Described:
    """A stage in words.

    Attributes:
        summary: what it does.
        options: every setting, in the order of `options_of`.
    """

    summary: str
    options: tuple[Option, ...]


def described(entry: StageEntry) -> Described:
    """Return what the stage does and takes, from the table or else from its class.

    Raises:
        ConfigError: the stage is not in the table, and needs a package that is not installed.
    """
    stored = _stored().get(entry.target)
    if stored is None:
        return _of_class(entry)
    return Described(stored["summary"], tuple(_option(row) for row in stored["options"]))


def table_text(stages: Stages) -> str:
    """Return the text of the table, one line per setting. This imports all stages."""
    blocks = []
    for entry in stages.values():
        stage = _of_class(entry)
        rows = ",\n".join(_line(_row(option)) for option in stage.options)
        blocks.append(f'{_line(entry.target)}: {{"summary": {_line(stage.summary)}, "options": [\n{rows}\n]}}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _of_class(entry: StageEntry) -> Described:
    from palate.pipeline.describe import options_of, summary_of

    cls = entry.load()
    return Described(summary_of(cls), tuple(options_of(cls)))


@cache
def _stored() -> dict[str, Any]:
    if not TABLE.is_file():
        return {}
    stored: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return stored


def _row(option: Option) -> dict[str, object]:
    """The fields of an option as JSON, without those at their defaults."""
    row = {item.name: getattr(option, item.name) for item in fields(option)}
    row["container"] = None if option.container is None else option.container.__name__
    return {name: value for name, value in row.items() if value not in ("", None, False, ())}


def _option(row: dict[str, Any]) -> Option:
    values = {"of": "", "doc": "", "type_text": "", "default": "", **row}
    return Option(
        name=values["name"],
        of=values["of"],
        type_text=values["type_text"],
        default=values["default"],
        doc=values["doc"],
        container={"tuple": tuple, "dict": dict}.get(values.get("container", "")),
        is_group=values.get("is_group", False),
        kinds=tuple((kind, text) for kind, text in values.get("kinds", ())),
        choices=tuple(values.get("choices", ())),
        under=tuple((name, kind) for name, kind in values.get("under", ())),
        is_path=values.get("is_path", False),
    )
