"""Layers that are shared out, with two or three ranks in one process: each has its model, and all have one memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from palate.core import ModelError, Sampling
from palate.core.process import Shard
from palate.models import shared_layers
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.devices import DeviceMemory
from palate.models.load import Architecture, new_policy
from palate.models.shapes import shape_of_config
from palate.models.shards import is_shared_out
from palate.models.shared_layers import cast_parameters, layers_of, make_whole, on_host, put, settle, shards_of, share_out, together
from palate.pipeline.estimates.role_memory import Machine, ModelOrigin, device_bytes
from palate.samplers.local import LocalSampler
from palate.testing import random_trees, tiny_policy, word_tokenizer
from palate.text.pack import pack
from tests.support.quantised import needs_bitsandbytes

BATCH = pack(random_trees([(3, (4, 5)), (2, (6,))], 20))
ARCHITECTURE = Architecture(hidden_size=64, layers=8, intermediate_size=192)


class Together:
    """Ranks that open their windows one after another, in the same order; the first makes the memory of all."""

    def __init__(self, world: int) -> None:
        self.world, self.rank = world, 0
        self.met = 0
        self._made: list[tuple[Tensor, ...]] = []
        self._next = 0

    def of(self, rank: int) -> Together:
        """The same as the next rank sees it."""
        self.rank, self._next = rank, 0
        return copy.copy(self)

    def open(self, count: int, dtype: torch.dtype, device: torch.device) -> Sequence[Tensor]:
        if self._next == len(self._made):
            self._made.append(tuple(torch.zeros(count, dtype=dtype, device=device) for _ in range(self.world)))
        self._next += 1
        return self._made[self._next - 1]

    def meet(self, device: torch.device) -> None:
        self.met += 1


def small() -> CausalPolicy:
    """A policy of eight layers, whose output embeddings are tied."""
    return new_policy(word_tokenizer(), ARCHITECTURE, 1)


def shared(make: Callable[[], CausalPolicy], world: int = 2) -> list[CausalPolicy]:
    """The same policy on each rank, its layers shared out."""
    ranks, policies = Together(world), [make() for _ in range(world)]
    for rank, policy in enumerate(policies):
        share_out(policy.module, ranks.of(rank))
    return policies


def held(policy: CausalPolicy) -> int:
    """The bytes that a rank holds of its policy's parameters."""
    storages = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in policy.parameters()}
    return sum(storages.values()) + sum(shards.nbytes for shards in shards_of(policy.module))


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("make", [lambda: tiny_policy("llama"), lambda: tiny_policy("gpt2"), small])
def test_layers_that_are_shared_out_compute_the_same_numbers_and_gradients(make: Callable[[], CausalPolicy], world: int) -> None:
    whole = make()
    whole.logps(BATCH).logps.sum().backward()
    for policy in shared(make, world):
        outputs = policy.logps(BATCH)
        policy.logps(BATCH).logps.sum().backward()  # a pass between another forward pass and its backward pass
        for p in policy.parameters():
            p.grad = None
        outputs.logps.sum().backward()
        assert torch.equal(outputs.logps, whole.logps(BATCH).logps)
        assert sum(is_shared_out(p) for p in policy.parameters()) > 8
        read = [on_host(p) for p in policy.parameters()]
        for ours, value, theirs in zip(policy.parameters(), read, whole.parameters(), strict=True):
            assert ours.grad is not None
            assert torch.equal(ours.grad, theirs.grad)
            assert torch.equal(value, theirs)


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize("room", [None, 0.0, 1e12])
def test_sampling_draws_the_same_tokens(room: float | None, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_layers, "memory_of_device", lambda _device: DeviceMemory(1e12, room))
    family = "qwen3" if path == "packed" else "gemma2"
    whole = tiny_policy(family)
    policies = shared(lambda: tiny_policy(family))

    def drawn(policy: CausalPolicy) -> list[tuple[int, ...]]:
        groups = LocalSampler(policy, slots=3).sample([(4, 5, 6), (7, 8)], 3, Sampling(max_tokens=6), seed=1)
        return [one.ids for group in groups for one in group]

    assert all(policy.path == path for policy in (whole, *policies))
    assert [drawn(policy) for policy in policies] == [drawn(whole)] * 2


def is_apart(policy: CausalPolicy, number: int) -> bool:
    """Whether a layer is not together."""
    return all(bool(p.isnan().all()) for p in layers_of(policy.module)[number][1])


def test_layers_stay_together_where_there_is_room_and_are_apart_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    (policy, _) = shared(lambda: tiny_policy("llama"))
    (shards,) = shards_of(policy.module)
    for free, is_together in ((2.0 * shards.whole_nbytes, True), (2.0 * shards.whole_nbytes - 1, False), (None, True)):
        monkeypatch.setattr(shared_layers, "memory_of_device", lambda _device, free=free: DeviceMemory(1e12, free))
        with together(policy.module):
            assert [is_apart(policy, number) for number in range(2)] == [not is_together] * 2
            with torch.no_grad():
                policy.logps(BATCH)
            assert [is_apart(policy, number) for number in range(2)] == [not is_together, False]
        shards.forget()
        assert [is_apart(policy, number) for number in range(2)] == [True, True]


@pytest.mark.parametrize("world", [2, 4])
def test_a_rank_holds_what_was_estimated(world: int) -> None:
    whole, policy = small(), shared(small, world)[0]
    origin = ModelOrigin(shape_of_config(whole.module.config, "it"), "it", "it")
    with torch.no_grad():
        policy.logps(BATCH)
    machine = Machine(ranks=world, shard=Shard("all"))
    assert held(policy) == pytest.approx(device_bytes(machine, origin, held(whole), 4, learns=True), rel=1e-3)
    assert device_bytes(Machine(ranks=world, shard=Shard("frozen")), origin, held(whole), 4, learns=True) == held(whole)
    assert held(policy) < 0.75 * held(whole)


def test_a_weight_that_was_put_is_read_by_all() -> None:
    policies = shared(lambda: tiny_policy("llama"), 3)
    for policy in policies:  # every rank has the layer of before together
        with torch.no_grad():
            policy.logps(BATCH)
    for policy in policies:
        for p in policy.parameters():
            put(p, torch.full(p.shape, 0.25))
    for policy in policies:
        settle(policy.parameters())
    for policy in policies:
        last_first = reversed(list(policy.parameters()))  # the last layer was together when its weights changed
        assert all(bool((on_host(p) == 0.25).all()) for p in last_first)


def test_slices_take_another_type() -> None:
    whole = cast_parameters(tiny_policy("llama").module, torch.bfloat16)
    ranks, policies = Together(2), [tiny_policy("llama") for _ in range(2)]
    views = [ranks.of(rank) for rank in range(2)]
    for policy, view in zip(policies, views, strict=True):
        share_out(policy.module, view)
    before = held(policies[0])
    for policy in policies:
        cast_parameters(policy.module, torch.bfloat16)
    for policy in policies:
        assert held(policy) < 0.6 * before
        for ours, theirs in zip(policy.parameters(), whole.parameters(), strict=True):
            assert ours.dtype == torch.bfloat16
            assert torch.equal(on_host(ours), theirs)


def test_adapters_stay_whole_and_merge_into_a_base_that_is_whole_again() -> None:
    def adapted(base: CausalPolicy) -> CausalPolicy:
        policy = base.with_adapter(LoRA(rank=2, modules_to_save=("k_proj",)), "base", 0)
        with torch.no_grad():
            for name, p in policy.module.named_parameters():
                if ".lora_B" in name:
                    p.fill_(0.1)
        return policy

    expected = adapted(tiny_policy("llama")).merged().state_dict()
    for policy in map(adapted, shared(lambda: tiny_policy("llama"))):
        named = dict(policy.module.named_parameters())
        assert not any(is_shared_out(p) for name, p in named.items() if ".lora_" in name)
        assert all(is_shared_out(p) for name, p in named.items() if name.endswith("base_layer.weight"))
        with torch.no_grad():
            policy.logps(BATCH)
        merged = policy.merged().state_dict()
        assert merged.keys() == expected.keys()
        assert all(torch.equal(merged[name], x) for name, x in expected.items())


@needs_bitsandbytes
def test_packed_weights_are_shared_out_as_they_are() -> None:
    from palate.models.four_bit import FourBit, quantised

    def make() -> CausalPolicy:
        return quantised(lambda: tiny_policy("llama"), FourBit())

    whole = make()
    for policy in shared(make):
        assert held(policy) < held(whole)
        with torch.no_grad():
            assert torch.equal(policy.logps(BATCH).logps, whole.logps(BATCH).logps)


def test_a_model_is_whole_again() -> None:
    whole = tiny_policy("llama")
    for policy in shared(lambda: tiny_policy("llama")):
        make_whole(policy.module)
        assert not any(is_shared_out(p) for p in policy.parameters())
        assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), whole.parameters(), strict=True))
        assert torch.equal(policy.reference().logps(BATCH).logps, whole.logps(BATCH).logps)


def test_a_copy_is_refused() -> None:
    with pytest.raises(ModelError, match="shared out over ranks cannot be copied. Use shard none"):
        shared(lambda: tiny_policy("llama"))[0].reference()
