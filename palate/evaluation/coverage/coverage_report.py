"""Which prompts of a deployment the preferences reach, as plain records: what `palate coverage` prints and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from palate.agreement.estimates import json_values
from palate.agreement.paired_logistic import sigmoid
from palate.agreement.selection import select
from palate.config.artifacts import file_at
from palate.core import Conversation, DataError, Preference, Prompt, derive_seed
from palate.data.formats import Dropped, format_of_file, read_completion_groups, read_preferences, read_prompts
from palate.data.formats.write import prompt_row, sample_row
from palate.data.jsonl import Row
from palate.evaluation.coverage.coverage_figures import (
    ALL,
    ClusterCoverage,
    Flags,
    Ints,
    JudgedPreferences,
    RewardErrors,
    cluster_coverage,
    is_warning,
)
from palate.evaluation.coverage.prompt_reach import PromptReach, prompt_reach
from palate.evaluation.report.formatting import counted
from palate.evaluation.reward_check.prompt_clusters import cluster_prompts
from palate.evaluation.reward_check.score_book import ScoreBook, scored_pairs
from palate.rewards.combination import RewardModels
from palate.runs.record import read_record

HELD_OUT = "held_out.jsonl"
EXAMPLES_SHOWN = 3
MOST_CLUSTERS = 12


@dataclass(frozen=True)
class JudgedPrompts:
    """The judged prompts, their preferences, and which of these a reward model may be tested on.

    Attributes:
        prompts: the m prompts, each once.
        preferences: all preferences.
        held_out: (p,) which preferences are held out.
        left_out: rows that cannot be used.
    """

    prompts: tuple[Prompt, ...]
    preferences: JudgedPreferences
    held_out: Flags
    left_out: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class CoverageReport:
    """What is known about the coverage of a deployment's prompts.

    Attributes:
        whole: the figures over all prompts.
        clusters: the figures of each cluster, holes first; () where there are too few prompts for clusters.
        already_judged: prompts of the deployment that were judged themselves.
        unlike_examples: prompts that are unlike every judged one, the farthest first.
        left_out: rows that cannot be used, by reason.
        models: the reward models.
    """

    whole: ClusterCoverage
    clusters: tuple[ClusterCoverage, ...]
    already_judged: int
    unlike_examples: tuple[str, ...]
    left_out: Mapping[str, int]
    models: tuple[str, ...]

    @property
    def holes(self) -> tuple[ClusterCoverage, ...]:
        """The clusters that the judgments do not reach."""
        return tuple(one for one in self.clusters if one.reach == "hole")

    @property
    def sentence(self) -> str:
        """What to know first."""
        prompts = counted(self.whole.prompts, "prompt")
        if not self.whole.judgments:
            return f"No judgment is about any prompt, so none of the {prompts} is reached."
        if self.holes:
            missed = sum(one.prompts for one in self.holes)
            names = "; ".join(one.name for one in self.holes)
            return f"{missed} of {prompts} lie in clusters that the judgments do not reach: {names}."
        if partly := [one for one in self.clusters if one.reach == "partly"]:
            names = "; ".join(f"{one.name} ({one.unlike.value:.0%})" for one in partly)
            return f"Every cluster has judged prompts, but too many prompts in some are unlike all of them: {names}."
        unlike = self.whole.unlike
        if is_warning(unlike):
            return f"No cluster is a hole, but {unlike.value:.0%} of {prompts} are unlike every judged prompt; 5 % would be expected."
        if not self.clusters:
            return f"The {prompts} are too few for clusters. Read the figures over all of them."
        return f"The judgments reach every cluster of the {prompts}."

    def plain(self) -> dict[str, Any]:
        """Return the report as JSON values. Undefined numbers become None."""
        return {"sentence": self.sentence, **cast("dict[str, Any]", json_values(asdict(self)))}


@dataclass(frozen=True)
class Deployment:
    """The prompts of a deployment, each once, with completions where the file has them."""

    prompts: tuple[Prompt, ...]
    rows: tuple[Row, ...]
    left_out: tuple[Dropped, ...] = ()


def read_deployment(path: Path) -> Deployment:
    """Read the distinct prompts of a file or a run; a row of samples keeps its completions.

    Raises:
        DataError: the file cannot be read, or has no prompt.
    """
    samples = file_at(str(path), "samples.jsonl")
    file = samples if samples.name == "samples.jsonl" else file_at(str(path), "prompts.jsonl")
    table = read_prompts(file)
    rows: dict[Conversation, tuple[Prompt, Row]] = {}
    if _has_samples(file):
        groups = read_completion_groups(file)
        rows = {one.prompt.conversation: (one.prompt, sample_row(one.prompt, one.completions)) for one in reversed(groups.rows)}
    for prompt in reversed(table.rows):
        rows.setdefault(prompt.conversation, (prompt, prompt_row(prompt)))
    if not rows:
        raise DataError(f"{file} holds no prompt that can be used. Give a file of prompts or samples.")
    kept = list(reversed(rows.values()))
    return Deployment(tuple(prompt for prompt, _ in kept), tuple(row for _, row in kept), tuple(table.dropped))


def _has_samples(file: Path) -> bool:
    return format_of_file(file).name == "samples"


def read_judged(path: Path, held_out: Path | None) -> JudgedPrompts:
    """Read preferences of a run of `collect` or a file, and the held-out ones beside them or at another path.

    Raises:
        DataError: a file cannot be read.
    """
    main = file_at(str(path), "preferences.jsonl")
    if main.is_dir() and (record := read_record(main)) is not None:
        raise DataError(f"{path} is a run of {record.stage} and has no preferences.jsonl. Name a run of collect, or a file of preferences.")
    other = file_at(str(held_out), HELD_OUT) if held_out is not None else main.with_name(HELD_OUT) if main != path else None
    tables = [read_preferences(main)]
    if other is not None and (held_out is not None or other.is_file()):
        tables.append(read_preferences(other))
    numbers: dict[Conversation, int] = {}
    prompts: list[Prompt] = []
    kept: list[Preference] = []
    where: list[int] = []
    for one in [row for table in tables for row in table.rows]:
        if one.prompt.conversation not in numbers:
            numbers[one.prompt.conversation] = len(prompts)
            prompts.append(one.prompt)
        kept.append(one)
        where.append(numbers[one.prompt.conversation])
    flags = np.arange(len(kept)) >= len(tables[0].rows)
    dropped = tuple(row for table in tables for row in table.dropped)
    return JudgedPrompts(tuple(prompts), JudgedPreferences(tuple(kept), np.array(where, dtype=np.int64)), flags, dropped)


def coverage(
    judged: JudgedPrompts, deployment: Deployment, models: RewardModels | None = None, most: int = MOST_CLUSTERS, seed: int = 0
) -> tuple[CoverageReport, PromptReach]:
    """Return which prompts of a deployment the judged ones reach, and how near each is to them."""
    texts, known = ([prompt.text for prompt in each] for each in (deployment.prompts, judged.prompts))
    reach = prompt_reach(texts, known, seed)
    unlike = None if reach.limit is None else reach.unreached
    errors, left_out = (None, Counter[str]()) if models is None else _errors(judged, models)

    def describe(chosen: Flags) -> tuple[str, ...]:
        order = sorted(np.flatnonzero(chosen).tolist(), key=lambda k: (float(reach.nearest[k]), k))
        return tuple(texts[k] for k in order[:EXAMPLES_SHOWN])

    def figures(name: str, chosen: Flags, here: Flags) -> ClusterCoverage:
        return cluster_coverage(name, chosen, judged.preferences, here, unlike, errors, describe)

    clusters = cluster_prompts(texts, known, most)
    found = []
    if clusters is not None:
        found = [figures(name, clusters.number == k, clusters.others == k) for k, name in enumerate(clusters.names)]
        found = [one for one in found if one.prompts]
    rank = {"hole": 0, "partly": 1, "thin": 2, "reached": 3}
    whole = figures(ALL, np.ones(len(texts), dtype=bool), np.ones(len(known), dtype=bool))
    conversations = {prompt.conversation for prompt in judged.prompts}
    report = CoverageReport(
        whole=replace(whole, examples=()),
        clusters=tuple(sorted(found, key=lambda one: (rank[one.reach], -one.prompts))),
        already_judged=sum(prompt.conversation in conversations for prompt in deployment.prompts),
        unlike_examples=() if unlike is None else describe(unlike),
        left_out=dict(left_out + Counter(row.kind for row in (*judged.left_out, *deployment.left_out))),
        models=() if models is None else tuple(models.members),
    )
    return report, reach


def collect_next(judged: JudgedPrompts, deployment: Deployment, reach: PromptReach, count: int, seed: int = 0) -> list[int]:
    """Return the numbers of the prompts to collect judgments on next, in the order in which to ask; at most `count`.

    A prompt that was judged is not among them. The chance of a prompt grows with how much farther it is from judged prompts than usual,
    and falls where many candidates are alike. At least 30 % come at random, as in the queue of the rating server
    (`palate.agreement.select`).
    """
    conversations = {prompt.conversation for prompt in judged.prompts}
    open_ones = np.array([k for k, prompt in enumerate(deployment.prompts) if prompt.conversation not in conversations], dtype=np.int64)
    if not len(open_ones):
        return []
    need = reach.need[open_ones].astype(np.float64)
    rng = np.random.default_rng(derive_seed(seed, "coverage", "collect"))
    chosen = select(need, count, rng, reach.features[open_ones].astype(np.float64))
    order = chosen.indices[np.lexsort((chosen.indices, -need[chosen.indices], chosen.is_random))]
    return [int(k) for k in open_ones[order]]


def _errors(judged: JudgedPrompts, models: RewardModels) -> tuple[RewardErrors | None, Counter[str]]:
    """Return what the models do on the held-out pairs, and why pairs were left out; None without held-out pairs."""
    numbers = np.flatnonzero(judged.held_out)
    if not len(numbers):
        return None, Counter()
    preferences = [judged.preferences.preferences[k] for k in numbers]
    pairs, left_out = scored_pairs(ScoreBook(models), preferences)
    place = {prompt.conversation: k for k, prompt in enumerate(judged.prompts)}
    prompt: Ints = np.array([place[one.prompt.conversation] for one in pairs.preferences], dtype=np.int64)
    chances = sigmoid(pairs.logits)
    mean = chances.mean(0)
    spread = chances.std(0) if len(chances) > 1 else np.full(len(pairs), np.nan)
    return RewardErrors(1 - pairs.right, np.minimum(mean, 1 - mean), spread, prompt), left_out
