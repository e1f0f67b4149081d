"""The demo's own pipeline on a very small kitchen: its report has the strength of the KL penalty as one frontier of three runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from palate.cli import main
from tests.support.repository import ROOT
from tests.support.small_kitchen import standing
from tests.support.stages import rows_of, summary_of

pytestmark = pytest.mark.slow

NEEDED = ("world", "base", "sft", "samples", "judged", "reward", "check")
RUNS = {0.0: "unrestrained", 0.05: "ppo", 1.0: "held-back"}
SMALL: dict[str, dict[str, Any]] = {
    "world": {"kitchen": {"texts": 300, "demonstrations": 60, "prompts": 40, "held_out": 12, "evals": 2}},
    "base": {
        "architecture": {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 64},
        "documents_per_step": 25,
    },
    "judged": {"held_out": 0.3, "pairs_per_prompt": 2},
    "reward": {"epochs": 1},
    "check": {"epochs": 1, "held_out_share": 0.4},
}


def small_demo() -> dict[str, Any]:
    """The stages of the demo that its sweep needs, with little data, and its report without what the other stages give it."""
    demo: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "kitchen.yaml").read_text())["stages"]
    stages = {name: demo[name] | SMALL.get(name, {}) for name in NEEDED}
    little = {"iterations": 2, "minibatches": 1, "reward_requirements": {"min_accuracy": 0}}
    for name in RUNS.values():
        stages[name] = demo[name] | little | {"prompts_per_iteration": demo[name]["prompts_per_iteration"] // 12}
    for name in ("sft", *RUNS.values()):
        plain = {setting: value for setting, value in demo[f"eval-{name}"].items() if setting not in {"evals", "probes"}}
        stages[f"eval-{name}"] = plain | {"control_prompts": 0}
    kept = {name: demo["report"][name] for name in ("stage", "reference", "sweep", "training", "tuned", "without_kl")}
    stages["report"] = kept | {"models": [one for one in demo["report"]["models"] if one["evaluation"].removeprefix("$") in stages]}
    return {"name": "small", "seed": 0, "stages": stages}


def test_the_demo_has_one_frontier_over_kl_strengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small_demo(), sort_keys=False))
    assert main(["run", str(tmp_path / "small.yaml"), "--runs", str(tmp_path / "runs"), "device=cpu"]) == 0
    runs = standing(tmp_path / "runs")
    sweep = summary_of(runs["report"])["sweep"]
    points = sweep["points"]
    assert [(point["coefficient"], point["run"]) for point in points] == list(RUNS.items())
    assert [point["is_tuned"] for point in points] == [False, True, False]
    assert (sweep["measure"], sweep["start_name"]) == ("gold", "SFT")
    for point in points:
        own = rows_of(runs[f"eval-{point['run']}"], "completions.jsonl")
        for name, figure in {"value": "gold", "kl": "kl"}.items():
            assert point[name]["value"] == pytest.approx(np.mean([row[figure] for row in own]))
            assert point[name]["n"] == 12
        for name, figure in {"proxy": "score", "held_out": "held_out_score"}.items():
            assert point[name]["value"]["value"] == pytest.approx(np.mean([row[figure] for row in own]))
    best = max(points, key=lambda point: point["value"]["value"])["run"]
    learns_texts = {"ppo"}
    for point in points:
        other = (point["run"] in learns_texts) != (best in learns_texts)
        assert any("texts learned beside the rewards" in words for words in point["others"]) is other
        assert any("prompts per iteration" in words for words in point["others"]) is (
            (point["run"] == "held-back") != (best == "held-back")
        )
    page = (runs["report"] / "report.html").read_text()
    assert [words for words in ('id="kl-strength"', ">0.05 tuned<", "Held-out score", "Trained-on score") if words not in page] == []
    wrong = ["eval-ppo.held_out_reward=$reward", "eval-ppo.reward=$check", "--only", "eval-ppo"]
    assert main(["run", str(tmp_path / "small.yaml"), "--runs", str(tmp_path / "runs"), "device=cpu", *wrong]) == 2
    assert "so it is not held out. Name one that no policy was trained on" in capsys.readouterr().err
