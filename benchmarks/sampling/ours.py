"""Palate's sampler as a worker: `python -m benchmarks.sampling.ours MODEL`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.sampling.workload import Work, serve
from palate.core import Sampling
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.precision import DType
from palate.samplers import LocalSampler

DTYPES: tuple[DType, ...] = ("float32", "bfloat16")
"""The types that the work may name."""


def main() -> None:
    """Serve both dtypes."""
    policies: dict[str, CausalPolicy] = {dtype: load_policy(sys.argv[1], dtype=dtype) for dtype in DTYPES}
    samplers = {dtype: LocalSampler(policy) for dtype, policy in policies.items()}

    def draw(work: Work) -> Sequence[int]:
        policies[work.dtype].end_ids = frozenset(work.end_ids)
        groups = samplers[work.dtype].sample(work.prompts, 1, Sampling(max_tokens=work.max_tokens), work.seed)
        return [len(sample.ids) for group in groups for sample in group]

    serve(draw)


if __name__ == "__main__":
    main()
