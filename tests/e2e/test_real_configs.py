"""The configurations for real use: `palate plan` says that they fit, and they run from end to end on a tiny model of the same family."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.cli import main
from palate.cli.plan_page import TIGHT
from palate.data.jsonl import write_rows
from palate.pipeline.estimates.gpus import find_gpu
from palate.pipeline.estimates.pipeline_memory import plan_memory
from palate.pipeline.estimates.role_memory import Machine
from palate.pipeline.plan import read_pipeline
from palate.pipeline.table import STAGES
from palate.testing import tiny_policy
from tests.support.cook_pairs import PAIRS
from tests.support.quantised import needs_bitsandbytes
from tests.support.repository import ROOT

USES = {
    "gpu-24gb.yaml": ("7B", "rtx4090", 1, "qwen2"),
    "gpu-80gb-ppo.yaml": ("1.5B", "h100", 1, "qwen2"),
    "gpu-80gb-grpo.yaml": ("8B", "h100", 1, "llama"),
    "gpu-8x80gb.yaml": ("8B", "h100", 8, "llama"),
}
"""Model, GPU, ranks, and the family of the tiny model."""

SHORT = ("iterations=1", "prompts_per_iteration=2", "minibatches=1", "sampling.max_tokens=8", "reward_requirements.min_accuracy=0")


def test_every_configuration_for_real_use_is_tried() -> None:
    assert {path.name for path in (ROOT / "configs").glob("gpu-*.yaml")} == set(USES)


@pytest.mark.parametrize("name", USES)
def test_plan_says_that_it_fits(name: str) -> None:
    model, gpu, ranks, _ = USES[name]
    pipeline = read_pipeline(ROOT / "configs" / name, [f"model={model}"])
    planned, notes = plan_memory(pipeline, STAGES, Machine(is_gpu=True, ranks=ranks), find_gpu(gpu).memory)
    assert notes == ()
    shares = {item.name: item.memory.peak / find_gpu(gpu).memory for item in planned if item.memory is not None}
    assert len(shares) == len(pipeline.stages)
    assert {stage: share for stage, share in shares.items() if share > TIGHT} == {}


PACKED = frozenset(name for name in USES if "nf4" in (ROOT / "configs" / name).read_text())
"""Those that need bitsandbytes."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_bitsandbytes) if name in PACKED else name for name in USES])
def test_it_runs_from_end_to_end(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "configs" / name
    tiny_policy(USES[name][3]).save(tmp_path / "model")
    write_rows(tmp_path / "pairs.jsonl", [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in PAIRS])
    write_rows(tmp_path / "demonstrations.jsonl", [{"prompt": row[0], "completion": row[1]} for row in PAIRS])
    pipeline = read_pipeline(path)
    given = {"model": tmp_path / "model", "pairs": tmp_path / "pairs.jsonl", "demonstrations": tmp_path / "demonstrations.jsonl"}
    words = [f"{input}={given[input]}" for input in pipeline.inputs]
    for stage in pipeline.stages:
        kind = str(pipeline.settings.get(("stages", stage, "stage")))
        words += [f"{stage}.{word}" for word in SHORT] if kind == "online" else [f"{stage}.max_tokens=64"]
        words += [f"{stage}.held_out_share=0.4"] if kind == "reward" else []
    assert main(["run", str(path), *words, "device=cpu", "--runs", str(tmp_path / "runs")]) == 0, capfd.readouterr().err
    for stage in pipeline.stages:
        (run,) = (tmp_path / "runs").glob(f"{stage}-*")
        assert (run / "model").is_dir() or (run / "adapter").is_dir()
