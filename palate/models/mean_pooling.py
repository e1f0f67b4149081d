"""Scores that read the mean state of a completion in place of the state at its last token."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PretrainedConfig

from palate.core import ModelError
from palate.models.paths import PaddedBatch
from palate.text.pack import PackedBatch

ENTRY = "palate_pooling"
"""The entry of config.json that says so to other programs and to people."""
MEAN_NOTE = (
    "These scores read the mean of the final hidden states over all tokens of the completion. transformers reads the state at the last "
    "token, so its scores differ. Load the directory with palate.models.scalar.load_scalar"
)


def pools_mean(config: PretrainedConfig) -> bool:
    """Return whether the scores of a model read the mean state."""
    return ENTRY in config.to_dict()


def pool_mean(config: PretrainedConfig) -> None:
    """Let the scores of a model with this configuration read the mean state."""
    setattr(config, ENTRY, MEAN_NOTE)


def last_token_again(config: PretrainedConfig) -> None:
    """Let the scores of a model with this configuration read the last token."""
    config.__dict__.pop(ENTRY, None)


def require_stored(config: PretrainedConfig, directory: str | Path, *, is_mean: bool) -> None:
    """Take over from reward.json whether scores read the mean state.

    Raises:
        ModelError: config.json says that they do, and reward.json is missing or does not say so.
    """
    if is_mean:
        pool_mean(config)
    elif pools_mean(config):
        raise ModelError(
            f"{directory}: the scores of this model read the mean state of a completion, and its reward.json is missing or does not say "
            "so. Copy the directory again, as it was written"
        )


def mean_of_branches(states: Tensor, batch: PackedBatch) -> Tensor:
    """Return the mean state (b, d) of each branch, float32, from the states (T, d) of a packed batch. Its trunk does not count."""
    lengths = torch.bincount(batch.branch, minlength=len(batch.last))
    ends = lengths.cumsum(0)
    own = (batch.last - ends + 1)[batch.branch] + torch.arange(len(batch.branch), device=states.device)
    return functional.embedding_bag(own, states.float(), ends - lengths, mode="mean")


def mean_of_rows(states: Tensor, rows: PaddedBatch) -> Tensor:
    """Return the same from the states (b, w, d) of padded rows."""
    counts = rows.completion[..., None]
    return torch.where(counts, states.float(), 0.0).sum(1) / counts.sum(1)
