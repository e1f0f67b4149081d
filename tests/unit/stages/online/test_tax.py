"""What online training measures of the alignment tax: with the current weights, against the start, and without an effect on training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, DataError, Sampling
from palate.data.formats import read_texts
from palate.evaluation.evals import eval_means
from palate.evaluation.intervals import paired_share_difference
from palate.evaluation.tax import TaxMeter
from palate.evaluation.tax_figures import TaxUnit, tax_change
from palate.models.load import load_policy
from palate.objectives.supervised import CrossEntropy
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.evaluate import Evaluate
from palate.text.spans import document_trees
from palate.training.imitation import Imitation
from tests.support.stages import ran, rows_of
from tests.unit.stages.online.toy import alike, configured, killed_and_resumed, summary, trained, weights

TEXTS = ("the cook has rice and beans", "two guests make salt", "please make rice today for the guests", "so what can we make")
CHOICES = ("the cook has rice and", "two guests make the", "today we can make", "please")


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Texts and three evals: options, a clustered one, and answers that are written."""
    tmp_path = tmp_path_factory.mktemp("probes")
    (tmp_path / "held_out_texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    options = {"kind": "choice", "options": [" beans", " salt", " rice today"]}
    rows: list[dict[str, Any]] = [
        *({"eval": "goes with", **options, "prompt": text, "answer": " beans"} for text in CHOICES),
        *({"eval": "mass", **options, "prompt": text, "answer": " salt", "grade_by": "mass", "cluster": text[:2]} for text in CHOICES),
        *({"eval": "written", "kind": "answer", "prompt": text, "answer": "rice"} for text in TEXTS),
        *({"eval": "left alone", "kind": "comply", "prompt": text} for text in TEXTS),
    ]
    (tmp_path / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "every": 2,
        "texts": str(tmp_path / "held_out_texts.jsonl"),
        "evals": [str(tmp_path / "evals.jsonl")],
        "only": ["goes with", "mass", "written"],
        "max_tokens": 6,
    }


def taxed(data: Path, probes: Mapping[str, Any], **changed: Any) -> Any:
    return configured(data, **{"iterations": 4, "prompts_per_iteration": 4, **changed}, held_out={"tax": probes})


Trained = tuple[Run, list[dict[str, float]]]


@pytest.fixture(scope="module")
def straight(data: Path, probes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of four iterations that measures before the first and the third, and at the end."""
    return trained(taxed(data, probes), tmp_path_factory.mktemp("straight"))


def apart(rows: list[dict[str, float]]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The metrics of the tax, and all others."""
    tax = [{name: value for name, value in row.items() if name.startswith("tax/")} for row in rows]
    return tax, [{name: value for name, value in row.items() if not name.startswith("tax/")} for row in rows]


def test_it_is_what_evaluate_and_pretrain_measure_of_the_same_weights(
    data: Path, tmp_path: Path, probes: dict[str, Any], straight: Trained
) -> None:
    run, rows = straight
    tax, _ = apart(rows)
    assert [bool(one) for one in tax] == [True, False, True, False]
    ends = {name: figures["end"]["mean"] for name, figures in summary(run)["tax"].items()}
    assert list(ends) == ["text_nll", "goes with", "mass", "written"]
    starts = {name: tax[0][f"tax/{name.replace(' ', '_')}/mean"] for name in ends}
    for model, found in ((data / "base", starts), (run.directory / "model", ends)):
        policy = load_policy(model)
        trees = [tree for text in read_texts(probes["texts"]).rows for tree in document_trees(policy.tokenizer, text, 99)]
        assert found["text_nll"] == pytest.approx(Imitation(policy, CrossEntropy(), 4096).measured(trees).loss, abs=1e-5)
        stage = Evaluate(str(data / "prompts.jsonl"), model=str(model), evals=tuple(probes["evals"]), sampling=Sampling(max_tokens=6))
        graded = rows_of(ran(stage, tmp_path / f"evaluated-{model.name}", "evaluate"), "evals.jsonl")
        means = {name: one["mean"] for name, one in eval_means([row for row in graded if row["eval"] != "left alone"]).items()}
        assert {name: found[name] for name in means} == pytest.approx(means, abs=1e-5)
    assert ends["text_nll"] != pytest.approx(starts["text_nll"], abs=1e-3)


def test_changes_are_against_the_start_and_every_unit_is_written(straight: Trained) -> None:
    run, rows = straight
    first, _, third, _ = apart(rows)[0]
    assert {value for name, value in first.items() if name.endswith("_change/mean")} == {0.0}
    assert not any(name.endswith("/se") for name in first)
    assert third["tax/text_nll_change/mean"] == pytest.approx(third["tax/text_nll/mean"] - first["tax/text_nll/mean"], abs=1e-6)
    assert third["tax/text_nll_change/mean"] != 0
    assert third["tax/text_nll_change/se"] > 0
    units = rows_of(run.directory, "tax.jsonl")
    assert [row["measure"] for row in units] == ["text_nll"] * 4 + ["goes with"] * 4 + ["mass"] * 4 + ["written"] * 4
    texts = units[:4]
    change = sum(row["end"] - row["start"] for row in texts) / sum(row["weight"] for row in texts)
    found = summary(run)["tax"]["text_nll"]
    assert found["change"]["mean"] == pytest.approx(change)
    assert found["change"]["n"] == 4
    assert found["start"]["mean"] == pytest.approx(first["tax/text_nll/mean"])


def test_it_changes_nothing_that_is_trained(data: Path, tmp_path: Path, straight: Trained) -> None:
    plain, rows = trained(configured(data, iterations=4, prompts_per_iteration=4), tmp_path / "plain")
    run, again = straight
    assert apart(again)[1] == rows
    assert alike(weights(run), weights(plain))


def test_a_guard_reads_what_evals_lost(data: Path, tmp_path: Path, probes: dict[str, Any]) -> None:
    run, _ = trained(taxed(data, probes, guards={"tax": {"warn": -10.0}}), tmp_path)
    steps = [row["step"] for row in rows_of(run.directory, "warnings.jsonl") if row["guard"] == "tax"]
    assert steps == [2], "nothing has an error at the start"


def test_killed_and_resumed_it_measures_against_the_same_start(
    data: Path, tmp_path: Path, probes: dict[str, Any], straight: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed, again = killed_and_resumed(taxed(data, probes), tmp_path / "killed", 1, monkeypatch)
    run, rows = straight
    assert again == rows
    assert summary(resumed)["tax"] == summary(run)["tax"]
    assert rows_of(resumed.directory, "tax.jsonl") == rows_of(run.directory, "tax.jsonl")


def metered(data: Path, folder: Path, probes: Mapping[str, Any]) -> TaxMeter:
    """A meter of the base model, without a training run."""
    read = taxed(data, probes).held_out.tax
    assert read is not None
    return TaxMeter(read, open_run(folder, RunPlan("online", "online", seed=1)), load_policy(data / "base"), 4096, 4)


def test_the_limit_is_for_texts_and_for_each_eval(data: Path, tmp_path: Path, probes: dict[str, Any]) -> None:
    meter = metered(data, tmp_path, {**probes, "limit": 2})
    assert meter.look(1) == {}
    assert meter.look(0)["tax/text_nll/mean"] > 0
    assert [unit.measure for unit in meter.units] == [name for name in ("text_nll", "goes with", "mass", "written") for _ in range(2)]


def test_what_measures_nothing_or_names_another_eval_is_refused(data: Path, tmp_path: Path, probes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="tax measures nothing"):
        taxed(data, {"every": 2})
    with pytest.raises(ConfigError, match="no files of evals"):
        taxed(data, {"texts": probes["texts"], "only": ["facts"]})
    with pytest.raises(DataError, match="'facts', and .* has no such eval"):
        metered(data, tmp_path, {**probes, "only": ["facts"]})


def test_the_interval_of_a_change_is_that_of_pairs_and_of_clusters() -> None:
    alone = [TaxUnit("sums", str(k)) for k in range(6)]
    before, after = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert tax_change(alone, before, after) == paired_share_difference(after, before)
    assert tax_change(alone, before, before).high > 0
    clustered = [TaxUnit("sums", str(k), cluster=str(k // 3)) for k in range(6)]
    assert tax_change(clustered, before, after).value == pytest.approx(-1 / 3)
    assert tax_change(clustered, before, after).se != tax_change(alone, before, after).se
    texts = [TaxUnit("text_nll", str(k), weight=weight) for k, weight in enumerate((1.0, 3.0))]
    assert tax_change(texts, [2.0, 6.0], [3.0, 12.0]).value == pytest.approx(7 / 4)
