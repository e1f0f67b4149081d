"""Objects in place of paths: data and models of this process are written to the folder of runs, under names made of their content."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from palate.config.object_paths import path_of
from palate.config.read import map_inputs
from palate.config.types import InputMark
from palate.core import ConfigError, Demonstration, Preference, Prompt, UnpairedPreference
from palate.data.formats import demonstration_row, preference_row, prompt_row, sample_row, unpaired_row
from palate.data.jsonl import write_rows
from palate.runs.digests import DigestCache

T = TypeVar("T")

OBJECTS = ".objects"
"""The folder in a folder of runs for what was given as an object."""


def with_paths(stage: T, runs: Path) -> T:
    """Return a stage whose settings name files, models and functions, where they held these themselves.

    The same content has the same name, so a run made from it is found again.

    Args:
        stage: a dataclass of settings.
        runs: the folder of runs.

    Raises:
        ConfigError: a setting holds an object that is neither of these.
    """

    def named(setting: str, value: Any, mark: InputMark) -> str:
        if isinstance(value, str | os.PathLike):
            return os.fspath(value)
        if mark.function:
            return path_of(value)
        if isinstance(value, Iterable) and not callable(value):
            return str(_written_rows(setting, value, runs / OBJECTS))
        return str(_written_model(setting, value, runs / OBJECTS))

    return map_inputs(stage, named)


def _written_rows(setting: str, rows: Iterable[object], folder: Path) -> Path:
    """Write rows or nouns to a file of JSON lines and return it."""
    column = "prompt" if "prompts" in setting.split(".") else "text"
    return _kept(folder, "rows.jsonl", lambda path: write_rows(path, (_row(setting, row, column) for row in rows)))


def _row(setting: str, row: object, column: str) -> Mapping[str, object]:
    match row:
        case str():
            return {column: row}
        case Mapping():
            return row
        case Prompt():
            return prompt_row(row)
        case Demonstration():
            return demonstration_row(row)
        case Preference():
            return preference_row(row)
        case UnpairedPreference():
            return unpaired_row(row)
        case (Prompt() as prompt, completions):
            return sample_row(prompt, cast("Any", completions))
    raise ConfigError(
        f"{setting}: a {type(row).__name__} is not a row. Give mappings, texts, prompts, demonstrations, preferences, or pairs of a prompt "
        "and its completions"
    )


def _written_model(setting: str, model: object, folder: Path) -> Path:
    """Write a policy, a reward model or a scalar model as a model directory and return it."""
    from palate.models.causal import CausalPolicy
    from palate.models.scalar import ScalarModel
    from palate.rewards.learned import LearnedReward

    whole = model.model if isinstance(model, LearnedReward) else model
    if not isinstance(whole, CausalPolicy | ScalarModel):
        raise ConfigError(
            f"{setting}: a {type(model).__name__} is neither a path, nor rows, nor a model. Make a policy of a Hugging Face model with "
            "palate.as_policy(model, tokenizer)"
        )
    return _kept(folder, "model", whole.save)


def _kept(folder: Path, name: str, write: Any) -> Path:
    """Write something and move it to the folder under a name with a digest of its content; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as place:
        made = Path(place) / name
        write(made)
        stem, dot, suffix = name.partition(".")
        kept = folder / f"{stem}-{DigestCache().content(made)}{dot}{suffix}"
        if not kept.exists():
            shutil.move(made, kept)
    return kept
