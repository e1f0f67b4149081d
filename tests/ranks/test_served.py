"""With several ranks, rank 0 alone asks vLLM's servers, and all ranks learn what one learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from palate.data.jsonl import write_rows
from palate.models.load import load_policy
from palate.testing import tiny_policy, word_tokenizer
from tests.ranks.forked import on_ranks
from tests.support.run_numbers import Numbers, numbers
from tests.support.vllm_server import ServedVLLM

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("asynchronous", ["0", "1"])
def test_two_ranks_learn_from_servers_what_one_learns(asynchronous: str, tmp_path: Path) -> None:
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "base")
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"the cook has {word}"} for word in ("rice", "beans", "salt")])
    found: list[Numbers] = []
    asked: list[int] = []
    for count in (1, 2):
        served = ServedVLLM(load_policy(tmp_path / "base"))
        words = [
            *("online", "--model", str(tmp_path / "base"), "--prompts", str(tmp_path / "prompts.jsonl")),
            *("--out", str(tmp_path / str(count))),
            *("--rewards.letters", "function", "--rewards.letters.function", "tests.unit.stages.online.rewarding:letters"),
            *("--preset", "rloo", "--iterations", "3", "--prompts_per_iteration", "3", "--samples_per_prompt", "4"),
            *("--sampling.max_tokens", "6", "--sampler", "vllm_servers", "--sampler.servers", served.url, "--sampler.model", "small"),
            *("--sampler.asynchronous", asynchronous),
        ]
        ended = on_ranks(count, words, tmp_path / f"ranks-{count}")
        assert ended.codes == [0] * count, ended.stderr
        found.append(numbers(tmp_path / str(count)))
        asked.append(served.drew)
        served.close()
    one, two = found
    assert asked[0] == asked[1] > 0
    assert one.keys() == two.keys()
    assert {at: (one[at], two[at]) for at in one if not math.isclose(one[at], two[at], rel_tol=1e-4, abs_tol=1e-4)} == {}
