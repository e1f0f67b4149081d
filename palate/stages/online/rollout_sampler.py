"""Draw the completions of an iteration: before the policy learns, or asynchronously while it learns from the iteration before."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, cast

from palate.core import Completion, Prompt, Sampling, derive_seed
from palate.distributed.ranks import ranks
from palate.distributed.sharing import mine, rejoined
from palate.models.causal import CausalPolicy
from palate.samplers.sampler import UpdatableSampler
from palate.stages.online.rollouts import Rollouts
from palate.text.spans import prompt_ids

Groups = list[list[Completion]]


class RolloutSampler:
    """Gives a sampler the weights of the policy, and draws with it: from the policy as it stands, or asynchronously.

    With asynchronous sampling, an iteration's completions come from the weights before the previous iteration was learned. Their `age` is
    1, and that of the first iteration 0. A checkpoint holds the completions that wait, so a resumed run draws the same ones. The thread
    draws this rank's share, and ranks meet when the completions are taken.
    """

    def __init__(
        self,
        policy: CausalPolicy,
        sampler: UpdatableSampler,
        samples_per_prompt: int,
        sampling: Sampling,
        seed: int,
        *,
        is_asynchronous: bool,
    ) -> None:
        """Draw with `sampler`. With asynchronous sampling its weights must be a copy, which does not change while the policy learns."""
        self._policy, self._samples_per_prompt, self._sampling, self._seed = policy, samples_per_prompt, sampling, seed
        self._sampler = sampler
        self._thread = ThreadPoolExecutor(1) if is_asynchronous else None
        self._waiting: Future[Groups] | None = None
        self._number = -1
        """The number of the last call of `draw`, which names the version of the weights; -1 before the first one."""
        self.age = 0
        """Iterations by which the policy of the last completions of `draw` was behind."""

    def draw(self, prompts: Sequence[Prompt], next_prompts: Sequence[Prompt], number: int) -> Rollouts:
        """Return completions of `prompts`; asynchronous sampling then starts on those of `next_prompts`.

        Args:
            prompts: the prompts to complete.
            next_prompts: the prompts of the next call.
            number: the number of this call, from which the seed is derived.
        """
        self._number = number
        if self._waiting is None:
            self._sampler.load(self._policy, number)
            groups = self._sampler.generate(prompts, self._samples_per_prompt, self._sampling, derive_seed(self._seed, "rollouts", number))
        else:
            groups = self._taken(self._waiting)
        if self._thread is not None:
            self._sampler.load(self._policy, number)
            next_seed = derive_seed(self._seed, "rollouts", number + 1)
            self._waiting = self._thread.submit(
                self._sampler.generate_share, next_prompts, self._samples_per_prompt, self._sampling, next_seed
            )
        self.age = number - int(groups[0][0].policy)
        return self._rollouts(prompts, groups, self.age)

    def draw_apart(self, prompts: Sequence[Prompt], samples_per_prompt: int, seed: int) -> Rollouts:
        """Return completions of the policy as it stands, without an effect on what `draw` returns."""
        if self._waiting is not None:
            self._waiting.exception()  # waits: the sampler must not get other weights before; `draw` raises what went wrong
        self._sampler.load(self._policy, self._number + 1)
        return self._rollouts(prompts, self._sampler.generate(prompts, samples_per_prompt, self._sampling, seed), 0)

    def state(self) -> Any:
        """Return the completions that wait as JSON values; None where none wait."""
        if self._waiting is None:
            return None
        return [[asdict(completion) for completion in group] for group in self._taken(self._waiting)]

    def restore(self, state: Any) -> None:
        """Take the completions of a checkpoint."""
        if state is not None:
            self._waiting = Future()
            groups = cast("list[list[dict[str, Any]]]", state)
            self._waiting.set_result([[_completion(fields) for fields in group] for group in mine(groups)])

    def close(self) -> None:
        """End the thread and the sampler."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._sampler.close()

    def _taken(self, waiting: Future[Groups]) -> Groups:
        """Return the completions of all ranks, when they are there."""
        share = waiting.result()
        ranks().wait_for_writer()  # it may ask servers, and they may take longer than ranks wait for each other
        return rejoined(share)

    def _rollouts(self, prompts: Sequence[Prompt], groups: Groups, age: int) -> Rollouts:
        trunks = tuple(prompt_ids(self._policy.tokenizer, prompt) for prompt in prompts)
        return Rollouts(tuple(prompts), trunks, tuple(map(tuple, groups)), age)


def _completion(fields: dict[str, Any]) -> Completion:
    """Return the completion of its fields as JSON gives them, which knows no tuples."""
    return Completion(**{**fields, "ids": tuple(fields["ids"]), "logps": tuple(fields["logps"])})
