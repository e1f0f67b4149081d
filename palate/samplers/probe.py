"""A probe that shows whether an engine computes what the learner computes: log-probabilities of fixed tokens, compared after each load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.core import TrainingError
from palate.models.causal import CausalPolicy
from palate.text.chat_text import Ids
from palate.text.ends import special_ids
from palate.text.pack import Branch, Tree, pack

PROBE_TOKENS = 48
"""Number of tokens whose log-probabilities are compared after each load. They are spread over the vocabulary."""

PREFIX_TOKENS = 300
"""Length of the prompt after which an engine draws for the probe. It fills blocks of vLLM's cache: 16 tokens, or 128 on a CPU."""

DRAW_TEMPERATURE = 2.0
"""Temperature of these draws. Log-probabilities from before the temperature differ from those after it."""

TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.25}
"""The largest difference of a token's log-probability, nats, that other kernels may make. float16 has three bits more than bfloat16."""

STILL = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Where the learner's probe moved by more than this, nats, an engine whose probe stayed the same has old weights."""


@dataclass(frozen=True)
class ProbedTokens:
    """Log-probabilities (p,) of the probe's tokens after the first, nats: the learner's, and an engine's for the same weights."""

    learner: Tensor
    engine: Tensor


class Probe:
    """Fixed tokens, and how far an engine's log-probabilities may be from the learner's."""

    def __init__(self, policy: CausalPolicy, tolerance: float | None) -> None:
        """Choose the tokens.

        Args:
            policy: the learner's policy.
            tolerance: the largest difference of a token's log-probability, nats; None takes the one of the policy's type.
        """
        dtype = policy.module.dtype
        self.ids = probe_ids(policy)
        self.prefix = prefix_ids(self.ids, policy.max_tokens)
        self._tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
        self._still = STILL[dtype]

    def learner_logps(self, policy: CausalPolicy) -> Tensor:
        """Return the policy's log-probabilities (p,) of the tokens after the first, nats."""
        with torch.no_grad():
            return policy.logps(pack([Tree(self.ids[:1], (Branch(self.ids[1:], (True,) * (len(self.ids) - 1)),))])).logps

    def check(self, version: str, engine: str, now: ProbedTokens, before: ProbedTokens | None) -> None:
        """Compare learner and engine, and how both moved since the load before.

        Args:
            version: number of the weights.
            engine: what messages call the engine.
            now: the numbers of this load.
            before: those of the engine's load before; None at the first.

        Raises:
            TrainingError: the engine's numbers are not the learner's, or did not move with them.
        """
        gap = float((now.engine - now.learner).abs().max())
        if not gap <= self._tolerance:
            raise TrainingError(
                f"version {version} of the weights gives other numbers in {engine} than in the learner: the log-probability of a fixed "
                f"token is {gap:.2e} nats off, and {self._tolerance:g} is allowed. vLLM may compute this model in another way, or it did "
                "not take all weights. Use sampler=local, or raise sampler.tolerance if the difference is one of precision"
            )
        if before is None:
            return
        moved = float((now.learner - before.learner).abs().max())
        if moved > self._still and torch.equal(now.engine, before.engine):
            raise TrainingError(
                f"version {version} of the weights did not reach {engine}: a fixed token's log-probability moved by {moved:.2e} nats in "
                "the learner, and not at all there. Use sampler=local"
            )

    def is_changed(self, before: Tensor, now: Tensor) -> bool:
        """Return whether an engine's log-probabilities (p,) are those of other weights. They may differ by rounding."""
        return not float((now - before).abs().max()) <= 10 * self._still

    def check_draws(self, version: str, engine: str, expected: Tensor, drawn: Sequence[tuple[int, float]]) -> None:
        """Compare tokens that the engine drew after `prefix` with the learner's distribution.

        Args:
            version: number of the weights.
            engine: what messages call the engine.
            expected: the learner's log-probability (v,) of every token after `prefix` at DRAW_TEMPERATURE, nats.
            drawn: each token, with the log-probability that the engine gave for it.

        Raises:
            TrainingError: one is too far off.
        """
        gap = max(abs(logp - float(expected[token])) if token < len(expected) else float("inf") for token, logp in drawn)
        if not gap <= self._tolerance:
            raise TrainingError(
                f"version {version} of the weights gives other numbers in {engine} where it draws: the log-probability of a token after a "
                f"long prompt is {gap:.2e} nats off, and {self._tolerance:g} is allowed. Either its cache of prompts still holds older "
                "weights, or it reports log-probabilities before the temperature. Start it with --logprobs-mode processed_logprobs"
            )


def probe_ids(policy: CausalPolicy) -> Ids:
    """Return ordinary tokens that are spread over the vocabulary, as many as are probed or fit the model."""
    size = policy.module.get_input_embeddings().num_embeddings
    count = min(PROBE_TOKENS, (policy.max_tokens or PROBE_TOKENS + 1) - 1)
    special = special_ids(policy.tokenizer)
    ordinary = [token for token in range(size) if token not in special]
    return tuple(ordinary[(2 * k + 1) * len(ordinary) // (2 * count)] for k in range(count))


def prefix_ids(ids: Ids, limit: int | None) -> Ids:
    """Return the tokens again and again, up to PREFIX_TOKENS, or as many as leave room for one more within `limit`."""
    count = PREFIX_TOKENS if limit is None else min(PREFIX_TOKENS, limit - 1)
    return (ids * (count // len(ids) + 1))[:count]
