"""Stage `direct`: a policy from judgments, without a reward model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from torch import Tensor

from palate.core import ConfigError, DataError, TrainingError, derive_seed
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.objectives.direct import BCO, DPO, KTO, DirectObjective
from palate.objectives.reduce import Sums
from palate.recipes.anchors import Anchor, Fixed, Follow, Moving, Uniform
from palate.recipes.comparisons import judged_prompts, overall
from palate.recipes.config import Amount, Count, Input, ModelInput
from palate.recipes.imitation import epochs_of
from palate.recipes.pairwise import PairCourse, Weighting
from palate.recipes.places import NO_LIMIT, file_at, model_at
from palate.recipes.thumbs import ThumbCourse, Thumbs, mismatched, rated_prompts, thumbs_at
from palate.stores.formats import read_preferences
from palate.stores.runs import Run
from palate.training.learner import Learner
from palate.training.loop import fit
from palate.training.optimizer import AdamW


class Part(Protocol):
    """A micro-batch with its values under the reference."""

    @property
    def then(self) -> Tensor:
        """Log-probabilities under the reference (rows, columns), nats."""
        ...


P = TypeVar("P", bound=Part)


class Course(Protocol[P]):
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
        reference: what the policy must stay close to; none takes `model`.
        anchor: uniform takes log-ratios against nothing instead of a reference; nothing then holds the policy in place.
        follow: lets the reference follow the policy (TR-DPO); none, the default, leaves it where it is.
        weighting: wpo weighs each pair by how likely the policy is to write such completions itself; costs a second forward pass.
        limit: preferences read at most; none reads all.
        epochs: passes over the data.
        prompts_per_step: prompts (with all their pairs) an optimizer step.
        max_tokens: longest prompt and completion together; none takes the model's limit.
        tokens_per_microbatch: tokens a forward pass holds at most.
        objective: the loss.
        optimizer: how the weights are moved.
    """

    model: ModelInput
    preferences: Input
    reference: ModelInput | None = None
    anchor: Literal["reference", "uniform"] = "reference"
    follow: Follow | None = None
    weighting: Weighting = "none"
    limit: Count | None = None
    epochs: Amount = 1.0
    prompts_per_step: Count = 32
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 8192
    objective: DirectObjective = field(default_factory=DPO)
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-5))

    def check(self) -> None:
        """Checks that settings of the reference are about one, and that the objective can do with the steps."""
        kind = self.objective.kind
        named = [name for name, given in (("reference", self.reference), ("follow", self.follow)) if given is not None]
        if not self._needs_reference and (named or self.anchor == "uniform"):
            raise ConfigError(f"{kind} knows no reference, so {(named or ['anchor'])[0]} would do nothing; leave it out")
        if self.anchor == "uniform" and named:
            raise ConfigError(f"anchor is uniform, so {named[0]} would do nothing; leave one of the two out")
        if not isinstance(self.objective, KTO | BCO):
            return
        if self.weighting == "wpo":
            raise ConfigError(f"weighting wpo is for pairs, and {kind} learns from single completions; leave it out")
        if self.anchor == "uniform":
            raise ConfigError(f"{kind} compares a completion with what the reference thinks of it; anchor must be reference")
        if isinstance(self.objective, KTO) and self.prompts_per_step == 1:
            raise ConfigError(
                "kto: prompts_per_step is 1, and its baseline is a mean over the prompts of a step: one alone is no estimate of the KL. "
                "Take 8 or more"
            )

    @property
    def _needs_reference(self) -> bool:
        return isinstance(self.objective, KTO | BCO) or "reference" in self.objective.needs

    def run(self, run: Run) -> None:
        """Trains the policy and saves it as `model/`."""
        policy = load_policy(model_at(self.model))
        anchor = self._anchor(policy)
        course = self._course(run, policy, anchor)
        epochs = epochs_of(run, len(course.rows), self.prompts_per_step, self.epochs)
        learner = Learner({"policy": policy.module, **anchor.modules}, self.optimizer, epochs.steps)
        starts_at_reference = self.reference is None and not isinstance(anchor, Uniform)

        def parts(indices: list[int]) -> list[Any]:
            anchor.before_step(policy, learner.steps_done)
            return course.parts(policy, indices)

        def loss(part: Any) -> Sums:
            now = course.now(policy, part)
            if learner.steps_done == 0 and starts_at_reference:
                _require_identity(now.detach() - part.then)
            return course.sums(part, now)

        last = fit(run, learner, epochs, parts, loss, "direct")
        policy.save(run.directory / "model")
        unit = "thumbs" if isinstance(self.objective, KTO | BCO) else "pairs"
        run.summary({"prompts": len(course.rows), unit: sum(course.rows), "steps": epochs.steps, "last": last})

    def _anchor(self, policy: CausalPolicy) -> Anchor:
        """What log-ratios are taken against; the policy itself, before its first step, where no reference is named."""
        if self.anchor == "uniform" or not self._needs_reference:
            return Uniform()
        reference = policy if self.reference is None else load_policy(model_at(self.reference))
        return Fixed(reference) if self.follow is None else Moving(reference, self.follow)

    def _course(self, run: Run, policy: CausalPolicy, anchor: Anchor) -> Course[Any]:
        limit = self.max_tokens or policy.max_tokens or NO_LIMIT
        path = file_at(self.preferences, "preferences.jsonl")
        if not isinstance(self.objective, KTO | BCO):
            table = read_preferences(path, limit=self.limit)
            dropped = [row.kind for row in table.dropped]
            judged, reasons = judged_prompts(table.rows, policy.tokenizer, limit)
            run.dropped(self.preferences, dropped + reasons)
            judged = overall(judged)
            if not judged:
                raise DataError(f"{self.preferences}: no pair says which side is better; look at its probabilities")
            return PairCourse(judged, self.objective, self.weighting, self.tokens_per_microbatch, anchor)
        thumbs, dropped = thumbs_at(path, self.limit)
        rated, reasons = rated_prompts(thumbs, policy.tokenizer, limit)
        run.dropped(self.preferences, dropped + reasons)
        if not rated:
            raise DataError(f"{self.preferences}: no judgment is left to learn from; look at probabilities, weights and lengths")
        others = None
        if isinstance(self.objective, KTO):
            others = Thumbs(mismatched(rated, limit, derive_seed(run.seed, "mismatched")), self.tokens_per_microbatch)
        return ThumbCourse(Thumbs(rated, self.tokens_per_microbatch), others, self.objective, anchor)


def _require_identity(log_ratios: Tensor) -> None:
    """Before the first step, policy and reference are the same model: their log-probabilities must be equal too."""
    worst = float(log_ratios.abs().max())
    if worst > 1e-3:
        raise TrainingError(
            f"before the first step the policy's log-probabilities differ from the reference's by up to {worst:.2e} nats, though they "
            "are the same model: dropout is on, or sequences are cut or masked differently"
        )
