"""transformers as a worker: `PYTHON benchmarks/sampling/peer.py MODEL`, by an interpreter that has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from workload import Work, serve

PAD = 0


def main() -> None:
    """Serve both dtypes."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    models: dict[str, Any] = {
        name: AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, name)).eval() for name in ("float32", "bfloat16")
    }

    def draw(work: Work) -> Sequence[int]:
        torch.manual_seed(work.seed)
        settings = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=work.max_tokens,
            pad_token_id=PAD, eos_token_id=list(work.end_ids),
        )  # fmt: skip
        if work.method == "generate_batch":
            pool = ContinuousBatchingConfig(
                num_blocks=512, max_batch_tokens=512
            )  # by default it takes most of memory, and its masks with it
            prompts = [list(ids) for ids in work.prompts]
            found = models[work.dtype].generate_batch(prompts, generation_config=settings, continuous_batching_config=pool)
            return [len(one.generated_tokens) for one in found.values()]
        return [length for rows in batches(work) for length in generated(models[work.dtype], rows, settings)]

    serve(draw)


def batches(work: Work) -> list[Sequence[Sequence[int]]]:
    """Return prompts of similar length together, which needs the least padding."""
    prompts = sorted(work.prompts, key=len)
    return [prompts[start : start + work.batch] for start in range(0, len(prompts), work.batch)]


@torch.no_grad()
def generated(model: Any, prompts: Sequence[Sequence[int]], settings: GenerationConfig) -> list[int]:
    """Return the lengths of the completions of one padded batch, with the EOS token."""
    width = max(len(ids) for ids in prompts)
    ids = torch.tensor([[PAD] * (width - len(row)) + list(row) for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    drawn = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)[:, width:]
    ends = torch.isin(drawn, torch.tensor(settings.eos_token_id))
    return [int(row.nonzero()[0]) + 1 if row.any() else drawn.shape[1] for row in ends]


if __name__ == "__main__":
    main()
