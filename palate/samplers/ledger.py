"""The tokens drawn so far: those of active rows, and finished samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palate.core import Sampling, StopReason
from palate.samplers.draw import draw, drawing_device, request_uniforms
from palate.samplers.requests import RowRequest


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Sampled token ids, including the eos when `stop` is "eos", and the log-probability of each in nats."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    stop: StopReason


class Ledger:
    """Draws the next token of each row and records it, on the model's device or on the CPU (see `drawing_device`).

    Row i of the batch writes into line `_line[i]` of tables (slots, longest). A line becomes free when its sample is done. Row numbers
    change and lines do not, so only vectors (b,) are reordered.
    """

    def __init__(self, slots: int, longest: int, *, end_ids: Set[int], vocabulary: int, device: torch.device) -> None:
        """Make room for `slots` samples of at most `longest` tokens."""
        self._end_ids = end_ids
        self._models_device, device = device, drawing_device(device)
        self._is_end = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self._is_end[[token for token in end_ids if token < vocabulary]] = True
        size = (slots, longest)
        self._uniforms = torch.zeros(size, dtype=torch.float64, device=device)
        self._ids = torch.zeros(size, dtype=torch.long, device=device)
        self._logps = torch.zeros(size, device=device)
        self._requests: dict[int, RowRequest] = {}  # by line
        self._kinds = Counter[Sampling]()  # how many rows are drawn in each way
        self._free_lines = list(range(slots))
        self._line, self._count, self._budget, self._tokens = torch.zeros(4, 0, dtype=torch.long, device=device)

    def __len__(self) -> int:
        """Return the number of active rows."""
        return len(self._tokens)

    @property
    def tokens(self) -> Tensor:
        """Return the last token of each row (b,), on the model's device."""
        return self._tokens.to(self._models_device)

    def admit(self, requests: Sequence[RowRequest]) -> None:
        """Add rows for requests whose first token is drawn next."""
        lines = [self._free_lines.pop() for _ in requests]
        uniforms = np.zeros((len(requests), max(request.budget for request in requests)))
        for row, line, request in zip(uniforms, lines, requests, strict=True):
            row[: request.budget] = request_uniforms(*request.stream, request.sample, request.budget)
            self._requests[line] = request
            self._kinds[request.sampling] += 1
        new = torch.tensor(lines, device=self._line.device)
        self._uniforms[new, : uniforms.shape[1]] = torch.from_numpy(uniforms).to(new.device)
        self._line = torch.cat((self._line, new))
        self._count = torch.cat((self._count, torch.zeros_like(new)))
        self._budget = torch.cat((self._budget, torch.tensor([request.budget for request in requests], device=new.device)))
        self._tokens = torch.cat((self._tokens, torch.zeros_like(new)))

    def accept(self, logits: Tensor) -> None:
        """Draw one token for each of the last k rows from their logits (k, v)."""
        start = len(self) - len(logits)
        line, count = self._line[start:], self._count[start:]
        tokens, logps = self._drawn(logits.to(self._uniforms.device), line, self._uniforms[line, count])
        self._ids[line, count] = tokens
        self._logps[line, count] = logps
        self._tokens[start:] = tokens
        count += 1  # a view: counts up in place

    def alive(self) -> Tensor:
        """Return True (b,), on the model's device, for rows that continue: they have no eos yet, and their budget is not used up."""
        return (~self._is_end[self._tokens] & (self._count < self._budget)).to(self._models_device)

    def keep(self, alive: Tensor, order: Tensor) -> list[tuple[RowRequest, SampledTokens]]:
        """Finish the rows that are not alive, and return them; row `order[i]` becomes row i."""
        alive, order = (x.to(self._tokens.device) for x in (alive, order))
        finished = ~alive
        lines = self._line[finished]
        rows = zip(lines.tolist(), self._count[finished].tolist(), self._ids[lines].tolist(), self._logps[lines].tolist(), strict=True)
        done = []
        for line, count, ids, logps in rows:
            stop: StopReason = "eos" if ids[count - 1] in self._end_ids else "length"
            request = self._requests.pop(line)
            self._kinds[request.sampling] -= 1
            done.append((request, SampledTokens(tuple(ids[:count]), tuple(logps[:count]), stop)))
            self._free_lines.append(line)
        self._kinds = +self._kinds
        self._line, self._count, self._budget, self._tokens = (
            vector[order] for vector in (self._line, self._count, self._budget, self._tokens)
        )
        return done

    def _drawn(self, logits: Tensor, line: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (k,) and log-probabilities (k,); rows that are drawn in the same way are drawn together."""
        if len(self._kinds) == 1:
            return draw(logits, uniforms, next(iter(self._kinds)))
        places: dict[Sampling, list[int]] = {}
        for place, number in enumerate(line.tolist()):
            places.setdefault(self._requests[number].sampling, []).append(place)
        tokens, logps = torch.zeros_like(line), torch.zeros(len(line), device=line.device)
        for sampling, own in places.items():
            index = torch.tensor(own, device=line.device)
            tokens[index], logps[index] = draw(logits[index], uniforms[index], sampling)
        return tokens, logps
