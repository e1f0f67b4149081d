"""Palate from Python: see docs/python.md. `palate reference` writes this file.

It imports the nouns alone: a type checker would otherwise have to read all of Palate as one circle. For exact types of models import from
`palate.api.model_parts`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from palate.core import Completion as Completion
from palate.core import Demonstration as Demonstration
from palate.core import Message as Message
from palate.core import PalateError as PalateError
from palate.core import Preference as Preference
from palate.core import Prompt as Prompt
from palate.core import Sampling as Sampling
from palate.core import UnpairedPreference as UnpairedPreference

class _Settings(Protocol):
    """A dataclass: its fields are its settings."""

    __dataclass_fields__: Any

class DataSource:
    """One of several sources of rows. See docs/data.md."""

    def __init__(
        self,
        path: Data | Model,
        name: str | None = None,
        weight: float | None = None,
        limit: int | None = None,
        type: str | None = None,
        columns: Choice = ...,
    ) -> None: ...

_Path = str | PathLike[str]
CausalPolicy: TypeAlias = Any
Composition: TypeAlias = Any
LearnedReward: TypeAlias = Any
Loop: TypeAlias = Any
PreTrainedModel: TypeAlias = Any
PreTrainedTokenizerBase: TypeAlias = Any
Rollouts: TypeAlias = Any
RunRecord: TypeAlias = Any
Stage: TypeAlias = Any
DType = str
PromptLike = Prompt | str | Sequence[Mapping[str, Any]]
CompletionLike = Completion | str
Data = _Path | Iterable[Any]
"""A file, a run, or rows: mappings, texts, prompts, demonstrations, preferences."""
Model = _Path | CausalPolicy
"""A run, a model directory, a name on the hub, or a model of this process."""
Function = str | Callable[..., Any]
"""An import path, or a function."""
Choice = str | Mapping[str, Any] | _Settings | Callable[..., Any]
"""A kind, settings with their kind, an import path, or an object."""

__version__: str

class FinishedRun(PathLike[str]):
    """A run that a stage finished. It stands for its directory wherever a path does."""

    name: str
    directory: Path
    how: str
    def __fspath__(self) -> str: ...
    def path(self, *names: str) -> Path: ...
    @property
    def summary(self) -> Mapping[str, Any]: ...
    @property
    def metrics(self) -> list[Mapping[str, float]]: ...
    @property
    def record(self) -> RunRecord: ...

def world(
    *,
    kitchen: Choice = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Write the kitchen's corpus, demonstrations, prompts and tests. See docs/reference.md#world."""

def pretrain(
    *,
    data: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    tokenizer: Data | Model,
    columns: Choice = ...,
    architecture: Choice = ...,
    epochs: float = ...,
    documents_per_step: int = ...,
    tokens_per_microbatch: int = ...,
    optimizer: Choice = ...,
    objective: Choice = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Train a small language model from nothing on plain text. See docs/reference.md#pretrain."""

def sft(
    *,
    model: Model,
    data: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    columns: Choice = ...,
    limit: int | None = ...,
    epochs: float = ...,
    demonstrations_per_step: int = ...,
    max_tokens: int | None = ...,
    tokens_per_microbatch: int = ...,
    optimizer: Choice = ...,
    objective: Choice = ...,
    adapters: Choice | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    checkpoint_activations: bool = ...,
    held_out: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    keep: Choice = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Fine-tune a model on demonstrations. See docs/reference.md#sft."""

def sample(
    *,
    model: Model,
    prompts: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    columns: Choice = ...,
    limit: int | None = ...,
    samples_per_prompt: int = ...,
    sampling: Choice = ...,
    sampler: Choice = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Draw completions of prompts from a model. See docs/reference.md#sample."""

def revise(
    *,
    model: Model,
    samples: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    columns: Choice = ...,
    constitution: Data | Model = ...,
    rounds: int = ...,
    critique: bool = ...,
    keep: Literal['all', 'last'] = ...,
    demonstrations: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    demonstrations_share: float = ...,
    limit: int | None = ...,
    sampling: Choice = ...,
    sampler: Choice = ...,
    gold: Function | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Criticise and revise completions by a constitution's principles. See docs/reference.md#revise."""

def collect(
    *,
    samples: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    from_: Choice,
    dimensions: str | Sequence[str] = ...,
    completions_per_comparison: int = ...,
    pairs_per_prompt: int | None = ...,
    limit: int | None = ...,
    raters_per_comparison: int = ...,
    held_out: float = ...,
    prior: float = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Have completions compared by raters, and conclude preferences. See docs/reference.md#collect."""

def reward(
    *,
    model: Model,
    preferences: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    columns: Choice = ...,
    dimension: str = ...,
    held_out: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    reference_samples: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    held_out_share: float = ...,
    limit: int | None = ...,
    leave_out: Choice | None = ...,
    epochs: float = ...,
    prompts_per_step: int = ...,
    max_tokens: int | None = ...,
    tokens_per_microbatch: int = ...,
    control: Literal['none', 'shuffled'] = ...,
    rater_weights: Mapping[str, float] = ...,
    objective: Choice = ...,
    score: Literal['last_token', 'with_likelihood', 'mean_pooled'] = ...,
    optimizer: Choice = ...,
    adapters: Choice | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    checkpoint_activations: bool = ...,
    keep: Choice = ...,
    members: Choice | None = ...,
    length_head: Choice | None = ...,
    groups: Choice | None = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Train a reward model on preferences. See docs/reference.md#reward."""

def collect_rules(
    *,
    samples: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    rules: Data | Model,
    from_: Choice,
    ids: str | Sequence[str] = ...,
    limit: int | None = ...,
    raters_per_question: int = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Have completions judged by the rules of a file. See docs/reference.md#collect_rules."""

def rules(
    *,
    model: Model,
    rules: Data | Model,
    judgments: Data | Model | Sequence[Data | Model],
    held_out: Data | Model | Sequence[Data | Model] = ...,
    held_out_share: float = ...,
    unlearned: str | Sequence[str] = ...,
    wordings: int | None = ...,
    answers: Sequence[Any] | None = ...,
    score: Literal['last_token', 'with_surprise'] = ...,
    epochs: float = ...,
    completions_per_step: int = ...,
    max_tokens: int | None = ...,
    tokens_per_microbatch: int = ...,
    optimizer: Choice = ...,
    adapters: Choice | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    checkpoint_activations: bool = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Train a classifier that says whether a written rule is broken. See docs/reference.md#rules."""

def refresh(
    *,
    reward: Data | Model,
    preferences: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    samples: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    columns: Choice = ...,
    replay: Data | Model | Sequence[Data | Model] = ...,
    replay_share: float = ...,
    held_out: Data | Model | Sequence[Data | Model] = ...,
    held_out_share: float = ...,
    epochs: float = ...,
    prompts_per_step: int = ...,
    tokens_per_microbatch: int = ...,
    objective: Choice = ...,
    optimizer: Choice = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    curve: float | Sequence[float] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Train a reward model further, and show what that changed. See docs/reference.md#refresh."""

def direct(
    *,
    model: Model,
    preferences: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    columns: Choice = ...,
    dimension: str = ...,
    reference: Model | None = ...,
    reference_kind: Literal['model', 'uniform'] = ...,
    reference_update: Choice | None = ...,
    weighting: Literal['none', 'wpo'] = ...,
    limit: int | None = ...,
    epochs: float = ...,
    prompts_per_step: int = ...,
    max_tokens: int | None = ...,
    tokens_per_microbatch: int = ...,
    objective: Choice = ...,
    optimizer: Choice = ...,
    adapters: Choice | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    checkpoint_activations: bool = ...,
    held_out: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    keep: Choice = ...,
    tax: Choice | None = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Tune a policy on preferences directly, without a reward model. See docs/reference.md#direct."""

def online(
    *,
    model: Model,
    prompts: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    reward: Data | Model | None = ...,
    rewards: Mapping[str, Choice] = ...,
    columns: Choice = ...,
    limit: int | None = ...,
    iterations: int = ...,
    prompts_per_iteration: int = ...,
    samples_per_prompt: int = ...,
    sampler: Choice = ...,
    epochs_per_batch: int = ...,
    minibatches: int = ...,
    sampling: Choice = ...,
    method: Choice = ...,
    kl: Choice = ...,
    shaping: Choice = ...,
    pretraining: Choice | None = ...,
    reward_requirements: Choice = ...,
    guards: Choice = ...,
    held_out: Choice = ...,
    keep: Choice = ...,
    gold: Function | None = ...,
    tokens_per_microbatch: int = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    offload: bool = ...,
    optimizer: Choice = ...,
    adapters: Choice | None = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Tune a policy on rewards of its completions, within a KL budget. See docs/reference.md#online."""

def pair(
    *,
    samples: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    reward: Data | Model | None = ...,
    rewards: Mapping[str, Choice] = ...,
    missing_eos_reward: float = ...,
    min_gap: float = ...,
    min_accuracy: float = ...,
    min_spread: float = ...,
    replay: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    replay_share: float = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Pair the best with the worst of sampled completions by a reward. See docs/reference.md#pair."""

def average(
    *,
    models: Model | Sequence[Model],
    weights: float | Sequence[float] | None = ...,
    reference_samples: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    held_out: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Average the weights of models that were tuned from one another. See docs/reference.md#average."""

def rerank(
    *,
    model: Model | None = ...,
    prompts: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    reward: Data | Model | None = ...,
    rewards: Mapping[str, Choice] = ...,
    samples: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    columns: Choice = ...,
    limit: int | None = ...,
    n: int = ...,
    sampling: Choice = ...,
    sampler: Choice = ...,
    missing_eos_reward: float = ...,
    gold: Function | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Keep the best of several completions by a reward. See docs/reference.md#rerank."""

def evaluate(
    *,
    prompts: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    model: Model | None = ...,
    completions: Data | Model | None = ...,
    evals: Data | Model | Sequence[Data | Model] = ...,
    evals_limit: int | None = ...,
    sycophancy: Data | Model | None = ...,
    lm_eval: Choice | None = ...,
    reward: Data | Model | None = ...,
    rewards: Mapping[str, Choice] = ...,
    held_out_reward: Data | Model | None = ...,
    reference: Model | None = ...,
    rules: Choice | None = ...,
    gold: Function | None = ...,
    probes: Mapping[str, Function] = ...,
    columns: Choice = ...,
    control_prompts: int = ...,
    limit: int | None = ...,
    sampling: Choice = ...,
    tokens_per_microbatch: int = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Measure what a model gained and lost. See docs/reference.md#evaluate."""

def regrade(
    *,
    before: Data | Model,
    rubric: Choice,
    after: Data | Model | None = ...,
    panel: Mapping[str, Choice] = ...,
    cards: Data | Model | Sequence[Data | Model] = ...,
    verdict: Choice = ...,
    instructions: Data | Model = ...,
    limit: int | None = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Ask other judges whether a gain on a rubric is real, or have completions graded. See docs/reference.md#regrade."""

def compare(
    *,
    policies: Mapping[str, Model],
    prompts: Data | Model | DataSource | Sequence[Data | Model | DataSource] | None = ...,
    columns: Choice = ...,
    limit: int | None = ...,
    completions_per_prompt: int = ...,
    sampling: Choice = ...,
    sampler: Choice = ...,
    raters: Choice | None = ...,
    rater_prompts: int | None = ...,
    raters_per_comparison: int = ...,
    judge: Choice | None = ...,
    pairs_per_prompt: int | None = ...,
    dimensions: str | Sequence[str] = ...,
    reward: Data | Model | None = ...,
    rewards: Mapping[str, Choice] = ...,
    gold: Function | None = ...,
    difference: float = ...,
    split_by: str | None = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Say which of several policies wins on the same prompts. See docs/reference.md#compare."""

def report(
    *,
    models: Choice | Sequence[Choice],
    reference: str,
    title: str = ...,
    subtitle: str = ...,
    reward: Data | Model | None = ...,
    control: Data | Model | None = ...,
    judgments: Data | Model | None = ...,
    revisions: Data | Model | None = ...,
    revision_labels: Data | Model | None = ...,
    comparison: Data | Model | None = ...,
    costs: bool = ...,
    sources: Choice | Sequence[Choice] = ...,
    gold: Function | None = ...,
    sweep: Data | Model | Sequence[Data | Model] = ...,
    levers: Choice | Sequence[Choice] = ...,
    training: Mapping[str, Data | Model] = ...,
    tuned: str | None = ...,
    without_kl: str | None = ...,
    best: Data | Model | None = ...,
    exploit_phrases: str | Sequence[str] = ...,
    examples: int = ...,
    unmeasured: str | Sequence[str] = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> FinishedRun:
    """Write a report of the runs with tables and plots. See docs/reference.md#report."""

def online_loop(
    *,
    model: Model,
    prompts: Data | Model | DataSource | Sequence[Data | Model | DataSource],
    reward: Data | Model | None = ...,
    rewards: Mapping[str, Choice] = ...,
    columns: Choice = ...,
    limit: int | None = ...,
    iterations: int = ...,
    prompts_per_iteration: int = ...,
    samples_per_prompt: int = ...,
    sampler: Choice = ...,
    epochs_per_batch: int = ...,
    minibatches: int = ...,
    sampling: Choice = ...,
    method: Choice = ...,
    kl: Choice = ...,
    shaping: Choice = ...,
    pretraining: Choice | None = ...,
    reward_requirements: Choice = ...,
    guards: Choice = ...,
    held_out: Choice = ...,
    keep: Choice = ...,
    gold: Function | None = ...,
    tokens_per_microbatch: int = ...,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = ...,
    offload: bool = ...,
    optimizer: Choice = ...,
    adapters: Choice | None = ...,
    name: str = ...,
    runs: _Path = ...,
    out: _Path = ...,
    seed: int = ...,
    device: str = ...,
    shard: str = ...,
    track: str | Sequence[str] = ...,
    fresh: bool = ...,
    extend: _Path = ...,
    keep_state: bool = ...,
) -> AbstractContextManager[Loop]:
    """Give the loop of stage `online` to a program."""

def as_policy(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> CausalPolicy:
    """Return a Hugging Face model with its tokenizer as a policy, which stages take in place of a path."""

def as_prompts(prompts: Sequence[PromptLike]) -> list[Prompt]:
    """Return texts and messages as prompts, each with its number as id; prompts stay as they are."""

def compose(parts: Mapping[str, Any], policy: CausalPolicy | None = ...) -> Composition:
    """Return a reward of parts, ready to score. Close it when you are done."""

def generate(policy: CausalPolicy, prompts: Sequence[PromptLike], n: int = ..., *, sampling: Sampling | None = ..., seed: int = ...) -> list[list[Completion]]:
    """Draw `n` completions of each prompt. The same seed gives the same completions."""

def load_policy(model: str | PathLike[str], *, dtype: DType = ...) -> CausalPolicy:
    """Return the policy in a run or a model directory, or of that name on the hub."""

def load_reward(model: str | PathLike[str], *, dtype: DType = ...) -> LearnedReward:
    """Return the reward model in a run or a model directory."""

def logps(policy: CausalPolicy, prompts: Sequence[PromptLike], completions: Sequence[Sequence[CompletionLike]], *, temperature: float = ...) -> list[list[list[float]]]:
    """Return the log-probability of every token of every completion, nats; a text is read as a finished completion."""

def rollouts(policy: CausalPolicy, prompts: Sequence[PromptLike], completions: Sequence[Sequence[Completion]]) -> Rollouts:
    """Return completions that anybody drew as rollouts, which `loop.score` takes. Each needs its ids and their log-probabilities."""

def run(file: str | PathLike[str], assignments: Sequence[str] = ..., *, runs: str | PathLike[str] = ...) -> Mapping[str, FinishedRun]:
    """Run a pipeline file, as `palate run` does, and return its runs by stage."""

def run_stage(stage: Stage, **words: Any) -> FinishedRun:
    """Run a stage that is given as an object: one of Palate's classes, or your own, with `check(self)` and `run(self, run)`."""

def score(reward: LearnedReward | Mapping[str, Any], prompts: Sequence[PromptLike], completions: Sequence[Sequence[CompletionLike]]) -> list[list[float | None]]:
    """Score every completion, None where that fails."""

def stage_class(kind: str) -> type[Stage]:
    """Return the class of a stage; its docstring describes each setting. Raises ConfigError where there is no such stage."""
