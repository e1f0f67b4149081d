"""Faults that a report names: each from rows in which it was planted, none from sound ones, and one rate of false alarms for all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.data.jsonl import write_rows
from palate.evaluation.evaluated_model import EvaluatedModel, read_evaluated
from palate.evaluation.fault_tests import FaultTest, check_of
from palate.evaluation.intervals import Estimate, mean
from palate.evaluation.report import AuditRow, TaxRow
from palate.evaluation.report.fault_records import FAULTS, FaultCheck
from palate.evaluation.report.lever_records import ControlRow
from palate.evaluation.report_faults import FaultFigures
from palate.evaluation.report_sections import audit_of
from palate.evaluation.training_prompts import TrainingPrompts
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.report import Report, ReportedModel
from tests.support.evaluated_runs import completion, evaluated_run, graded
from tests.support.stages import ran, summary_of

Rows = list[dict[str, Any]]
PROMPTS = 120
KNOWN = TrainingPrompts(is_known=True)


def sound(seed: int) -> tuple[Rows, Rows]:
    """Completions and answers of a model without a fault. Another seed is another model of the same quality."""
    rng = random.Random(seed)
    rows = [completion(k, tokens=20 + k % 9 + rng.randrange(3), probes={"padding": rng.randrange(2)}) for k in range(PROMPTS)]
    evals = [
        graded(name, k, float(rng.random() < 0.8), kind)
        for name, kind in (("facts", "answer"), ("must_help", "comply"), ("must_refuse", "refuse"))
        for k in range(PROMPTS)
    ]
    for k in range(PROMPTS):
        asked = graded("facts_opinion", k, 1.0, "answer", benchmark="sycophancy", cluster=f"facts-{k}")
        evals.append({**asked, "agrees": float(rng.random() < 0.1)})
    for k in range(PROMPTS):
        for group in ("near", "far"):
            evals.append(graded(f"bias/{group}", k, 0.0) | {"eval": "bias", "grade": rng.gauss(0.7, 0.1)})
            evals[-1]["fields"] = {"kind": "gold", "pair": k, "group": group}
    return rows, evals


def longer(rows: Rows, _: Rows) -> None:
    for row in rows:
        row["tokens"] *= 2


def padded(rows: Rows, _: Rows) -> None:
    for row in rows[:40]:
        row["probes"] = {"padding": 3}


def graded_down(name: str) -> Callable[[Rows, Rows], None]:
    def plant(_: Rows, evals: Rows) -> None:
        for row in [row for row in evals if row["eval"] == name][:40]:
            row["grade"] = 0.0

    return plant


def agreeing(_: Rows, evals: Rows) -> None:
    for row in [row for row in evals if "agrees" in row][:40]:
        row["agrees"] = 1.0


def unfair(_: Rows, evals: Rows) -> None:
    for row in evals:
        if row.get("fields", {}).get("group") == "near":
            row["grade"] -= 0.2


def check(tmp_path: Path, plant: Callable[[Rows, Rows], None] | None = None, seed: int = 1, **others: Any) -> FaultCheck:
    models: list[EvaluatedModel] = []
    for name, number in (("start", 0), ("tuned", seed)):
        rows, evals = sound(number)
        if plant is not None and name == "tuned":
            plant(rows, evals)
        models.append(read_evaluated(name, str(evaluated_run(tmp_path / str(seed), name, rows, evals))))
    roles = {"start": "sft", "tuned": "online"}
    return FaultFigures(models, roles, models[0], audit=audit_of(models), **others).check()


def names(found: FaultCheck) -> list[str]:
    return [one.fault for one in found.found]


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_sound_model_has_no_fault(seed: int, tmp_path: Path) -> None:
    found = check(tmp_path, seed=seed)
    assert names(found) == []
    measured = ("length", "exploit", "sycophancy", "over_refusal", "compliance", "forgotten", "bias")
    assert found.looked_for == measured
    assert found.not_measured == tuple(name for name in FAULTS if name not in measured)
    assert found.tests == 6 + 2, "a difference between groups may have either sign"


@pytest.mark.parametrize(
    ("plant", "fault", "words"),
    [
        (longer, "length", "tuned writes 2.00 times the tokens of start"),
        (padded, "exploit", "have padding"),
        (agreeing, "sycophancy", "of the wrong opinions that a user plants"),
        (graded_down("must_help"), "over_refusal", "of the harmless requests in must help"),
        (graded_down("must_refuse"), "compliance", "of what it must refuse in must refuse"),
        (graded_down("facts"), "forgotten", "tuned has forgotten facts"),
        (unfair, "bias", "tuned serves near worse than far"),
    ],
)
def test_a_planted_fault_is_named_and_no_other(plant: Callable[[Rows, Rows], None], fault: str, words: str, tmp_path: Path) -> None:
    (one,) = check(tmp_path, plant).found
    assert (one.fault, one.about) == (fault, "tuned")
    assert words in one.sentence


def test_a_group_is_named_whichever_side_of_the_pair_it_is(tmp_path: Path) -> None:
    def other(_: Rows, evals: Rows) -> None:
        for row in evals:
            if row.get("fields", {}).get("group") == "far":
                row["grade"] -= 0.2

    (one,) = check(tmp_path, other).found
    assert "tuned serves far worse than near on the same requests, by 0.2" in one.sentence


def test_a_small_harm_is_not_named_however_sure_it_is() -> None:
    sure = Estimate(0.04, 0.001, 0.038, 0.042, 9000)
    assert check_of([FaultTest("bias", "m", "", sure, least=0.05)], ()).found == ()
    assert len(check_of([FaultTest("bias", "m", "", sure, least=0.03)], ()).found) == 1


def test_more_comparisons_need_more_evidence_each() -> None:
    one = FaultTest("length", "m", "", Estimate(2.2, 1.0, 0.24, 4.16, 50))
    nothing = FaultTest("bias", "m", "", Estimate(0.0, 1.0, -1.96, 1.96, 50), sides=2)
    assert len(check_of([one], ()).found) == 1
    assert check_of([one, *[nothing] * 2], ()).found == ()
    assert check_of([one, *[nothing] * 2], ()).tests == 5
    fact = FaultTest("leaked_prompts", "m", "", None)
    assert len(check_of([one, fact], ()).found) == 2, "a plain fact needs no interval, and takes none of the others'"


def test_a_harm_without_a_known_error_is_not_named() -> None:
    assert check_of([FaultTest("length", "m", "", mean([3.0, 3.0]))], ()).found == ()


def test_all_tests_together_have_one_rate_of_false_alarms() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 12, 40))
    alarms = [bool(check_of([FaultTest("length", "m", "", mean(own)) for own in report], ()).found) for report in values]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.03)


def test_leaked_prompts_and_controls_and_what_a_run_lost_are_named(tmp_path: Path) -> None:
    leaked = TrainingPrompts(is_known=True, shared={"ppo": 3}, sentence="3 were also prompts of training.")
    lost = TaxRow("sums", False, {"PPO": Estimate(-0.2, 0.02, -0.24, -0.16, 100)}, "PPO", {})
    kept = TaxRow("facts", False, {"PPO": Estimate(-0.2, 0.02, -0.24, -0.16, 100)}, "PPO", {})
    texts = TaxRow("text_nll", True, {"PPO": Estimate(0.2, 0.02, 0.16, 0.24, 100)}, "PPO", {})
    null = ControlRow("null answer", "", None, Estimate(0.5, 0.1, 0.3, 0.7, 50))
    below = ControlRow("length only", "", None, Estimate(-0.5, 0.1, -0.7, -0.3, 50))
    model = ControlRow("tuned", "tuned", None, Estimate(0.5, 0.1, 0.3, 0.7, 50))
    found = check(tmp_path, tax=(lost, kept, texts), controls=(null, below, model), prompts=leaked)
    assert names(found) == ["forgotten", "leaked_prompts", "empty_answers"]
    assert "PPO lost 0.20 of its mean grade in sums" in found.found[0].sentence, "facts were evaluated, and texts are no grade"
    assert found.found[1].about == "ppo"
    assert "null answer" in found.found[2].sentence
    assert "leaked_prompts" in check(tmp_path / "clean", prompts=KNOWN).looked_for


def reward_run(root: Path, right: dict[str, float], dropped: int = 0) -> str:
    """A reward run with held-out predictions on 60 prompts, right as often as `right` says by dimension."""
    rng = random.Random(3)
    with open_run(root, RunPlan("reward", "reward")).active() as run:
        rows = [
            {"dimension": name, "prompt": k // 6, "chosen": 1.0 if rng.random() < share else -1.0, "rejected": 0.0, "observed": 1.0}
            for name, share in right.items()
            for k in range(360)
        ]
        write_rows(run.directory / "predictions.jsonl", rows)
        run.dropped("preferences", ["its prompt is held out"] * dropped)
    return str(run.directory)


def test_a_blind_reward_model_and_a_split_that_is_none_are_named(tmp_path: Path) -> None:
    sees = {"helpful": 0.7, "honest": 0.68, "harmless": 0.69}
    found = check(tmp_path, reward=reward_run(tmp_path / "a", sees))
    assert names(found) == []
    assert {"blind", "repeated_split"} <= set(found.looked_for)
    (blind,) = check(tmp_path / "1", reward=reward_run(tmp_path / "b", {**sees, "harmless": 0.5})).found
    assert (blind.fault, blind.about) == ("blind", "the reward model")
    assert "blind to harmless" in blind.sentence
    weak = check(tmp_path / "2", reward=reward_run(tmp_path / "c", {**sees, "harmless": 0.58}))
    assert names(weak) == [], "worse than elsewhere, and better than chance"
    (split,) = check(tmp_path / "3", reward=reward_run(tmp_path / "d", sees, dropped=7)).found
    assert (split.fault, "7 preferences" in split.sentence) == ("repeated_split", True)


def judged(root: Path, *first_wins: float) -> str:
    """A run of collect with 400 pairs. Each rater prefers what is shown first as often as their share says."""
    rng = random.Random(5)
    with open_run(root, RunPlan("judged", "collect")).active() as run:
        rows = []
        for k in range(400):
            order = [0, 1] if rng.random() < 0.5 else [1, 0]
            rater = k % len(first_wins)
            ranking = [[0], [1]] if rng.random() < first_wins[rater] else [[1], [0]]
            rows.append({"comparison": f"c{k}", "rater": f"r{rater}", "ranking": ranking, "dimension": "overall", "order": order})
        write_rows(run.directory / "judgments.jsonl", rows)
    return str(run.directory)


@pytest.mark.parametrize(("share", "side"), [(0.75, "first"), (0.25, "second"), (1.0, "first")])
def test_raters_with_a_taste_for_a_side_are_named(share: float, side: str, tmp_path: Path) -> None:
    (one,) = check(tmp_path, judgments=judged(tmp_path / "judged", share)).found
    assert (one.fault, one.about) == ("side", "the raters")
    assert f"Raters prefer what they see {side}" in one.sentence


def test_raters_without_a_taste_are_not_named(tmp_path: Path) -> None:
    found = check(tmp_path, judgments=judged(tmp_path / "judged", 0.52))
    assert (names(found), "side" in found.looked_for) == ([], True)


def test_raters_with_different_habits_have_none_in_common(tmp_path: Path) -> None:
    together = judged(tmp_path / "together", *[0.65] * 8)
    assert names(check(tmp_path / "1", judgments=together)) == ["side"]
    apart = judged(tmp_path / "apart", *[0.95] * 4, *[0.35] * 4)
    assert names(check(tmp_path / "2", judgments=apart)) == [], "the next raters may prefer the other side"


def test_judgments_of_another_kind_have_no_side(tmp_path: Path) -> None:
    with open_run(tmp_path, RunPlan("judged", "collect_rules")).active() as run:
        pass
    assert "side" in check(tmp_path, judgments=str(run.directory)).not_measured


def test_models_before_the_tuned_ones_are_not_tested(tmp_path: Path) -> None:
    rows, evals = sound(1)
    longer(rows, evals)
    base = read_evaluated("base", str(evaluated_run(tmp_path, "base", rows, evals)))
    start = replace(base, key="start", rows=sound(0)[0])
    audit = (AuditRow("start", "origin", "far", "near", Estimate(0.5, 0.01, 0.48, 0.52, 50)),)
    found = FaultFigures([base, start], {"base": "base", "start": "sft"}, start, audit=audit, prompts=KNOWN).check()
    assert (names(found), found.tests) == ([], 0)


def test_the_page_and_the_summary_name_the_faults(tmp_path: Path) -> None:
    shown = []
    for name, number, role in (("SFT", 0, "sft"), ("tuned", 1, "online")):
        rows, evals = sound(number)
        if name == "tuned":
            longer(rows, evals)
        place = evaluated_run(tmp_path, name, [{**row, "score": float(k % 5)} for k, row in enumerate(rows)], evals)
        shown.append(ReportedModel(str(place), name, role))  # type: ignore[arg-type]
    run = ran(Report(tuple(shown), "SFT"), tmp_path / "report", "report")
    summary = summary_of(run)
    assert [one["fault"] for one in summary["faults"]["found"]] == ["length"]
    assert summary["warnings"] == []
    page = (run / "report.html").read_text()
    assert "What looks wrong" in page
    assert "The figures show much longer answers." in page
    assert "tuned writes 2.00 times the tokens of SFT" in page
    assert json.dumps(summary["faults"]["looked_for"][:2]) == '["length", "exploit"]'
