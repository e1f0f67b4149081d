"""Decoding with a model that cannot take packed trees (sliding windows, soft caps): left padding and the model's own cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from palate.models.causal import CausalPolicy
from palate.models.paths import TOLERANCE
from palate.samplers.requests import Prompts, Share


def takes_padding(policy: CausalPolicy) -> bool:
    """Return whether the model decodes left-padded rows with a cache that can drop rows: it tries a few tokens and compares."""
    vocabulary = policy.module.get_input_embeddings().num_embeddings
    ids = [(5 * place + 2) % vocabulary for place in range(6)]
    prompts = (tuple(ids[:4]), tuple(ids[4:5]))
    try:
        with torch.no_grad():
            rows = PaddedDecoder(policy, prompts, slots=3)
            rows.admit([Share(0, 0, 1), Share(1, 0, 2)])
            rows.keep(torch.tensor([True, False, True], device=policy.device))
            found = rows.advance(torch.tensor(ids[4:], device=policy.device))
            whole = [torch.tensor([[*prompt, token]], device=policy.device) for prompt, token in zip(prompts, ids[4:], strict=True)]
            plain = torch.cat([policy.module(input_ids=one, use_cache=False).logits[:, -1] for one in whole])
    except Exception:  # noqa: BLE001  # whatever the model raises here, it has another way to decode
        return False
    if not bool(plain.isfinite().all()):
        return True  # diverged weights say nothing about the cache
    return float((found - plain).abs().max()) <= TOLERANCE[plain.dtype] * float(plain.abs().max())


class PaddedDecoder:
    """Active rows over the model's plain forward pass, batch by batch; a row is refilled only when the whole batch is done."""

    def __init__(self, policy: CausalPolicy, prompts: Prompts, *, slots: int) -> None:
        self._module = policy.module
        self._device = policy.device
        self._prompts = prompts
        self._slots = slots
        self._cache = DynamicCache(config=policy.module.config)
        self._is_real = torch.empty(0, 0, dtype=torch.bool, device=self._device)  # (b, columns) True where there is no padding

    def places(self) -> int:
        """Return the number of rows when none is active, else 0."""
        return 0 if len(self._is_real) else self._slots

    def admit(self, shares: Sequence[Share]) -> Tensor:
        """Return logits (new, v) of the first token of each request; each prompt runs once and its cache is repeated."""
        prompts = [self._prompts[share.prompt] for share in shares]
        width = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        for row, prompt in zip(ids, prompts, strict=True):
            row[width - len(prompt) :] = torch.tensor(prompt)
        self._is_real = (torch.arange(width) >= width - lengths[:, None]).to(self._device)
        self._cache = DynamicCache(config=self._module.config)
        logits = self._forward(ids.to(self._device), (self._is_real.cumsum(1) - 1).clamp_(min=0))
        index = torch.arange(len(shares)).repeat_interleave(torch.tensor([share.count for share in shares])).to(self._device)
        self._select(index)
        return logits[index]

    def advance(self, tokens: Tensor) -> Tensor:
        """Return logits (b, v) of each row's next token."""
        positions = self._is_real.sum(1, keepdim=True)
        self._is_real = torch.nn.functional.pad(self._is_real, (0, 1), value=True)
        return self._forward(tokens[:, None], positions)

    def keep(self, alive: Tensor) -> Tensor:
        """Drop rows; the others keep their order."""
        order = alive.nonzero()[:, 0]
        self._select(order)
        return order

    def _select(self, index: Tensor) -> None:
        self._is_real = self._is_real[index]
        if len(index):
            self._cache.batch_select_indices(index)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return logits (b, v) at the last column."""
        output = self._module(
            input_ids=ids,
            attention_mask=self._is_real.long(),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits
