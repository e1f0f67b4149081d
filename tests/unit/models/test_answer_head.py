"""A head that begins as what the language model would answer."""

from __future__ import annotations

import pytest
import torch

from palate.core import ConfigError
from palate.models.scalar import scalar_from
from palate.testing import tiny_policy
from palate.text.pack import Branch, Tree, pack


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_the_head_starts_as_the_log_odds_of_two_words_as_the_next_token(family: str) -> None:
    policy = tiny_policy(family)
    first, second = (policy.tokenizer.encode(word, add_special_tokens=False)[0] for word in ("rice", "salt"))
    model = scalar_from(policy, ("broken",), seed=0, start=("rice", "salt"))
    ids = [7, 8, 9, 10]
    policy.module.set_attn_implementation("sdpa")
    with torch.inference_mode():
        logps = policy.module(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        scores = model.scores(pack([Tree(ids[:2], (Branch(ids[2:], (True, True)),))], 64))
    assert scores[0, 0].item() == pytest.approx((logps[first] - logps[second]).item(), abs=1e-5)
    assert abs(scores[0, 0].item()) > 1e-3


def test_words_that_say_nothing_are_refused() -> None:
    policy = tiny_policy("qwen3")
    with pytest.raises(ConfigError, match="does not know the word 'zzz'"):
        scalar_from(policy, ("broken",), seed=0, start=("rice", "zzz"))
    with pytest.raises(ConfigError, match="'rice' and 'rice salt' begin with the same token"):
        scalar_from(policy, ("broken",), seed=0, start=("rice", "rice salt"))
