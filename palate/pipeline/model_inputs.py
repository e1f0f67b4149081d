"""Which settings of a stage name a model. This loads no torch."""

from __future__ import annotations

from palate.config.read import map_inputs
from palate.config.types import InputMark
from palate.pipeline.table import Stage

MODEL_SETTINGS = frozenset({"model", "models", "reward", "reference"})
"""Settings that name a model; of those in a list or a mapping, the last word that is not a number."""


def model_inputs(stage: Stage) -> dict[str, str]:
    """Return what names a model in a stage's settings, by setting; those in a list have their number behind a dot."""
    found: dict[str, str] = {}

    def find(setting: str, value: str, mark: InputMark) -> str:
        words = [word for word in setting.split(".") if not word.isdigit()]
        if mark.hub or (words[-1] in MODEL_SETTINGS and not mark.function):
            found[setting] = value
        return value

    map_inputs(stage, find)
    return found


def has_model(stage: Stage) -> bool:
    """Return whether a stage loads or makes a model."""
    return "architecture" in vars(stage) or bool(model_inputs(stage))
