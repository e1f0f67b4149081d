"""Tasks of lm-evaluation-harness on the model in memory: the numbers are those of the harness's own `hf` model on the saved directory."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, DataError
from palate.data.jsonl import write_rows
from palate.evaluation import harness
from palate.evaluation.harness import HarnessTasks
from palate.models.load import load_policy
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.evaluate import Evaluate
from palate.testing import tiny_policy
from tests.support.stages import ran, rows_of, summary_of

TEXTS = ("the cook has rice and beans", "two guests make salt", "please make rice today for the guests", "so what can we make")
TASKS = {
    "options": {
        "output_type": "multiple_choice", "doc_to_text": "{{text}} and", "doc_to_choice": ["beans", "salt for two", "no rice"],
        "doc_to_target": "{{k % 3}}", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "texts": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "last": {
        "output_type": "loglikelihood", "doc_to_text": "{{text}}", "doc_to_target": " rice and salt",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "written": {
        "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "rice", "num_fewshot": 1,
        "generation_kwargs": {"until": ["salt", "today"], "max_gen_toks": 9}, "metric_list": [{"metric": "exact_match"}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each task, and one for a task whose data are on a hub."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"text": text, "k": k} for k, text in enumerate(TEXTS * 3)]
    write_rows(folder / "rows.jsonl", rows)
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}, "test_split": "test"}
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **data, **task, "metadata": {"version": 1.0}}))
    far = {"task": "far", **TASKS["options"], "dataset_path": "somebody/nothing-of-this-name", "test_split": "test"}
    (folder / "far.yaml").write_text(json.dumps(far))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "policy"
    tiny_policy(seed=3).save(folder)
    return folder


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose every attempt to reach another one fails the test."""

    def refuse(*address: object) -> None:
        raise AssertionError(f"something asked the network: {address}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


Measured = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def measured(tasks: Path, model: Path, tmp_path: Path) -> Measured:
    """Asks tasks of the policy in memory, and gives the figures and the rows."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'palate[lm-eval]'")

    def ask(*names: str, tokens: int = 4096, name: str = "run", **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        run = open_run(tmp_path / name, RunPlan("evaluate", "evaluate", seed=1))
        found = HarnessTasks(names, str(tasks), **settings).measured(run, load_policy(model), tokens)
        return found, rows_of(run.directory, harness.FILE)

    return ask


def by_harness(model: Path, tasks: Path, names: list[str], **more: int) -> Any:
    """What the harness's own model says of the saved directory."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    # Its cache of logits confuses requests whose texts are alike and are cut in different places (seen in lm-eval 0.4.13).
    plain = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=5, logits_cache=False, **more)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return simple_evaluate(plain, tasks=names, task_manager=manager, bootstrap_iters=2)


def test_the_policy_in_memory_has_the_numbers_of_hf_on_the_saved_directory(
    measured: Measured, model: Path, tasks: Path, unplugged: None
) -> None:
    found, rows = measured(*TASKS)
    other = by_harness(model, tasks, list(TASKS))
    assert set(found) == set(TASKS)
    for task, figures in found.items():
        theirs = {name.removesuffix(",none"): value for name, value in other["results"][task].items() if isinstance(value, float)}
        assert figures, task
        for name, one in figures.items():
            assert one["mean"] == pytest.approx(theirs[name], rel=1e-5), (task, name)
            assert one["n"] == 12
    assert found["options"]["acc"]["se"] == pytest.approx(other["results"]["options"]["acc_stderr,none"], rel=1e-6)
    for task, samples in other["samples"].items():
        own = sorted((row for row in rows if row["task"] == task), key=lambda row: row["question"])
        for row, sample in zip(own, sorted(samples, key=lambda one: one["doc_id"]), strict=True):
            assert is_alike(row["answers"], sample["filtered_resps"], 1e-4)
    assert len({row["answers"][0] for row in rows if row["task"] == "written"}) > 1
    assert 0 < found["options"]["acc"]["mean"] < 1


def is_alike(one: Any, other: Any, rel: float) -> bool:
    """Whether two answers have the same texts, and numbers that differ by rounding alone."""
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(is_alike(*both, rel) for both in zip(one, other, strict=True))
    return bool(one == other) if isinstance(one, str | bool) else math.isclose(one, other, rel_tol=rel)


def test_numbers_do_not_change_with_the_size_of_a_pass_and_the_seed_gives_them_again(measured: Measured) -> None:
    found, rows = measured(*TASKS)
    again, same = measured(*TASKS, name="again")
    assert (again, same) == (found, rows)
    _, small = measured(*TASKS, name="small", tokens=16)
    for one, other in zip(small, rows, strict=True):
        assert is_alike(one["answers"], other["answers"], 1e-5)


def test_limit_and_examples_are_those_that_are_set(measured: Measured) -> None:
    found, rows = measured("options", "last", limit=2, shots=2)
    assert [row["task"] for row in rows] == ["options"] * 2 + ["last"] * 2
    assert found["options"]["acc"]["n"] == 2
    assert rows[2]["asked"][0][0].count("rice and salt") == 2


def test_a_text_that_is_longer_than_the_model_takes_is_read_in_windows(measured: Measured, model: Path, tasks: Path) -> None:
    limit = load_policy(model).max_tokens
    assert limit is not None
    write_rows(tasks / "rows.jsonl", [{"text": " ".join(["the cook has rice"] * limit), "k": 0}])
    try:
        found, _ = measured("texts")
        theirs = by_harness(model, tasks, ["texts"], max_length=limit - 1)["results"]["texts"]["word_perplexity,none"]
    finally:
        write_rows(tasks / "rows.jsonl", [{"text": text, "k": k} for k, text in enumerate(TEXTS * 3)])
    assert found["texts"]["word_perplexity"]["mean"] == pytest.approx(theirs, rel=1e-5)
    assert math.isfinite(theirs)


def test_the_stage_writes_figures_and_rows(measured: Measured, tasks: Path, model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in TEXTS])
    asked = HarnessTasks(("options",), str(tasks))
    run = ran(Evaluate(str(tmp_path / "prompts.jsonl"), model=str(model), lm_eval=asked), tmp_path / "evaluated", "evaluate")
    found, rows = measured("options")
    assert summary_of(run)["lm_eval"] == found
    assert rows_of(run, "lm_eval.jsonl") == rows


def test_nothing_asks_the_network_unless_it_may(measured: Measured, unplugged: None) -> None:
    with pytest.raises(DataError, match=r"data of far cannot be read.*set lm_eval\.download to true"):
        measured("far")
    with pytest.raises(AssertionError, match="asked the network"):
        measured("far", name="may", download=True)


def test_unknown_tasks_are_named_with_those_that_exist(measured: Measured) -> None:
    with pytest.raises(DataError, match="has no task 'sums'. It has: .*options"):
        measured("sums")


def test_what_cannot_be_asked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="names no task"):
        HarnessTasks(()).check()
    monkeypatch.setattr(harness, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"not installed. Run: pip install 'palate\[lm-eval\]'"):
        Evaluate("p", model="m", lm_eval=HarnessTasks(("sums",))).check()
    with pytest.raises(ConfigError, match="evals, lm_eval and reference need a model"):
        Evaluate("p", completions="c", lm_eval=HarnessTasks(("sums",))).check()
