"""How every training stage prepares its model, and how it leaves the model for later stages."""

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
    """Return the model as it will learn: whole, or frozen with an adapter. `base` is the directory it was loaded from."""
    if checkpoint_activations:
        # transformers recomputes activations only in training mode. Dropout is 0, so this mode has no other effect.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer releases have another name for this argument
            model.module.gradient_checkpointing_enable({"use_reentrant": False})
        model.module.train()
    return model if adapters is None else model.with_adapter(adapters, base, derive_seed(run.seed, "adapter"))


def trained(run: Run, model: M, adapters: LoRA | None, learner: Learner) -> M:
    """Return the trained model as an ordinary one in float32; an adapter is written to `adapter/` first.

    The adapter is then merged into its base as it is on disk, because the one in memory may compute in a narrower type.
    """
    learner.release()
    model.module.eval()
    if adapters is None:
        return model
    model.save(run.directory / "adapter")
    load = load_policy if isinstance(model, CausalPolicy) else load_scalar
    return load(run.directory / "adapter")


def search(keep: Keep, measure: Callable[[], float]) -> HeldOut | None:
    """Return how to look for the best weights, or None where the last ones are kept."""
    return HeldOut(keep, measure) if isinstance(keep, Best) else None


def check_keep(keep: Keep, held_out: str | None) -> None:
    """Raise ConfigError when `keep` is best without held-out data to measure, or last with such data."""
    if isinstance(keep, Best) and held_out is None:
        raise ConfigError("keep: best needs data that are not trained on; name them in held_out, or set keep to last")
    if isinstance(keep, Last) and held_out is not None:
        raise ConfigError("held_out is read only to find the best weights; set keep to best, or leave out held_out")


def keep_model(run: Run, model: CausalPolicy | ScalarModel, adapters: LoRA | None) -> Path:
    """Write `model/` and return it, the directory for later stages; or return `adapter/` where the adapter is not to be merged."""
    if adapters is not None and isinstance(model, ScalarModel):
        model.save_heads(run.directory / "adapter")  # they were normalised after `trained` wrote them
    if adapters is not None and not adapters.merge:
        return run.directory / "adapter"
    model.save(run.directory / "model")
    return run.directory / "model"
