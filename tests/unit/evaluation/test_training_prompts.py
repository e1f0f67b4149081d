"""A report knows whether its models were trained on the prompts that they are measured on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Message, Prompt
from palate.data.jsonl import write_rows
from palate.data.voted_labels import VotedLabel, read_voted_labels
from palate.evaluation.forgetting import find_withdrawal
from palate.evaluation.recorded_sources import recorded_names
from palate.evaluation.training_prompts import prompt_digest, prompts_note
from palate.runs.digests import DigestCache
from palate.runs.record import Parent, RunPlan, RunRecord, input_key, read_record
from palate.runs.run import open_run


def made(root: Path, stage: str, config: dict[str, object], parents: dict[str, Path]) -> Path:
    """Make a finished run of a stage that read these inputs."""
    cache = DigestCache(root / ".digests.json")
    inputs = tuple(Parent(field, str(path), input_key(path, cache)) for field, path in parents.items())
    run = open_run(root, RunPlan(stage, stage, {**config, **{field: str(path) for field, path in parents.items()}}, parents=inputs))
    with run.active():
        pass
    return run.directory


def digests(texts: list[str]) -> list[str]:
    return [prompt_digest(Prompt(text, (Message("text", text),))) for text in texts]


def test_prompts_of_training_are_counted_by_content(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [{"prompt": text, "completion": " yes"} for text in ("a", "b", "c")])
    sft = made(tmp_path, "sft", {"limit": None}, {"data": rows})
    evaluate = str(made(tmp_path, "evaluate", {}, {"model": sft}))
    assert prompts_note([evaluate], digests(["x", "y"])) == "None of the 2 prompts was a prompt of training."
    leaked = prompts_note([evaluate], digests(["x", "b", "c"]))
    assert leaked == "Caution: of the 3 prompts, 2 were also prompts of training (sft: 2). They are not held out."


def test_rows_beyond_the_limit_were_not_read(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [{"prompt": text, "completion": " yes"} for text in ("a", "b", "c")])
    evaluate = str(made(tmp_path, "evaluate", {}, {"model": made(tmp_path, "sft", {"limit": 1}, {"data": rows})}))
    assert "None of the 2 prompts" in prompts_note([evaluate], digests(["b", "c"]))


def test_each_of_several_sources_is_read_as_the_run_read_it(tmp_path: Path) -> None:
    """The second has columns of its own and a limit, and the stage's limit is for the first alone."""
    write_rows(tmp_path / "one.jsonl", [{"prompt": text, "completion": " yes"} for text in ("a", "b", "c")])
    write_rows(tmp_path / "two.jsonl", [{"ask": text, "reply": " yes"} for text in ("d", "e")])
    own = {"path": "two.jsonl", "limit": 1, "columns": {"kind": "recognised", "prompt": "ask", "completion": "reply"}}
    cache = DigestCache(tmp_path / ".digests.json")
    paths = {"data.0": tmp_path / "one.jsonl", "data.1.path": tmp_path / "two.jsonl"}
    parents = tuple(Parent(field, str(path), input_key(path, cache)) for field, path in paths.items())
    run = open_run(tmp_path, RunPlan("sft", "sft", {"limit": 2, "data": ["one.jsonl", own]}, parents=parents))
    with run.active():
        pass
    assert [one.name.partition("-")[0] for one in find_withdrawal("two", tmp_path).affected] == ["sft"]
    evaluate = str(made(tmp_path, "evaluate", {}, {"model": run.directory}))
    assert "3 were also prompts of training" in prompts_note([evaluate], digests(["a", "b", "d"]))
    assert "None of the 2 prompts" in prompts_note([evaluate], digests(["c", "e"]))


def test_samples_have_names_of_sources_and_lists_of_rounds_have_none() -> None:
    def names(stage: str, setting: str) -> set[str]:
        parents = (Parent(f"{setting}.0", "one.jsonl", ""), Parent(f"{setting}.1.path", "two.jsonl", ""))
        config = {setting: ["one.jsonl", {"path": "two.jsonl", "name": "own"}]}
        return recorded_names(RunRecord("run", stage, "", "done", 1, {}, config, parents, {}, {}, ""))

    assert names("collect", "samples") == names("average", "held_out") == {"one", "own"}
    assert names("refresh", "replay") == names("refresh", "held_out") == names("rules", "held_out") == set()


def test_what_cannot_be_read_again_is_not_known(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": " yes"}) + "\n")
    evaluate = str(made(tmp_path, "evaluate", {}, {"model": made(tmp_path, "sft", {}, {"data": rows})}))
    rows.unlink()
    assert "It is not known whether" in prompts_note([evaluate], digests(["b"]))
    assert prompts_note([str(tmp_path)], digests(["b"])) == ""


def test_a_run_that_is_not_there_leaves_its_prompts_unknown(tmp_path: Path) -> None:
    """A copy of the evaluate run alone does not say what its model learned from."""
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [{"prompt": "a", "completion": " yes"}])
    for folder in ("runs", "elsewhere"):
        sft = made(tmp_path / folder, "sft", {"limit": None}, {"data": rows})
        record = read_record(made(tmp_path / folder, "evaluate", {}, {"model": sft}))
        assert record is not None
        beside = replace(record, parents=(replace(record.parents[0], path=f"../{sft.name}"),)) if folder == "runs" else record
        alone = tmp_path / "alone" / folder
        alone.mkdir(parents=True)
        beside.write(alone)
        shutil.rmtree(sft)
        assert prompts_note([str(alone)], digests(["b"])) == (
            f"It is not known whether the models were trained on these prompts: {sft.name}, which evaluate was made from, is not there."
        )


def test_runs_of_one_name_are_all_read(tmp_path: Path) -> None:
    """Baseline and candidate may come from two pipelines, whose stages have the same names."""
    evaluations = []
    for text in ("a", "b"):
        rows = tmp_path / f"{text}.jsonl"
        write_rows(rows, [{"prompt": text, "completion": " yes"}])
        evaluations.append(str(made(tmp_path / text, "evaluate", {}, {"model": made(tmp_path / text, "sft", {}, {"data": rows})})))
    assert "2 were also prompts of training (sft: 2)" in prompts_note(evaluations, digests(["a", "b", "c"]))


def test_labels_of_collect_are_read_as_quickly_as_they_repeat_and_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pair(text: str, dimension: str) -> dict[str, object]:
        return {"id": text + dimension, "prompt": text, "chosen": " yes", "rejected": " no", "probability": 0.8, "dimension": dimension}

    collect = made(tmp_path, "collect", {}, {})
    write_rows(collect / "preferences.jsonl", [pair(text, dimension) for text in "abc" for dimension in ("x", "y")])
    read: list[Path] = []

    def counted(path: Path) -> Iterator[VotedLabel]:
        read.append(path)
        return read_voted_labels(path)

    monkeypatch.setattr("palate.evaluation.training_prompts.read_voted_labels", counted)
    monkeypatch.setattr("palate.evaluation.training_prompts.read_prompts", None)
    reward, direct = (made(tmp_path, stage, {}, {"preferences": collect / "preferences.jsonl"}) for stage in ("reward", "direct"))
    evaluate = str(made(tmp_path, "evaluate", {}, {"model": direct, "reward": reward}))
    leaked = prompts_note([evaluate], digests(["b", "c", "z"]))
    assert leaked == "Caution: of the 3 prompts, 2 were also prompts of training (direct: 2, reward: 2). They are not held out."
    assert read == [collect / "preferences.jsonl"]
    monkeypatch.undo()
    limited = made(tmp_path, "reward", {"limit": 1}, {"preferences": collect / "preferences.jsonl"})
    assert "None of the 2" in prompts_note([str(made(tmp_path, "evaluate", {}, {"model": limited}))], digests(["b", "c"]))
