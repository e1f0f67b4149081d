"""Stage `evaluate`: measure what a model gained and lost, on held-out prompts and evals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from palate.agreement.estimates import known
from palate.config.artifacts import file_at, model_at
from palate.config.functions import load_gold, load_probe
from palate.config.types import Count, FunctionInput, Input, ModelInput, RewardInput
from palate.core import Completion, ConfigError, Conversation, DataError, Prompt, Sampling, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, content_beside_source, data_name
from palate.data.formats import ColumnTypes, Recognised, read_samples
from palate.data.jsonl import write_rows
from palate.data.sycophancy_file import SycophancyFile
from palate.distributed.ranks import from_writer
from palate.distributed.sharing import microbatches, shared
from palate.distributed.windows import windows
from palate.evaluation.eval_answers import EvalRun
from palate.evaluation.evals import eval_means
from palate.evaluation.harness import HarnessTasks
from palate.evaluation.intervals import mean
from palate.evaluation.published_figures import published_figures
from palate.evaluation.rule_audit import audited
from palate.evaluation.standing_controls import Control, control_answers, with_gold, written_controls
from palate.evaluation.trained_against import require_held_out
from palate.evaluation.training_prompts import prompt_digest
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy, load_reference
from palate.models.precision import DType
from palate.models.shared_layers import sharing_out
from palate.objectives.kl import k1
from palate.rewards.completion_scores import CompletionScorer
from palate.rewards.composition import RewardPart
from palate.rewards.part import caveats_of
from palate.rewards.rule_check import RuleCheck
from palate.runs.run import Run
from palate.samplers.prompts import fitting, prompts_at
from palate.samplers.stored_samples import StoredSampler
from palate.text.pack import Branch, Tree, longest_of, pack
from palate.text.spans import prompt_ids

Answered = Sequence[tuple[Prompt, Completion]]


@dataclass(frozen=True)
class Evaluate:
    """Measure what a model gained and lost.

    Attributes:
        model: the model to measure; none where `completions` are given.
        completions: completions of the prompts that were made elsewhere, for example by rerank; they are measured instead of fresh
            samples, without evals.
        prompts: held-out prompts; one path, or several sources (docs/data.md).
        columns: what the columns of the prompts hold where their names do not say it: a type, and columns by name.
        evals: files of questions with a known right behaviour: published evals as they are (docs/methods/evals.md), or rows of your own.
        evals_limit: how many rows of each file of evals are taken, at most, as a fixed random choice; none takes all.
        sycophancy: a file of what users say after an answer and beside a question; evals with known answers are then asked further.
        lm_eval: tasks of lm-evaluation-harness that are asked of the model as it is in memory; none asks none.
        reward: a reward model that scores the completions; a short form of `rewards` with this model alone.
        rewards: the parts of a reward by name, as in `online`, that score the completions.
        held_out_reward: a reward model that no policy was trained on; it scores the same completions.
        reference: the model to which the KL is measured.
        rules: written rules that the completions are checked against, and who checks them.
        gold: import path of a function that knows the truth.
        probes: import paths of functions f(completion) that return a number, by name.
        control_prompts: prompts, at most, on which `reward` and `gold` also score answers without content: none, a repeated sentence, and
            the prompt itself. 0 scores no such answer. The parts in `rewards` never do, because they may cost money.
        limit: how many prompts are read, at most, of each source; none reads all.
        sampling: the temperature, and the length of the longest completion.
        tokens_per_microbatch: tokens in a forward pass, at most.
        dtype: the type that all models compute in; auto is bfloat16 on GPUs, else float32.
    """

    prompts: DataInput
    model: ModelInput | None = None
    completions: Input | None = None
    evals: tuple[Input, ...] = ()
    evals_limit: Count | None = None
    sycophancy: Input | None = None
    lm_eval: HarnessTasks | None = None
    reward: RewardInput | None = None
    rewards: dict[str, RewardPart] = field(default_factory=dict)
    held_out_reward: RewardInput | None = None
    reference: ModelInput | None = None
    rules: RuleCheck | None = None
    gold: FunctionInput | None = None
    probes: dict[str, FunctionInput] = field(default_factory=dict)
    columns: ColumnTypes = field(default_factory=Recognised)
    control_prompts: Annotated[int, Ge(0)] = 128
    limit: Count | None = None
    sampling: Sampling = field(default_factory=Sampling)
    tokens_per_microbatch: Count = 16_384
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError when there is not exactly one thing to measure, or two rewards."""
        check_unweighted(self.prompts)
        if self.reward is not None and self.rewards:
            raise ConfigError("evaluate takes a reward model in reward, or parts in rewards, and not both")
        if self.held_out_reward is not None and self.held_out_reward == self.reward:
            raise ConfigError("held_out_reward is the model in reward. Name one that no policy was trained on, or leave it out")
        if (self.model is None) == (self.completions is None):
            raise ConfigError("evaluate needs either a model or completions: set one of the two")
        if self.completions is not None and (self.evals or self.reference is not None or self.lm_eval is not None):
            raise ConfigError("evals, lm_eval and reference need a model: leave them out when completions are given")
        if self.lm_eval is not None:
            self.lm_eval.check()
        if self.sycophancy is not None and not self.evals:
            raise ConfigError("sycophancy asks the questions of evals further: name files of evals with known answers in evals")

    def run(self, run: Run) -> None:
        """Write `completions.jsonl`, `evals.jsonl` and the means. Raises ConfigError where `held_out_reward` trained the model."""
        if self.held_out_reward is not None:
            require_held_out(run.directory, "held_out_reward")
        with run.progress(3, "evaluate") as advance:
            policy = None if self.model is None else load_policy(model_at(self.model), dtype=self.dtype)
            completions = self._completions(run, policy)
            advance(1, "completions")
            controls = self._controls(completions)
            rows = self._measure(run, policy, completions, controls)
            audit: dict[str, object] = {} if self.rules is None else {"rules": audited(run, self.rules, completions, rows)}
            write_rows(run.directory / "completions.jsonl", rows)
            audit |= written_controls(run, controls, rows)
            advance(1, "scores")
            evals = [] if policy is None or not self.evals else self._evals().rows(run, policy)
            if evals:
                write_rows(run.directory / "evals.jsonl", evals)
            tasks = {} if policy is None or self.lm_eval is None else self.lm_eval.measured(run, policy, self.tokens_per_microbatch)
            advance(1, "evals")
        asked = {"lm_eval": tasks} if tasks else {}
        caveats, published = caveats_of(self.rewards), {"published": found} if (found := published_figures(evals)) else {}
        figures = {"prompts": len(rows), "means": _means(rows), **_by_source(rows)}
        run.summary({**figures, "evals": eval_means(evals), **published, **asked, **audit, **caveats})

    def _evals(self) -> EvalRun:
        gold = None if self.gold is None else load_gold(self.gold)
        sycophancy = None if self.sycophancy is None else SycophancyFile.read(Path(self.sycophancy))
        return EvalRun(self.evals, self.evals_limit, self.sampling, gold, self.tokens_per_microbatch, sycophancy)

    def _completions(self, run: Run, policy: CausalPolicy | None) -> Answered:
        """Return a completion of each prompt, sampled or given."""
        prompts = prompts_at(run, self.prompts, self.limit, self.columns)
        if policy is None:
            return self._given(run, prompts)
        prompts = fitting(run, prompts, policy, self.sampling.max_tokens)
        groups = StoredSampler(run, policy, "model").generate(prompts, 1, self.sampling, derive_seed(run.seed, "evaluate"))
        return [(prompt, group[0]) for prompt, group in zip(prompts, groups, strict=True)]

    def _given(self, run: Run, prompts: Sequence[Prompt]) -> Answered:
        """Return the first given completion of each prompt, and record what is not measured.

        A row answers the prompt of the same conversation, whatever its place in the file is. Where several prompts have this
        conversation, it answers the one with its own columns or id.

        Raises:
            DataError: no completion answers a prompt.
        """
        assert self.completions is not None
        table = read_samples(file_at(self.completions, "samples.jsonl"))
        asked: dict[Conversation, list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            asked[prompt.conversation].append(prompt)
        given: dict[str, Completion] = {}
        unused = [row.kind for row in table.dropped]
        for answered, (completion, *others) in table.rows:
            candidates = [prompt for prompt in asked[answered.conversation] if prompt.id not in given]
            content, name = content_beside_source(answered), answered.id
            candidates.sort(key=lambda one, own=content, name=name: (content_beside_source(one) != own, one.id != name))  # type: ignore[misc]
            if candidates:
                given[candidates[0].id] = completion
            else:
                unused.append("its prompt is not among the prompts")
            unused += ["not the first completion of its prompt"] * len(others)
        run.dropped(self.completions, unused)
        run.dropped("prompts", ["no completion is given"] * (len(prompts) - len(given)))
        if not given:
            raise DataError(
                f"{self.completions}: none of its {len(table.rows)} rows answers a prompt of {data_name(self.prompts)}. "
                "Give the prompts that the completions answer"
            )
        return [(prompt, given[prompt.id]) for prompt in prompts if prompt.id in given]

    def _controls(self, completions: Answered) -> list[Control]:
        """Return the standing controls with their gold, where `reward` or `gold` can score them."""
        if self.reward is None and self.gold is None:
            return []
        controls = control_answers(completions, self.control_prompts)
        if self.gold is not None:
            values = from_writer(partial(with_gold, controls, load_gold(self.gold)))
            for control, value in zip(controls, values, strict=True):
                control.row["gold"] = value
        return controls

    def _measure(self, run: Run, policy: CausalPolicy | None, completions: Answered, controls: Sequence[Control]) -> list[dict[str, Any]]:
        """Return a row for each completion with its figures, and give the controls their scores."""
        rows: list[dict[str, Any]] = [
            {
                "id": p.id,
                "prompt": p.text,
                "content": prompt_digest(p),
                "text": c.text,
                "stop": c.stop,
                **({"tokens": len(c.ids)} if c.ids else {}),
                **({"source": p.source_name} if p.source_name else {}),
            }
            for p, c in completions
        ]
        if self.gold is not None:
            gold = load_gold(self.gold)
            measured = from_writer(
                lambda: [dict(gold(prompt.text, completion.text, **prompt.fields)) for prompt, completion in completions]
            )
            for row, dimensions in zip(rows, measured, strict=True):
                row["dimensions"] = dimensions
                row["gold"] = sum(dimensions.values()) / len(dimensions)
        for name, path in self.probes.items():
            count = load_probe(path)
            for row, counted in zip(rows, from_writer(partial(_counts, count, rows)), strict=True):
                row.setdefault("probes", {})[name] = counted
        if self.reward is not None or self.rewards:
            self._score(run, policy, completions, rows, controls)
        if self.held_out_reward is not None:
            tokenizer = None if policy is None else policy.tokenizer
            scorer = CompletionScorer.load(run, self.held_out_reward, {}, tokenizer, self.dtype)
            scored = scorer.scores([prompt for prompt, _ in completions], [[completion] for _, completion in completions])
            for row, (score,) in zip(rows, scored.scores, strict=True):
                row["held_out_score"] = score
        if self.reference is not None and policy is not None:
            for row, kl in zip(rows, self._kl(policy, completions), strict=True):
                row["kl"] = kl
        return rows

    def _score(
        self,
        run: Run,
        policy: CausalPolicy | None,
        completions: Answered,
        rows: Sequence[dict[str, Any]],
        controls: Sequence[Control],
    ) -> None:
        """Give each row its score, and beside it those of the parts and what they are made of. `reward` scores the controls too."""
        tokenizer = None if policy is None else policy.tokenizer
        scorer = CompletionScorer.load(run, self.reward, self.rewards, tokenizer, self.dtype)
        prompts = [prompt for prompt, _ in completions]
        scorer.check_prompts(prompts)
        scored = scorer.scores(prompts, [[completion] for _, completion in completions])
        for row, (score,), (details,) in zip(rows, scored.scores, scored.details, strict=True):
            row["score"] = score
            if details:
                row["parts"] = details
        if self.reward is not None and controls:
            values = scorer.control_scores([control.prompt for control in controls], [control.answer for control in controls])
            for control, value in zip(controls, values, strict=True):
                control.row["score"] = value

    def _kl(self, policy: CausalPolicy, completions: Answered) -> list[float]:
        """Return the KL of each completion to the reference by k1, summed over its tokens, nats."""
        assert self.reference is not None
        trees = [Tree(prompt_ids(policy.tokenizer, prompt), (Branch(c.ids, (True,) * len(c.ids)),)) for prompt, c in completions]
        with sharing_out(windows(), learns=False):
            reference = load_reference(model_at(self.reference), policy, longest_of(trees), dtype=self.dtype)

        def measured(part: list[int]) -> Tensor:
            batch = pack([trees[k] for k in part])
            logps = torch.tensor([logp for k in part for logp in completions[k][1].logps])
            tokens = k1(logps, reference.logps(batch, temperature=self.sampling.temperature).logps)
            return torch.zeros(len(part)).index_add(0, batch.branch, tokens)

        kl = torch.zeros(len(trees))
        parts = microbatches(trees, self.tokens_per_microbatch)
        with torch.no_grad():
            for part, of_part in zip(parts, shared(parts, measured), strict=True):
                kl[torch.tensor(part)] = of_part
        return [float(x) for x in kl]


def _counts(count: Callable[[str], float], rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return what a probe counts in each completion."""
    return [count(row["text"]) for row in rows]


def _by_source(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, object]]]:
    """Return the figures of each source under `sources`; nothing where the prompts are from one path."""
    of_each: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if "source" in row:
            of_each[row["source"]].append(row)
    figures: dict[str, dict[str, object]] = {name: {"prompts": len(own), "means": _means(own)} for name, own in of_each.items()}
    return {"sources": figures} if figures else {}


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean, standard error and number of values of every figure of the completions."""
    names = [name for name in ("gold", "score", "held_out_score", "kl", "tokens") if all(name in row for row in rows)]
    columns: dict[str, list[float]] = {name: [row[name] for row in rows if row[name] is not None] for name in names}
    columns |= {f"gold/{dimension}": [row["dimensions"][dimension] for row in rows] for dimension in rows[0].get("dimensions", {})}
    for part in rows[0].get("parts", {}):
        columns[f"score/{part}"] = [row["parts"][part] for row in rows if row["parts"][part] is not None]
    columns |= {f"probe/{name}": [row["probes"][name] for row in rows] for name in rows[0].get("probes", {})}
    if all(row["stop"] != "unknown" for row in rows):
        columns["eos"] = [float(row["stop"] == "eos") for row in rows]
    estimates = {name: mean(np.array(values)) for name, values in columns.items() if values}
    return {name: {"mean": estimate.value, "se": known(estimate.se), "n": estimate.n} for name, estimate in estimates.items()}
