"""The tokens drawn so far: those of active rows, and finished samples."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palate.core import StopReason
from palate.samplers.draw import draw, drawing_device, request_uniforms
from palate.samplers.requests import SamplerCall, Share


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Sampled token ids, including the eos when `stop` is "eos", and the log-probability of each in nats."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    stop: StopReason


class Ledger:
    """Draws the next token of each row and records it, on the model's device or on the CPU (see `drawing_device`).

    Row i of the batch writes into line `_line[i]` of tables (slots, longest budget). A line becomes free when its sample is done. Row
    numbers change and lines do not, so only vectors (b,) are reordered.
    """

    def __init__(self, call: SamplerCall, slots: int, *, end_ids: Set[int], vocabulary: int, device: torch.device) -> None:
        self._call = call
        self._end_ids = end_ids
        self._models_device, device = device, drawing_device(device)
        self._is_end = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self._is_end[[token for token in end_ids if token < vocabulary]] = True
        size = (slots, max(call.budgets))
        self._uniforms = torch.zeros(size, dtype=torch.float64, device=device)
        self._ids = torch.zeros(size, dtype=torch.long, device=device)
        self._logps = torch.zeros(size, device=device)
        self._requests = [(0, 0)] * slots  # prompt and sample of each line
        self._free_lines = list(range(slots))
        self._line, self._count, self._budget, self._tokens = torch.zeros(4, 0, dtype=torch.long, device=device)
        self._done: dict[tuple[int, int], SampledTokens] = {}

    def __len__(self) -> int:
        """Return the number of active rows."""
        return len(self._tokens)

    @property
    def tokens(self) -> Tensor:
        """Return the last token of each row (b,), on the model's device."""
        return self._tokens.to(self._models_device)

    @property
    def done(self) -> int:
        """Return the number of finished samples."""
        return len(self._done)

    def admit(self, shares: Sequence[Share]) -> None:
        """Add rows for requests whose first token is drawn next."""
        requests = [(share.prompt, share.first + number) for share in shares for number in range(share.count)]
        lines = [self._free_lines.pop() for _ in requests]
        length = self._uniforms.shape[1]
        uniforms = np.stack([request_uniforms(*self._call.streams[prompt], sample, length) for prompt, sample in requests])
        for line, request in zip(lines, requests, strict=True):
            self._requests[line] = request
        new = torch.tensor(lines, device=self._line.device)
        self._uniforms[new] = torch.from_numpy(uniforms).to(new.device)
        self._line = torch.cat((self._line, new))
        self._count = torch.cat((self._count, torch.zeros_like(new)))
        self._budget = torch.cat((self._budget, torch.tensor([self._call.budgets[prompt] for prompt, _ in requests], device=new.device)))
        self._tokens = torch.cat((self._tokens, torch.zeros_like(new)))

    def accept(self, logits: Tensor) -> None:
        """Draw one token for each of the last k rows from their logits (k, v)."""
        start = len(self) - len(logits)
        line, count = self._line[start:], self._count[start:]
        tokens, logps = draw(logits.to(self._uniforms.device), self._uniforms[line, count], self._call.sampling)
        self._ids[line, count] = tokens
        self._logps[line, count] = logps
        self._tokens[start:] = tokens
        count += 1  # a view: counts up in place

    def alive(self) -> Tensor:
        """Return True (b,), on the model's device, for rows that continue: they have no eos yet, and their budget is not used up."""
        return (~self._is_end[self._tokens] & (self._count < self._budget)).to(self._models_device)

    def keep(self, alive: Tensor, order: Tensor) -> None:
        """Finish the rows that are not alive; row `order[i]` becomes row i."""
        alive, order = (x.to(self._tokens.device) for x in (alive, order))
        finished = ~alive
        lines = self._line[finished]
        rows = zip(lines.tolist(), self._count[finished].tolist(), self._ids[lines].tolist(), self._logps[lines].tolist(), strict=True)
        for line, count, ids, logps in rows:
            stop: StopReason = "eos" if ids[count - 1] in self._end_ids else "length"
            self._done[self._requests[line]] = SampledTokens(tuple(ids[:count]), tuple(logps[:count]), stop)
            self._free_lines.append(line)
        self._line, self._count, self._budget, self._tokens = (
            vector[order] for vector in (self._line, self._count, self._budget, self._tokens)
        )

    def samples(self) -> list[list[SampledTokens]]:
        """Return all samples, in the order of the prompts; every request must be done."""
        return [[self._done[prompt, number] for number in range(self._call.samples)] for prompt in range(len(self._call.prompts))]
