"""Stage `evaluate`: what a model gained and lost, on held-out prompts and evals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from palate.config.artifacts import file_at, model_at
from palate.config.functions import load_function
from palate.config.types import Count, Input, ModelInput
from palate.core import Completion, ConfigError, Prompt, Sampling, derive_seed
from palate.data.formats import read_prompts
from palate.data.jsonl import write_rows
from palate.data.samples import read_samples
from palate.evaluation.evals import eval_means, grade
from palate.evaluation.intervals import mean
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.objectives.kl import k1
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.samplers.local import LocalSampler
from palate.samplers.prompts import fitting, prompts_at
from palate.text.pack import Branch, Tree, microbatches, pack
from palate.text.spans import prompt_ids

Groups = Sequence[tuple[Prompt, Completion]]


@dataclass(frozen=True)
class Evaluate:
    """Measure what a model gained and lost.

    Attributes:
        model: the model to measure; none when `completions` are given.
        completions: completions made elsewhere (say by rerank), measured instead of fresh samples; no evals then.
        prompts: held-out prompts.
        evals: questions with known right behaviour (docs/guide.md).
        reward: a reward model for proxy scores.
        reference: a model to which the KL is measured.
        gold: import path of a function that knows the truth.
        probes: import paths of functions f(completion) that count something, by name.
        limit: prompts at most; none takes all.
        sampling: temperature and the longest completion.
        tokens_per_microbatch: tokens a forward pass holds at most.
    """

    prompts: Input
    model: ModelInput | None = None
    completions: Input | None = None
    evals: Input | None = None
    reward: Input | None = None
    reference: ModelInput | None = None
    gold: str | None = None
    probes: dict[str, str] = field(default_factory=dict)
    limit: Count | None = None
    sampling: Sampling = field(default_factory=Sampling)
    tokens_per_microbatch: Count = 16_384

    def check(self) -> None:
        """Checks that there is one thing to measure."""
        if (self.model is None) == (self.completions is None):
            raise ConfigError("give either a model to sample from or completions made elsewhere, not both and not neither")
        if self.completions is not None and (self.evals is not None or self.reference is not None):
            raise ConfigError("evals and reference need a model: leave them out when completions are given")

    def run(self, run: Run) -> None:
        """Writes `completions.jsonl`, `evals.jsonl` and the means."""
        with run.progress(3, "evaluate") as advance:
            policy = None if self.model is None else load_policy(model_at(self.model))
            groups = self._completions(run, policy)
            advance(1, "completions")
            rows = self._measure(policy, groups)
            write_rows(run.directory / "completions.jsonl", rows)
            advance(1, "scores")
            evals = [] if self.evals is None or policy is None else self._sit(run, policy)
            if evals:
                write_rows(run.directory / "evals.jsonl", evals)
            advance(1, "evals")
        run.summary({"prompts": len(rows), "means": _means(rows), "evals": eval_means(evals)})

    def _completions(self, run: Run, policy: CausalPolicy | None) -> Groups:
        if policy is None:
            assert self.completions is not None
            return [(prompt, group[0]) for prompt, group in read_samples(self.completions)]
        prompts = fitting(run, prompts_at(run, self.prompts, self.limit), policy, self.sampling.max_tokens)
        groups = LocalSampler(policy).generate(prompts, 1, self.sampling, derive_seed(run.seed, "evaluate"))
        return [(prompt, group[0]) for prompt, group in zip(prompts, groups, strict=True)]

    def _measure(self, policy: CausalPolicy | None, groups: Groups) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"id": p.id, "prompt": p.text, "text": c.text, "stop": c.stop, "tokens": len(c.ids) or len(c.text.split()) + 1}
            for p, c in groups
        ]
        if self.gold is not None:
            gold = load_function(self.gold)
            for row, (prompt, completion) in zip(rows, groups, strict=True):
                dimensions = dict(gold(prompt.text, completion.text, **prompt.fields))
                row["dimensions"] = dimensions
                row["gold"] = sum(dimensions.values()) / len(dimensions)
        for name, path in self.probes.items():
            count = load_function(path)
            for row in rows:
                row.setdefault("probes", {})[name] = float(count(row["text"]))
        if self.reward is not None:
            scores = LearnedReward.load(model_at(self.reward)).score([p for p, _ in groups], [[c] for _, c in groups])["score"]
            for row, (score,) in zip(rows, scores, strict=True):
                row["score"] = score
        if self.reference is not None and policy is not None:
            for row, kl in zip(rows, self._kl(policy, groups), strict=True):
                row["kl"] = kl
        return rows

    def _kl(self, policy: CausalPolicy, groups: Groups) -> list[float]:
        """KL to the reference by k1, summed over each completion, nats."""
        assert self.reference is not None
        reference = load_policy(model_at(self.reference))
        trees = [Tree(prompt_ids(policy.tokenizer, prompt), (Branch(c.ids, (True,) * len(c.ids)),)) for prompt, c in groups]
        found = torch.zeros(len(trees))
        with torch.no_grad():
            for part in microbatches(trees, self.tokens_per_microbatch):
                batch = pack([trees[k] for k in part])
                own = torch.tensor([logp for k in part for logp in groups[k][1].logps])
                tokens = k1(own, reference.logps(batch, temperature=self.sampling.temperature).logps)
                found[torch.tensor(part)] = torch.zeros(len(part)).index_add(0, batch.branch, tokens)
        return [float(x) for x in found]

    def _sit(self, run: Run, policy: CausalPolicy) -> list[dict[str, Any]]:
        """The model's answers to the evals, each with its mark in [0, 1].

        Questions with one right answer are answered greedily: they ask what the model knows, not how it varies.
        """
        assert self.evals is not None
        table = read_prompts(file_at(self.evals, "evals.jsonl"))
        gold = None if self.gold is None else load_function(self.gold)
        sampler, seed = LocalSampler(policy), derive_seed(run.seed, "exams")
        said: dict[str, str] = {}
        for greedy in (True, False):
            asked = [prompt for prompt in table.rows if (prompt.fields.get("kind") == "answer") == greedy]
            sampling = replace(self.sampling, temperature=0.0) if greedy else self.sampling
            groups = sampler.generate(asked, 1, sampling, seed)
            said |= {prompt.id: group[0].text for prompt, group in zip(asked, groups, strict=True)}
        return [
            {
                "id": prompt.id,
                **prompt.fields,
                "prompt": prompt.text,
                "text": said[prompt.id],
                "grade": grade(prompt, said[prompt.id], gold),
            }
            for prompt in table.rows
        ]


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard error of every figure of the completions."""
    columns: dict[str, list[float]] = {name: [row[name] for row in rows] for name in ("gold", "score", "kl", "tokens") if name in rows[0]}
    columns |= {f"gold/{dimension}": [row["dimensions"][dimension] for row in rows] for dimension in rows[0].get("dimensions", {})}
    columns |= {f"probe/{name}": [row["probes"][name] for row in rows] for name in rows[0].get("probes", {})}
    columns["ended"] = [float(row["stop"] == "eos") for row in rows]
    return {name: {"mean": (found := mean(np.array(values))).value, "se": found.se, "n": found.n} for name, values in columns.items()}
