"""Every stage that reads data takes the setting `columns`, hands it on, and says what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.core import DataError, Sampling
from palate.data.formats import Recognised
from palate.data.jsonl import write_rows
from palate.pipeline.table import STAGES, Stage
from palate.stages.direct import Direct
from palate.stages.evaluate import Evaluate
from palate.stages.pretrain import Pretrain
from palate.stages.reward import Reward
from palate.stages.sample import Sample
from palate.stages.sft import SFT
from palate.testing import tiny_policy, word_tokenizer
from tests.support.stages import ran, rows_of, summary_of

DEMONSTRATIONS = Recognised(prompt="ask", completion="reply", text="")
PAIRS = Recognised(prompt="ask", chosen="good", rejected="bad")
TEXTS = Recognised(text="body")
PROMPTS = Recognised(prompt="ask")
READING = ("pretrain", "sft", "sample", "reward", "refresh", "direct", "online", "rerank", "evaluate", "compare", "revise")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and files whose columns have other names; `prompt` there is something else."""
    folder = tmp_path_factory.mktemp("columns")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    asks = ["the cook has", "the pot has", "rice has", "salt has"]
    rows: list[dict[str, Any]] = [{"ask": ask, "prompt": "no", "note": k, "body": ask} for k, ask in enumerate(asks)]
    write_rows(folder / "prompts.jsonl", rows)
    write_rows(folder / "demos.jsonl", [{**row, "reply": " rice"} for row in rows] + [{"ask": "the cook has", "reply": " "}])
    write_rows(folder / "pairs.jsonl", [{**row, "good": " rice", "bad": " salt"} for row in rows])
    return folder


def stage_of(name: str, data: Path, columns: Recognised) -> Stage:
    """The smallest run of a stage."""
    model, pairs = str(data / "base"), str(data / "pairs.jsonl")
    prompts, sampling = str(data / "prompts.jsonl"), Sampling(max_tokens=2)
    match name:
        case "sft":
            return SFT(model, str(data / "demos.jsonl"), columns)
        case "pretrain":
            return Pretrain(prompts, model, columns)
        case "sample":
            return Sample(model, prompts, columns, samples_per_prompt=1, sampling=sampling)
        case "evaluate":
            return Evaluate(prompts, model, columns=columns, sampling=sampling)
        case "direct":
            return Direct(model, pairs, columns)
        case _:
            return Reward(model, pairs, columns, held_out_share=0.3)


def test_every_stage_that_reads_data_has_the_setting() -> None:
    assert {name for name in STAGES if "columns" in STAGES[name].load().__dataclass_fields__} == set(READING)


@pytest.mark.parametrize("name", ["sft", "pretrain", "sample", "evaluate", "direct", "reward"])
def test_the_columns_of_the_settings_are_read(name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"sft": DEMONSTRATIONS, "pretrain": TEXTS, "sample": PROMPTS, "evaluate": PROMPTS}.get(name, PAIRS)
    run = ran(stage_of(name, data, columns), tmp_path / "run", name)
    left_out = capsys.readouterr().err
    named = "ask, prompt, note" if name == "pretrain" else "prompt, note, body"
    assert f"no text is made of the columns {named}. If one is part of it, say so in `columns`" in left_out
    if name == "sample":
        assert [row["prompt"] for row in rows_of(run, "samples.jsonl")] == ["the cook has", "the pot has", "rice has", "salt has"]
    if name == "sft":
        assert f"1 row of {data / 'demos.jsonl'} is left out: 1 x empty completion" in left_out
    if name in ("direct", "reward", "evaluate"):
        assert summary_of(run)["prompts"] in (3, 4)


def test_without_the_setting_the_file_is_refused_with_the_remedy(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no completion"):
        ran(stage_of("sft", data, Recognised()), tmp_path / "a", "sft")
    write_rows(tmp_path / "x.jsonl", [{"ask": "soup?", "reply": "leeks"}])
    with pytest.raises(DataError, match="columns: {kind: question_answer, question: ask, answer: reply}"):
        ran(SFT(str(data / "base"), str(tmp_path / "x.jsonl")), tmp_path / "b", "sft")
