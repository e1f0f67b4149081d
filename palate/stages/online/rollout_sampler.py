"""Drawing a round's completions: in turn with learning, or one round ahead of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from palate.core import Prompt, Sampling, derive_seed
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler, SampledTokens
from palate.stages.online.rollouts import Rollouts, gather
from palate.text.spans import prompt_ids

Groups = list[list[SampledTokens]]


class RolloutSampler:
    """Draws from the policy as it stands; or, where it runs ahead, from a copy of it while the policy learns.

    Ahead, a round's completions come from the weights before the round in between was learned: their `age` is 1, the first round's 0.
    The same completions are drawn whether or not a run was interrupted: those that wait are part of the checkpoint.
    """

    def __init__(self, policy: CausalPolicy, samples: int, sampling: Sampling, seed: int, *, is_ahead: bool) -> None:
        self._policy, self._samples, self._sampling, self._seed = policy, samples, sampling, seed
        self._sampler = LocalSampler(policy)
        self._copy = copy.deepcopy(policy) if is_ahead else None
        self._thread = ThreadPoolExecutor(1) if is_ahead else None
        self._waiting: Future[Groups] | None = None
        self.age = 0
        """Rounds that the last completions' policy was behind."""

    def draw(self, prompts: Sequence[Prompt], following: Sequence[Prompt], number: int) -> Rollouts:
        """Round `number`'s completions of `prompts`; those of `following`, the next round's, are begun where the drawer runs ahead."""
        self.age = 0 if self._waiting is None else 1
        trunks = self._trunks(prompts)
        seed = derive_seed(self._seed, "rollouts", number)
        groups = self._sampler.sample(trunks, self._samples, self._sampling, seed) if self._waiting is None else self._waiting.result()
        if self._thread is not None and self._copy is not None:
            self._copy.load_state_dict(self._policy.state_dict())
            later = derive_seed(self._seed, "rollouts", number + 1)
            sampler = LocalSampler(self._copy)
            self._waiting = self._thread.submit(sampler.sample, self._trunks(following), self._samples, self._sampling, later)
        return self._gathered(prompts, trunks, groups, self.age)

    def now(self, prompts: Sequence[Prompt], samples: int, seed: int) -> Rollouts:
        """Completions of the policy as it stands, beside the rounds."""
        trunks = self._trunks(prompts)
        return self._gathered(prompts, trunks, self._sampler.sample(trunks, samples, self._sampling, seed), 0)

    def state(self) -> Any:
        """The completions that wait, as JSON values; None without any."""
        if self._waiting is None:
            return None
        return [[[sample.ids, sample.logps, sample.stop] for sample in group] for group in self._waiting.result()]

    def restore(self, state: Any) -> None:
        """Takes the completions of a checkpoint."""
        if state is not None:
            self._waiting = Future()
            groups = cast("list[list[tuple[list[int], list[float], Any]]]", state)
            self._waiting.set_result([[SampledTokens(tuple(ids), tuple(logps), stop) for ids, logps, stop in group] for group in groups])

    def close(self) -> None:
        """Lets go of the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _trunks(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        return [prompt_ids(self._policy.tokenizer, prompt) for prompt in prompts]

    def _gathered(self, prompts: Sequence[Prompt], trunks: Sequence[tuple[int, ...]], groups: Groups, age: int) -> Rollouts:
        ids = [sample.ids for group in groups for sample in group]
        texts = [text.strip() for text in self._policy.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return gather(prompts, trunks, groups, texts, age)
