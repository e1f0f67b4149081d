"""Sampling in this process: it prefills each prompt once, decodes token by token, and records log-probabilities as it draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from transformers import PreTrainedTokenizerBase

from palate.core import Completion, ConfigError, Prompt, Sampling, TrainingError
from palate.distributed.sharing import mine, rejoined
from palate.models.causal import CausalPolicy
from palate.models.shared_layers import together
from palate.samplers.cache import Cache
from palate.samplers.draw import check_sampling
from palate.samplers.forward import forward_of
from palate.samplers.ledger import Ledger, SampledTokens
from palate.samplers.own_cache import changes_angles, generated
from palate.samplers.packed import PackedRows
from palate.samplers.padded_decoding import PaddedDecoder, takes_padding
from palate.samplers.requests import ActiveRows, Queue, SamplerCall
from palate.samplers.sampler import prompt_names, token_budgets
from palate.text.sampled_texts import completions_of
from palate.text.spans import prompt_ids as ids_of_prompt

__all__ = ["LocalSampler", "SampledTokens"]

Progress = Callable[[int], None]
"""Called with the number of finished samples."""


class LocalSampler:
    """Draws completions from a policy held in this process, up to `slots` at once.

    A completion depends on the policy, the sampling parameters, the seed, its prompt's number and its own number. Completions drawn beside
    it change it only by floating-point rounding, and the same call gives the same bits. At temperature 0 it is greedy, with
    log-probabilities 0 (see `palate.samplers.draw.draw`).
    """

    def __init__(self, policy: CausalPolicy, *, slots: int = 256) -> None:
        if slots < 1:
            raise ConfigError(f"slots is {slots}: the sampler needs at least 1 row")
        self._policy = policy
        self._slots = slots
        self._cache = Cache()
        self._version = ""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return self._policy.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of the policy; None where it has no limit."""
        return self._policy.max_tokens

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return `n` completions per prompt, in the order of the prompts, with their texts (see `palate.text.sampled_texts`).

        Ranks share the prompts. Raises as `sample`.
        """
        return rejoined(self.generate_share(prompts, n, sampling, seed))

    def generate_share(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return the completions of this rank's share of the prompts, without waiting for other ranks; see `generate`."""
        ids = [ids_of_prompt(self.tokenizer, prompt) for prompt in prompts]
        samples = self._run(self._call(ids, prompt_names(prompts), n, sampling, seed).share(), None)
        return [
            list(completions_of(self.tokenizer, prompt.conversation, trunk, group, policy=self._version))
            for prompt, trunk, group in zip(mine(prompts), mine(ids), samples, strict=True)
        ]

    def load(self, policy: CausalPolicy, version: int) -> None:
        """Take the weights of a policy of the same architecture; where it is the sampler's own, they are there already."""
        if policy is not self._policy:
            self._policy.load_state_dict(policy.state_dict())
        self._version = str(version)

    def close(self) -> None:
        """Give back the memory of keys and values."""
        self._cache = Cache()

    def sample(
        self,
        prompt_ids: Sequence[Sequence[int]],
        n: int,
        sampling: Sampling,
        seed: int | Sequence[int],
        progress: Progress | None = None,
    ) -> list[list[SampledTokens]]:
        """Return `n` samples per prompt of token ids, in the order of the prompts.

        A sample stops with an eos of the policy ("eos"), or after `sampling.max_tokens` tokens or at the model's limit ("length"). With one
        seed per prompt a sample depends only on its prompt's seed and its own number. With one seed for all it also depends on its prompt's
        number. `progress` is called with the number of finished samples whenever that grows.

        Raises:
            ConfigError: `n`, the seed or a sampling parameter is out of range.
            DataError: a prompt is empty, or leaves no room for a single token; the message has its number, from 0.
            TrainingError: the policy's logits are not finite.
        """
        names = [str(number) for number in range(len(prompt_ids))]
        return rejoined(self._run(self._call(prompt_ids, names, n, sampling, seed).share(), progress))

    def _call(
        self, prompts: Sequence[Sequence[int]], names: Sequence[str], n: int, sampling: Sampling, seed: int | Sequence[int]
    ) -> SamplerCall:
        check_sampling(sampling)
        streams = (
            [(seed, number) for number in range(len(prompts))] if isinstance(seed, int) else [(prompt_seed, 0) for prompt_seed in seed]
        )
        if len(streams) != len(prompts):
            raise ConfigError(f"there are {len(streams)} seeds for {len(prompts)} prompts: pass one per prompt, or one number for all")
        if any(number < 0 for number, _ in streams):
            raise ConfigError(f"seed is {min(streams)[0]}: it must be 0 or more")
        budgets = token_budgets(prompts, names, n, sampling, self.max_tokens)
        return SamplerCall(tuple(tuple(prompt) for prompt in prompts), budgets, n, sampling, tuple(streams))

    def _run(self, call: SamplerCall, progress: Progress | None) -> list[list[SampledTokens]]:
        if not call.prompts:
            return []
        with torch.inference_mode(), self._policy.under(), together(self._policy.module):
            return self._draw(call, progress)

    @cached_property
    def _takes_padding(self) -> bool:
        return takes_padding(self._policy)

    def _draw(self, call: SamplerCall, progress: Progress | None) -> list[list[SampledTokens]]:
        policy = self._policy
        if changes_angles(policy, call.longest) or (policy.path != "packed" and not self._takes_padding):
            return generated(policy, call, self._slots, progress)
        weight, _ = policy.head
        slots = min(self._slots, len(call.prompts) * call.samples)
        ledger = Ledger(slots, max(call.budgets), end_ids=policy.end_ids, vocabulary=len(weight), device=weight.device)
        rows: ActiveRows
        if policy.path == "packed":
            forward = forward_of(policy, call.longest)
            rows = PackedRows(forward, self._cache, call.prompts, longest=call.longest, slots=slots, device=weight.device)
        else:
            rows = PaddedDecoder(policy, call.prompts, slots=slots)
        try:
            done = _decoded(rows, call, ledger, progress)
        except TrainingError:
            self._cache = Cache()  # values that are not finite must not stay in columns that later calls mask
            raise
        return [[done[prompt, number] for number in range(call.samples)] for prompt in range(len(call.prompts))]


def _decoded(rows: ActiveRows, call: SamplerCall, ledger: Ledger, progress: Progress | None) -> dict[tuple[int, int], SampledTokens]:
    """Fill rows from the queue and draw tokens until every request is done; return the samples by prompt and number."""
    queue, done = Queue([len(prompt) for prompt in call.prompts], call.samples), dict[tuple[int, int], SampledTokens]()
    while queue or ledger:
        places = rows.places() if queue else 0
        if places:
            shares = queue.take(places)
            ledger.admit(call.rows(shares))
            logits = rows.admit(shares)
        else:
            logits = rows.advance(ledger.tokens)
        ledger.accept(logits)
        alive = ledger.alive()
        if not bool(alive.all()):
            for request, sample in ledger.keep(alive, rows.keep(alive)):
                done[request.prompt, request.sample] = sample
            if progress is not None:
                progress(len(done))
    return done
