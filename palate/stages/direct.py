"""Stage `direct`: a policy from judgments, without a reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from torch import Tensor

from palate.config.artifacts import file_at, model_at
from palate.config.types import Amount, Count, Input, ModelInput
from palate.core import ConfigError, DataError, TrainingError, derive_seed
from palate.data.formats import MEAN, read_preferences
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import DTYPES, DType, load_policy
from palate.objectives.direct import DPO, KTO, DirectObjective
from palate.objectives.reduce import Sums
from palate.runs.run import Run
from palate.text.spans import NO_LIMIT
from palate.training.comparisons import JudgedPrompt, judged_prompts, overall
from palate.training.fit import epochs_of, fit, mean_loss
from palate.training.keep import Keep, Last
from palate.training.learner import Learner
from palate.training.model_io import check_keep, keep_model, search, trainable, trained
from palate.training.optimizer import AdamW
from palate.training.pairs import PairLossInputs, Weighting
from palate.training.reference import FixedReference, MovingReference, Reference, ReferenceUpdate, UniformReference
from palate.training.unpaired import RatedPrompt, UnpairedLossInputs, UnpairedSource, mismatched, rated_prompts, read_unpaired

IDENTITY_NATS: dict[DType, float] = {"float32": 1e-3, "bfloat16": 1.0}
"""How far one model's log-probabilities of a completion may differ between two ways of batching it."""


class ReferencedBatch(Protocol):
    """A micro-batch with its values under the reference."""

    @property
    def then(self) -> Tensor:
        """Log-probabilities under the reference (rows, columns), nats."""
        ...


P = TypeVar("P", bound=ReferencedBatch)


class LossInputs(Protocol[P]):
    """Examples and an objective that fits them."""

    rows: list[int]
    """Judgments of each prompt."""

    def parts(self, policy: CausalPolicy, indices: list[int]) -> list[P]:
        """The micro-batches of a step, with all that must be known of the whole step."""
        ...

    def now(self, policy: CausalPolicy, part: P) -> Tensor:
        """Log-probabilities under the policy (rows, columns), with gradient."""
        ...

    def sums(self, part: P, now: Tensor) -> Sums:
        """The objective on a part."""
        ...


@dataclass(frozen=True)
class Direct:
    """Tune a policy on preferences directly, without a reward model.

    Attributes:
        model: the policy to start from; usually the fine-tuned one.
        preferences: pairs; answers to several questions about a pair are added up in logits. kto and bco take both sides of each
            as single completions, one wanted and one not, and read labelled rows too.
        dimension: where the rows are ratings on several dimensions, the one that pairs are made by; `mean` takes their mean.
        reference: what the policy must stay close to; none takes `model`.
        reference_kind: uniform takes log-ratios against nothing instead of a reference; nothing then holds the policy in place.
        reference_update: lets the reference follow the policy (TR-DPO); none, the default, leaves it where it is.
        weighting: wpo weighs each pair by how likely the policy is to write such completions itself; costs a second forward pass.
        limit: preferences read at most; none reads all.
        epochs: passes over the data.
        prompts_per_step: prompts (with all their pairs) an optimizer step.
        max_tokens: longest prompt and completion together; none takes the model's limit.
        tokens_per_microbatch: tokens a forward pass holds at most.
        objective: the loss.
        optimizer: how the weights are moved.
        adapters: train a LoRA adapter on the frozen model; none trains the whole model.
        dtype: what the forward and backward pass compute in; weights, gradients over a step and optimizer state stay float32.
        checkpoint_activations: compute activations anew in the backward pass instead of holding them: less memory, one more forward pass.
        held_out: preferences that are not trained on, for keep: best.
        keep: the last weights, or the best on `held_out`.
    """

    model: ModelInput
    preferences: Input
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
    dtype: DType = "float32"
    checkpoint_activations: bool = False
    held_out: Input | None = None
    keep: Keep = field(default_factory=Last)

    def check(self) -> None:
        """Checks that settings fit each other: those of the reference, of the objective, and of the weights kept."""
        check_keep(self.keep, self.held_out)
        if self.reference_update is not None and (self.adapters is not None or self.dtype != "float32"):
            what = "adapters" if self.adapters is not None else f"dtype {self.dtype}"
            raise ConfigError(
                f"reference_update mixes the policy's weights into a second, float32 model, and cannot with {what}; leave one out"
            )
        kind = self.objective.kind
        named = [name for name, given in (("reference", self.reference), ("reference_update", self.reference_update)) if given is not None]
        if not self._needs_reference and (named or self.reference_kind == "uniform"):
            raise ConfigError(f"{kind} knows no reference, so {(named or ['reference_kind'])[0]} would do nothing; leave it out")
        if self.reference_kind == "uniform" and named:
            raise ConfigError(f"reference_kind is uniform, so {named[0]} would do nothing; leave one of the two out")
        if not self._takes_thumbs:
            return
        if self.weighting == "wpo":
            raise ConfigError(f"weighting wpo is for pairs, and {kind} learns from single completions; leave it out")
        if self.reference_kind == "uniform":
            raise ConfigError(f"{kind} compares a completion with what the reference thinks of it; reference_kind must be model")
        if isinstance(self.objective, KTO) and self.prompts_per_step == 1:
            raise ConfigError(
                "kto: prompts_per_step is 1, and its baseline is a mean over the prompts of a step: one alone is no estimate of the KL. "
                "Take 8 or more"
            )

    @property
    def _takes_thumbs(self) -> bool:
        return self.objective.is_unpaired

    @property
    def _needs_reference(self) -> bool:
        return self.objective.needs_reference

    def run(self, run: Run) -> None:
        """Trains the policy and saves it as `model/`."""
        base = model_at(self.model)
        policy = trainable(run, load_policy(base), base, self.adapters, checkpoint_activations=self.checkpoint_activations)
        examples = self._examples(run, policy, self.preferences, "preferences.jsonl", self.limit)
        held = [] if self.held_out is None else self._examples(run, policy, self.held_out, "held_out.jsonl", None)
        epochs = epochs_of(run, len(examples), self.prompts_per_step, self.epochs, lambda k: examples[k].source)
        anchor = self._anchor(policy)
        learner = Learner({"policy": policy.module, **anchor.modules}, self.optimizer, epochs.steps, dtype=DTYPES[self.dtype])
        # Only now: the policy is its own reference, and computes in the type it will learn in.
        course = self._course(run, policy, [*examples, *held], anchor)
        starts_at_reference = self.reference is None and not isinstance(anchor, UniformReference)

        def parts(indices: list[int]) -> list[Any]:
            anchor.before_step(policy, learner.steps_done)
            return course.parts(policy, indices)

        def loss(part: Any) -> Sums:
            now = course.now(policy, part)
            if learner.steps_done == 0 and starts_at_reference:
                _require_identity(now.detach() - part.then, IDENTITY_NATS[self.dtype])
            return course.sums(part, now)

        held_out = list(range(len(examples), len(examples) + len(held)))
        last = fit(run, learner, epochs, parts, loss, "direct", search(self.keep, lambda: mean_loss(course.parts(policy, held_out), loss)))
        keep_model(run, trained(run, policy, self.adapters, learner), self.adapters)
        unit, rows = ("thumbs" if self._takes_thumbs else "pairs"), course.rows[: len(examples)]
        run.summary({"prompts": len(examples), unit: sum(rows), "steps": epochs.steps, "last": last})

    def _anchor(self, policy: CausalPolicy) -> Reference:
        """What log-ratios are taken against; the policy itself, before its first step, where no reference is named."""
        if self.reference_kind == "uniform" or not self._needs_reference:
            return UniformReference()
        reference = policy if self.reference is None else load_policy(model_at(self.reference), dtype=self.dtype)
        return FixedReference(reference) if self.reference_update is None else MovingReference(reference, self.reference_update)

    def _examples(self, run: Run, policy: CausalPolicy, path: str, name: str, limit: int | None) -> list[Any]:
        """What there is at `path` (or in its file `name`) by prompt: conclusions about pairs, or single judgments."""
        longest = self.max_tokens or policy.max_tokens or NO_LIMIT
        found: list[JudgedPrompt] | list[RatedPrompt]
        if self._takes_thumbs:
            thumbs, dropped = read_unpaired(file_at(path, name), limit)
            found, reasons = rated_prompts(thumbs, policy.tokenizer, longest)
        else:
            table = read_preferences(file_at(path, name), limit=limit, dimension=self.dimension)
            dropped = [row.kind for row in table.dropped]
            judged, reasons = judged_prompts(table.rows, policy.tokenizer, longest)
            found = overall(judged)
        run.dropped(path, dropped + reasons)
        if not found:
            raise DataError(f"{path}: no judgment is left that says which is better; look at probabilities, weights and lengths")
        return list(found)

    def _course(self, run: Run, policy: CausalPolicy, examples: list[Any], anchor: Reference) -> LossInputs[Any]:
        if not self.objective.is_unpaired:
            return PairLossInputs(examples, self.objective, self.weighting, self.tokens_per_microbatch, anchor)
        others = None
        if isinstance(self.objective, KTO):
            longest = self.max_tokens or policy.max_tokens or NO_LIMIT
            others = UnpairedSource(mismatched(examples, longest, derive_seed(run.seed, "mismatched")), self.tokens_per_microbatch)
        return UnpairedLossInputs(UnpairedSource(examples, self.tokens_per_microbatch), others, self.objective, anchor)


def _require_identity(log_ratios: Tensor, allowed: float) -> None:
    """Before the first step, policy and reference are the same model: their log-probabilities must be equal too."""
    worst = float(log_ratios.abs().max())
    if worst > allowed:
        raise TrainingError(
            f"before the first step the policy's log-probabilities differ from the reference's by up to {worst:.2e} nats, though they "
            "are the same model: dropout is on, or sequences are cut or masked differently"
        )
