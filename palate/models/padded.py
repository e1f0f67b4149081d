"""Packed trees as plain right-padded rows, one a branch: for models whose attention cannot be expressed as trees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from palate.text.pack import PackedBatch


@dataclass(frozen=True)
class PaddedBatch:
    """One row a branch, its trunk in front. b rows, w columns, n targets."""

    input_ids: Tensor
    """(b, w) token ids; what stands in padding is never seen."""
    attention_mask: Tensor
    """(b, w) 1 where a token is real: from lengths, so a tokenizer may use its end token for padding."""
    source: tuple[Tensor, Tensor]
    """Row and column (n,), (n,) of the state that predicts each target."""
    last: tuple[Tensor, Tensor]
    """Row and column (b,), (b,) of each branch's last token."""

    def run(self, module: PreTrainedModel) -> Tensor:
        """First output of `module` on the rows: hidden states (b, w, d) of a base model, logits (b, w, v) of a whole one."""
        output: Tensor = module(input_ids=self.input_ids, attention_mask=self.attention_mask, use_cache=False)[0]
        return output


def padded_rows(batch: PackedBatch) -> PaddedBatch:
    """The rows of `batch`, branches in order."""
    trunks = [len(tree.trunk) for tree in batch.trees for _ in tree.branches]
    rows = [torch.tensor(tree.trunk + branch.ids) for tree in batch.trees for branch in tree.branches]
    trunk = torch.tensor(trunks)
    length = torch.tensor([len(row) for row in rows])
    input_ids = pad_sequence(rows, batch_first=True)
    column = torch.arange(input_ids.shape[1])
    is_source = (column >= trunk[:, None] - 1) & (column < length[:, None] - 1)
    row_of_target, column_of_target = is_source.nonzero(as_tuple=True)
    return PaddedBatch(
        input_ids=input_ids,
        attention_mask=(column < length[:, None]).long(),
        source=(row_of_target, column_of_target),
        last=(torch.arange(len(rows)), length - 1),
    )
