"""Compare what was written to a directory with the model that wrote it, by plain transformers or peft: a few tokens of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from palate.core import ModelError
from palate.models.adapters import is_adapter, read_by_peft
from palate.models.causal import CausalPolicy
from palate.models.encoders import pair_inputs
from palate.models.paths import padded_rows
from palate.models.scalar import ScalarModel
from palate.models.transformers_io import no_progress_bars, without_reports
from palate.text.pack import Branch, Tree, pack

GAP = 1e-3
"""Largest difference allowed, relative to the largest number and at least to 1."""
TOKENS = 12


def check_export(model: CausalPolicy | ScalarModel, directory: str | Path) -> None:
    """Load the model or adapter in `directory` as its users do, and compare it with `model` on some tokens that end as completions do.

    Of scores, this is the part of the last token, which is all that other programs compute.

    Raises:
        ModelError: it cannot be loaded, or gives other numbers, or other special tokens.
    """
    is_policy = isinstance(model, CausalPolicy)
    what = "log-probabilities" if is_policy else "scores"
    end = sorted(model.end_ids)[0] if isinstance(model, CausalPolicy) else model.tokenizer.eos_token_id
    tree = _sample(model, end)
    row = torch.tensor([tree.trunk + tree.branches[0].ids])
    try:
        with torch.no_grad(), no_progress_bars(), without_reports():
            ours = model.logps(pack([tree])).logps if isinstance(model, CausalPolicy) else model.last_token_scores(pack([tree]))[0]
            plain = _plain(model, directory)
            theirs = plain(input_ids=row, **_kinds(model, tree)).logits[0]
            theirs = _logps(theirs, row[0, len(tree.trunk) :]) if is_policy else theirs
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, ImportError) as error:
        raise ModelError(
            f"{directory} was written, but {_reader(directory)} cannot load it ({type(error).__name__}: {str(error).strip()[:400]}). "
            "Use a model of another family, or without the adapter"
        ) from error
    gap = float((ours.float() - theirs.float()).abs().max()) / max(1.0, float(ours.abs().max()))
    if not gap <= GAP:
        raise ModelError(
            f"{directory} was written, but {_reader(directory)} reads other {what} from it than Palate (relative difference {gap:.2g}). "
            "Do not use it; use a model of another family, or without the adapter"
        )


def _sample(model: CausalPolicy | ScalarModel, end: int) -> Tree:
    """Return a prompt and a completion that ends with `end`, in tokens that are not padding."""
    rows = model.module.get_input_embeddings().num_embeddings
    ids = [i for i in ((7 * place + 3) % rows for place in range(TOKENS)) if i not in (model.tokenizer.pad_token_id, end)]
    ids = [*ids[: (model.max_tokens or TOKENS) - 1], end]
    return Tree(tuple(ids[:1]), (Branch(tuple(ids[1:]), (True,) * (len(ids) - 1)),))


def _kinds(model: CausalPolicy | ScalarModel, tree: Tree) -> dict[str, Tensor]:
    """Return what an encoder reads beside the tokens of a prompt and its completion; nothing for other models."""
    if isinstance(model, CausalPolicy) or not model.is_encoder:
        return {}
    return pair_inputs(model.module.config, model.tokenizer, padded_rows(pack([tree])).completion)


def _plain(model: CausalPolicy | ScalarModel, directory: str | Path) -> Any:
    """Return the module that a user of the directory has."""
    if is_adapter(directory):
        plain = read_by_peft(directory, None if isinstance(model, CausalPolicy) else len(model.heads)).eval()
        if isinstance(model, ScalarModel):  # the base's configuration has the padding of a policy
            plain.config.get_text_config().pad_token_id = model.tokenizer.pad_token_id
        return plain
    auto = AutoModelForCausalLM if isinstance(model, CausalPolicy) else AutoModelForSequenceClassification
    return auto.from_pretrained(directory, dtype=torch.float32).eval()


def _logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probabilities (n,) of the last n tokens from logits (t, v)."""
    predicted = logits[-len(targets) - 1 : -1].float().log_softmax(-1)
    return predicted.gather(-1, targets[:, None])[:, 0]


def _reader(directory: str | Path) -> str:
    return "peft" if is_adapter(directory) else "transformers"
