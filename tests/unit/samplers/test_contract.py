"""What every sampler promises: seeds, greedy decoding, log-probabilities, ends, and refusals."""

from __future__ import annotations

import pytest
import torch

from palate.core import Completion, ConfigError, DataError, Message, Prompt, Sampling
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.samplers.sampler import Sampler
from palate.text.pack import Branch, Tree, pack
from palate.text.spans import prompt_ids
from palate.text.tokens import tokenizer_digest
from tests.unit.samplers.conftest import PROMPTS

MANY = Sampling(max_tokens=20)


def ids_of(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.ids for completion in group] for group in groups]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(sampler: Sampler) -> None:
    one, again, other = (sampler.generate(PROMPTS, 3, MANY, seed) for seed in (5, 5, 6))
    assert [len(group) for group in one] == [3] * len(PROMPTS)
    assert ids_of(one) == ids_of(again)
    assert ids_of(one) != ids_of(other)
    assert len({ids for group in ids_of(one) for ids in group}) > 10


def test_greedy_is_the_greedy_of_the_local_sampler(sampler: Sampler, policy: CausalPolicy) -> None:
    greedy = Sampling(temperature=0, max_tokens=12)
    found = sampler.generate(PROMPTS, 2, greedy, 1)
    assert ids_of(found) == ids_of(LocalSampler(policy).generate(PROMPTS, 2, greedy, 2))
    assert {logp for group in found for completion in group for logp in completion.logps} == {0.0}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_policy(sampler: Sampler, policy: CausalPolicy, temperature: float) -> None:
    groups = sampler.generate(PROMPTS, 3, Sampling(temperature, max_tokens=12), 3)
    trees = [
        Tree(prompt_ids(policy.tokenizer, prompt), tuple(Branch(one.ids, (True,) * len(one.ids)) for one in group))
        for prompt, group in zip(PROMPTS, groups, strict=True)
    ]
    found = torch.tensor([logp for group in groups for completion in group for logp in completion.logps])
    with torch.no_grad():
        expected = policy.logps(pack(trees), temperature=temperature).logps
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_completions_end_with_an_end_token_or_are_marked_as_cut(sampler: Sampler, policy: CausalPolicy) -> None:
    completions = [completion for group in sampler.generate(PROMPTS, 8, MANY, 4) for completion in group]
    assert {completion.stop for completion in completions} == {"eos", "length"}
    for completion in completions:
        *before, last = (token in policy.end_ids for token in completion.ids)
        assert not any(before)
        assert last == (completion.stop == "eos")
        assert len(completion.ids) == 20 or completion.stop == "eos"
        assert completion.tokenizer == tokenizer_digest(policy.tokenizer)
        body = completion.ids[:-1] if last else completion.ids
        assert completion.text.strip() == str(policy.tokenizer.decode(body)).strip()


def test_a_prompt_without_room_is_refused_and_one_with_little_room_is_cut(sampler: Sampler, policy: CausalPolicy) -> None:
    assert policy.max_tokens == sampler.max_tokens == 320
    with pytest.raises(DataError, match=r"prompt 1 \(long\) has 3\d\d tokens and the model holds 320"):
        sampler.generate([PROMPTS[0], Prompt("long", (Message("text", "rice " * 165),))], 1, MANY, 1)
    ((one,),) = sampler.generate([Prompt("nearly", (Message("text", "rice " * 158),))], 1, Sampling(temperature=0, max_tokens=20), 1)
    assert len(one.ids) <= 4


@pytest.mark.parametrize(
    ("n", "sampling", "told"),
    [(0, MANY, "n is 0"), (1, Sampling(top_p=0.0), "sampling.top_p is 0"), (1, Sampling(max_tokens=0), "sampling.max_tokens is 0")],
)
def test_settings_out_of_range_are_refused(sampler: Sampler, n: int, sampling: Sampling, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sampler.generate(PROMPTS, n, sampling, 1)


def test_no_prompts_are_no_completions(sampler: Sampler) -> None:
    assert sampler.generate([], 2, MANY, 1) == []
