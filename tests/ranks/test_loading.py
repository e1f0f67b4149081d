"""Ranks share models out when they load them: the same bits as whole models, and never a whole copy in a rank's memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.models.load import Architecture, new_policy
from palate.models.scalar import with_heads
from palate.models.shared_layers import cast_parameters
from palate.testing import save_encoder, tiny_policy, word_tokenizer
from tests.ranks import loading
from tests.ranks.forked import forked, on_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose files have other types than they are loaded in."""
    folder = tmp_path_factory.mktemp("models")
    narrow = tiny_policy("qwen2", word_tokenizer())
    cast_parameters(narrow.module, torch.bfloat16)
    narrow.save(folder / "narrow")
    narrow.module.save_pretrained(folder / "narrow", max_shard_size="20KB")
    (folder / "narrow" / "model.safetensors").unlink()
    new_policy(word_tokenizer(), Architecture(hidden_size=48, layers=3, intermediate_size=96), seed=1).save(folder / "wide")
    gpt2 = tiny_policy("gpt2", word_tokenizer())
    gpt2.save(folder / "torch")
    (folder / "torch" / "model.safetensors").unlink()
    torch.save(gpt2.module.state_dict(), folder / "torch" / "pytorch_model.bin")
    with_heads(tiny_policy("llama", word_tokenizer()), ("overall",), 0).save(folder / "reward")
    save_encoder(folder / "encoder")
    adapted = loading.load_policy(folder / "narrow").with_adapter(loading.ADAPTED, str(folder / "narrow"), 5)
    with torch.no_grad():
        for name, p in adapted.module.named_parameters():
            if ".lora_B" in name:
                p.fill_(0.03)
    adapted.save(folder / "adapter")
    return folder


def figures_of(folder: Path, count: int, target: Any) -> list[dict[str, Any]]:
    """What a function wrote on each of so many ranks."""
    ended = forked(count, target, (folder,), folder / "out")
    assert ended.codes == [0] * count, ended.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]


def test_the_bits_are_those_of_whole_models(models: Path) -> None:
    for figures in figures_of(models, 2, loading.compared):
        assert figures.keys() == loading.CASES.keys()
        for name, (differences, shared, told) in figures.items():
            assert differences == [], name
            assert shared > 8, name
            assert told == (name == "torch file"), name


def test_no_rank_holds_a_whole_model_while_it_loads(models: Path) -> None:
    size = Architecture(hidden_size=384, layers=12, heads=6, kv_heads=2, intermediate_size=1152)
    policy = new_policy(word_tokenizer(), size, seed=1)
    cast_parameters(policy.module, torch.bfloat16)
    policy.save(models / "model")
    for figures in figures_of(models, 3, loading.peaks):
        assert figures["bytes"] > 60e6
        assert figures["grown"] < figures["bytes"]  # .5 to .7 of it; pages that are shared with ended processes add to it on a busy machine


def test_a_damaged_file_is_told_once(models: Path, tmp_path: Path) -> None:
    cut = sorted((models / "narrow").glob("*.safetensors"))[1]
    base = tmp_path / "base"
    base.mkdir()
    for file in (models / "narrow").iterdir():
        content = file.read_bytes()
        (base / file.name).write_bytes(content[: len(content) // 2] if file == cut else content)
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "the cook has", "completion": "rice"}) + "\n")
    (tmp_path / "file.yaml").write_text(
        f"name: cut\nshard: all\nstages:\n  sft: {{stage: sft, model: {base}, data: {tmp_path / 'data.jsonl'}}}\n"
    )
    ended = on_ranks(2, ["run", str(tmp_path / "file.yaml"), "--runs", str(tmp_path / "runs")], tmp_path / "out")
    assert 0 not in ended.codes
    assert ended.stderr.count(f"{base}: weights cannot be read ({base / cut.name}: ") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
