"""Whether a policy was trained against what measures it: read from the records of the runs that led to the policy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.core import ConfigError
from palate.runs.record import RECORD, Parent, RunRecord, parent_path, read_record

MEASURING = frozenset({"evaluate", "compare", "report", "regrade"})
"""Stages that measure a policy. What they measure with did not make it."""

MEASURED = frozenset({"model", "completions"})

_ASKS = ("from", "rewards", "judge", "rubric")
"""Settings of a stage under which a model that judges may stand."""


@dataclass(frozen=True)
class Measures:
    """What a run of `compare` measures with.

    Attributes:
        rewards: keys of its reward models, and of other inputs of its reward.
        labels: keys of the runs of `collect` whose judgments its reward models learned from.
        judges: keys of the models or functions that judge.
        endpoints: (address, name) of models behind an API that judge.
    """

    rewards: frozenset[str]
    labels: frozenset[str]
    judges: frozenset[str]
    endpoints: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, record: RunRecord, directory: Path, settings: Collection[str] = ("reward", "rewards")) -> Measures:
        """Read them from the record of the run in `directory`; its reward models stand in `settings`."""
        rewards = [one for one in record.parents if one.field.split(".")[0] in settings]
        homes = [home for one in rewards if (home := _home(parent_path(directory, one))) is not None]
        return cls(
            frozenset(map(_key, rewards)),
            frozenset(one.key for home in homes for one, _ in _led_to(home) if one.stage == "collect"),
            frozenset(_key(one) for one in record.parents if one.field in {"judge.model.model", "judge.model.function"}),
            frozenset(_endpoints(record.config.get("judge"))),
        )


def trained_against(policy: str, measures: Measures) -> frozenset[str] | None:
    """Return what the policy was trained against, or chosen by; None where no run made the policy.

    It is a set of "reward", "judge", and "labels" where the policy learned from the judgments that the reward model learned from.

    Args:
        policy: the path of a model, a run, or a file in a run.
        measures: what is asked about.
    """
    home = _home(Path(policy))
    if home is None:
        return None
    found: set[str] = set()
    for record, parents in _led_to(home):
        if measures.rewards & {record.key, *map(_key, parents)}:
            found.add("reward")
        if record.key in measures.labels:
            found.add("labels")
        judges = {_key(one) for one in parents if one.field.endswith((".model.model", ".model.function"))}
        if measures.judges & judges or measures.endpoints & {end for name in _ASKS for end in _endpoints(record.config.get(name))}:
            found.add("judge")
    return frozenset(found)


def is_scored_by_its_teacher(directory: Path, *settings: str) -> bool | None:
    """Whether a reward model or judge in these settings of an evaluate run trained what the run measures, or chose it.

    None where it is not known what the run measures. That both learned from the same judgments does not count.
    """
    record = read_record(directory)
    policies = [] if record is None else [parent_path(directory, one) for one in record.parents if one.field in MEASURED]
    if record is None or not policies:
        return None
    measures = Measures.of(record, directory, settings)
    return any((trained_against(str(policy), measures) or frozenset()) & {"reward", "judge"} for policy in policies)


def require_held_out(directory: Path, setting: str) -> None:
    """Refuse the reward model in this setting of an evaluate run if it trained what the run measures, or chose it.

    Raises:
        ConfigError: it did.
    """
    if is_scored_by_its_teacher(directory, setting):
        raise ConfigError(
            f"{setting}: this reward model trained what is measured, or chose it, so it is not held out. Name one that no policy was "
            "trained on, or leave it out"
        )


def _led_to(home: Path) -> Iterator[tuple[RunRecord, list[Parent]]]:
    """Yield the runs that led to the policy in a run, each with the inputs that count."""
    record = read_record(home)
    if record is None:
        return
    parents = [one for one in record.parents if record.stage not in MEASURING or one.field in MEASURED]
    parents = [one for one in parents if not _only_watches(record, one)]
    yield record, parents
    for parent in parents:
        further = _home(parent_path(home, parent))
        if further is not None:
            yield from _led_to(further)


def _only_watches(record: RunRecord, parent: Parent) -> bool:
    """Whether an input of `online` is a held-out reward model that chose no weights either."""
    keep = record.config.get("keep")
    return parent.field == "held_out.reward" and not (isinstance(keep, Mapping) and keep.get("kind") == "best_reward")


def _home(path: Path) -> Path | None:
    return next((place for place in (path, *path.parents) if (place / RECORD).is_file()), None)


def _key(parent: Parent) -> str:
    """The key of the run that an input comes from, or the input's own."""
    return parent.key.split("/")[0] if not parent.key.startswith(("hub:", "palate:")) else parent.key


def _endpoints(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the models behind an API anywhere in settings."""
    if isinstance(value, Mapping):
        if value.get("kind") == "openai":
            yield str(value.get("url", "")).rstrip("/"), str(value.get("model", ""))
        for inner in value.values():
            yield from _endpoints(inner)
