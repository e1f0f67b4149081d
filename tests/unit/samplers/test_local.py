"""The local sampler: its log-probabilities are those of a plain forward, and nothing depends on how rows were batched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from palate.core import ConfigError, DataError, Message, Prompt, Sampling, TrainingError
from palate.models.attention import Attends
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.samplers import LocalSampler, SampledTokens, local
from palate.samplers.forward import Forward, forward_of
from palate.testing import PADDED_FAMILIES, tiny_policy
from palate.text.pack import Branch, Tree, pack

PROMPTS: tuple[tuple[int, ...], ...] = (
    (4, 9, 30),
    (7,),
    tuple(range(3, 40)),
    (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22),
    (30, 29, 28, 27, 26),
    tuple((5 * place) % 41 for place in range(60)),
    (8, 8, 8, 8),
)
"""Prompts of very different lengths."""

TESTED = ("llama", "qwen2", "gpt2", *PADDED_FAMILIES)


@pytest.fixture
def llama() -> CausalPolicy:
    policy = tiny_policy("llama")
    policy.end_ids = frozenset()
    return policy


def plain_logits(policy: CausalPolicy) -> Callable[[Sequence[int]], Tensor]:
    """Gives logits (t, v) of one unpadded sequence by the model's own forward and an attention of transformers."""
    module = copy.deepcopy(policy.module)
    module.set_attn_implementation("eager")

    def logits(ids: Sequence[int]) -> Tensor:
        with torch.no_grad():
            return module(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()

    return logits


def tokens_of(samples: list[list[SampledTokens]]) -> list[list[tuple[int, ...]]]:
    return [[sample.ids for sample in group] for group in samples]


def logps_of(samples: list[list[SampledTokens]]) -> Tensor:
    return torch.tensor([logp for group in samples for sample in group for logp in sample.logps])


@pytest.mark.parametrize("slots", [5, 64])
@pytest.mark.parametrize("family", TESTED)
def test_logps_are_those_of_a_plain_forward(family: str, slots: int) -> None:
    policy = tiny_policy(family)
    assert policy.path == ("padded" if family in PADDED_FAMILIES else "packed")
    policy.end_ids = frozenset({3, 17, 25})
    samples = LocalSampler(policy, slots=slots).sample(PROMPTS, 3, Sampling(temperature=1.2, max_tokens=20), seed=5)
    assert len({sample.ids for group in samples for sample in group}) > 2 * len(PROMPTS)
    assert len({len(sample.ids) for group in samples for sample in group}) > 3
    plain = plain_logits(policy)
    for prompt, group in zip(PROMPTS, samples, strict=True):
        for sample in group:
            logits = plain((*prompt, *sample.ids))[len(prompt) - 1 : -1] / 1.2
            expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(sample.logps), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompts", [PROMPTS, [(number, 9, 30) for number in range(3, 33)]], ids=["ragged", "of one length"])
def test_logps_are_those_the_policy_gives_in_training(llama: CausalPolicy, prompts: Sequence[tuple[int, ...]]) -> None:
    llama.end_ids = frozenset({3, 17, 25})
    samples = LocalSampler(llama, slots=20).sample(prompts, 2, Sampling(temperature=0.7, max_tokens=12), seed=0)
    trees = [
        Tree(prompt, tuple(Branch(sample.ids, (True,) * len(sample.ids)) for sample in group))
        for prompt, group in zip(prompts, samples, strict=True)
    ]
    outputs = llama.logps(pack(trees), temperature=0.7)
    torch.testing.assert_close(logps_of(samples), outputs.logps.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TESTED)
def test_greedy_equals_the_generate_of_transformers(family: str) -> None:
    policy = tiny_policy(family)
    policy.end_ids = frozenset({3, 17})
    samples = LocalSampler(policy, slots=3).sample(PROMPTS, 1, Sampling(temperature=0, max_tokens=15), seed=0)
    module = copy.deepcopy(policy.module)
    if policy.path == "packed":
        module.set_attn_implementation("sdpa")
    for prompt, (sample,) in zip(PROMPTS, samples, strict=True):
        ids = torch.tensor([prompt])
        generated = module.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=15, eos_token_id=[3, 17], pad_token_id=0
        )
        assert sample.ids == tuple(generated[0, len(prompt) :].tolist())
        assert set(sample.logps) == {0.0}


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
@pytest.mark.parametrize("sampling", [Sampling(max_tokens=15), Sampling(temperature=0.7, top_k=9, top_p=0.8, max_tokens=15)])
def test_samples_do_not_depend_on_what_is_drawn_beside_them(family: str, sampling: Sampling) -> None:
    policy = tiny_policy(family)
    policy.end_ids = frozenset({3, 17, 25})
    whole = LocalSampler(policy, slots=64).sample(PROMPTS, 4, sampling, seed=9)
    narrow = LocalSampler(policy, slots=4).sample(PROMPTS, 4, sampling, seed=9)
    single = LocalSampler(policy, slots=1).sample(PROMPTS[:3], 2, sampling, seed=9)
    assert tokens_of(narrow) == tokens_of(whole)
    torch.testing.assert_close(logps_of(narrow), logps_of(whole), atol=1e-5, rtol=1e-5)
    assert tokens_of(single) == [group[:2] for group in tokens_of(whole)[:3]]


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
def test_the_same_call_gives_the_same_bits_and_another_seed_others(family: str) -> None:
    policy = tiny_policy(family)
    sampler = LocalSampler(policy, slots=6)
    first = sampler.sample(PROMPTS, 3, Sampling(max_tokens=12), seed=1)
    sampler.sample(PROMPTS[:2], 5, Sampling(max_tokens=30), seed=2)  # leaves other things in the cache
    assert sampler.sample(PROMPTS, 3, Sampling(max_tokens=12), seed=1) == first
    assert LocalSampler(policy, slots=6).sample(PROMPTS, 3, Sampling(max_tokens=12), seed=1) == first
    assert tokens_of(sampler.sample(PROMPTS, 3, Sampling(max_tokens=12), seed=2)) != tokens_of(first)


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
def test_with_a_seed_for_each_prompt_the_company_does_not_matter(family: str) -> None:
    policy = tiny_policy(family)
    policy.end_ids = frozenset({3, 17, 25})
    seeds = [11 * number for number in range(len(PROMPTS))]
    whole = LocalSampler(policy).sample(PROMPTS, 3, Sampling(max_tokens=15), seeds)
    backwards = LocalSampler(policy, slots=4).sample(PROMPTS[::-1], 3, Sampling(max_tokens=15), seeds[::-1])
    alone = [
        LocalSampler(policy).sample([prompt], 3, Sampling(max_tokens=15), [seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]
    assert tokens_of(backwards[::-1]) == tokens_of(whole) == tokens_of(alone)
    same = LocalSampler(policy).sample([(4, 9), (4, 9)], 1, Sampling(max_tokens=15), [5, 6])
    assert same[0] != same[1]


def test_a_later_turn_continues_the_very_ids_of_the_earlier_one(llama: CausalPolicy) -> None:
    """Greedy text drawn in two calls is that of one: the ids are passed on unchanged, even where the text has another tokenisation."""
    sampler, sampling = LocalSampler(llama), Sampling(temperature=0, max_tokens=12)
    whole = sampler.sample(PROMPTS, 1, sampling, seed=0)
    first = sampler.sample(PROMPTS, 1, Sampling(temperature=0, max_tokens=5), seed=0)
    turns = [(*prompt, *sample.ids) for prompt, (sample,) in zip(PROMPTS, first, strict=True)]
    second = sampler.sample(turns, 1, Sampling(temperature=0, max_tokens=7), seed=0)
    assert [(*a.ids, *b.ids) for (a,), (b,) in zip(first, second, strict=True)] == [sample.ids for (sample,) in whole]


def test_an_end_id_of_the_generation_config_alone_ends_a_sample(tmp_path: Path) -> None:
    policy = tiny_policy("llama")
    own = policy.tokenizer.eos_token_id
    policy.module.generation_config.eos_token_id = [own, 17, 25]  # type: ignore[union-attr]
    policy.save(tmp_path / "model")
    loaded = load_policy(tmp_path / "model")
    groups = LocalSampler(loaded).sample(PROMPTS, 12, Sampling(temperature=3, max_tokens=20), seed=0)
    assert {sample.ids[-1] for group in groups for sample in group if sample.stop == "eos"} == {own, 17, 25}


def test_a_smaller_token_budget_gives_the_same_beginning(llama: CausalPolicy) -> None:
    long = LocalSampler(llama).sample(PROMPTS, 2, Sampling(max_tokens=14), seed=1)
    short = LocalSampler(llama).sample(PROMPTS, 2, Sampling(max_tokens=5), seed=1)
    assert tokens_of(short) == [[ids[:5] for ids in group] for group in tokens_of(long)]
    assert {sample.stop for group in short for sample in group} == {"length"}


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_any_of_several_end_ids_stops(family: str) -> None:
    policy = tiny_policy(family)
    policy.end_ids = frozenset({3, 17, 25})
    groups = LocalSampler(policy, slots=7).sample(PROMPTS, 8, Sampling(temperature=3, max_tokens=20), seed=0)
    samples = [sample for group in groups for sample in group]
    ended = [sample for sample in samples if sample.stop == "eos"]
    assert {sample.ids[-1] for sample in ended} == {3, 17, 25}
    assert any(len(sample.ids) == 1 for sample in ended)
    for sample in samples:
        assert not policy.end_ids & set(sample.ids[:-1])
        assert len(sample.logps) == len(sample.ids)
        assert (sample.ids[-1] in policy.end_ids) == (sample.stop == "eos")
        assert sample.stop == "eos" or len(sample.ids) == 20


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
def test_completions_stop_at_the_model_s_limit(family: str) -> None:
    policy = tiny_policy(family)
    policy.end_ids = frozenset()
    prompts = [(5,) * 127, (5,) * 120, (5,) * 3]
    samples = LocalSampler(policy, slots=2).sample(prompts, 2, Sampling(max_tokens=10), seed=0)
    assert [[len(sample.ids) for sample in group] for group in samples] == [[1, 1], [8, 8], [10, 10]]
    assert {sample.stop for group in samples for sample in group} == {"length"}


def test_a_prompt_without_room_is_named(llama: CausalPolicy) -> None:
    with pytest.raises(DataError, match=r"prompt 1 has 128 tokens and the model holds 128.*shorten"):
        LocalSampler(llama).sample([(5,), (5,) * 128], 1, Sampling(), seed=0)
    with pytest.raises(DataError, match="prompt 2 has no tokens"):
        LocalSampler(llama).sample([(5,), (5,), ()], 1, Sampling(), seed=0)
    prompt = Prompt("a", (Message("text", "salt " * 70),), source="asked.jsonl:12")
    with pytest.raises(DataError, match=r"prompt 0 \(asked.jsonl:12\) has 140 tokens"):
        LocalSampler(llama).generate([prompt], 1, Sampling(), seed=0)


class Counting:
    """A forward pass that records how many prompts each prefill has, and how many rows each step has."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.prefills: list[int] = []
        self.steps: list[int] = []

    def logits(self, ids: Tensor, positions: Tensor, tree: Attends, wanted: Tensor | None = None) -> Tensor:
        starts = int((positions == 0).sum())
        self.prefills += [starts] if starts else []
        self.steps += [] if starts else [ids.shape[1]]
        return self._forward.logits(ids, positions, tree, wanted)


@pytest.mark.parametrize(("slots", "n"), [(4, 3), (4, 6), (2, 1), (64, 2)])
def test_every_prompt_is_prefilled_once_and_rows_refilled(llama: CausalPolicy, monkeypatch: pytest.MonkeyPatch, slots: int, n: int) -> None:
    llama.end_ids = frozenset({3, 17, 25})
    prompts = PROMPTS * 2
    counting = Counting(forward_of(llama, 60 + 15))
    monkeypatch.setattr(local, "forward_of", lambda *_: counting)
    samples = LocalSampler(llama, slots=slots).sample(prompts, n, Sampling(max_tokens=15), seed=4)
    assert sum(counting.prefills) == len(prompts)
    assert max(counting.steps) <= slots
    drawn = sum(len(sample.ids) for group in samples for sample in group)
    assert sum(counting.steps) == drawn - n * len(prompts)  # no row runs after its last token
    if slots < n * len(prompts):
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        lengths = [len(sample.ids) for i in order for sample in samples[i]]
        batch_by_batch = sum(max(lengths[start : start + slots]) - 1 for start in range(0, len(lengths), slots))
        assert len(counting.steps) < 0.9 * batch_by_batch


def test_progress_counts_up_to_all_samples(llama: CausalPolicy) -> None:
    llama.end_ids = frozenset({3, 17})
    counts: list[int] = []
    LocalSampler(llama, slots=5).sample(PROMPTS, 2, Sampling(max_tokens=9), 0, counts.append)
    assert counts == sorted(set(counts))
    assert counts[-1] == 2 * len(PROMPTS)


@pytest.mark.parametrize("family", ["llama", "sliding_mistral"])
def test_diverged_weights_stop_the_run_and_leave_nothing_behind(family: str) -> None:
    policy = tiny_policy(family)
    sampler = LocalSampler(policy)
    sampling = Sampling(max_tokens=8)
    ragged = [PROMPTS[1], PROMPTS[3]]  # the shorter one's row keeps masked columns that the failed call has written
    before = LocalSampler(policy).sample(ragged, 2, sampling, seed=0)
    kept = policy.module.get_input_embeddings().weight.detach().clone()
    policy.module.get_input_embeddings().weight.data.fill_(torch.nan)
    with pytest.raises(TrainingError, match="not finite"):
        sampler.sample(PROMPTS, 2, sampling, seed=0)
    policy.module.get_input_embeddings().weight.data.copy_(kept)
    assert sampler.sample(ragged, 2, sampling, seed=0) == before


def test_training_goes_on_after_sampling(llama: CausalPolicy) -> None:
    LocalSampler(llama).sample(PROMPTS, 1, Sampling(max_tokens=4), seed=0)
    batch = pack([Tree((5, 6), (Branch((7, 8), (True, True)),))])
    (-llama.logps(batch).logps.sum()).backward()
    assert all(parameter.grad is not None for parameter in llama.parameters())


def test_completions_have_text_without_end_token(llama: CausalPolicy) -> None:
    llama.end_ids = frozenset({llama.tokenizer.eos_token_id, 17})
    sampler = LocalSampler(llama)
    prompts = [Prompt(str(number), (Message("text", text),)) for number, text in enumerate(["the cook has", "rice and beans but"])]
    sampling = Sampling(max_tokens=20)
    completions = sampler.generate(prompts, 6, sampling, seed=3)
    samples = sampler.sample([llama.tokenizer(prompt.text)["input_ids"] for prompt in prompts], 6, sampling, seed=3)
    for group, expected in zip(completions, samples, strict=True):
        for completion, sample in zip(group, expected, strict=True):
            assert (completion.ids, completion.logps, completion.stop) == (sample.ids, sample.logps, sample.stop)
            ids = sample.ids[:-1] if sample.stop == "eos" else sample.ids
            assert completion.text == llama.tokenizer.decode(ids)
    assert {completion.stop for group in completions for completion in group} == {"eos", "length"}


def test_no_prompts_give_no_samples_and_bad_numbers_are_refused(llama: CausalPolicy) -> None:
    assert LocalSampler(llama).sample([], 3, Sampling(), seed=0) == []
    assert LocalSampler(llama).generate([], 3, Sampling(), seed=0) == []
    with pytest.raises(ConfigError, match="n is 0"):
        LocalSampler(llama).sample(PROMPTS, 0, Sampling(), seed=0)
    with pytest.raises(ConfigError, match="seed is -1"):
        LocalSampler(llama).sample(PROMPTS, 1, Sampling(), seed=-1)
    with pytest.raises(ConfigError, match="seed is -3"):
        LocalSampler(llama).sample(PROMPTS[:2], 1, Sampling(), seed=[4, -3])
    with pytest.raises(ConfigError, match="1 seeds for 7 prompts"):
        LocalSampler(llama).sample(PROMPTS, 1, Sampling(), seed=[4])
    with pytest.raises(ConfigError, match="slots is 0"):
        LocalSampler(llama, slots=0)
    with pytest.raises(ConfigError, match="top_p"):
        LocalSampler(llama).sample(PROMPTS, 1, Sampling(top_p=0), seed=0)
