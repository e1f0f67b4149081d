"""Published methods as settings of the stage."""

from __future__ import annotations

from collections.abc import Mapping

from palate.config.read import dump_config
from palate.objectives.presets import PRESETS, Preset

PLACES = {"value_coefficient": ("method", "value_coef"), "lr": ("optimizer", "lr"), "temperature": ("sampling", "temperature")}
"""Where numbers of the loop stand that are no settings of the stage itself."""
NEEDS_DATA = frozenset({"pretraining_coef"})
"""Numbers of what must be named first."""


def settings(preset: Preset) -> dict[str, object]:
    """The values that a preset stands for, by field."""
    method = {"kind": "policy_gradient", **{name: dump_config(getattr(preset, name)) for name in ("advantage", "objective", "reduction")}}
    if preset.value is not None:
        method["value"] = dump_config(preset.value)
    found: dict[str, dict[str, object]] = {"method": method}
    beside: dict[str, object] = {"kl": dump_config(preset.kl), "shaping": dump_config(preset.shaping)}
    for name, value in preset.loop.items():
        if name in PLACES:
            group, field = PLACES[name]
            found.setdefault(group, {})[field] = value
        elif name not in NEEDS_DATA:
            beside[name] = value
    return {**found, **beside}


SETTINGS: Mapping[str, Mapping[str, object]] = {name: settings(preset) for name, preset in PRESETS.items()}
