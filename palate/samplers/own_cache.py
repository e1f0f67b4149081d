"""Decoding by `generate` of transformers, with whatever cache the model has: for state spaces, linear attention and moving angles.

It is slow: every sample runs its prompt again, and a finished row runs on until its batch is done. But nothing is padded and no cache is
taken apart, so it works for every model that transformers can generate with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from palate.core import Sampling
from palate.models.angles import short_angles
from palate.models.attention import NAME
from palate.models.causal import CausalPolicy
from palate.samplers.draw import draw, drawing_device, request_uniforms
from palate.samplers.ledger import SampledTokens
from palate.samplers.requests import SamplerCall


@dataclass
class _Request:
    """One sample that is being drawn: its prompt, the tokens drawn so far with their log-probabilities, and its random numbers."""

    prompt: tuple[int, ...]
    budget: int
    uniforms: npt.NDArray[np.float64]
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Number of tokens so far."""
        return len(self.prompt) + len(self.ids)

    def is_done(self, end_ids: Set[int]) -> bool:
        """Whether the sample has an end token, or has used its budget up."""
        return len(self.ids) >= self.budget or bool(self.ids and self.ids[-1] in end_ids)

    def sample(self, end_ids: Set[int]) -> SampledTokens:
        """Return the finished sample."""
        return SampledTokens(tuple(self.ids), tuple(self.logps), "eos" if self.ids[-1] in end_ids else "length")


class _Draw(LogitsProcessor):  # type: ignore[misc]  # transformers loads it lazily
    """Draws the next token of each request, and leaves `generate` no other."""

    def __init__(self, requests: Sequence[_Request], sampling: Sampling, end_ids: Set[int]) -> None:
        self._requests, self._sampling, self._end_ids = requests, sampling, end_ids

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Return scores (b, v) that are -inf but for the drawn tokens."""
        del input_ids
        places = [min(len(request.ids), len(request.uniforms) - 1) for request in self._requests]
        device = drawing_device(scores.device)
        uniforms = torch.tensor([request.uniforms[k] for request, k in zip(self._requests, places, strict=True)], device=device)
        tokens, logps = draw(scores.to(device), uniforms, self._sampling)
        for request, token, logp in zip(self._requests, tokens.tolist(), logps.tolist(), strict=True):
            if not request.is_done(self._end_ids):
                request.ids.append(token)
                request.logps.append(logp)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None].to(scores.device), 0.0)


class _Stop(StoppingCriteria):  # type: ignore[misc]  # transformers loads it lazily
    """Ends each row with its request."""

    def __init__(self, requests: Sequence[_Request], end_ids: Set[int]) -> None:
        self._requests, self._end_ids = requests, end_ids

    def __call__(self, input_ids: Tensor, scores: Tensor, **_unused: object) -> Tensor:  # type: ignore[override]
        """Return True (b,) for the requests that are done."""
        del scores
        return torch.tensor([request.is_done(self._end_ids) for request in self._requests], device=input_ids.device)


def changes_angles(policy: CausalPolicy, longest: int) -> bool:
    """Return whether sequences of up to `longest` tokens pass from one set of angles to the other, so that cached keys become wrong."""
    limit = short_angles(policy.module)
    return limit is not None and longest > limit


def generated(policy: CausalPolicy, call: SamplerCall, slots: int, progress: Callable[[int], None] | None) -> list[list[SampledTokens]]:
    """Return all samples, in the order of the prompts. Up to `slots` sequences of one length run together."""
    requests = [
        [_Request(prompt, budget, request_uniforms(*stream, sample, budget)) for sample in range(call.samples)]
        for prompt, budget, stream in zip(call.prompts, call.budgets, call.streams, strict=True)
    ]
    waiting = [request for group in requests for request in group]
    slots = 1 if policy.path == "single" else slots
    with _plain_attention(policy.module):
        while waiting:
            waiting.sort(key=lambda request: -request.length)  # the longest first, so that those of one length come together
            batch = [request for request in waiting[:slots] if request.length == waiting[0].length]
            _generate(policy, batch, call.sampling)
            waiting = [request for request in waiting if not request.is_done(policy.end_ids)]
            if progress is not None:
                progress(sum(map(len, requests)) - len(waiting))
    return [[request.sample(policy.end_ids) for request in group] for group in requests]


def _generate(policy: CausalPolicy, batch: Sequence[_Request], sampling: Sampling) -> None:
    """Draw tokens for requests of one length until all are done, or until the model's angles change."""
    length, limit = batch[0].length, short_angles(policy.module)
    room = max(request.budget - len(request.ids) for request in batch)
    if limit is not None and length <= limit:
        room = min(room, limit - length + 1)  # the token after `limit` tokens is the last one with the short angles
    ids = torch.tensor([[*request.prompt, *request.ids] for request in batch], device=policy.device)
    policy.module.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=GenerationConfig(max_new_tokens=room, do_sample=False, use_cache=True),
        logits_processor=LogitsProcessorList([_Draw(batch, sampling, policy.end_ids)]),
        stopping_criteria=StoppingCriteriaList([_Stop(batch, policy.end_ids)]),
    )


@contextmanager
def _plain_attention(module: PreTrainedModel) -> Iterator[None]:
    """Let the module compute plain sequences, and `generate` follow no settings but those it is given."""
    settings, attention = module.generation_config, module.config._attn_implementation
    module.generation_config = GenerationConfig()
    if attention == NAME:
        module.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        module.generation_config = settings
        if attention == NAME:
            module.set_attn_implementation(attention)
