"""What a classifier of rules can read beside the last token: how surprising single tokens of the completion are.

"Is there something that I do not have ?" needs each ingredient compared with a list. A language-model head has done that already: it gives
an ingredient that was not named little probability. So the last state says what kind of token the question is about, and the score reads
how surprising tokens of that kind are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from palate.core import ModelError
from palate.models.cpu import linear
from palate.models.devices import moved
from palate.models.paths import PaddedBatch
from palate.models.tensor_files import save_tensors
from palate.objectives.logps import token_logps
from palate.text.pack import PackedBatch

SURPRISE_FILE = "surprise.safetensors"
"""The weights that read surprises, beside those of the model."""
WIDTH = 32
"""The width of queries and keys."""


class Surprise(nn.Module):
    """Adds `1/n sum_t (q . k_t) s_t` to the one head of a classifier: the surprise of the tokens that a question asks about.

    `s_t = -log p(x_t)` is the surprise of token t of the trunk, nats, by the trunk's own states and its input embeddings as language-model
    head. The sum is over the n tokens of the trunk that have one before them. `q = Q h` is of the last state and `k_t = K h_(t-1)` of
    the state that predicts the token, both states scaled to a mean square of 1. Q starts at 0, so at first nothing is added.
    Gradients reach the trunk through all of it. There is no softmax: one that is sharp by chance never finds the tokens that matter.
    """

    note = (
        "These scores are the last-token head plus what its state reads of the surprise of single tokens. transformers computes only the "
        "last-token head, so its scores differ. Load the directory with palate.models.scalar.load_scalar"
    )

    def __init__(self, hidden_size: int, seed: int) -> None:
        """Draw the key weights (WIDTH, d) as N(0, 1 / d); those of the query (WIDTH, d) are 0."""
        super().__init__()
        drawn = torch.randn(WIDTH, hidden_size, generator=torch.Generator().manual_seed(seed)) * hidden_size**-0.5
        self.key, self.query = nn.Parameter(drawn), nn.Parameter(torch.zeros(WIDTH, hidden_size))

    @property
    def coefficients(self) -> Tensor:
        """Return what the term counts in the one head (1,): it has a coefficient of its own for each question."""
        return torch.ones(1)

    def stored(self) -> None:
        """Return the coefficients for reward.json: none, because the weights are in a file of their own."""

    def of_packed(self, module: PreTrainedModel, states: Tensor, batch: PackedBatch) -> Tensor:
        """Return the term of each branch (b,), float32 on the CPU, from the states (T, d) of the batch's tokens."""
        trunks = [torch.arange(one.start, one.end - 1, device=states.device) for one in batch.segments if one.trunk_start == one.trunk_end]
        sources = torch.cat(trunks)
        own = states.index_select(0, sources)
        surprise = self._surprise(module, own, batch.input_ids.to(states.device)[sources + 1])
        sizes = [len(trunk) for trunk in trunks]
        counts = pad_sequence([torch.ones(size, dtype=torch.bool, device=states.device) for size in sizes], batch_first=True)
        before, padded = (pad_sequence(list(each.split(sizes)), batch_first=True) for each in (own, surprise))
        return self._terms(states.index_select(0, batch.last), before, padded, counts, batch.tree.to(states.device))

    def of_rows(self, module: PreTrainedModel, states: Tensor, rows: PaddedBatch, batch: PackedBatch) -> Tensor:
        """Return the term of each branch (b,), float32 on the CPU, from the states (b, w, d) of padded rows."""
        trunk = moved(torch.tensor([len(tree.trunk) for tree in batch.trees for _ in tree.branches]), states.device)
        width = int(trunk.max()) - 1
        counts = torch.arange(width, device=states.device) < trunk[:, None] - 1
        before = states[:, :width]
        surprise = torch.zeros(counts.shape, device=states.device)
        surprise = surprise.masked_scatter(counts, self._surprise(module, before[counts], rows.input_ids[:, 1 : width + 1][counts]))
        return self._terms(states[rows.last], before, surprise, counts, torch.arange(len(trunk), device=states.device))

    def _surprise(self, module: PreTrainedModel, states: Tensor, targets: Tensor) -> Tensor:
        logps, _ = token_logps(states, module.get_input_embeddings().weight, targets, linear=linear)
        return -logps

    def _terms(self, last: Tensor, before: Tensor, surprise: Tensor, counts: Tensor, tree: Tensor) -> Tensor:
        """Return the term of each branch (b,).

        Args:
            last: (b, d) the last state of each branch.
            before: (m, w, d) the states that predict the tokens of each trunk.
            surprise: (m, w) the surprise of these tokens, 0 for padding.
            counts: (m, w) True for tokens, False for padding.
            tree: (b,) the trunk of each branch.
        """
        queries, keys = _scaled(last) @ self.query.float().T, _scaled(before) @ self.key.float().T
        read = torch.einsum("mwr,mw->mr", keys, surprise) / counts.sum(1, keepdim=True).clamp(min=1)
        return (queries * read[tree]).sum(1).cpu()

    def figures(self, heads: Sequence[str]) -> dict[str, float]:
        """Return figures by head for a summary: none, because each question has a coefficient of its own."""
        return dict.fromkeys(heads[:0], 0.0)

    def save(self, directory: str | Path) -> None:
        """Write the weights to a model directory."""
        save_tensors(self.state_dict(), Path(directory) / SURPRISE_FILE)


def _scaled(states: Tensor) -> Tensor:
    """Return the states (..., d) with a mean square of 1, in float32."""
    states = states.float()
    return states * states.square().mean(-1, keepdim=True).clamp(min=1e-12).rsqrt()


def stored_surprise(directory: Path, hidden_size: int) -> Surprise | None:
    """Return what `save` wrote to a model directory; None where it wrote nothing.

    Raises:
        ModelError: the file cannot be read, or belongs to another model.
    """
    path = directory / SURPRISE_FILE
    if not path.is_file():
        return None
    surprise = Surprise(hidden_size, seed=0)
    try:
        surprise.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be used with this model ({type(error).__name__}). Copy the whole directory again") from error
    return surprise
