"""Which colour each model and each training run of a report has: no two share one while there are colours left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from palate.evaluation.report.records import Variant
from palate.evaluation.report.training_records import TrainingRun

FREE = ("online", "direct", "search", "ablation", "rose", "blue", "other", "base", "sft")
"""Names of all colours, in the order in which models get one whose own is taken."""


def model_colours(variants: Sequence[Variant]) -> dict[str, str]:
    """Return the name of each model's colour, by the model's key.

    The first model of a role has the colour of its role. Every other one has the next colour that no model has.
    """
    first = {variant.role: variant.key for variant in reversed(variants)}
    colours = {key: str(role) for role, key in first.items()}
    for variant in variants:
        if variant.key not in colours:
            colours[variant.key] = _next(variant.role, colours.values())
    return colours


def run_colours(runs: Sequence[TrainingRun], variants: Sequence[Variant]) -> list[str]:
    """Return the name of each run's colour: that of the model that it made, or one that no other run has."""
    models = model_colours(variants)
    colours = {k: models[run.variant] for k, run in enumerate(runs) if run.variant}
    for k, run in enumerate(runs):
        if k not in colours:
            taken = colours.values()
            colours[k] = run.role if run.role not in taken else _next(run.role, [*models.values(), *taken])
    return [colours[k] for k in range(len(runs))]


def _next(role: str, taken: Iterable[str]) -> str:
    """Return the first colour that is not taken; where all are, that of the role."""
    used = set(taken)
    return next((name for name in FREE if name not in used), role)
