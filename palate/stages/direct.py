"""Stage `direct`: tune a policy on preferences, without a reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from palate.config.artifacts import model_at
from palate.config.types import Amount, Count, ModelInput, name_of_kind
from palate.core import ConfigError, DataError, TrainingError, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data, sources_of
from palate.data.formats import MEAN, ColumnTypes, Recognised, read_preferences
from palate.distributed.windows import windows
from palate.evaluation.tax import TaxMeter, TaxProbes
from palate.models.adapters import LoRA, four_bit_of
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy, load_reference
from palate.models.precision import DType, dtype_of
from palate.models.shared_layers import sharing_out
from palate.objectives.direct import DPO, KTO, DirectObjective
from palate.objectives.reduce import Sums
from palate.runs.run import Run
from palate.text.pack import longest_of
from palate.training.comparisons import judged_prompts, overall
from palate.training.epochs import mixture_of, sources_summary
from palate.training.examples import examples_of
from palate.training.fit import epochs_of, fit, measured, warn_of_few_steps
from palate.training.keep import Keep, Last
from palate.training.learner import Learner
from palate.training.model_io import check_keep, check_packages, keep_model, search, token_limit, trainable, trained
from palate.training.optimizer import AdamW
from palate.training.pairs import PairLossInputs, Weighting
from palate.training.reference import FixedReference, MovingReference, Reference, ReferenceUpdate, UniformReference
from palate.training.source_losses import told_apart
from palate.training.template_remarks import tell_of
from palate.training.unpaired import UnpairedLossInputs, UnpairedSource, mismatched, rated_prompts, read_unpaired

IDENTITY_NATS = {torch.float32: 1e-3, torch.bfloat16: 1.0, torch.float16: 0.25}
"""How far a model's log-probability of a completion may differ between two ways of batching it, in nats."""


class ReferencedBatch(Protocol):
    """A micro-batch with its log-probabilities under the reference."""

    @property
    def then(self) -> Tensor:
        """Log-probabilities under the reference (rows, columns), nats."""
        ...


P = TypeVar("P", bound=ReferencedBatch)


class LossInputs(Protocol[P]):
    """Examples, and the objective that is trained on them."""

    rows: list[int]
    """The number of judgments of each prompt."""

    def microbatches(self, policy: CausalPolicy, indices: list[int]) -> list[P]:
        """Return the micro-batches of a step, each with what is computed over the whole step."""
        ...

    def logps(self, policy: CausalPolicy, part: P) -> Tensor:
        """Return the log-probabilities under the policy (rows, columns), with gradient, nats."""
        ...

    def sums(self, part: P, logps: Tensor) -> Sums:
        """Return the objective on a micro-batch."""
        ...


@dataclass(frozen=True)
class Direct:
    """Tune a policy on preferences directly, without a reward model.

    Attributes:
        model: the policy to start from; usually the fine-tuned one.
        preferences: pairs; answers to several questions about a pair are added up in logits. kto and bco use both sides as single
            completions, one desirable and one not, and also read unpaired preferences. One path, or several sources with weights
            (docs/data.md).
        columns: what the columns of `preferences` and `held_out` hold where their names do not say it: a type, and columns by name.
        dimension: the dimension by which ratings on several dimensions become pairs; `mean` uses the mean of all.
        reference: the model that the policy must stay close to; none uses `model`.
        reference_kind: uniform replaces the reference model by a uniform distribution; then nothing keeps the policy close to a model.
        reference_update: how the reference follows the policy (TR-DPO); none leaves it as it is.
        weighting: wpo weights each pair by how likely the policy is to write such completions itself; it needs a second forward pass.
        limit: how many preferences are read, at most, of each source; none reads all.
        epochs: epochs over the data.
        prompts_per_step: prompts, with all their pairs, per optimizer step.
        max_tokens: most tokens of prompt and completion together; none uses the model's limit.
        tokens_per_microbatch: tokens in a forward pass, at most.
        objective: the loss.
        optimizer: the optimizer and its schedule.
        adapters: train a LoRA adapter on the frozen model; none trains all weights.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32, as with `reference_update`.
            Weights stay float32.
        checkpoint_activations: recompute activations in the backward pass: it needs less memory and one more forward pass.
        held_out: preferences that are not trained on, for `keep: best`.
        keep: the last weights, or the best on `held_out`.
        tax: texts and evals that are measured every few steps, for what the policy loses; none measures nothing.
    """

    model: ModelInput
    preferences: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    dimension: str = MEAN
    reference: ModelInput | None = None
    reference_kind: Literal["model", "uniform"] = "model"
    reference_update: ReferenceUpdate | None = None
    weighting: Weighting = "none"
    limit: Count | None = None
    epochs: Amount = 1.0
    prompts_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 8192
    objective: DirectObjective = field(default_factory=DPO)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-5))
    adapters: LoRA | None = None
    dtype: DType = "auto"
    checkpoint_activations: bool = False
    held_out: DataInput | None = None
    keep: Keep = field(default_factory=Last)
    tax: TaxProbes | None = None

    def check(self) -> None:
        """Raise ConfigError when settings contradict each other."""
        sources_of(self.preferences)
        check_unweighted(self.held_out)
        check_keep(self.keep, self.held_out)
        check_packages(self.optimizer, self.adapters)
        if self.reference_update is not None and (self.adapters is not None or self.dtype not in ("auto", "float32")):
            what = "adapters" if self.adapters is not None else f"dtype {self.dtype}"
            raise ConfigError(
                f"reference_update mixes the policy's weights into a second model in float32, which excludes {what}. Leave one out"
            )
        kind = name_of_kind(self.objective)
        named = [name for name, value in (("reference", self.reference), ("reference_update", self.reference_update)) if value is not None]
        if not self.objective.needs_reference and (named or self.reference_kind == "uniform"):
            raise ConfigError(f"{kind} does not use a reference, so {(named or ['reference_kind'])[0]} would have no effect. Leave it out")
        if self.reference_kind == "uniform" and named:
            raise ConfigError(f"reference_kind is uniform, so {named[0]} would have no effect. Leave one of the two out")
        if not self.objective.is_unpaired:
            return
        if self.weighting == "wpo":
            raise ConfigError(f"weighting wpo is for pairs, and {kind} learns from single completions. Leave it out")
        if self.reference_kind == "uniform":
            raise ConfigError(f"{kind} compares the policy with a reference model, so reference_kind must be model")
        if isinstance(self.objective, KTO) and self.prompts_per_step == 1:
            raise ConfigError(
                "kto: prompts_per_step is 1, but the baseline is a mean over the prompts of a step, and one is too few. Use 8 or more"
            )

    def run(self, run: Run) -> None:
        """Train the policy and save it as `model/`."""
        base, dtype = model_at(self.model), dtype_of(self._dtype)
        with sharing_out(windows(), learns=self.adapters is None):
            policy = load_policy(base, four_bit=four_bit_of(self.adapters))
        policy = trainable(run, policy, base, self.adapters, checkpoint_activations=self.checkpoint_activations)
        examples = self._examples(run, policy, self.preferences, "preferences.jsonl", self.limit)
        held_out = [] if self.held_out is None else self._examples(run, policy, self.held_out, "held_out.jsonl", None)
        sources = [example.source_name for example in examples]
        mixture = mixture_of(run, sources, self.preferences)
        epochs = epochs_of(run, len(examples), self.prompts_per_step, self.epochs, lambda k: examples[k].source, mixture)
        tax = None if self.tax is None else TaxMeter(self.tax, run, policy, self.tokens_per_microbatch, epochs.steps)
        reference = self._reference(policy, longest_of([example.tree for example in [*examples, *held_out]]))
        learner = Learner({"policy": policy.module, **reference.modules}, self.optimizer, epochs.steps, dtype=dtype)
        # After the learner is made: the policy is its own reference, and must compute in the type that it learns in.
        inputs = self._loss_inputs(run, policy, [*examples, *held_out], reference)
        if isinstance(reference, FixedReference):
            reference.release()
        warn_of_few_steps(run, epochs, sum(inputs.rows[: len(examples)]))
        starts_at_reference = self.reference is None and not isinstance(reference, UniformReference)

        def parts(indices: list[int]) -> list[Any]:
            reference.before_step(policy, learner.steps_done)
            return inputs.microbatches(policy, indices)

        def loss(part: Any) -> Sums:
            logps = inputs.logps(policy, part)
            if learner.steps_done == 0 and starts_at_reference:
                _require_identity(logps.detach() - part.reference_logps, IDENTITY_NATS[dtype])
            return inputs.sums(part, logps)

        held_out_indices = list(range(len(examples), len(examples) + len(held_out)))
        before = None if tax is None else tax.look
        held_out_loss = search(self.keep, lambda: measured(inputs.microbatches(policy, held_out_indices), loss), before)
        shown = examples_of(run, policy, (example.prompt for example in held_out or examples), epochs.steps)
        last = fit(run, learner, epochs, parts, loss, held_out_loss, shown)
        lost = {} if tax is None else {"tax": tax.finish()}
        keep_model(run, trained(run, policy, self.adapters, learner), self.adapters)
        unit, rows = ("unpaired" if self.objective.is_unpaired else "pairs"), inputs.rows[: len(examples)]
        figures = {"prompts": len(examples), unit: sum(rows), **sources_summary(sources, mixture)}
        run.summary({**figures, "steps": epochs.steps, "last": last, **lost})

    @property
    def _dtype(self) -> DType:
        """The type to compute in: float32 where the reference moves, as `check` demands."""
        return "float32" if self.reference_update is not None else self.dtype

    def _reference(self, policy: CausalPolicy, longest: int) -> Reference:
        """Return the reference of the log-ratios; without a named one it is the policy before its first step."""
        if self.reference_kind == "uniform" or not self.objective.needs_reference:
            return UniformReference()
        model = policy
        if self.reference is not None:
            with sharing_out(windows(), learns=False):
                model = load_reference(model_at(self.reference), policy, longest, dtype=self._dtype)
            model.module.requires_grad_(requires_grad=False)
        return FixedReference(model) if self.reference_update is None else MovingReference(model, self.reference_update)

    def _examples(self, run: Run, policy: CausalPolicy, data: DataInput, name: str, limit: int | None) -> list[Any]:
        """Return the preferences in `data` (or the file `name` of a run) by prompt; unpaired ones where the objective needs these."""
        max_tokens, path = token_limit(policy, self.max_tokens), data_name(data)
        prompts: list[Any]
        if self.objective.is_unpaired:
            unpaired = read_data(data, name, read_unpaired, limit, self.columns)
            dropped, further = unpaired.dropped, unpaired.further
            prompts, reasons = rated_prompts(unpaired.rows, policy.tokenizer, max_tokens)
        else:
            table = read_data(data, name, partial(read_preferences, dimension=self.dimension), limit, self.columns)
            dropped, further = table.dropped, table.further
            judged, reasons = judged_prompts(table.rows, policy.tokenizer, max_tokens)
            prompts = overall(judged)
        run.dropped(path, [row.kind for row in dropped] + reasons)
        run.columns_left_out(path, further)
        tell_of(run, path, prompts)
        if not prompts:
            raise DataError(f"{path}: no preference is left that favours one side. Check probabilities, weights and lengths")
        return told_apart(prompts)

    def _loss_inputs(self, run: Run, policy: CausalPolicy, examples: list[Any], reference: Reference) -> LossInputs[Any]:
        if not self.objective.is_unpaired:
            return PairLossInputs(examples, self.objective, self.weighting, self.tokens_per_microbatch, reference)
        others = None
        if isinstance(self.objective, KTO):
            max_tokens = token_limit(policy, self.max_tokens)
            others = UnpairedSource(mismatched(examples, max_tokens, derive_seed(run.seed, "mismatched")), self.tokens_per_microbatch)
        return UnpairedLossInputs(UnpairedSource(examples, self.tokens_per_microbatch), others, self.objective, reference)


def _require_identity(log_ratios: Tensor, allowed: float) -> None:
    """Raise TrainingError when log-ratios before the first step are not 0, although policy and reference are the same model."""
    worst = float(log_ratios.abs().max())
    if worst > allowed:
        raise TrainingError(
            f"before the first step the policy's log-probabilities differ from the reference's by up to {worst:.2e} nats, although "
            "they are the same model. Check for dropout, and for sequences that are cut or masked differently"
        )
