"""Samples that are kept by content: read where everything is the same, drawn anew where anything differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, Message, Prompt, Sampling
from palate.data.jsonl import write_rows
from palate.models.causal import CausalPolicy
from palate.runs.record import Parent, RunPlan
from palate.runs.run import Run, open_run, open_run_at
from palate.samplers import stored_samples
from palate.samplers.local import LocalSampler
from palate.samplers.stored_samples import FOLDER, StoredSampler
from palate.stages.evaluate import Evaluate
from palate.testing import tiny_policy
from tests.support.stages import rows_of

SAMPLING = Sampling(max_tokens=8)
TEXTS = ("the cook has salt", "two guests make", "please make rice")


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(str(k), (Message("text", text),)) for k, text in enumerate(texts)]


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return tiny_policy()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of prompts of each call that really samples."""
    calls: list[int] = []
    generate = LocalSampler.generate

    def counted(sampler: LocalSampler, asked: Sequence[Prompt], *rest: Any) -> list[list[Completion]]:
        calls.append(len(asked))
        return generate(sampler, asked, *rest)

    monkeypatch.setattr(LocalSampler, "generate", counted)
    return calls


def run_in(root: Path, key: str = "k", name: str = "one") -> Run:
    """A run in a folder of runs whose model has this key."""
    return open_run(root, RunPlan(name, "evaluate", {"model": "m", "name": name}, parents=(Parent("model", "m", key),)))


def test_another_run_reads_what_the_first_one_sampled(policy: CausalPolicy, tmp_path: Path, drawn: list[int]) -> None:
    asked = prompts(*TEXTS)
    first = StoredSampler(run_in(tmp_path), policy, "model").generate(asked, 2, SAMPLING, 5)
    again = StoredSampler(run_in(tmp_path, name="other"), policy, "model").generate(asked, 2, SAMPLING, 5)
    assert again == first == LocalSampler(policy).generate(asked, 2, SAMPLING, 5)
    assert drawn == [3, 3]  # the first, and the comparison itself


@pytest.mark.parametrize("other", ["model", "seed", "n", "sampling", "prompts", "code", "setting"])
def test_whatever_samples_depend_on_makes_them_others(
    other: str, policy: CausalPolicy, tmp_path: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    StoredSampler(run_in(tmp_path), policy, "model").generate(prompts(*TEXTS), 1, SAMPLING, 5)
    if other == "code":
        monkeypatch.setattr("palate.runs.run.code", lambda: {"source": "another"})
    run = run_in(tmp_path, "another" if other == "model" else "k", "two")
    sampler = StoredSampler(run, policy, "reference" if other == "setting" else "model")
    found = sampler.generate(
        prompts(*TEXTS[: 2 if other == "prompts" else 3]), 2 if other == "n" else 1,
        replace(SAMPLING, temperature=0.5) if other == "sampling" else SAMPLING, 6 if other == "seed" else 5,
    )  # fmt: skip
    assert len(drawn) == 2
    assert len(found) == drawn[1]


@pytest.mark.parametrize("content", ["", "{", '{"completions": []}\n', '{"completions": [{"ids": [1]}]}\n'])
def test_a_damaged_file_is_made_again(content: str, policy: CausalPolicy, tmp_path: Path, drawn: list[int]) -> None:
    sampler = StoredSampler(run_in(tmp_path), policy, "model")
    first = sampler.generate(prompts(TEXTS[0]), 1, SAMPLING, 5)
    (file,) = (tmp_path / FOLDER).iterdir()
    whole = file.read_bytes()
    file.write_text(content)
    assert sampler.generate(prompts(TEXTS[0]), 1, SAMPLING, 5) == first
    assert file.read_bytes() == whole
    assert drawn == [1, 1]


def test_a_run_in_a_directory_of_its_own_leaves_nothing_beside_it(policy: CausalPolicy, tmp_path: Path, drawn: list[int]) -> None:
    plan = RunPlan("one", "evaluate", {"model": "m"}, parents=(Parent("model", "m", "k"),))
    run = open_run_at(tmp_path / "somewhere", plan)
    for _ in range(2):
        StoredSampler(run, policy, "model").generate(prompts(TEXTS[0]), 1, SAMPLING, 5)
    assert drawn == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["somewhere"]


def test_what_cannot_be_kept_is_sampled(policy: CausalPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[int]) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(stored_samples, "write_rows", full)
    assert len(StoredSampler(run_in(tmp_path), policy, "model").generate(prompts(TEXTS[0]), 1, SAMPLING, 5)) == 1


def test_a_second_evaluation_with_another_figure_has_the_same_rows_and_samples_nothing(tmp_path: Path, drawn: list[int]) -> None:
    tiny_policy().save(tmp_path / "model")
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in TEXTS])
    rows = [{"eval": kind, "kind": kind, "answer": "rice", "prompt": text} for kind in ("answer", "comply") for text in TEXTS]
    write_rows(tmp_path / "evals.jsonl", rows)
    stage = Evaluate(
        str(tmp_path / "prompts.jsonl"), model=str(tmp_path / "model"), evals=(str(tmp_path / "evals.jsonl"),), sampling=SAMPLING
    )
    found = []
    for name, more in (("one", stage), ("two", replace(stage, gold="tests.unit.stages.online.golden:dimensions"))):
        run = run_in(tmp_path / "runs", name=name)
        with run.active():
            more.run(run)
        found.append(run.directory)
    assert drawn == [3, 3, 3]  # the prompts, the greedy evals and the others; nothing for the second run
    first, second = (rows_of(run, "completions.jsonl") for run in found)
    assert first == [{name: value for name, value in row.items() if name not in ("gold", "dimensions")} for row in second]
    assert rows_of(found[0], "evals.jsonl") == rows_of(found[1], "evals.jsonl")
