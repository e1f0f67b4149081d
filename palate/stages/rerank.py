"""Stage `rerank`: keep the best of n completions by a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate.agreement.estimates import known
from palate.config.artifacts import model_at
from palate.config.functions import load_gold
from palate.config.types import Count, FunctionInput, ModelInput, RewardInput
from palate.core import Completion, ConfigError, DataError, Prompt, Sampling, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name
from palate.data.formats import ColumnTypes, Recognised, completion_row, sample_row
from palate.data.jsonl import write_rows
from palate.distributed.ranks import from_writer
from palate.evaluation.best_of_n import best_of_n_curve, best_of_n_kl, best_of_n_table
from palate.models.precision import DType
from palate.rewards.completion_scores import CompletionScorer, require_one_reward
from palate.rewards.composition import RewardPart
from palate.rewards.part import caveats_of
from palate.runs.run import Run
from palate.samplers.kinds import LocalSamplerSettings, SamplerKind
from palate.samplers.prompts import fitting, prompts_at, samples_at
from palate.samplers.sampler import PromptReader

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Rerank:
    """Keep the best of several completions by a reward.

    Attributes:
        model: the policy to sample from. Where a server has it, only its tokenizer and its configuration are read here.
        samples: completions that were drawn before, in place of model and prompts; the first `n` of each prompt compete.
        reward: a reward model, or the run that trained it; a short form of `rewards` with this model alone.
        rewards: the parts of the reward by name, as in `online`: reward models, functions, rules, servers, judges, rubrics.
        prompts: the prompts to complete; one path, or several sources (docs/data.md).
        columns: what the columns of the prompts hold where their names do not say it: a type, and columns by name.
        limit: how many prompts are read, at most, of each source; none reads all.
        n: completions per prompt.
        sampling: the temperature, and the length of the longest completion.
        sampler: what draws: this process (local), or a server with an OpenAI-compatible API (openai).
        missing_eos_reward: the score of a completion that was cut off.
        gold: import path of a function that knows the truth; it shows the true gain of more samples.
        dtype: the type that policy and `reward` compute in; auto is bfloat16 on GPUs, else float32.
    """

    model: ModelInput | None = None
    prompts: DataInput | None = None
    reward: RewardInput | None = None
    rewards: dict[str, RewardPart] = field(default_factory=dict)
    samples: DataInput | None = None
    columns: ColumnTypes = field(default_factory=Recognised)
    limit: Count | None = None
    n: Count = 16
    sampling: Sampling = field(default_factory=Sampling)
    sampler: SamplerKind = field(default_factory=LocalSamplerSettings)
    missing_eos_reward: float = -1.0
    gold: FunctionInput | None = None
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError where the sampler cannot draw so, or there is not exactly one reward or one source of completions."""
        check_unweighted(self.prompts, self.samples)
        require_one_reward("rerank", self.reward, self.rewards)
        named = [self.model is not None, self.prompts is not None]
        if any(named) if self.samples is not None else not all(named):
            raise ConfigError("rerank needs either samples, or a model and prompts: set samples alone, or the other two")
        self.sampler.check(self.sampling)

    def run(self, run: Run) -> None:
        """Write the best completion of each prompt to `samples.jsonl`, and the curve over n to the summary.

        `demonstrations.jsonl` has those with an end token, for `sft` to learn from (best-of-n distillation). `curve.jsonl` has the curve of
        each prompt, whose errors go together.
        """
        sampler = None if self.model is None else self.sampler.open(model_at(self.model), self.dtype)
        scorer = CompletionScorer.load(run, self.reward, self.rewards, None if sampler is None else sampler.tokenizer, self.dtype)
        prompts, groups = self._given(run) if sampler is None else (self._prompts(run, sampler), [])
        scorer.check_prompts(prompts)
        with run.progress(2, "rerank") as advance:
            if sampler is not None:
                groups = sampler.generate(prompts, self.n, self.sampling, derive_seed(run.seed, "rerank"))
                sampler.close()
            advance(1, "sampled")
            scored = scorer.scores(prompts, groups).scores
            advance(1, "scored")
        prompts, groups, scores = self._known(scorer, prompts, groups, scored)
        best = [(prompt, group[k]) for prompt, group, k in zip(prompts, groups, scores.argmax(1), strict=True)]
        rows = (sample_row(prompt, [completion], [score]) for (prompt, completion), score in zip(best, scores.max(1), strict=True))
        write_rows(run.directory / "samples.jsonl", rows)
        finished = (completion_row(prompt, completion) for prompt, completion in best if completion.stop == "eos")
        write_rows(run.directory / "demonstrations.jsonl", finished)
        sizes = [n for n in SIZES if n <= self.n]
        curve: dict[str, list[float] | list[float | None]] = {"n": list(map(float, sizes)), "kl_at_most": [best_of_n_kl(n) for n in sizes]}
        columns = {"score": best_of_n_table(list(scores), list(scores), sizes)}
        curve["score"] = [estimate.value for estimate in best_of_n_curve(list(scores), list(scores), sizes).values()]
        if self.gold is not None:
            gold = load_gold(self.gold)
            truth = from_writer(
                lambda: np.array(
                    [
                        [np.mean(list(gold(p.text, c.text, **p.fields).values())) for c in group]
                        for p, group in zip(prompts, groups, strict=True)
                    ]
                )
            )
            estimates = best_of_n_curve(list(scores), list(truth), sizes).values()
            curve |= {"gold": [estimate.value for estimate in estimates], "gold_se": [known(estimate.se) for estimate in estimates]}
            columns["gold"] = best_of_n_table(list(scores), list(truth), sizes)
        per_prompt = ({name: table[k].tolist() for name, table in columns.items()} for k in range(len(prompts)))
        write_rows(run.directory / "curve.jsonl", [{"id": prompt.id, **row} for prompt, row in zip(prompts, per_prompt, strict=True)])
        run.summary({"prompts": len(prompts), "curve": curve, **caveats_of(self.rewards)})

    def _prompts(self, run: Run, sampler: PromptReader) -> list[Prompt]:
        assert self.prompts is not None
        return fitting(run, prompts_at(run, self.prompts, self.limit, self.columns), sampler, self.sampling.max_tokens)

    def _given(self, run: Run) -> tuple[list[Prompt], list[list[Completion]]]:
        """Return the prompts of `samples` with `n` completions each, and record those that have fewer.

        Raises:
            DataError: no prompt has so many.
        """
        assert self.samples is not None
        samples, name = samples_at(run, self.samples, self.limit, self.columns), data_name(self.samples)
        rows = [(prompt, list(completions[: self.n])) for prompt, completions in samples if len(completions) >= self.n]
        few = [f"fewer than {self.n} completions"] * (len(samples) - len(rows))
        run.dropped(name, few)
        if not rows:
            raise DataError(f"{name}: none of its {len(samples)} prompts has {self.n} completions. Lower n, or sample more")
        return [prompt for prompt, _ in rows], [completions for _, completions in rows]

    def _known(
        self,
        scorer: CompletionScorer,
        prompts: Sequence[Prompt],
        groups: Sequence[list[Completion]],
        scored: Sequence[Sequence[float | None]],
    ) -> tuple[list[Prompt], list[list[Completion]], npt.NDArray[np.float64]]:
        """Return the prompts whose completions all have a score, with completions and scores (prompts, n); drop the others.

        A completion that was cut off has the score `missing_eos_reward`, or the lowest score of those that end where that is lower, so that
        it is never better than one that ends. The best of n is unknown where one of n is not scored.
        """
        pairs = [
            (completion, score) for group, own in zip(groups, scored, strict=True) for completion, score in zip(group, own, strict=True)
        ]
        missing = min([self.missing_eos_reward, *(score for completion, score in pairs if completion.stop == "eos" and score is not None)])
        rows = [
            [score if completion.stop == "eos" else missing for completion, score in zip(group, own, strict=True)]
            for group, own in zip(groups, scored, strict=True)
        ]
        known = [k for k, row in enumerate(rows) if None not in row]
        if len(known) < len(rows):
            scorer.run.dropped("prompts without a best completion", ["a completion has no score"] * (len(rows) - len(known)))
        if not known:
            raise DataError(
                f"every prompt has a completion that {scorer.name} cannot score. Use a reward model with a longer context, lower "
                "sampling.max_tokens, or repair the part that fails"
            )
        return [prompts[k] for k in known], [groups[k] for k in known], np.array([rows[k] for k in known], dtype=float)
