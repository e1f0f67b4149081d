"""Where the rubrics of prompts come from: a YAML or JSON file, or a column of the prompts' rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from palate.config.encoding import utf8_text
from palate.config.settings import nearest, read_yaml
from palate.core import ConfigError, DataError, Prompt
from palate.data import cells
from palate.data.cells import Columns, InvalidRow
from palate.data.rubrics import SHOWN, Rubric, noted, rubric_of


@dataclass(frozen=True)
class RubricFile:
    """Rubrics in a YAML or JSON file.

    Attributes:
        path: the file.
        prompts: rubrics by the prompt's id.
        default: the rubric of all other prompts; None where they have none.
    """

    path: str
    prompts: Mapping[str, Rubric] = field(default_factory=dict)
    default: Rubric | None = None

    @staticmethod
    def read(path: Path) -> RubricFile:
        """Read a file with `prompts` (rubrics by the prompt's id), `default`, or both, and the `dimensions` that criteria may name.

        Raises:
            DataError: the file cannot be read or used; the message names every fault.
        """
        row = _file_content(path)
        names = ("default", "prompts", "dimensions")
        faults = [f"there is no {name!r}. {nearest(str(name), names)}" for name in row if name not in names]
        known: Collection[str] | None = None
        listed: dict[str, object] = {}
        with noted(faults, ""):
            if row.get("dimensions") is not None:
                known = [cells.name(name, "dimensions") for name in cells.sequence(row["dimensions"], "dimensions")]
        with noted(faults, ""):
            listed = _by_id(row.get("prompts"))
        default = None if row.get("default") is None else _read_into(row["default"], "default", known, faults)
        prompts = {name: _read_into(value, f"prompts.{name}", known, faults) for name, value in listed.items()}
        if not faults and default is None and not prompts:
            faults.append("it has no rubric: give `default`, or `prompts` by their ids")
        if faults:
            more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise DataError(f"{path}: the rubrics cannot be used. Correct the file:\n  " + "\n  ".join(faults[:SHOWN]) + more)
        return RubricFile(str(path), {name: rubric for name, rubric in prompts.items() if rubric is not None}, default)


def _read_into(value: object, place: str, known: Collection[str] | None, faults: list[str]) -> Rubric | None:
    read: list[Rubric] = []
    with noted(faults, f"{place}: "):
        read.append(rubric_of(value, known))
    return next(iter(read), None)


def _by_id(value: object) -> dict[str, object]:
    """The objects by id of a mapping whose keys YAML may have read as numbers. Raises InvalidRow for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRow(f"`prompts` does not hold `id: criteria` lines: {cells.quoted(value)}")
    return {cells.name(name, "prompts"): rubric for name, rubric in value.items()}


def _file_content(path: Path) -> Columns:
    """The object in a file. A name that stands twice is refused. Raises DataError."""
    try:
        if path.suffix != ".json":
            return read_yaml(path).values
        value: object = json.loads(utf8_text(path), object_pairs_hook=_distinct)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}). Correct the path.") from error
    except ConfigError as error:
        raise DataError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}. Correct the file.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold one JSON object with `default`, `prompts` or both.")
    return value


def _distinct(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice")
    return dict(pairs)


@dataclass(frozen=True)
class RubricSource:
    """Where the rubrics of prompts come from: a file's entry for the prompt, else the prompt's own column, else the file's default."""

    column: str
    file: RubricFile | None = None

    def rubric(self, prompt: Prompt) -> Rubric | None:
        """Return the rubric of a prompt; None where it has none. Raises InvalidRow where its column cannot be used."""
        if self.file is not None and prompt.id in self.file.prompts:
            return self.file.prompts[prompt.id]
        if prompt.fields.get(self.column) is not None:
            return rubric_of(prompt.fields[self.column])
        return None if self.file is None else self.file.default

    def require(self, prompts: Sequence[Prompt], reader: str) -> None:
        """Check that every prompt has a rubric.

        Args:
            prompts: the prompts.
            reader: who needs the rubrics, for the message.

        Raises:
            DataError: one has none, or a column cannot be used. The message says how many, and where.
        """
        without: list[str] = []
        faults: list[str] = []
        for prompt in prompts:
            place = prompt.source or prompt.id
            with noted(faults, f"{place}: "):
                if self.rubric(prompt) is None:
                    without.append(place)
        if not without and not faults:
            return
        lines = [f"{reader}: {len(without) + len(faults)} of {len(prompts)} prompts have no rubric that can be used."]
        if without:
            where = "no column {!r}{}".format(self.column, "" if self.file is None else f" and no rubric in {self.file.path}")
            more = f" and {len(without) - SHOWN} more" if len(without) > SHOWN else ""
            lines.append(f"{len(without)} have {where}: {', '.join(without[:SHOWN])}{more}.")
        lines += faults[:SHOWN]
        if len(faults) > SHOWN:
            lines.append(f"and {len(faults) - SHOWN} more.")
        remedy = "Give each prompt a rubric, or a rubric file a default for those without." if without else "Correct the rubrics."
        raise DataError("\n  ".join([*lines, remedy]))
