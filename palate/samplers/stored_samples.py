"""What a model wrote, kept by content beside the runs: another evaluation of the same model on the same prompts does not sample again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from palate.core import Completion, DataError, Prompt, RunError, Sampling
from palate.data.jsonl import read_rows, write_rows
from palate.distributed.ranks import from_writer
from palate.models.causal import CausalPolicy
from palate.runs.run import Run
from palate.samplers.local import LocalSampler

FOLDER = ".samples"
"""The folder beside the runs of a pipeline. It may be deleted: what is gone is sampled again."""


class StoredSampler:
    """Samples in this process, or reads what an earlier run of the same code sampled from the same model with the same settings.

    The name of a file is a digest of everything that the samples depend on. So reading gives the bytes that sampling would give. A run that
    does not lie in a folder of runs, or whose model has no key, samples each time.
    """

    def __init__(self, run: Run, policy: CausalPolicy, setting: str) -> None:
        """Sample from `policy`, which the run's setting of this name gave."""
        keys = [parent.key for parent in run.record.parents if parent.field == setting]
        self._folder = from_writer(partial(_folder_of, run)) if keys else None  # other ranks work in folders of their own
        self._policy = policy
        made_by = [dict(run.record.code), dict(run.record.versions), str(policy.device), str(policy.module.dtype)]
        self._of = [keys, *made_by, sorted(policy.end_ids), policy.path]

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return `n` completions per prompt, in the order of the prompts. Raises as `LocalSampler.generate`."""
        sampled = partial(LocalSampler(self._policy).generate, prompts, n, sampling, seed)
        if self._folder is None or not prompts:
            return sampled()
        text = json.dumps([*self._of, n, asdict(sampling), seed, [repr(prompt.conversation) for prompt in prompts]], sort_keys=True)
        file = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.jsonl"
        found = from_writer(partial(_read, file, len(prompts), n))
        if found is None:
            found = sampled()
            from_writer(partial(_write, file, found))
        return found


def _folder_of(run: Run) -> Path | None:
    is_among_runs = run.directory.name == f"{run.name}-{run.key}"
    return run.directory.parent / FOLDER if is_among_runs else None


def _read(file: Path, prompts: int, n: int) -> list[list[Completion]] | None:
    """Return the samples in a file; None where there is none, or where it is damaged."""
    with suppress(OSError, DataError, RunError, TypeError, KeyError):
        groups = [[_completion(one) for one in row["completions"]] for _, row in read_rows(file)]  # type: ignore[attr-defined]
        if [len(group) for group in groups] == [n] * prompts:
            return groups
    return None


def _completion(row: Mapping[str, Any]) -> Completion:
    return Completion(**{**row, "ids": tuple(row["ids"]), "logps": tuple(row["logps"])})


def _write(file: Path, groups: Sequence[Sequence[Completion]]) -> None:
    with suppress(OSError, RunError):  # what cannot be kept is sampled again
        write_rows(file, ({"completions": [asdict(one) for one in group]} for group in groups))
