"""Stage `sample`: completions of prompts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from palate.config.artifacts import model_at
from palate.config.types import Count, Input, ModelInput
from palate.core import Sampling, derive_seed
from palate.data.jsonl import read_rows
from palate.data.samples import sample_row
from palate.models.load import load_policy
from palate.runs.run import Run
from palate.samplers.local import LocalSampler
from palate.samplers.prompts import fitting, prompts_at

PROMPTS_PER_CHUNK = 512
"""Prompts sampled between two writes; the seed is derived from the chunk's number, so a cut-off run goes on exactly."""


@dataclass(frozen=True)
class Sample:
    """Draw completions of prompts from a model.

    Attributes:
        model: the model to sample from.
        prompts: prompts, or rows that have one.
        limit: prompts at most; none takes all.
        samples_per_prompt: completions of each prompt.
        sampling: temperature, top-p, top-k, and the longest completion in tokens.
    """

    model: ModelInput
    prompts: Input
    limit: Count | None = None
    samples_per_prompt: Count = 4
    sampling: Sampling = field(default_factory=Sampling)

    def check(self) -> None:
        """Nothing contradicts anything here."""

    def run(self, run: Run) -> None:
        """Writes `samples.jsonl`, a row a prompt, chunk by chunk."""
        policy = load_policy(model_at(self.model))
        sampler = LocalSampler(policy)
        prompts = fitting(run, prompts_at(run, self.prompts, self.limit), policy, self.sampling.max_tokens)
        with run.rows("samples.jsonl") as rows, run.progress(len(prompts), "sample") as advance:
            advance(rows.rows_done)
            for start in range(0, len(prompts), PROMPTS_PER_CHUNK):
                chunk = prompts[start : start + PROMPTS_PER_CHUNK]
                if start + len(chunk) <= rows.rows_done:
                    continue
                seed = derive_seed(run.seed, "sample", start)
                groups = sampler.generate(chunk, self.samples_per_prompt, self.sampling, seed)
                for prompt, group in list(zip(chunk, groups, strict=True))[rows.rows_done - start if rows.rows_done > start else 0 :]:
                    rows.append(sample_row(prompt, group))
                    advance(1)
                run.check_stop()
        written: list[Any] = [row for _, row in read_rows(run.directory / "samples.jsonl")]
        completions = [completion for row in written for completion in row["completions"]]
        ended = sum(completion["stop"] == "eos" for completion in completions)
        run.summary({"prompts": len(written), "completions": len(completions), "ended": ended / len(completions)})
