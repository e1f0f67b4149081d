"""Decoding steps that are recorded: the tensors that a graph reads and writes, with a record that computes again in place of CUDA's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import Tensor

from palate.core import Sampling
from palate.models.causal import CausalPolicy
from palate.samplers import LocalSampler, SampledTokens, packed
from palate.samplers.graphs import GraphedSteps, GraphWarning, Replay
from palate.testing import tiny_policy

PROMPTS = [(4, 5, 6), (7, 8), (9, 10, 11, 12, 13), (5,)]


class Recorded:
    """Records as CUDA does: the operations see their tensors when they are computed again, and the result stays where it is."""

    def __init__(self) -> None:
        self.graphs = 0
        self.replays = 0

    def __call__(self, act: Callable[[], Tensor]) -> Replay:
        self.graphs += 1
        result = act()
        result.fill_(torch.nan)  # what is recorded is not computed

        def replay() -> Tensor:
            self.replays += 1
            return result.copy_(act())

        return replay


def drawn(policy: CausalPolicy, record: object, monkeypatch: pytest.MonkeyPatch, slots: int = 5) -> list[list[SampledTokens]]:
    def rows(forward, cache, prompts, *, longest: int, slots: int, device: torch.device) -> packed.PackedRows:
        made = packed.PackedRows(forward, cache, prompts, longest=longest, slots=slots, device=device)
        made._graphs = None if record is None else GraphedSteps(forward, cache, device, record)  # type: ignore[arg-type]
        return made

    with monkeypatch.context() as patch:
        patch.setattr("palate.samplers.local.PackedRows", rows)
        sampler = LocalSampler(policy, slots=slots)
        sampler.sample(PROMPTS, 2, Sampling(max_tokens=4), seed=2)  # leaves keys and values in the rows
        return sampler.sample(PROMPTS, 4, Sampling(max_tokens=20), seed=1)


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@pytest.mark.parametrize("slots", [1, 5, 40])
def test_recorded_steps_draw_the_same_completions(family: str, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, record = tiny_policy(family), Recorded()
    plain, recorded = drawn(policy, None, monkeypatch, slots), drawn(policy, record, monkeypatch, slots)
    assert record.replays > 3 * record.graphs > 0
    for one, other in zip(chain.from_iterable(plain), chain.from_iterable(recorded), strict=True):
        assert (one.ids, one.stop) == (other.ids, other.stop)
        assert one.logps == pytest.approx(other.logps, abs=1e-5)


def broken(_act: Callable[[], Tensor]) -> Replay:
    raise RuntimeError("operation not permitted when stream is capturing")


def wrong(act: Callable[[], Tensor]) -> Replay:
    return lambda: act() + 1


@pytest.mark.parametrize(("record", "reason"), [(broken, "not permitted when stream is capturing"), (wrong, "logits are off by")])
def test_where_recording_fails_steps_are_computed_plainly(
    record: Callable[[Callable[[], Tensor]], Replay], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny_policy("qwen3")
    with pytest.warns(GraphWarning, match=reason):
        found = drawn(policy, record, monkeypatch)
    assert [[one.ids for one in group] for group in found] == [[one.ids for one in group] for group in drawn(policy, None, monkeypatch)]


def test_nothing_is_recorded_on_a_cpu() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LocalSampler(tiny_policy()).sample(PROMPTS, 1, Sampling(max_tokens=4), seed=1)
