"""Stage `sample`: draw completions of prompts from a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from palate.config.artifacts import model_at
from palate.config.types import Count, ModelInput
from palate.core import Sampling, derive_seed
from palate.data.data_sources import DataInput, check_unweighted
from palate.data.formats import ColumnTypes, Recognised, sample_row
from palate.data.jsonl import read_rows
from palate.models.precision import DType
from palate.runs.run import Run
from palate.samplers.kinds import LocalSamplerSettings, SamplerKind
from palate.samplers.prompts import fitting, prompts_at
from palate.training.checkpoints import check_stop

PROMPTS_PER_CHUNK = 512
"""Prompts sampled between two writes. The seed of each chunk is derived from its place, so an interrupted run goes on exactly."""


@dataclass(frozen=True)
class Sample:
    """Draw completions of prompts from a model.

    Attributes:
        model: the model to sample from. Where a server has it, only its tokenizer and its configuration are read here.
        prompts: prompts, or rows that have a prompt; one path, or several sources (docs/data.md).
        columns: what the columns of the prompts hold where their names do not say it: a type, and columns by name.
        limit: how many prompts are read, at most, of each source; none reads all.
        samples_per_prompt: completions per prompt.
        sampling: temperature, top-p, top-k, and the length of the longest completion in tokens.
        sampler: what draws: this process (local), or a server with an OpenAI-compatible API (openai).
        dtype: the type that the model computes in; auto is bfloat16 on GPUs, else float32.
    """

    model: ModelInput
    prompts: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    limit: Count | None = None
    samples_per_prompt: Count = 4
    sampling: Sampling = field(default_factory=Sampling)
    sampler: SamplerKind = field(default_factory=LocalSamplerSettings)
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError where the sampler cannot draw so."""
        check_unweighted(self.prompts)
        self.sampler.check(self.sampling)

    def run(self, run: Run) -> None:
        """Write `samples.jsonl`, one row per prompt, chunk by chunk."""
        sampler = self.sampler.open(model_at(self.model), self.dtype)
        prompts = fitting(run, prompts_at(run, self.prompts, self.limit, self.columns), sampler, self.sampling.max_tokens)
        with run.rows("samples.jsonl") as rows, run.progress(len(prompts), "sample") as advance:
            advance(rows.rows_done)
            for start in range(0, len(prompts), PROMPTS_PER_CHUNK):
                chunk = prompts[start : start + PROMPTS_PER_CHUNK]
                if start + len(chunk) <= rows.rows_done:
                    continue
                seed = derive_seed(run.seed, "sample", start)
                groups = sampler.generate(chunk, self.samples_per_prompt, self.sampling, seed)
                for prompt, group in list(zip(chunk, groups, strict=True))[max(0, rows.rows_done - start) :]:
                    rows.append(sample_row(prompt, group))
                    advance(1)
                check_stop(run)
        sampler.close()
        written: list[Any] = [row for _, row in read_rows(run.directory / "samples.jsonl")]
        completions = [completion for row in written for completion in row["completions"]]
        eos = sum(completion["stop"] == "eos" for completion in completions) / len(completions)
        exact = sum(completion.get("exact", True) for completion in completions) / len(completions)
        run.summary({"prompts": len(written), "completions": len(completions), "eos": eos, "exact": exact})
