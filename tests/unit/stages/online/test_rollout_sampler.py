"""Drawing completions: each iteration by its own number, asynchronously or not, and the same after a resume."""

import copy
import threading
from typing import Any, TypeVar

import torch

from palate.core import Message, Prompt, Sampling
from palate.distributed.ranks import Ranks, working_together
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.stages.online.rollout_sampler import RolloutSampler
from palate.stages.online.rollouts import Rollouts
from palate.testing import tiny_policy, word_tokenizer
from tests.support.waiting import happened

PROMPTS = [Prompt(name, (Message("text", f"the {name} has"),)) for name in ("cook", "guests", "rice")]
MANY = Sampling(max_tokens=6)
T = TypeVar("T")


def sampler(policy: CausalPolicy, is_asynchronous: bool) -> RolloutSampler:
    return RolloutSampler(
        policy, LocalSampler(copy.deepcopy(policy) if is_asynchronous else policy), 2, MANY, 7, is_asynchronous=is_asynchronous
    )


def ids(rollouts: Rollouts) -> list[tuple[int, ...]]:
    return [branch.ids for tree in rollouts.trees for branch in tree.branches]


def test_iterations_differ_and_asynchronous_sampling_draws_what_sampling_in_turn_does() -> None:
    policy = tiny_policy("qwen3", word_tokenizer())
    turn, ahead = sampler(policy, is_asynchronous=False), sampler(policy, is_asynchronous=True)
    rounds = [turn.draw(PROMPTS, PROMPTS, number) for number in range(3)]
    assert len({tuple(ids(made)) for made in rounds}) == 3
    early = [ahead.draw(PROMPTS, PROMPTS, number) for number in range(3)]
    assert [ids(made) for made in early] == [ids(made) for made in rounds]  # nothing was learned between them
    assert [made.age for made in early] == [0, 1, 1]
    assert [{one.policy for one in made.completions} for made in rounds] == [{"0"}, {"1"}, {"2"}]
    assert [{one.policy for one in made.completions} for made in early] == [{"0"}, {"0"}, {"1"}]
    resumed = sampler(policy, is_asynchronous=True)
    resumed.restore(ahead.state())
    last = resumed.draw(PROMPTS, PROMPTS, 3)
    assert ids(last) == ids(turn.draw(PROMPTS, PROMPTS, 3))
    assert last.age == 1
    assert turn.state() is None
    ahead.close()
    resumed.close()


def test_what_is_drawn_apart_changes_no_iteration() -> None:
    turn = sampler(tiny_policy("qwen3", word_tokenizer()), is_asynchronous=False)
    first = ids(turn.draw(PROMPTS, PROMPTS, 0))
    one = turn.draw_apart(PROMPTS, 1, 3)
    assert (len(ids(one)), one.age) == (3, 0)
    assert ids(turn.draw_apart(PROMPTS, 1, 3)) == ids(one)
    assert ids(turn.draw(PROMPTS, PROMPTS, 0)) == first


def test_what_is_drawn_apart_is_of_the_weights_as_they_are_and_what_waits_is_not() -> None:
    policy = tiny_policy("qwen3", word_tokenizer())
    ahead = sampler(policy, is_asynchronous=True)
    ahead.draw(PROMPTS, PROMPTS, 0)
    before = ids(sampler(policy, is_asynchronous=False).draw(PROMPTS, PROMPTS, 1))
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.5)
    now = LocalSampler(policy).generate(PROMPTS, 2, MANY, 3)
    apart = ahead.draw_apart(PROMPTS, 2, 3)
    assert ids(apart) == [one.ids for group in now for one in group]
    assert (apart.age, {one.policy for one in apart.completions}) == (0, {"1"})
    waited = ahead.draw(PROMPTS, PROMPTS, 1)
    assert (ids(waited), waited.age) == (before, 1)
    ahead.close()


class Patient(Ranks):
    """A group of one, in which nothing is exchanged before the writer is waited for."""

    has_waited = False

    def wait_for_writer(self) -> None:
        self.has_waited = True

    def gather(self, value: T) -> list[T]:
        assert self.has_waited  # an exchange has a deadline, and a writer that asks servers may take longer
        return [value]


def test_ranks_wait_for_a_writer_that_asks_servers() -> None:
    policy = tiny_policy("qwen3", word_tokenizer())
    ahead = sampler(policy, is_asynchronous=True)
    first = ids(ahead.draw(PROMPTS, PROMPTS, 0))
    with working_together(Patient()):
        assert len(ids(ahead.draw(PROMPTS, PROMPTS, 1))) == len(first)
    with working_together(Patient()):
        assert len(ahead.state()) == len(PROMPTS)
    ahead.close()


class Watched(LocalSampler):
    """A sampler that says when a thread draws with it, and refuses other weights meanwhile."""

    def __init__(self, policy: CausalPolicy) -> None:
        super().__init__(policy)
        self.started, self.is_drawing = threading.Event(), False
        self.loaded: list[int] = []

    def generate_share(self, *given: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return super().generate_share(*given)
        self.is_drawing = True
        self.started.set()
        for _ in range(20):
            drawn = super().generate_share(*given)
        self.is_drawing = False
        return drawn

    def load(self, policy: CausalPolicy, version: int) -> None:
        assert not self.is_drawing
        self.loaded.append(version)
        super().load(policy, version)


def test_weights_do_not_change_while_a_thread_draws_with_them() -> None:
    policy = tiny_policy("qwen3", word_tokenizer())
    watched = Watched(copy.deepcopy(policy))
    ahead = RolloutSampler(policy, watched, 2, MANY, 7, is_asynchronous=True)
    ahead.draw(PROMPTS, PROMPTS, 0)
    happened(watched.started)
    apart = ahead.draw_apart(PROMPTS, 2, 3)
    ahead.close()
    assert watched.loaded == [0, 0, 1]
    assert {completion.policy for group in apart.groups for completion in group} == {"1"}
