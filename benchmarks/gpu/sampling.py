"""256 completions of 128 tokens each: Palate's local sampler against `generate` of transformers, with the same prompts and weights."""

from __future__ import annotations

import gc
import json
import time
import warnings
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks.gpu.limits import seconds
from benchmarks.gpu.results import is_tiny, result
from benchmarks.gpu.work import DTYPE, SHAPES, device, model, pairs, peak_gb, reset_peak, waited
from benchmarks.sampling.limits import needs
from benchmarks.speed.workload import shape as config_of
from palate.core import Sampling
from palate.core.process import computing_on
from palate.models.load import load_policy, load_tokenizer
from palate.samplers import LocalSampler, packed
from palate.samplers.graphs import GraphWarning

PROMPTS, TOKENS, CALLS = (8, 8, 1) if is_tiny() else (256, 128, 2)


def main() -> None:
    """Measure both at each shape."""
    much = torch.ones(1 << (20 if is_tiny() else 30), dtype=torch.bfloat16, device=device())
    read = 2 * much.numel() / seconds(much.sum)
    result("memory read", tb_per_s=read / 1e12)
    del much
    for shape in SHAPES:
        path = model(shape)
        tokenizer = load_tokenizer(path)
        rows = [json.loads(line)["prompt"] for line in pairs()[0].read_text(encoding="utf-8").splitlines()]
        prompts = [tuple(ids) for ids in tokenizer((rows * PROMPTS)[:PROMPTS])["input_ids"]]
        least = needs(config_of(path), [len(ids) for ids in prompts], [TOKENS] * PROMPTS, PROMPTS, DTYPE)
        draw = sampler_of(str(path))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", GraphWarning)
            ours = timed(draw, prompts)
        warned = "; ".join(str(one.message)[:200] for one in told if issubclass(one.category, GraphWarning)) or None
        result(f"sample {shape}", **rates(ours), share_of_memory_limit=least.bytes_read / read / ours, peak_gb=peak_gb(), warned=warned)
        if device().type == "cuda":
            with patch.object(packed, "GraphedSteps", lambda *_: None):
                result(f"sample {shape} without CUDA graphs", **rates(timed(draw, prompts)))
        del draw
        theirs = timed(generate_of(str(path)), prompts)
        result(f"generate {shape}", **rates(theirs), palate_is_faster_by=theirs / ours, peak_gb=peak_gb())


Draw = Callable[[list[tuple[int, ...]], int], Any]


def rates(took: float) -> dict[str, float]:
    """Return what a call of so many seconds is in tokens."""
    return {"tokens_per_s": PROMPTS * TOKENS / took, "step_ms": 1000 * took / TOKENS}


def timed(draw: Draw, prompts: list[tuple[int, ...]]) -> float:
    """Return the seconds of the fastest call, after one that does not count."""
    found = []
    for seed in range(CALLS + 1):
        waited()
        began = time.perf_counter()
        draw(prompts, seed)
        waited()
        found.append(time.perf_counter() - began)
    return min(found[1:])


def sampler_of(path: str) -> Draw:
    """Return Palate's sampler, whose completions never end early."""
    gc.collect()
    reset_peak()
    with computing_on(str(device())):
        policy = load_policy(path, dtype=DTYPE)  # type: ignore[arg-type]
    policy.end_ids = frozenset()
    sampler = LocalSampler(policy, slots=PROMPTS)
    return lambda prompts, seed: sampler.sample(prompts, 1, Sampling(max_tokens=TOKENS), seed)


def generate_of(path: str) -> Draw:
    """Return `generate` on one batch, padded on the left."""
    gc.collect()
    reset_peak()
    module: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, DTYPE)).to(device()).eval()
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=TOKENS, min_new_tokens=TOKENS, pad_token_id=0, eos_token_id=1
    )

    @torch.no_grad()
    def draw(prompts: list[tuple[int, ...]], seed: int) -> Any:
        torch.manual_seed(seed)
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in prompts]).to(device())
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts]).to(device())
        return module.generate(input_ids=ids, attention_mask=mask, generation_config=settings).cpu()

    return draw


if __name__ == "__main__":
    main()
