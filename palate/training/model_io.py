"""How every training stage gets the model it trains ready, and leaves it for the stages after it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from palate.core import ConfigError, derive_seed
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.scalar import ScalarModel, load_scalar
from palate.runs.run import Run
from palate.training.keep import Best, HeldOut, Keep, Last
from palate.training.learner import Learner

M = TypeVar("M", CausalPolicy, ScalarModel)


def trainable(run: Run, model: M, base: str, adapters: LoRA | None, *, checkpoint_activations: bool = False) -> M:
    """The model as it will learn: whole, or frozen with an adapter. `base`: the model directory it was loaded from."""
    if checkpoint_activations:
        # transformers computes activations anew in training mode only; dropout is 0, so that mode changes nothing else.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer releases have another name for it, older ones only this
            model.module.gradient_checkpointing_enable({"use_reentrant": False})
        model.module.train()
    return model if adapters is None else model.with_adapter(adapters, base, derive_seed(run.seed, "adapter"))


def trained(run: Run, model: M, adapters: LoRA | None, learner: Learner) -> M:
    """What was learned as an ordinary model in float32; an adapter is written to `adapter/` first.

    The adapter is then worked into its base as it is on disk: the one in memory may compute in a narrower type.
    """
    learner.release()
    model.module.eval()
    if adapters is None:
        return model
    model.save(run.directory / "adapter")
    load = load_policy if isinstance(model, CausalPolicy) else load_scalar
    return load(run.directory / "adapter")


def search(keep: Keep, measure: Callable[[], float]) -> HeldOut | None:
    """How the best weights are looked for; None where the last ones are kept."""
    return HeldOut(keep, measure) if isinstance(keep, Best) else None


def check_keep(keep: Keep, held_out: str | None) -> None:
    """Raises ConfigError when the best weights are to be found without anything to measure them on, or the other way round."""
    if isinstance(keep, Best) and held_out is None:
        raise ConfigError("keep: best needs data that are not trained on: name them in held_out, or set keep to last")
    if isinstance(keep, Last) and held_out is not None:
        raise ConfigError("held_out is read to find the best weights only: set keep to best, or leave it out")


def keep_model(run: Run, model: CausalPolicy | ScalarModel, adapters: LoRA | None) -> Path:
    """The directory in which later stages find the model: `model/`, written here, or `adapter/` where it is not to be merged."""
    if adapters is not None and isinstance(model, ScalarModel):
        model.save_heads(run.directory / "adapter")  # normalised since it was written
    if adapters is not None and not adapters.merge:
        return run.directory / "adapter"
    model.save(run.directory / "model")
    return run.directory / "model"
