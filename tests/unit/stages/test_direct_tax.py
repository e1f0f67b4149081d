"""What `direct` measures of the alignment tax: as online training does, against the start, and without an effect on training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from palate.core import Interrupted
from palate.data.jsonl import write_rows
from palate.evaluation.tax import TaxMeter, TaxProbes
from palate.models.load import load_policy
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.direct import Direct
from palate.stages.evaluate import Evaluate
from palate.stages.report import Report, ReportedModel
from palate.testing import tiny_policy
from palate.training import checkpoints
from palate.training.keep import Best
from palate.training.optimizer import AdamW
from tests.support.cook_pairs import PAIRS
from tests.support.stages import ran, rows_of, summary_of

TEXTS = ("the cook has rice and beans", "two guests make salt", "please make rice today for the guests", "so what can we make")
MEASURES = ["text_nll", "goes with", "written"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy, six pairs, texts, and two evals: one with options and one with answers that are written."""
    folder = tmp_path_factory.mktemp("home")
    tiny_policy().save(folder / "policy")
    write_rows(folder / "pairs.jsonl", [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS])
    write_rows(folder / "texts.jsonl", [{"text": text} for text in TEXTS])
    options = {"eval": "goes with", "kind": "choice", "options": [" beans", " salt"], "answer": " beans"}
    written = {"eval": "written", "kind": "answer", "answer": "rice"}
    write_rows(folder / "evals.jsonl", [{**row, "prompt": text} for row in (options, written) for text in TEXTS])
    return folder


def probes(home: Path, every: int | None) -> TaxProbes:
    return TaxProbes(every, texts=str(home / "texts.jsonl"), evals=(str(home / "evals.jsonl"),), max_tokens=6)


def stage(home: Path, every: int | None = 3, **settings: Any) -> Direct:
    """Eight steps of three pairs, with a measurement before every third of them."""
    start = Direct(str(home / "policy"), str(home / "pairs.jsonl"), prompts_per_step=3, epochs=4, optimizer=AdamW(lr=1e-2))
    return replace(start, tax=probes(home, every), **settings)


@pytest.fixture(scope="module")
def straight(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(stage(home), tmp_path_factory.mktemp("straight") / "run", "direct")


def measured(home: Path, folder: Path, model: Path) -> Mapping[str, float]:
    """What a meter finds of a saved model."""
    meter = TaxMeter(probes(home, 1), open_run(folder, RunPlan("direct", "direct", seed=1)), load_policy(model), 4096, 1)
    return {name: value for name, value in meter.look(0).items() if "_change" not in name}


def tax_of(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name.startswith("tax/")}


def test_start_and_end_are_what_the_saved_models_measure(home: Path, straight: Path, tmp_path: Path) -> None:
    rows = rows_of(straight, "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(8))
    assert [bool(tax_of(row)) for row in rows] == [step in (0, 3, 6) for step in range(8)]
    start, end = measured(home, tmp_path / "start", home / "policy"), measured(home, tmp_path / "end", straight / "model")
    assert {name: value for name, value in tax_of(rows[0]).items() if "_change" not in name} == pytest.approx(start, abs=1e-6)
    found = summary_of(straight)["tax"]
    assert list(found) == MEASURES
    for key, at in (("start", start), ("end", end)):
        assert {f"tax/{name.replace(' ', '_')}/mean": one[key]["mean"] for name, one in found.items()} == pytest.approx(at, abs=1e-6)
    change = tax_of(rows[6])["tax/text_nll_change/mean"]
    assert change == pytest.approx(rows[6]["tax/text_nll/mean"] - rows[0]["tax/text_nll/mean"], abs=1e-6)
    assert abs(change) > 1e-3
    assert len(rows_of(straight, "tax.jsonl")) == 12


def test_it_changes_nothing_that_is_trained(home: Path, straight: Path, tmp_path: Path) -> None:
    plain = ran(replace(stage(home), tax=None), tmp_path / "plain", "direct")
    kept = [{name: value for name, value in row.items() if name not in tax_of(row)} for row in rows_of(straight, "metrics.jsonl")]
    assert kept == rows_of(plain, "metrics.jsonl")
    one, other = (load_file(run / "model" / "model.safetensors") for run in (straight, plain))
    assert all(one[name].equal(other[name]) for name in one)
    assert summary_of(straight) == {**summary_of(plain), "tax": summary_of(straight)["tax"]}


def test_killed_and_resumed_it_measures_against_the_same_start(
    home: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Run.log

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
        patch.setattr(Run, "log", deadly)
        with pytest.raises(Interrupted):
            ran(stage(home), tmp_path / "killed", "direct")
    resumed = ran(stage(home), tmp_path / "killed", "direct")
    for file in ("metrics.jsonl", "tax.jsonl", "summary.json"):
        assert (resumed / file).read_bytes() == (straight / file).read_bytes()


def test_the_best_weights_are_those_that_are_measured_at_the_end(home: Path, tmp_path: Path) -> None:
    turned = [{"prompt": prompt, "chosen": rejected, "rejected": chosen} for prompt, chosen, rejected in PAIRS]
    write_rows(tmp_path / "turned.jsonl", turned)  # what is learned makes these less likely, so the first weights are the best
    best = stage(home, every=None, epochs=8, keep=Best(every=1), held_out=str(tmp_path / "turned.jsonl"))
    run = ran(best, tmp_path / "best", "direct")
    rows = rows_of(run, "metrics.jsonl")
    assert len([row for row in rows if tax_of(row)]) == 8  # none measures eight times
    assert summary_of(run)["last"]["best_step"] < 16
    end = measured(home, tmp_path / "end", run / "model")
    assert summary_of(run)["tax"]["text_nll"]["end"]["mean"] == pytest.approx(end["tax/text_nll/mean"], abs=1e-6)


def test_the_report_has_the_tax_of_runs_that_made_its_models(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": text} for text in TEXTS])
    run = ran(stage(home), tmp_path / "direct", "direct")
    models = {"DPO": run, "start": home / "policy"}
    for name, model in models.items():
        evaluated = Evaluate(str(tmp_path / "prompts.jsonl"), model=str(model), gold="tests.unit.stages.online.golden:dimensions")
        ran(evaluated, tmp_path / name, "evaluate")
    # Parents are the pipeline's to record.
    record = json.loads((tmp_path / "DPO" / "run.json").read_text())
    record["parents"] = [{"field": "model", "path": str(run), "key": json.loads((run / "run.json").read_text())["key"]}]
    (tmp_path / "DPO" / "run.json").write_text(json.dumps(record))
    reported = tuple(ReportedModel(evaluation=str(tmp_path / name), name=name) for name in models)
    page = (ran(Report(reported, "start"), tmp_path / "report", "report") / "report.html").read_text()
    assert "DPO, less its start" in page
