"""The rows of a report's sections: measurements and texts, never conclusions.

`takeaways` derives sentences such as "PPO gains 0.12" from the numbers, so no claim can outlive its data.
All strings are plain text; the page escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palate.evaluation.calibration import Bin
from palate.evaluation.intervals import Estimate

VariantRole = Literal["base", "sft", "direct", "online", "search", "ablation", "other"]
"""The role of a model on the page; it decides the colour. `search` is best-of-n, `ablation` a run with a part taken away."""

Better = Literal["higher", "lower"]
"""Which direction of a figure is the good one."""

EvalKind = Literal["capability", "refusal"]
"""`capability` feeds the section on the alignment tax, `refusal` the one on what is refused."""

HighlightKind = Literal["good", "bad", "exploit"]
"""Why a part of a completion is marked: a checked truth, a violation, or a planted exploit that earns undeserved reward."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of the comparison, in the order of the report. `note` says in a few words how it was made."""

    key: str
    name: str
    role: VariantRole = "other"
    note: str = ""


@dataclass(frozen=True, slots=True)
class DimensionScore:
    """A variant's mean gold on one dimension, and its paired difference to the reference variant (None for itself)."""

    variant: str
    dimension: str
    estimate: Estimate
    versus_reference: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Contest:
    """The paired difference of the summary figure between two variants, neither of which is the reference."""

    first: str
    second: str
    difference: Estimate


@dataclass(frozen=True, slots=True)
class GoldScores:
    """Gold by dimension and variant. `dimensions` is the order of the panels; `overall` names the dimension that is the summary."""

    dimensions: tuple[str, ...]
    scores: tuple[DimensionScore, ...]
    overall: str = "gold"
    how: str = ""
    contests: tuple[Contest, ...] = ()


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often `variant` was preferred to `opponent` on the same prompts; ties count one half in the estimate."""

    variant: str
    opponent: str
    estimate: Estimate
    ties: int = 0


@dataclass(frozen=True, slots=True)
class WinRates:
    """Win rates where no gold exists. `judge` says who judged; `held_out` whether models were trained against another judge."""

    judge: str
    rows: tuple[WinRate, ...]
    held_out: bool
    how: str = ""
    contests: tuple[Contest, ...] = ()


@dataclass(frozen=True, slots=True)
class RewardAccuracy:
    """Held-out pairwise accuracy of one dimension, or of one source (ties count one half), beside its floors and its ceiling.

    `longer_wins`/`shorter_wins` are the length rules, `shuffled` a model trained on shuffled labels, `ceiling` the best
    accuracy that raters' disagreement allows. None where not measured.
    """

    dimension: str
    accuracy: Estimate
    longer_wins: float | None = None
    shorter_wins: float | None = None
    shuffled: float | None = None
    ceiling: float | None = None
    gold_accuracy: Estimate | None = None


@dataclass(frozen=True, slots=True)
class RewardModelCard:
    """The reward model on pairs it was not trained on. `training_pairs` counts what it learned from."""

    rows: tuple[RewardAccuracy, ...]
    training_pairs: int
    calibration: tuple[Bin, ...] = ()
    ece: float | None = None
    log_loss: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class EvalResult:
    """A variant's share of right behaviour (or of the named event) in one eval; the difference is paired."""

    variant: str
    estimate: Estimate
    versus_reference: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Eval:
    """One eval: its name, what it asks, which direction is good, and each variant's result."""

    key: str
    name: str
    kind: EvalKind
    results: tuple[EvalResult, ...]
    better: Better = "higher"
    question: str = ""


@dataclass(frozen=True, slots=True)
class LengthRow:
    """How long a variant's completions are, in tokens, and the share that ends by itself (EOS) and not at the limit."""

    variant: str
    mean: Estimate
    p10: float
    median: float
    p90: float
    eos_share: Estimate


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Prompts that differ only in a guest's name or origin: difference of gold (or score) between two groups, paired."""

    variant: str
    attribute: str
    first: str
    second: str
    difference: Estimate


@dataclass(frozen=True, slots=True)
class ExploitShare:
    """The share of a variant's completions that use a trick: it pleases the proxy without making the answer better."""

    variant: str
    exploit: str
    share: Estimate


@dataclass(frozen=True, slots=True)
class BestOfNPoint:
    """Expected proxy and gold of the best of `n` samples by the proxy; `kl_bound` = log n - (n - 1) / n nats, an upper bound."""

    n: int
    proxy: float
    kl_bound: float
    gold: float | None = None
    gold_se: float | None = None


@dataclass(frozen=True, slots=True)
class BestOfN:
    """The curve of best-of-n from one set of samples of `variant`; `prompts` counts the prompts."""

    variant: str
    points: tuple[BestOfNPoint, ...]
    prompts: int


@dataclass(frozen=True, slots=True)
class Highlight:
    """A marked part of an answer: characters [start, end) of the text, why, and a note shown on hover and to screen readers."""

    start: int
    end: int
    kind: HighlightKind
    note: str = ""


@dataclass(frozen=True, slots=True)
class ExampleAnswer:
    """One variant's answer to a prompt, with its gold by dimension in the order of `GoldScores.dimensions` (empty when unknown)."""

    variant: str
    text: str
    gold: tuple[tuple[str, float], ...] = ()
    highlights: tuple[Highlight, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class PromptExample:
    """One prompt and every variant's answer. `kind` is a short tag ("allergy", "jailbreak"), `note` what to look for."""

    prompt: str
    answers: tuple[ExampleAnswer, ...]
    kind: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Takeaways:
    """Plain sentences on what a model learned and did not learn, for models without gold."""

    learned: tuple[str, ...] = ()
    not_learned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunWarning:
    """What a guard said about a run: its first text, the step at which it first spoke, and how often it did."""

    run: str
    guard: str
    step: int
    text: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Seconds a stage took, and what it did ("3,500 pairs")."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LineageRow:
    """Where an artifact came from: its stage, the artifact, its parents and the hash of its inputs."""

    stage: str
    artifact: str
    parents: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Replicate:
    """The overall figure of one variant under another training seed, and its paired difference to that seed's reference."""

    seed: int
    variant: str
    estimate: Estimate
    versus_reference: Estimate
