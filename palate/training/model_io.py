"""How every training stage prepares its model, and how it leaves the model for later stages."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from palate.core import ConfigError, derive_seed
from palate.core.process import computing_on
from palate.data.data_sources import DataInput
from palate.distributed.ranks import ranks
from palate.models.adapters import LoRA, four_bit_of, is_adapter
from palate.models.causal import CausalPolicy
from palate.models.four_bit import bitsandbytes
from palate.models.load import load_policy
from palate.models.scalar import ScalarModel, load_scalar
from palate.models.written import check_export
from palate.runs.run import Run
from palate.text.spans import NO_LIMIT
from palate.training.keep import Best, HeldOut, HeldOutMeasurement, Keep, Last
from palate.training.learner import Learner
from palate.training.optimizer import AdamW

M = TypeVar("M", CausalPolicy, ScalarModel)


def token_limit(model: CausalPolicy | ScalarModel, max_tokens: int | None = None) -> int:
    """Return the most tokens of a sequence: the setting `max_tokens`, or without one what the model takes.

    Raises:
        ConfigError: the setting asks for more than the model takes.
    """
    if max_tokens is not None and model.max_tokens is not None and max_tokens > model.max_tokens:
        raise ConfigError(
            f"max_tokens is {max_tokens}, and the model takes {model.max_tokens} tokens: set it to at most that, or leave it out"
        )
    return max_tokens or model.max_tokens or NO_LIMIT


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

    The base of an adapter must be an ordinary model: other programs would read an adapter on an adapter without the one below. So where
    the base is an adapter, it is written merged to `base/`; or the new adapter does not stay in the run, if `model/` holds it anyway.

    The adapter is then merged into its base as it is on disk, because the one in memory may have a narrower type. A policy is only written
    now, and its device may be too small for the whole of it in float32: it is merged on the CPU, by the writer alone.
    """
    learner.release()
    model.module.eval()
    if adapters is None or (isinstance(model, CausalPolicy) and not ranks().is_writer):
        return model
    directory = run.directory / "adapter"
    if model.adapters is not None and is_adapter(model.adapters.base):
        if adapters.merge:
            directory = run.state / "adapter"
        else:
            load_policy(model.adapters.base).save(run.directory / "base")
            model.adapters.move_base(str(run.directory / "base"))
    model.save(directory)
    if not isinstance(model, CausalPolicy):
        return load_scalar(directory)
    with computing_on("cpu"):
        return load_policy(directory)


def search(
    keep: Keep, measure: Callable[[], HeldOutMeasurement], before: Callable[[int], Mapping[str, float]] | None = None
) -> HeldOut | None:
    """Return what to measure: the loss that finds the best weights, and what `before` measures before a step; None without either."""
    if before is not None:
        return HeldOut(keep, measure, before)
    return HeldOut(keep, measure) if isinstance(keep, Best) else None


def check_packages(optimizer: AdamW, adapters: LoRA | None) -> None:
    """Raise ConfigError when a setting needs bitsandbytes, and it is missing, too old, or not for several ranks."""
    optimizer.check()
    if four_bit_of(adapters) is not None:
        bitsandbytes("adapters.base_dtype nf4")


def check_keep(keep: Keep, held_out: DataInput | None) -> None:
    """Raise ConfigError when `keep` is best without held-out data to measure, or last with such data."""
    if isinstance(keep, Best) and held_out is None:
        raise ConfigError("keep: best needs data that are not trained on; name them in held_out, or set keep to last")
    if isinstance(keep, Last) and held_out is not None:
        raise ConfigError("held_out is read only to find the best weights; set keep to best, or leave out held_out")


def has_model(run: Run) -> bool:
    """Whether the run has written a model for later stages."""
    return any((run.directory / name).exists() for name in ("model", "adapter"))


def forget_model(run: Run) -> None:
    """Delete the model of a run that goes on: it would no longer be the run's."""
    for name in ("model", "adapter"):
        shutil.rmtree(run.directory / name, ignore_errors=True)


def keep_model(run: Run, model: CausalPolicy | ScalarModel, adapters: LoRA | None) -> Path:
    """Write `model/` and return it, the directory for later stages; or return `adapter/` where the adapter is not to be merged.

    Only the writer writes; on other ranks the directory is empty.

    Raises:
        ModelError: plain transformers or peft reads another model from a directory that was written.
    """
    adapter, whole = run.directory / "adapter", run.directory / "model"
    if not ranks().is_writer:
        whole.mkdir(exist_ok=True)
        return whole
    if adapter.is_dir():
        if isinstance(model, ScalarModel):
            model.save_heads(adapter)  # they were normalised after `trained` wrote them
        check_export(model, adapter)
    if adapters is not None and not adapters.merge:
        return adapter
    model.save(whole)
    check_export(model, whole)
    return whole
