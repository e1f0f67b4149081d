"""Models that are sampled by their own cache: the same tokens as transformers, the same log-probabilities as the learner."""

from __future__ import annotations

import pytest
import torch

from palate.core import Sampling
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.samplers.padded_decoding import takes_padding
from palate.testing import COMPOSITE_FAMILIES, LENGTH_FAMILIES, OWN_CACHE_FAMILIES, PADDED_FAMILIES, tiny_policy
from palate.text.pack import Branch, Tree, pack

PROMPTS = ((4, 9, 12, 8), (7,), (30, 2, 5, 9, 11), (21, 3), (6,))
FAMILIES = (*OWN_CACHE_FAMILIES, *LENGTH_FAMILIES, *COMPOSITE_FAMILIES)

pytestmark = pytest.mark.filterwarnings("ignore::palate.models.paths.PaddedPathWarning")


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> CausalPolicy:
    made = tiny_policy(request.param)
    made.end_ids = frozenset({17, 25})
    return made


def test_the_learner_agrees_and_rows_do_not_depend_on_each_other(policy: CausalPolicy) -> None:
    sampling = Sampling(temperature=0.8, max_tokens=24)
    whole = LocalSampler(policy, slots=64).sample(PROMPTS, 3, sampling, seed=5)
    assert "length" in {sample.stop for group in whole for sample in group}
    assert len({sample.ids for group in whole for sample in group}) > 10
    assert all(sample.stop == "length" or sample.ids[-1] in policy.end_ids for group in whole for sample in group)
    trees = [Tree(p, tuple(Branch(s.ids, (True,) * len(s.ids)) for s in group)) for p, group in zip(PROMPTS, whole, strict=True)]
    with torch.no_grad():
        expected = policy.logps(pack(trees), temperature=0.8).logps
    found = torch.tensor([logp for group in whole for sample in group for logp in sample.logps])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    told: list[int] = []
    narrow = LocalSampler(policy, slots=2).sample(PROMPTS, 3, sampling, seed=5, progress=told.append)
    assert [[s.ids for s in group] for group in narrow] == [[s.ids for s in group] for group in whole]
    assert told[-1] == 15
    assert told == sorted(told)


def test_settings_of_the_model_for_generation_do_not_count(policy: CausalPolicy) -> None:
    sampling = Sampling(temperature=0, max_tokens=12)
    before = LocalSampler(policy).sample(PROMPTS, 1, sampling, seed=0)
    kept = policy.module.generation_config
    attention = policy.module.config._attn_implementation
    kept.repetition_penalty, kept.no_repeat_ngram_size = 5.0, 1
    try:
        assert LocalSampler(policy).sample(PROMPTS, 1, sampling, seed=0) == before
    finally:
        kept.repetition_penalty = kept.no_repeat_ngram_size = None
    assert policy.module.generation_config is kept
    assert policy.module.config._attn_implementation == attention


def test_who_decodes_padded_rows() -> None:
    assert all(takes_padding(tiny_policy(family)) for family in PADDED_FAMILIES)
    assert not any(takes_padding(tiny_policy(family)) for family in OWN_CACHE_FAMILIES)
