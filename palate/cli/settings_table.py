"""Every stage in words, read from the file `settings.json`, so that help and completion do not import what trains.

`palate reference` writes the file from the classes, and a test keeps it up to date. For a stage outside the file, the class is read.
The same settings stand in many places, as those of a judge do, so the file holds each once, under a digest of what it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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
    stored = _stored().get("stages", {}).get(entry.target)
    if stored is None:
        return _of_class(entry)
    settings = _stored()["settings"]
    return Described(stored["summary"], tuple(_option(name, settings[key], *under) for name, key, *under in stored["options"]))


def table_text(stages: Stages) -> str:
    """Return the text of the table, one line per setting. This imports all stages."""
    blocks, settings = [], {}
    for entry in stages.values():
        stage = _of_class(entry)
        rows = []
        for option in stage.options:
            setting = _line(_setting(option))
            key = hashlib.sha256(setting.encode()).hexdigest()[:10]
            settings[key] = setting
            rows.append(_line([option.name, key, *([option.under] if option.under else [])]))
        blocks.append(f'{_line(entry.target)}: {{"summary": {_line(stage.summary)}, "options": [\n{_lines(rows)}\n]}}')
    shared = [f'"{key}": {setting}' for key, setting in settings.items()]
    return f'{{"settings": {{\n{_lines(shared)}\n}},\n"stages": {{\n{_lines(blocks)}\n}}}}\n'


def _lines(rows: Sequence[str]) -> str:
    return ",\n".join(rows)


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


def _setting(option: Option) -> dict[str, object]:
    """What an option says wherever it stands, as JSON: its fields, without those at their defaults, its name and what it is under."""
    row = {item.name: getattr(option, item.name) for item in fields(option) if item.name not in {"name", "under"}}
    row["container"] = None if option.container is None else option.container.__name__
    return {name: value for name, value in row.items() if value not in ("", None, False, ())}


def _option(name: str, setting: dict[str, Any], under: Sequence[Sequence[str]] = ()) -> Option:
    values = {"of": "", "doc": "", "type_text": "", "default": "", **setting}
    return Option(
        name=name,
        of=values["of"],
        type_text=values["type_text"],
        default=values["default"],
        doc=values["doc"],
        container={"tuple": tuple, "dict": dict}.get(values.get("container", "")),
        is_group=values.get("is_group", False),
        kinds=tuple((kind, text) for kind, text in values.get("kinds", ())),
        choices=tuple(values.get("choices", ())),
        under=tuple((group, kind) for group, kind in under),
        is_path=values.get("is_path", False),
    )
