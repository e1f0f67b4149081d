"""The model card of a run: what it was made from, and every evaluation of it in the same folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.config.artifacts import model_at
from palate.core import ConfigError
from palate.evaluation.model_card import ModelCard
from palate.evaluation.model_trace import trace_model
from palate.evaluation.run_metrics import evaluations_of, find_evaluated, measured_keys


@dataclass(frozen=True)
class RunCard:
    """A model and its card.

    Attributes:
        run: the run that made the model.
        model: the folder of the model's weights.
        text: the card, as `README.md` holds it.
    """

    run: Path
    model: Path
    text: str


def run_card(
    run: Path, *, evaluations: Sequence[Path] = (), baseline: Path | None = None, name: str | None = None, license_id: str = ""
) -> RunCard:
    """Return the card of the model that a run made.

    Args:
        run: the run, or something inside it.
        evaluations: evaluate runs of the model; without any, those in the same folder.
        baseline: an evaluate run to compare with.
        name: the model's name; by default that of the run.
        license_id: the license that its maker gives it; "" leaves it out.

    Raises:
        ConfigError: the run has no model, or an evaluate run measured another one.
        RunError: there is no run, it is retired, or a record in its lineage cannot be read.
        DataError: a file of judgments cannot be read.
    """
    trace = trace_model(run)
    model = Path(model_at(str(trace.run.directory)))
    if model == trace.run.directory:
        raise ConfigError(f"{trace.run.name} holds no model, and a card is about one. Name the run that trained the model.")
    measured = [find_evaluated(place) for place in (evaluations or [place for place, _ in evaluations_of(trace.run.directory)])]
    for one in measured:
        if trace.run.name.rpartition("-")[2] not in measured_keys(one.record):
            raise ConfigError(f"--evaluations: {one.name} measured another model than {trace.run.name}. Name evaluate runs of this one.")
    compared = None if baseline is None else find_evaluated(baseline)
    card = ModelCard(name or trace.run.name, trace, measured, compared, license_id, model.name == "adapter")
    return RunCard(trace.run.directory, model, card.text())
