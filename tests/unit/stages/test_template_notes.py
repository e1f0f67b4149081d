"""Stages record what the chat template does to the rows that they use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.core import Sampling
from palate.data.jsonl import write_rows
from palate.objectives.direct import BCO
from palate.runs.record import RunPlan, read_record
from palate.runs.run import open_run
from palate.stages.direct import Direct
from palate.stages.reward import Reward
from palate.stages.sample import Sample
from palate.stages.sft import SFT
from palate.testing import chat_tokenizer, tiny_policy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose templates drop thoughts and write the date, and rows with thoughts."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("thoughtless", "dated"):
        tiny_policy("qwen3", chat_tokenizer(name)).save(folder / name)
    asked = [[{"role": "user", "content": f"a{number}?"}] for number in range(4)]
    yes, no = ([{"role": "assistant", "content": f"<think>hm</think>{word}"}] for word in ("yes", "no"))
    write_rows(folder / "demos.jsonl", [{"messages": [*turns, *yes]} for turns in asked])
    write_rows(folder / "pairs.jsonl", [{"prompt": turns, "chosen": yes, "rejected": no} for turns in asked])
    write_rows(folder / "prompts.jsonl", [{"prompt": turns} for turns in asked])
    return folder


def notes(stage: Any, kind: str, folder: Path) -> dict[str, Any]:
    stage.check()
    run = open_run(folder, RunPlan(kind, kind, seed=1))
    with run.active():
        stage.run(run)
    record = read_record(run.directory)
    assert record is not None
    return dict(record.notes)


@pytest.mark.parametrize("kind", ["sft", "direct", "unpaired", "reward"])
def test_words_that_the_template_leaves_out_of_answers_are_counted(kind: str, data: Path, tmp_path: Path) -> None:
    model, pairs = str(data / "thoughtless"), str(data / "pairs.jsonl")
    path, stage = {
        "sft": (str(data / "demos.jsonl"), SFT(model, str(data / "demos.jsonl"))),
        "direct": (pairs, Direct(model, pairs)),
        "unpaired": (pairs, Direct(model, pairs, objective=BCO())),
        "reward": (pairs, Reward(model, pairs, held_out_share=0.25)),
    }[kind]
    ((source, (line,)),) = notes(stage, kind, tmp_path).items()
    assert source == path
    assert line.startswith("4 x the chat template leaves out words of an answer that is learned; first ")
    assert line.endswith("'think think hm' (3 words)")


def test_a_date_in_the_template_is_recorded_where_nothing_is_learned(data: Path, tmp_path: Path) -> None:
    stage = Sample(str(data / "dated"), str(data / "prompts.jsonl"), sampling=Sampling(max_tokens=2))
    (line,) = notes(stage, "sample", tmp_path)["prompts"]
    assert line == "the chat template writes the date: 2025-01-01 stands for the day of the run"
