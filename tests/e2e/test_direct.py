"""The stage `direct` trains with every objective, named on the command line or in a pipeline file."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from palate.cli import main
from palate.config.types import kind_of
from palate.data.jsonl import write_rows
from palate.objectives.direct import DirectObjective
from palate.testing import tiny_policy
from tests.support.cook_pairs import PAIRS
from tests.support.metric_names import logged, undocumented

KINDS = [str(kind_of(cls)) for cls in get_args(DirectObjective)]
STARTS = {"dpo": math.log(2), "robust_dpo": math.log(2), "ld_dpo": math.log(2), "ipo": 25.0, "hinge": 1.0, "aot": math.log(2),
          "apo_zero": 1.0, "apo_down": 1.0, "nca": 2 * math.log(2), "sppo": 50.0, "bco_pair": 2 * math.log(2), "kto": 0.5,
          "bco": math.log(2)}  # fmt: skip
MIXED = ["--objective.parts", "dpo", "nll", "--objective.weights", "1", "0.5"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny policy and six pairs."""
    folder = tmp_path_factory.mktemp("home")
    tiny_policy().save(folder / "policy")
    write_rows(folder / "pairs.jsonl", [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS])
    return folder


@pytest.fixture
def train(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[list[dict[str, float]], Path]]:
    """Runs the stage and gives its rows of metrics and its directory."""

    def run(*words: str) -> tuple[list[dict[str, float]], Path]:
        out = tmp_path / "run"
        data = ["--model", str(home / "policy")]
        if "--preferences" not in words:  # named twice, it would be two sources
            data += ["--preferences", str(home / "pairs.jsonl")]
        steps = ["--epochs", "2", "--prompts_per_step", "3", "--optimizer.lr", "1e-3", "--out", str(out), "--runs", str(tmp_path)]
        assert main(["direct", *data, *steps, *words]) == 0, capfd.readouterr().err
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()], out

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_trains_by_name(kind: str, train: Callable[..., tuple[list[dict[str, float]], Path]], home: Path) -> None:
    rows, out = train("--objective", kind, *(MIXED if kind == "mixture" else []))

    assert len(rows) == 4
    assert undocumented(logged(out / "metrics.jsonl")) == []
    assert rows[0]["direct/loss/mean"] == pytest.approx(STARTS.get(kind, rows[0]["direct/loss/mean"]), abs=1e-4)
    assert all(row["direct/gradient/norm"] > 0 for row in rows)
    before, after = load_file(home / "policy" / "model.safetensors"), load_file(out / "model" / "model.safetensors")
    assert any(not before[name].equal(after[name]) for name in before)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["prompts"] == 6
    assert summary["unpaired" if kind in ("kto", "bco") else "pairs"] == (12 if kind in ("kto", "bco") else 6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_learns_its_pairs(kind: str, train: Callable[..., tuple[list[dict[str, float]], Path]]) -> None:
    rows, _ = train("--objective", kind, *(MIXED if kind == "mixture" else []), "--epochs", "8", "--prompts_per_step", "6")

    assert rows[-1]["direct/loss/mean"] < rows[0]["direct/loss/mean"]
    if kind != "nll":
        assert rows[-1]["direct/accuracy/mean"] > rows[0]["direct/accuracy/mean"] or rows[0]["direct/accuracy/mean"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--objective", "dpo", "--objective.divergence", "jensen_shannon", "--objective.label_smoothing", "0.1"],
        ["--weighting", "wpo"],
        ["--weighting", "wpo", "--objective", "ld_dpo"],
        ["--reference_update.every", "1", "--reference_update.share", "0.5"],
        ["--reference_update.every", "2", "--objective", "kto"],
        ["--reference_kind", "uniform"],
    ],
)
def test_settings_beside_the_objective(words: list[str], train: Callable[..., tuple[list[dict[str, float]], Path]]) -> None:
    rows, out = train(*words)
    assert len(rows) == 4
    assert undocumented(logged(out / "metrics.jsonl")) == []


@pytest.mark.parametrize("objective", ["{kind: ipo, tau: 0.2, reduction: average}", "sppo",
                                       "{kind: mixture, parts: [{kind: dpo, beta: 0.3}, nll], weights: [1, 0.2]}"])  # fmt: skip
def test_objectives_in_a_pipeline_file(objective: str, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        f"name: tiny\nstages:\n  tuned:\n    stage: direct\n    model: {home / 'policy'}\n    preferences: {home / 'pairs.jsonl'}\n"
        f"    objective: {objective}\n"
    )
    assert main(["run", str(file), "--runs", str(tmp_path / "runs")]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--objective", "kto", "--prompts_per_step", "1"], "one is too few"),
        (["--objective", "simpo", "--reference_update.every", "4"], "simpo does not use a reference, so reference_update"),
        (["--objective", "orpo", "--reference_kind", "uniform"], "orpo does not use a reference, so reference_kind"),
        (["--reference_kind", "uniform", "--reference_update.every", "4"], "reference_kind is uniform, so reference_update"),
        (["--objective", "bco", "--weighting", "wpo"], "weighting wpo is for pairs"),
        (["--objective", "kto", "--reference_kind", "uniform"], "reference_kind must be model"),
        (["--objective", "mixture"], "needs 'parts'"),
        (["--objective", "ippo"], "ipo"),
        (["--reference_update.share", "0"], "share must be above 0"),
    ],
)
def test_contradictions_are_refused(words: list[str], told: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = ["--model", str(home / "policy"), "--preferences", str(home / "pairs.jsonl"), "--runs", str(tmp_path)]
    assert main(["direct", *data, *words]) == 2
    assert told in capfd.readouterr().err


def test_kto_needs_several_prompts(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one.jsonl"
    write_rows(one, [dict(zip(("prompt", "chosen", "rejected"), PAIRS[0], strict=True))])
    words = ["--model", str(home / "policy"), "--preferences", str(one), "--runs", str(tmp_path), "--objective", "kto"]
    assert main(["direct", *words]) == 3
    assert "completions of other prompts" in capfd.readouterr().err


def test_labelled_rows_teach_what_the_sides_of_pairs_teach(train: Callable[..., tuple[list[dict[str, float]], Path]], home: Path) -> None:
    labelled = home / "labelled.jsonl"
    sides = [(prompt, side, k == 0) for prompt, *both in PAIRS for k, side in enumerate(both)]
    write_rows(labelled, [{"prompt": prompt, "completion": side, "label": wanted} for prompt, side, wanted in sides])
    rows, out = train("--objective", "kto", "--preferences", str(labelled))
    from_labels = load_file(out / "model" / "model.safetensors")
    shutil.rmtree(out)
    pairs, out = train("--objective", "kto")
    from_pairs = load_file(out / "model" / "model.safetensors")
    assert [row["direct/loss/mean"] for row in rows] == [row["direct/loss/mean"] for row in pairs]
    assert all(torch.equal(from_labels[name], from_pairs[name]) for name in from_pairs)


def test_ratings_are_paired_by_the_axis_that_is_asked_for(train: Callable[..., tuple[list[dict[str, float]], Path]], home: Path) -> None:
    ratings = home / "ratings.jsonl"
    dimensions = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    sides = [(prompt, side, k) for prompt, *both in PAIRS for k, side in enumerate(both)]
    rows = [{"prompt": p, "response": side, **dict.fromkeys(dimensions, 4 - 2 * k), "verbosity": 1 + 2 * k} for p, side, k in sides]
    write_rows(ratings, rows)
    found = {}
    for dimension in ("mean", "verbosity"):
        logged_rows, out = train("--preferences", str(ratings), "--dimension", dimension)
        found[dimension] = logged_rows[0]["direct/chosen_logp/mean"], logged_rows[0]["direct/rejected_logp/mean"]
        shutil.rmtree(out)
    assert found["mean"] == pytest.approx(found["verbosity"][::-1])
    assert found["mean"][0] != found["mean"][1]
