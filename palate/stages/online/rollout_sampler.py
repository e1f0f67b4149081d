"""Draw the completions of an iteration: before the policy learns, or asynchronously while it learns from the iteration before."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from palate.core import Prompt, Sampling, derive_seed
from palate.distributed.sharing import mine, rejoined
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler, SampledTokens
from palate.stages.online.rollouts import Rollouts
from palate.text.sampled_texts import completions_of
from palate.text.spans import prompt_ids

SampledGroups = list[list[SampledTokens]]


class RolloutSampler:
    """A sampler that draws from the policy as it stands, or asynchronously from a copy of it.

    With asynchronous sampling, an iteration's completions come from the weights before the previous iteration was learned. Their `age` is
    1, and that of the first iteration 0. A checkpoint holds the completions that wait, so a resumed run draws the same ones. The thread
    draws this rank's share, and ranks meet when the completions are taken.
    """

    def __init__(self, policy: CausalPolicy, samples_per_prompt: int, sampling: Sampling, seed: int, *, is_asynchronous: bool) -> None:
        self._policy, self._samples_per_prompt, self._sampling, self._seed = policy, samples_per_prompt, sampling, seed
        self._sampler = LocalSampler(policy)
        self._copy = copy.deepcopy(policy) if is_asynchronous else None
        self._thread = ThreadPoolExecutor(1) if is_asynchronous else None
        self._waiting: Future[SampledGroups] | None = None
        self.age = 0
        """Iterations by which the policy of the last completions was behind."""

    def draw(self, prompts: Sequence[Prompt], next_prompts: Sequence[Prompt], number: int) -> Rollouts:
        """Return completions of `prompts`; asynchronous sampling then starts on those of `next_prompts`.

        Args:
            prompts: the prompts to complete.
            next_prompts: the prompts of the next call.
            number: the number of this call, from which the seed is derived.
        """
        self.age = 0 if self._waiting is None else 1
        trunks = self._trunks(prompts)
        seed = derive_seed(self._seed, "rollouts", number)
        if self._waiting is None:
            groups = self._sampler.sample(trunks, self._samples_per_prompt, self._sampling, seed)
        else:
            groups = rejoined(self._waiting.result())
        if self._thread is not None and self._copy is not None:
            self._copy.load_state_dict(self._policy.state_dict())
            next_seed = derive_seed(self._seed, "rollouts", number + 1)
            sampler = LocalSampler(self._copy)
            self._waiting = self._thread.submit(
                sampler.sample_share, self._trunks(next_prompts), self._samples_per_prompt, self._sampling, next_seed
            )
        return self._rollouts(prompts, trunks, groups, self.age)

    def draw_apart(self, prompts: Sequence[Prompt], samples_per_prompt: int, seed: int) -> Rollouts:
        """Return completions of the policy as it stands, without an effect on what `draw` returns."""
        trunks = self._trunks(prompts)
        return self._rollouts(prompts, trunks, self._sampler.sample(trunks, samples_per_prompt, self._sampling, seed), 0)

    def state(self) -> Any:
        """Return the completions that wait as JSON values; None where none wait."""
        if self._waiting is None:
            return None
        groups = rejoined(self._waiting.result())
        return [[[sample.ids, sample.logps, sample.stop] for sample in group] for group in groups]

    def restore(self, state: Any) -> None:
        """Take the completions of a checkpoint."""
        if state is not None:
            self._waiting = Future()
            groups = cast("list[list[tuple[list[int], list[float], Any]]]", state)
            self._waiting.set_result(
                [[SampledTokens(tuple(ids), tuple(logps), stop) for ids, logps, stop in group] for group in mine(groups)]
            )

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _trunks(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        return [prompt_ids(self._policy.tokenizer, prompt) for prompt in prompts]

    def _rollouts(self, prompts: Sequence[Prompt], trunks: Sequence[tuple[int, ...]], groups: SampledGroups, age: int) -> Rollouts:
        completions = (
            completions_of(self._policy.tokenizer, prompt.conversation, trunk, group)
            for prompt, trunk, group in zip(prompts, trunks, groups, strict=True)
        )
        return Rollouts(tuple(prompts), tuple(trunks), tuple(completions), age)
