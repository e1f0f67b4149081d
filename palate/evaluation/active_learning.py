"""Active learning: score the pairs without a judgment by an ensemble's disagreement, in `scores.jsonl`, and order the queue by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from palate.agreement.selection import ensemble_disagreement
from palate.core import Completion, PalateError, Prompt, derive_seed
from palate.data.data_sources import DataInput, paths_of
from palate.data.jsonl import write_rows
from palate.distributed.ranks import from_writer
from palate.models.scalar import ScalarModel
from palate.raters.people import project_of_run
from palate.rewards.combination import RewardModels
from palate.rewards.ensemble import drawn_heads, precision_of
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.text.pack import Tree
from palate.text.template import Unusable
from palate.training.comparisons import JudgedPrompt

if TYPE_CHECKING:
    from palate.ratings import Item, Project

Floats = npt.NDArray[np.float64]
T = TypeVar("T")

SCORES = "scores.jsonl"
MEMBERS = 16
FEATURES = 32
"""Numbers that describe a prompt. States with more dimensions are projected onto as many at random."""


class QueueEnsemble(Protocol):
    """The reward models whose disagreement orders a queue."""

    @property
    def reward(self) -> LearnedReward:
        """The model whose tokens are read, and whose states describe prompts."""

    @property
    def dimensions(self) -> Sequence[str]:
        """Names of the dimensions that the models score."""

    def member_scores(self, trees: Sequence[Tree], states: Floats) -> Mapping[str, Floats]:
        """Return raw scores (b, m) of all branches by the members, by dimension; `states` (b, d) are those of `reward`."""


@dataclass(frozen=True)
class DrawnMembers:
    """Heads drawn from what the judgments leave open about the last layer of one model.

    Attributes:
        model: the model.
        judged: what it learned from.
        seed: of the run.
    """

    model: ScalarModel
    judged: Sequence[JudgedPrompt]
    seed: int

    @property
    def reward(self) -> LearnedReward:
        """The model as a scorer."""
        return LearnedReward(self.model)

    @property
    def dimensions(self) -> Sequence[str]:
        """The model's heads."""
        return self.model.heads

    def heads(self) -> Mapping[str, Floats]:
        """Return heads (m, d) by dimension."""
        states = self.reward.states([prompt.tree for prompt in self.judged]).double().numpy()
        starts = np.cumsum([0, *(len(prompt.tree.branches) for prompt in self.judged)])
        weights = self.model.head_weights.detach().double().numpy()
        heads = {}
        for name, head in zip(self.model.heads, weights, strict=True):
            pairs = [(start, p) for start, prompt in zip(starts, self.judged, strict=False) for p in prompt.pairs if p.dimension == name]
            differences = np.array([states[start + p.chosen] - states[start + p.rejected] for start, p in pairs]).reshape(-1, len(head))
            precision = precision_of(differences, head, np.array([p.weight for _, p in pairs]))
            heads[name] = drawn_heads(head, precision, MEMBERS, np.random.default_rng(derive_seed(self.seed, "ensemble", name)))
        return heads

    def member_scores(self, trees: Sequence[Tree], states: Floats) -> Mapping[str, Floats]:  # noqa: ARG002 (the protocol has it)
        """Return raw scores (b, m) of all branches by the drawn heads."""
        return {name: states @ heads.T for name, heads in self.heads().items()}


@dataclass(frozen=True)
class TrainedMembers:
    """The members of an ensemble that was trained: models of their own, or heads on one trunk."""

    models: RewardModels

    @property
    def reward(self) -> LearnedReward:
        """The first model."""
        return self.models.first

    @property
    def dimensions(self) -> Sequence[str]:
        """The dimensions that all members score."""
        return self.models.heads

    def member_scores(self, trees: Sequence[Tree], states: Floats) -> Mapping[str, Floats]:  # noqa: ARG002 (the protocol has it)
        """Return raw scores (b, m) of all branches by the members."""
        members = list(self.models.members.values())
        tables = {path: reward.score_trees(trees) for path, reward in {one.path: one.reward for one in members}.items()}
        raw = torch.stack([one.raw(one.normalised(tables[one.path]), one.dimensions) for one in members]).double().numpy()
        columns = [[one.dimensions.index(name) for one in members] for name in self.dimensions]
        return {
            name: np.stack([table[:, k] for table, k in zip(raw, own, strict=True)], axis=1)
            for name, own in zip(self.dimensions, columns, strict=True)
        }


def score_rows(ensemble: QueueEnsemble, names: Sequence[str], trees: Sequence[Tree], dimensions: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row of `scores.jsonl` per tree of candidates: spread, features of the prompt, and the members' scores by dimension.

    The spread is the standard deviation of P(first wins) over the members. With several pairs of candidates it is the largest; over
    dimensions it is the mean.
    """
    states = ensemble.reward.states(trees).double().numpy()
    ends = np.cumsum([0, *(len(tree.branches) for tree in trees)])
    features = prompt_features(np.stack([states[start:end].mean(0) for start, end in pairwise(ends)]))
    tables = ensemble.member_scores(trees, states)
    rows = []
    for name, start, end, feature in zip(names, ends[:-1], ends[1:], features, strict=True):
        scores = {dimension: tables[dimension][start:end] for dimension in dimensions}
        spread = float(np.mean([_spread(values) for values in scores.values()]))
        rounded = {dimension: np.round(values, 4).tolist() for dimension, values in scores.items()}
        rows.append({"item": name, "spread": round(spread, 6), "features": np.round(feature, 4).tolist(), "scores": rounded})
    return rows


def _spread(scores: Floats) -> float:
    """Return the largest standard deviation of P(one wins) over the members, from candidates' scores (k, m)."""
    first, second = (np.array(side) for side in zip(*combinations(range(len(scores)), 2), strict=True))
    return float(ensemble_disagreement(scores[first], scores[second]).max() ** 0.5)


def prompt_features(states: Floats) -> Floats:
    """Return (n, k) each prompt's states (n, d) less their mean, projected to at most `FEATURES` numbers."""
    centred = states - states.mean(0)
    if centred.shape[1] <= FEATURES:
        return centred
    return np.asarray(centred @ np.random.default_rng(0).standard_normal((centred.shape[1], FEATURES)) / FEATURES**0.5)


def ask_next(run: Run, preferences: DataInput, ensemble: Callable[[], QueueEnsemble]) -> dict[str, dict[str, Any]]:
    """Score the items without a judgment where the preferences came from people; return a note for the summary.

    `scores.jsonl` is written, and the project's queue takes its order. `ensemble` is called where there is a project. A database that
    cannot be reached costs a warning and not the training. All ranks score, and only the writer reads and writes the database.
    """
    try:
        waiting = _from_database(lambda: _waiting(preferences))
        rows = [] if waiting is None else _scored(waiting, ensemble())
        if waiting is None or not rows:
            return {}
        write_rows(run.directory / SCORES, rows)
        _from_database(lambda: _order(waiting, rows))
    except PalateError as error:
        run.warn(0, {"queue": f"what people should be asked next is not known: {error}"}, {})
        return {}
    spread = float(np.mean([row["spread"] for row in rows]))
    return {"asked_next": {"project": waiting.project.name, "queue": waiting.project.queue, "items": len(rows), "spread": spread}}


@dataclass(frozen=True)
class WaitingItems:
    """The items of a project that nobody has judged.

    Attributes:
        url: the database.
        project: the project in it.
        items: the items, without those whose answer is known.
    """

    url: str
    project: Project
    items: tuple[Item, ...]


def _from_database(work: Callable[[], T]) -> T:
    """Return what `work` returns on the writer. An error that it raises there is raised on every rank, so that none waits."""

    def tried() -> T | PalateError:
        try:
            return work()
        except PalateError as error:
            return error

    result = from_writer(tried)
    if isinstance(result, PalateError):
        raise result
    return result


def _waiting(preferences: DataInput) -> WaitingItems | None:
    """Return the items that wait where the preferences came from; None where that is not a project of people."""
    source = next((found for path in paths_of(preferences) if (found := project_of_run(path)) is not None), None)
    if source is None:
        return None
    from palate.ratings import open_ratings

    url, name = source
    with closing(open_ratings(url)) as ratings:
        project = next((project for project in ratings.projects() if project.name == name), None)
        if project is None:
            return None
        judged = {judgment.comparison for judgment in ratings.as_comparisons(project.id)[1]}
        items = tuple(item for item in ratings.items(project.id) if item.id not in judged and item.gold is None)
        return WaitingItems(url, project, items)


def _scored(waiting: WaitingItems, ensemble: QueueEnsemble) -> list[dict[str, Any]]:
    """Return the rows of `scores.jsonl`; none where the models score nothing that the project asks about."""
    dimensions = [dimension for dimension in waiting.project.task.dimensions if dimension in ensemble.dimensions]
    found = {item.id: _tree(ensemble.reward, item) for item in waiting.items} if dimensions else {}
    trees = {name: tree for name, tree in found.items() if tree is not None}
    return score_rows(ensemble, list(trees), list(trees.values()), dimensions) if trees else []


def _order(waiting: WaitingItems, rows: Sequence[Mapping[str, object]]) -> int:
    """Give the project's queue the scores; return how many items have one."""
    from palate.ratings import open_ratings

    with closing(open_ratings(waiting.url)) as ratings:
        return ratings.set_scores(waiting.project.id, rows)


def _tree(reward: LearnedReward, item: Item) -> Tree | None:
    """Return the tokens of an item's candidates. None with fewer than two candidates, with media, or with a text that is too long."""
    if len(item.candidates) < 2 or any(not candidate.text or candidate.media for candidate in item.candidates):
        return None
    try:
        return reward.tree(Prompt(item.id, item.conversation), [Completion(candidate.text) for candidate in item.candidates])
    except Unusable:
        return None
