"""The check of a reward model on a file: pairs in any shape, or a benchmark, and the texts that the model knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from palate.config.artifacts import file_at, model_at
from palate.core import Completion, ConfigError, Conversation, Preference
from palate.data.formats import (
    MEAN,
    RECOGNISED,
    BenchmarkKind,
    ColumnTypes,
    CompletionGroup,
    read_benchmark,
    read_completion_groups,
    read_preferences,
)
from palate.evaluation.recorded_sources import recorded_sources
from palate.evaluation.reward_check.benchmark_figures import benchmark_figures, benchmark_notes, benchmark_pairs
from palate.evaluation.reward_check.check_report import CheckSettings, ComparedWith, RewardCheck, check_reward
from palate.evaluation.reward_check.score_book import ScoreBook
from palate.rewards.combination import RewardModels
from palate.runs.record import RECORD, RunRecord, read_record

MOST_REFERENCES = 2000
"""Rows of reference texts that are compared with, at most."""


@dataclass(frozen=True)
class CheckedFile:
    """A file of judged pairs and how to read it.

    Attributes:
        path: the file, or a run of `collect`.
        benchmark: the benchmark whose form it has.
        best_of: completions of a row of RewardBench 2; None takes all.
        rating: the rating that makes pairs, where rows hold ratings.
        limit: most rows.
        columns: what the columns hold.
        reference: completions that the model knows; None takes what the model's run was trained on.
        new: completions on which an ensemble may disagree more than on the pairs; None compares none.
    """

    path: str
    benchmark: BenchmarkKind | None = None
    best_of: int | None = None
    rating: str = MEAN
    limit: int | None = None
    columns: ColumnTypes = RECOGNISED
    reference: str | None = None
    new: str | None = None


def check_file(models: RewardModels, file: CheckedFile, settings: CheckSettings, before: RewardModels | None = None) -> RewardCheck:
    """Read the pairs, and check the models on them; the effect of length is compared with that on the scores of `before`.

    Raises:
        ConfigError: a pair's dimension is not one of the model's.
        DataError: the file cannot be read, a benchmark lacks a column, or no pair can be scored.
    """
    path = file_at(file_at(file.path, "held_out.jsonl").as_posix(), "preferences.jsonl")
    known = known_texts(models, file.reference)
    compared = ComparedWith(known.completions, [] if file.new is None else _groups(file_at(file.new, "samples.jsonl")), before)
    if file.benchmark is None:
        table = read_preferences(path, limit=file.limit, dimension=file.rating, columns=file.columns)
        check = check_reward(models, table.rows, settings, compared)
        dropped = Counter(row.kind for row in table.dropped)
        return replace(check, left_out={**check.left_out, **dropped}, notes=(*check.notes, *_notes(known, table.rows)))
    rows = read_benchmark(path, file.benchmark, limit=file.limit)
    pairs = benchmark_pairs(rows)
    check = check_reward(models, pairs, settings, compared)
    figures = benchmark_figures(ScoreBook(models), rows, file.benchmark, file.best_of)
    return replace(check, benchmark=figures, notes=(*check.notes, *_notes(known, pairs), *benchmark_notes(figures)))


@dataclass(frozen=True)
class KnownTexts:
    """Completions that a model knows, and the prompts that it was trained on, as far as its run says."""

    completions: Sequence[Completion] = ()
    prompts: frozenset[Conversation] = frozenset()


def known_texts(models: RewardModels, path: str | None) -> KnownTexts:
    """Return what the first model knows: the completions of the file, or of what its run was trained on."""
    run = _run_of_model(next(iter(models.members.values())).path)
    trained, samples = ([], []) if run is None else (_groups_of(run, "preferences"), _groups_of(run, "reference_samples"))
    known = samples or trained if path is None else _groups(file_at(path, "samples.jsonl"))
    completions = [completion for group in known[:MOST_REFERENCES] for completion in group.completions]
    return KnownTexts(completions, frozenset(group.prompt.conversation for group in trained))


def _run_of_model(path: str) -> tuple[Path, RunRecord] | None:
    """Return the run of `reward` or `refresh` that trained the model at `path`; None where no such run did."""
    homes = (Path(path), Path(model_at(path)).parent)
    home = next((place for place in homes if (place / RECORD).is_file()), None)
    record = None if home is None else read_record(home)
    return (home, record) if home is not None and record is not None and record.stage in ("reward", "refresh") else None


def _groups_of(run: tuple[Path, RunRecord], setting: str) -> list[CompletionGroup]:
    """Return the completions of the inputs of a run, named by a setting, that still exist."""
    sources = recorded_sources(*run, setting, "preferences.jsonl" if setting == "preferences" else "samples.jsonl")
    return [
        group
        for source in sources
        if source.file.exists()
        for group in read_completion_groups(source.file, columns=source.columns if setting == "preferences" else RECOGNISED).rows
    ]


def _groups(path: Path) -> list[CompletionGroup]:
    return read_completion_groups(path).rows


def _notes(known: KnownTexts, preferences: Sequence[Preference]) -> tuple[str, ...]:
    prompts = {one.prompt.conversation for one in preferences}
    trained = len(prompts & known.prompts)
    if not trained:
        return ()
    return (f"{trained} of {len(prompts)} prompts are among those that the model was trained on, so its accuracy is too high",)


def write_card(check: RewardCheck) -> Path:
    """Write `report_card.json` beside the one model that was checked, and return its path.

    Raises:
        ConfigError: the model is not a directory.
    """
    directory = Path(model_at(check.models[0]))
    if not directory.is_dir():
        raise ConfigError(f"--card writes beside the model, and {directory} is not a directory. Download the model first.")
    card = check.report_card()
    card.write(directory)
    return directory / "report_card.json"
