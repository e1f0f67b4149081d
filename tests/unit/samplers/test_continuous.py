"""The continuous sampler: requests that come at any time get what the local sampler draws for them alone, and free their rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch

from palate.core import ConfigError, DataError, ModelError, RunError, Sampling, TrainingError
from palate.models.causal import CausalPolicy
from palate.samplers import LocalSampler, SampledTokens
from palate.samplers.continuous import ContinuousSampler
from palate.samplers.draw_requests import DrawnToken, DrawRequest
from palate.testing import OWN_CACHE_FAMILIES, PADDED_FAMILIES, tiny_policy
from tests.support.waiting import LIMIT_SECONDS, wait_until

PROMPTS: tuple[tuple[int, ...], ...] = ((4, 9, 30), (7,), tuple(range(3, 40)), (30, 29, 28, 27, 26), (8, 8, 8, 8))


@dataclass
class Heard:
    """A listener that keeps what it is told. `go_on` decides about each token."""

    go_on: Callable[[int, DrawnToken], bool] = lambda sample, drawn: True
    tokens: dict[int, list[DrawnToken]] = field(default_factory=dict)
    finished: queue.Queue[tuple[int, SampledTokens] | Exception] = field(default_factory=queue.Queue)

    def token(self, sample: int, drawn: DrawnToken) -> bool:
        self.tokens.setdefault(sample, []).append(drawn)
        return self.go_on(sample, drawn)

    def done(self, sample: int, tokens: SampledTokens) -> None:
        self.finished.put((sample, tokens))

    def failed(self, error: Exception) -> None:
        self.finished.put(error)

    def samples(self, n: int) -> list[SampledTokens]:
        """The first n finished samples by number."""
        found = {}
        for _ in range(n):
            one = self.finished.get(timeout=LIMIT_SECONDS)
            assert not isinstance(one, Exception), one
            found[one[0]] = one[1]
        return [found[k] for k in sorted(found)]


@pytest.fixture
def policy() -> CausalPolicy:
    made = tiny_policy("llama")
    made.end_ids = frozenset({3, 17, 25})
    return made


@pytest.fixture
def start() -> Iterator[Callable[..., ContinuousSampler]]:
    started: list[ContinuousSampler] = []

    def of(*words: object, **options: object) -> ContinuousSampler:
        started.append(ContinuousSampler(*words, **options))  # type: ignore[arg-type]
        return started[-1]

    yield of
    for one in started:
        one.close()


@pytest.mark.parametrize("slots", [3, 64])
@pytest.mark.parametrize("family", ["llama", "gpt2", *PADDED_FAMILIES])
def test_requests_together_get_what_each_gets_alone(family: str, slots: int, start: Callable[..., ContinuousSampler]) -> None:
    policy = tiny_policy(family)
    policy.end_ids = frozenset({3, 17, 25})
    ways = [Sampling(1.3, max_tokens=20), Sampling(0.7, top_p=0.8, max_tokens=9), Sampling(0, max_tokens=12), Sampling(1, 1, 5, 20, 0.01)]
    expected = [LocalSampler(policy).sample([prompt], 4, ways[k % 4], seed=[100 + k])[0] for k, prompt in enumerate(PROMPTS)]
    sampler = start(policy, slots=slots)
    heard = [Heard() for _ in PROMPTS]
    for k, (prompt, listener) in enumerate(zip(PROMPTS, heard, strict=True)):
        sampler.submit(DrawRequest(prompt, 4, ways[k % 4], (100 + k, 0), listens=k % 2 == 0), listener)
    found = [listener.samples(4) for listener in heard]
    assert [[one.ids for one in group] for group in found] == [[one.ids for one in group] for group in expected]
    assert [[one.stop for one in group] for group in found] == [[one.stop for one in group] for group in expected]
    logps, others = ([logp for group in groups for one in group for logp in one.logps] for groups in (found, expected))
    torch.testing.assert_close(torch.tensor(logps), torch.tensor(others), atol=1e-5, rtol=1e-5)
    for listener, group, k in zip(heard, found, range(9), strict=False):
        assert {n: tuple(d.token for d in t) for n, t in listener.tokens.items()} == (
            {} if k % 2 else {n: s.ids for n, s in enumerate(group)}
        )
    assert sampler.load.drawn_tokens == sum(len(one.ids) for group in found for one in group)
    assert sampler.load.prompt_tokens == sum(map(len, PROMPTS))


def test_a_request_joins_those_that_are_decoded(policy: CausalPolicy, start: Callable[..., ContinuousSampler]) -> None:
    policy.end_ids = frozenset()
    begun, late = threading.Event(), Heard()
    steps: list[int] = []

    def slow(_: int, __: DrawnToken) -> bool:
        begun.set()
        steps.append(len(late.tokens))
        return True

    sampler, long = start(policy, slots=4), Heard(slow)
    sampler.submit(DrawRequest((5, 6), 3, Sampling(max_tokens=100), (1, 0), listens=True), long)
    assert begun.wait(LIMIT_SECONDS)
    sampler.submit(DrawRequest((7, 8), 1, Sampling(max_tokens=4), (2, 0), listens=True), late)
    (short,) = late.samples(1)
    assert len(short.ids) == 4
    assert long.finished.empty()  # three rows of four are busy, and the free one was used at once
    assert [len(one.ids) for one in long.samples(3)] == [100] * 3
    assert steps[-1] == 1


def test_likeliest_tokens_have_their_log_probabilities(policy: CausalPolicy, start: Callable[..., ContinuousSampler]) -> None:
    sampler, heard, quiet = start(policy), Heard(), Heard()
    sampler.submit(DrawRequest((5, 6, 7), 2, Sampling(0.5, max_tokens=6), (3, 0), listens=True, likeliest=3), heard)
    sampler.submit(DrawRequest((9, 6), 1, Sampling(max_tokens=6), (4, 0), listens=True), quiet)
    found = heard.samples(2)
    quiet.samples(1)
    for sample, tokens in enumerate(found):
        for place, drawn in enumerate(heard.tokens[sample]):
            expected = policy.next_logps((5, 6, 7, *tokens.ids[:place]))
            values, entries = expected.topk(3)
            assert drawn.logp == pytest.approx(float(expected[drawn.token]), abs=1e-5)
            assert [token for token, _ in drawn.likeliest] == entries.tolist()
            assert [logp for _, logp in drawn.likeliest] == pytest.approx(values.tolist(), abs=1e-5)
    assert all(drawn.logp is None and not drawn.likeliest for drawn in quiet.tokens[0])


def test_a_listener_stops_a_sample_and_a_cancelled_request_frees_its_rows(
    policy: CausalPolicy, start: Callable[..., ContinuousSampler]
) -> None:
    policy.end_ids = frozenset()
    sampler = start(policy, slots=2)
    stopped = Heard(lambda sample, _: sample == 1 or len(stopped.tokens[sample]) < 3)
    sampler.submit(DrawRequest((5, 6), 2, Sampling(max_tokens=9), (1, 0), listens=True), stopped)
    assert [(len(one.ids), one.stop) for one in stopped.samples(2)] == [(3, "length"), (9, "length")]
    begun = threading.Event()

    def note(*_: object) -> bool:
        begun.set()
        return True

    left = Heard(note)
    job = sampler.submit(DrawRequest((5, 6), 2, Sampling(max_tokens=120), (1, 0), listens=True), left)
    waiting = sampler.submit(DrawRequest((5, 6), 2, Sampling(max_tokens=120), (1, 0)), left)
    assert begun.wait(LIMIT_SECONDS)
    job.cancel()
    waiting.cancel()
    after = Heard()
    sampler.submit(DrawRequest((5, 6), 2, Sampling(max_tokens=3), (1, 0)), after)
    assert [len(one.ids) for one in after.samples(2)] == [3, 3]
    wait_until(lambda: (sampler.load.active, sampler.load.waiting) == (0, 0))
    assert left.finished.empty()
    assert max(map(len, left.tokens.values())) < 120


def test_a_listener_that_breaks_ends_its_own_request(policy: CausalPolicy, start: Callable[..., ContinuousSampler]) -> None:
    def broken(*_: object) -> bool:
        raise KeyError("lost")

    sampler, bad, good = start(policy), Heard(broken), Heard()
    sampler.submit(DrawRequest((5, 6), 1, Sampling(max_tokens=9), (1, 0), listens=True), bad)
    sampler.submit(DrawRequest((5, 6), 1, Sampling(max_tokens=9), (1, 0), listens=True), good)
    assert good.samples(1)
    assert isinstance(bad.finished.get(timeout=LIMIT_SECONDS), KeyError)


def test_after_a_failure_the_next_request_is_answered(policy: CausalPolicy, start: Callable[..., ContinuousSampler]) -> None:
    weights = {name: value.clone() for name, value in policy.state_dict().items()}
    expected = LocalSampler(policy).sample([(5, 6)], 1, Sampling(max_tokens=9), seed=[1])[0][0].ids
    sampler, first, second = start(policy), Heard(), Heard()
    policy.module.get_input_embeddings().weight.data.fill_(torch.nan)
    sampler.submit(DrawRequest((5, 6), 1, Sampling(max_tokens=9), (1, 0)), first)
    assert isinstance(first.finished.get(timeout=LIMIT_SECONDS), TrainingError)
    policy.load_state_dict(weights)
    sampler.submit(DrawRequest((5, 6), 1, Sampling(max_tokens=9), (1, 0)), second)
    assert second.samples(1)[0].ids == expected


def test_what_cannot_be_drawn_is_refused(policy: CausalPolicy, start: Callable[..., ContinuousSampler]) -> None:
    sampler = start(policy, context=10)
    with pytest.raises(DataError, match="10 tokens and the model holds 10"):
        sampler.submit(DrawRequest(tuple(range(10)), 1, Sampling(), (1, 0)), Heard())
    with pytest.raises(ConfigError, match="temperature"):
        sampler.submit(DrawRequest((5,), 1, Sampling(-1.0), (1, 0)), Heard())
    with pytest.raises(ConfigError, match="context is 500"):
        ContinuousSampler(policy, context=500)
    with pytest.raises(ConfigError, match="slots is 0"):
        ContinuousSampler(policy, slots=0)
    with pytest.raises(ModelError, match="cache of its own"):
        ContinuousSampler(tiny_policy(OWN_CACHE_FAMILIES[0]))
    heard = Heard()
    sampler.submit(DrawRequest((5,), 1, Sampling(max_tokens=5), (1, 0)), heard)
    sampler.close()
    heard.finished.get(timeout=LIMIT_SECONDS)
    with pytest.raises(RunError, match="closed"):
        sampler.submit(DrawRequest((5,), 1, Sampling(), (1, 0)), Heard())
