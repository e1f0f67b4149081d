"""What a score can read beside the last token: how likely the trunk's own language-model head finds the completion.

A state at the last token must have learned to notice a token that was not to be expected. The expectation is in the state before that
token, and the language-model head already compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from palate.core import ModelError
from palate.models.causal import CausalPolicy
from palate.models.cpu import linear
from palate.models.devices import moved
from palate.models.head_logps import head_logps
from palate.models.paths import PaddedBatch, head_reason
from palate.models.surprise import SURPRISE_FILE, Surprise, stored_surprise
from palate.models.tensor_files import save_tensors
from palate.objectives.logps import token_logps
from palate.text.pack import PackedBatch

STEP = 3.0
"""A coefficient is learned as a third of itself. So it moves three times as fast as the other weights."""
HEAD_FILE = "lm_head.safetensors"
"""The language-model head of a reward model that does not share it with its input embeddings."""
NOTE_NAME = "palate_scores"
"""The entry of config.json that says what other programs leave out."""
NOTE = (
    "These scores are the last-token head plus a coefficient times the mean log-likelihood of the completion. transformers computes only "
    "the last-token head, so its scores differ. Load the directory with palate.models.scalar.load_scalar"
)
_CHILD = "likelihood"
PREFIX = f"{_CHILD}."
"""The beginning of the names of its weights in the module."""


class Likelihood(nn.Module):
    """Adds `coefficient_k * mean_t log p(x_t)` to head k of a scalar model, nats per token.

    The mean is over all tokens of the completion, with its end token where it has one. `p` is the trunk's own distribution, so gradients
    reach the trunk both ways. The coefficients start at 0. A sum in place of the mean would favour short completions.
    """

    note = NOTE

    def __init__(self, heads: int, weight: Tensor | None = None, bias: Tensor | None = None) -> None:
        """Take the language-model head, `weight` (v, d) and `bias` (v,); None where the input embeddings are the weight."""
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(heads))
        self.weight = None if weight is None else nn.Parameter(weight.detach())
        self.bias = None if bias is None else nn.Parameter(bias.detach())

    @property
    def coefficients(self) -> Tensor:
        """Return the coefficients (h,) in logits per nat, float32."""
        return STEP * self.raw.float()

    def stored(self) -> tuple[float, ...]:
        """Return the coefficients as numbers from which `restore` makes the same weights."""
        return tuple(STEP * raw for raw in self.raw.detach().tolist())

    def figures(self, heads: Sequence[str]) -> dict[str, float]:
        """Return the coefficients by the names of the heads, for a summary."""
        return dict(zip(heads, self.coefficients.tolist(), strict=True))

    def restore(self, coefficients: Sequence[float]) -> None:
        """Take over coefficients that were saved."""
        with torch.no_grad():
            self.raw.copy_(torch.tensor(coefficients, dtype=torch.float64) / STEP)

    def of_packed(self, module: PreTrainedModel, states: Tensor, batch: PackedBatch) -> Tensor:
        """Return the mean log-likelihood of each branch (b,), float32 on the CPU, from the states (T, d) of the batch's tokens."""
        logps, _, _ = head_logps(states, batch, *self._head(module))
        return _means(logps, batch)

    def of_rows(self, module: PreTrainedModel, states: Tensor, rows: PaddedBatch, batch: PackedBatch) -> Tensor:
        """Return the mean log-likelihood of each branch (b,), float32 on the CPU, from the states (b, w, d) of padded rows."""
        weight, bias = self._head(module)
        logps, _ = token_logps(states[rows.source], weight, moved(batch.targets, states.device), bias=bias, linear=linear)
        return _means(logps, batch)

    def _head(self, module: PreTrainedModel) -> tuple[Tensor, Tensor | None]:
        return module.get_input_embeddings().weight if self.weight is None else self.weight, self.bias

    def save(self, directory: str | Path) -> None:
        """Write the language-model head to a model directory, unless the input embeddings are all of it."""
        tensors = {name: p for name, p in (("weight", self.weight), ("bias", self.bias)) if p is not None}
        if tensors:
            save_tensors(tensors, Path(directory) / HEAD_FILE)


def attach(module: PreTrainedModel, likelihood: Likelihood | Surprise) -> None:
    """Make `likelihood` part of a module with scalar heads, and say so in its configuration."""
    setattr(module, _CHILD, likelihood.to(module.device, module.dtype))
    setattr(module.config, NOTE_NAME, likelihood.note)


def likelihood_of(module: PreTrainedModel) -> Likelihood | Surprise | None:
    """Return the part that was attached; None for a model that reads only the last token."""
    child = dict(module.named_children()).get(_CHILD)
    assert child is None or isinstance(child, Likelihood | Surprise)
    return child


def of_policy(policy: CausalPolicy, heads: int, *, takes: bool) -> Likelihood:
    """Return a likelihood that reads the policy's own language-model head, or a copy of it unless `takes`.

    Raises:
        ModelError: the policy's logits are more than hidden states times that head.
    """
    reason = None if policy.path == "packed" else head_reason(policy.module)
    if reason is not None:
        raise ModelError(f"the scores of {policy.module.name_or_path} cannot read its likelihood, because {reason}. Use score: last_token")
    weight, bias = policy.head
    is_tied = weight is policy.module.get_input_embeddings().weight
    own = None if is_tied else weight if takes else weight.clone()
    return Likelihood(heads, own, bias if takes or bias is None else bias.clone())


def attach_stored(module: PreTrainedModel, directory: Path, coefficients: Sequence[float] | None) -> None:
    """Attach the likelihood or the surprise of a saved model to its `module`; without coefficients and file, it reads only the last token.

    Raises:
        ModelError: its language-model head is missing or has another shape, or its configuration says that coefficients are missing.
    """
    if coefficients is None:
        surprise = stored_surprise(directory, module.config.get_text_config().hidden_size)
        if surprise is not None:
            attach(module, surprise)
        elif NOTE_NAME in module.config.to_dict():
            raise ModelError(
                f"{directory}: the scores of this model read its likelihood, and its reward.json has no coefficients for it (nor is there "
                f"a {SURPRISE_FILE}). Copy the directory again, as it was written"
            )
        return
    path, tensors = directory / HEAD_FILE, dict[str, Tensor]()
    if path.is_file():
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read ({type(error).__name__}: {error}). Copy the directory again") from error
    embeddings = module.get_input_embeddings().weight
    if "weight" not in tensors and not module.config.get_text_config().tie_word_embeddings:
        raise ModelError(f"{path} is missing: the scores of this model read its language-model head. Copy the whole directory")
    if "weight" in tensors and tensors["weight"].shape != embeddings.shape:
        raise ModelError(f"{path} has shape {tuple(tensors['weight'].shape)}, and the model's embeddings {tuple(embeddings.shape)}")
    likelihood = Likelihood(len(coefficients), tensors.get("weight"), tensors.get("bias"))
    likelihood.restore(coefficients)
    attach(module, likelihood)


def state_columns(last: Tensor, likelihood: Tensor | None) -> Tensor:
    """Return the states (b, d), and the likelihood (b,) as one more column, on the CPU."""
    return last.cpu() if likelihood is None else torch.cat([last.cpu(), likelihood[:, None].to(last.dtype)], 1)


def _means(logps: Tensor, batch: PackedBatch) -> Tensor:
    """Return the mean of each branch (b,) of the targets' log-probabilities (n,)."""
    logps = logps.float().cpu()
    sums = torch.zeros(len(batch.last)).index_add(0, batch.branch, logps)
    return sums / torch.bincount(batch.branch, minlength=len(batch.last))
