"""Stages in words: the options of their command, and the text of docs/reference.md."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from typing import Any, cast

from palate.config.read import PRESET, dump_config
from palate.config.types import FieldType, default_of, field_type, hints_of, kind_of, setting_of, type_text, words_of
from palate.pipeline.option import REQUIRED, Option
from palate.pipeline.table import Stages

__all__ = ["REQUIRED", "Option", "attributes_of", "options_of", "reference", "summary_of"]


def summary_of(cls: type) -> str:
    """Return the docstring of a class up to its list of attributes."""
    text = inspect.getdoc(cls) or ""
    return re.split(r"^(?:Attributes|Metrics):", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def attributes_of(cls: type) -> dict[str, str]:
    """Field name -> text, from the `Attributes:` sections of the Google docstrings of a class and its bases."""
    return {name: text for base in reversed(cls.__mro__) for name, text in _attributes_in(inspect.cleandoc(base.__doc__ or "")).items()}


def _attributes_in(text: str) -> dict[str, str]:
    section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)*)", text, flags=re.MULTILINE)
    texts: dict[str, str] = {}
    if section is None:
        return texts
    lines = inspect.cleandoc(section.group(1)).splitlines()
    name = ""
    for line in lines:
        start = re.match(r"(\w+)(?: \([^)]*\))?: *(.*)", line)
        if start is not None:
            name = start.group(1)
            texts[name] = start.group(2)
        elif name and line.strip():
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def options_of(cls: type, prefix: str = "", of: str = "", start: Any = None, under: tuple[tuple[str, str], ...] = ()) -> Iterator[Option]:
    """Yield every setting of a dataclass, nested ones after the field that they belong to.

    Args:
        cls: the dataclass.
        prefix: a text before each name.
        of: the kind whose settings these are.
        start: an instance that has the defaults.
        under: kinds that must be given for these settings to exist.
    """
    docs = attributes_of(cls)
    if presets := getattr(cls, "PRESETS", None):
        text = "use published settings for what is not set"
        yield Option(f"{prefix}{PRESET}", of, f"one of {', '.join(presets)}", "none", text, choices=tuple(presets), under=under)
    for item in fields(cast("Any", cls)):
        if not item.init or item.name == "kind":
            continue
        shape = field_type(hints_of(cls)[item.name])
        default = default_of(item) if start is None else getattr(start, item.name)
        option = _option(f"{prefix}{setting_of(item)}", of, hints_of(cls)[item.name], _default_text(default), docs.get(item.name, ""))
        yield replace(option, under=under)
        # For a mapping to dataclasses, the settings of each of its values.
        inside = f"{option.name}.NAME" if shape.container is dict else option.name
        members = field_type(shape.item).members if shape.container is dict else shape.members
        for member in members:
            first = default if type(default) is member else None
            tag = kind_of(member) or ""
            yield from options_of(member, f"{inside}.", tag if len(members) > 1 else of, first, (*under, (inside, tag)) if tag else under)


def _option(name: str, of: str, annotation: Any, default: str, doc: str) -> Option:
    shape = field_type(annotation)
    value: FieldType = shape if shape.container is None else field_type(shape.item)
    kinds = tuple((tag, summary_of(member).partition("\n")[0]) for member in value.members if (tag := kind_of(member)))
    return Option(
        name,
        of,
        type_text(annotation),
        default,
        doc,
        shape.container,
        is_group=bool(shape.members) and shape.leaf is None and not kinds,
        kinds=kinds,
        choices=tuple(words_of(value.leaf)) if value.mark is None else (),
        is_path=value.mark is not None and not value.mark.function,
    )


def _default_text(default: object) -> str:
    if default is MISSING:
        return REQUIRED
    value = dump_config(default)
    if isinstance(value, dict) and "kind" in value:
        return str(value["kind"])
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def reference(stages: Stages) -> str:
    """Return the text of docs/reference.md: every stage with all its settings. This imports all stages."""
    lines = [
        "# Reference",
        "",
        "`palate reference` writes this page from the classes; a test keeps it up to date.",
        "",
        "Each stage is a command (`palate sft --data FILE ...`) and a stage of a pipeline file (`stage: sft`).",
        "Nested settings have dots on the command line (`--objective.beta 0.2`) and levels in YAML (`objective: {beta: 0.2}`).",
        "A `path` in a pipeline may be `$stage/path/inside` or `$input`; a `model` may also be a name on a model hub.",
        "",
        "| stage | what it does |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {entry.help} |" for name, entry in stages.items()),
    ]
    for name, entry in stages.items():
        cls = entry.load()
        lines += ["", f"## {name}", "", summary_of(cls), "", "| setting | type | default | meaning |", "|---|---|---|---|"]
        for option in options_of(cls):
            tag = f" (of {option.of})" if option.of else ""
            kind, default = ("settings", "as below") if option.is_group else (option.type_text, option.default)
            lines.append(f"| `{option.name}`{tag} | {kind} | {default} | {_cell(option.doc)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
