"""How often a model breaks each rule: in the summary of evaluate, in its rows, and on the page of the report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from palate.agreement.estimates import wilson
from palate.core import DataError
from palate.data.files import write_json
from palate.data.jsonl import write_rows
from palate.evaluation.classifier_limits import UNTESTED, classifier_limits
from palate.evaluation.evaluated_model import read_evaluated
from palate.evaluation.report import ReportData, RuleBreachRow, Variant, render
from palate.evaluation.report.rule_section import rules_takeaway
from palate.evaluation.rule_audit import breaches_of
from palate.evaluation.rule_sections import rules_of
from palate.models.reward_file import RULE_HEAD
from palate.models.scalar import scalar_from
from palate.rewards.rule_check import RuleCheck
from palate.runs.record import RECORD
from palate.stages.evaluate import Evaluate
from palate.stages.report import Report, ReportedModel
from palate.stages.train_rules import TrainRules
from palate.testing import tiny_policy, word_tokenizer
from palate.training.optimizer import AdamW
from tests.support.rule_files import HERE, RULES, answered, rule_file
from tests.support.stages import dropped_of, ran, rows_of, summary_of

BEFORE = [" make rice"] * 6 + [" make beans"] * 2
AFTER = [" make rice"] + [" make beans"] * 7


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts, completions of two models, and a classifier."""
    folder = tmp_path_factory.mktemp("home")
    prompts = [f"the cook {k}" for k in range(8)]
    write_rows(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    for name, texts in (("before", BEFORE), ("after", AFTER), ("long", [" rice" * 200, *BEFORE[1:]]), ("salty", [" salt", *BEFORE[1:]])):
        rows = [{"prompt": prompt, "completions": [{"text": text}]} for prompt, text in zip(prompts, texts, strict=True)]
        write_rows(folder / f"{name}.jsonl", rows)
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    scalar_from(tiny_policy("qwen3", word_tokenizer()), (RULE_HEAD,), seed=0).save(folder / "classifier")
    return folder


Audit = Callable[..., Path]


@pytest.fixture
def audit(home: Path, tmp_path: Path) -> Audit:
    """Evaluates given completions against rules."""

    def run(name: str, rules: RuleCheck) -> Path:
        stage = Evaluate(str(home / "prompts.jsonl"), completions=str(home / f"{name}.jsonl"), rules=rules)
        return ran(stage, tmp_path / name, "evaluate")

    return run


def test_each_rule_has_its_share_and_who_says_so(audit: Audit, home: Path, tmp_path: Path) -> None:
    file = str(rule_file(tmp_path))
    run = audit("before", RuleCheck(file=file, model=str(home / "classifier")))
    rice, salt = (summary_of(run)["rules"][name] for name in ("rice", "salt"))
    assert rice["checked_by"] == f"program {HERE}:rice"
    assert rice["broken"] == rice["probability"]
    low, high = wilson(6, 8)
    assert (rice["broken"]["value"], rice["broken"]["low"], rice["broken"]["high"]) == (0.75, pytest.approx(low), pytest.approx(high))
    assert salt["checked_by"] == f"classifier {home / 'classifier'}"
    rows = rows_of(run, "completions.jsonl")
    assert [row["rules"]["rice"] for row in rows] == [1.0] * 6 + [0.0] * 2
    told = [row["rules"]["salt"] for row in rows]
    assert salt["probability"]["value"] == pytest.approx(sum(told) / 8)
    assert salt["broken"]["value"] == sum(p > 0.5 for p in told) / 8
    assert rice["unknown"] == salt["unknown"] == 0


def test_an_audit_says_of_which_rules_the_test_does_not_show_that_the_classifier_finds_breaches(
    audit: Audit, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(rule_file(tmp_path))
    answers = [
        (f"the cook {k}", f" make {food}", rule, "r", rule == food)
        for k in range(40)
        for food in ("rice", "salt")
        for rule in ("rice", "salt")
    ]
    judgments = answered(tmp_path / "judgments.jsonl", answers)
    trained = ran(TrainRules(str(home / "base"), file, (str(judgments),), optimizer=AdamW(lr=1e-9)), tmp_path / "trained", "rules")
    findings = dict(one.removeprefix("rule ").split(": ", 1) for one in summary_of(trained)["findings"])
    assert set(findings) == {"rice", "salt"}
    for name, model in (("before", trained), ("after", trained / "model")):
        found = summary_of(audit(name, RuleCheck(file=file, model=str(model), programs=False)))["rules"]
        assert {rule: own["limit"] for rule, own in found.items()} == findings
        assert f"rule salt: {findings['salt']}" in capsys.readouterr().err
    assert "the classifier" in findings["salt"]
    by_program = summary_of(audit("salty", RuleCheck(file=file, model=str(trained))))["rules"]
    assert (by_program["rice"]["limit"], by_program["salt"]["limit"]) == (None, findings["salt"])
    (row,) = [
        one
        for one in rules_of([read_evaluated("salty", str(tmp_path / "salty"))] * 2, read_evaluated("salty", str(tmp_path / "salty")))
        if one.limit
    ]
    assert (row.rule, row.limit) == ("salt", findings["salt"])


def test_a_classifier_whose_test_nobody_knows_is_not_trusted(audit: Audit, home: Path, tmp_path: Path) -> None:
    found = summary_of(audit("before", RuleCheck(file=str(rule_file(tmp_path)), model=str(home / "classifier"))))["rules"]
    assert (found["rice"]["limit"], found["salt"]["limit"]) == (None, UNTESTED)


def test_a_classifier_that_reached_the_area_has_no_limit_and_one_that_learned_another_rule_has(tmp_path: Path) -> None:
    def area(low: float | None, value: float | None = 0.95) -> dict[str, object]:
        return {"value": value, "se": 0.01, "low": low, "high": 0.99, "n": 30}

    figures = {
        "good": {"auc_program_held_out": area(0.91), "auc_held_out": area(0.5)},
        "near": {"auc_program_held_out": None, "auc_held_out": area(0.89)},
        "lone": {"auc_program_held_out": None, "auc_held_out": area(None)},
        "never": {"auc_program_held_out": None, "auc_held_out": area(None, None)},
        "blank": {"auc_program_held_out": None, "auc_held_out": None},
    }
    write_json(tmp_path / RECORD, {})
    write_json(tmp_path / "summary.json", {"held_out": figures})
    found = classifier_limits(str(tmp_path), [*figures, "other"])
    assert "good" not in found
    assert found["near"].startswith("on held-out wordings the classifier may be below 0.9 (area under the curve 0.950, 0.890 to 0.990)")
    assert "one prompt alone" in found["lone"]
    assert "the classifier is not tested" in found["never"]
    assert "no held-out wording" in found["blank"]
    assert found["other"] == UNTESTED


def test_what_a_classifier_cannot_read_is_unknown_and_never_kept(audit: Audit, home: Path, tmp_path: Path) -> None:
    run = audit("long", RuleCheck(file=str(rule_file(tmp_path)), model=str(home / "classifier"), programs=False))
    rice = summary_of(run)["rules"]["rice"]
    assert (rice["unknown"], rice["broken"]["n"]) == (1, 7)
    assert rows_of(run, "completions.jsonl")[0]["rules"] == {"rice": None, "salt": None}
    assert dropped_of(run)["completions not checked against rule 'rice'"] == {"too long": 1}


def test_a_program_that_fails_stops_the_stage(audit: Audit, tmp_path: Path) -> None:
    broken = [{**RULES[0], "program": f"{HERE}:seven"}]
    with pytest.raises(
        DataError, match=r"rule 'rice': its program .*:seven gave 7, .* for the completion ' make rice'. 8 of 8 completions"
    ):
        audit("before", RuleCheck(file=str(rule_file(tmp_path, broken))))


def test_a_program_that_fails_on_one_completion_stops_the_stage_too(audit: Audit, tmp_path: Path) -> None:
    broken = [{**RULES[0], "program": f"{HERE}:failing"}]
    with pytest.raises(DataError, match=r"raised ZeroDivisionError.*1 of 8 completions could not be checked"):
        audit("salty", RuleCheck(file=str(rule_file(tmp_path, broken))))


def test_probabilities_have_the_interval_of_a_mean() -> None:
    found = breaches_of("judge x", np.array([0.2, 0.9, 0.6, 0.1]), 1)
    assert (found.broken.value, found.broken.n, found.unknown) == (0.5, 4, 1)
    assert found.probability.value == pytest.approx(0.45)
    assert found.probability.se == pytest.approx(math.sqrt(np.var([0.2, 0.9, 0.6, 0.1], ddof=1) / 4))


def test_the_report_compares_models_that_one_checker_checked(audit: Audit, home: Path, tmp_path: Path) -> None:
    check = RuleCheck(file=str(rule_file(tmp_path)), ids=("rice",))
    before = read_evaluated("before", str(audit("before", check)))
    after = read_evaluated("after", str(audit("after", check)))
    (row,) = rules_of([before, after], before)
    assert (row.rule, row.checked_by) == ("rice", f"program {HERE}:rice")
    assert {name: one.value for name, one in row.broken.items()} == {"before": 0.75, "after": 0.125}
    assert list(row.versus_reference) == ["after"]
    assert row.versus_reference["after"].value == -0.625
    other = replace(check, model=str(home / "classifier"), programs=False)
    (tmp_path / "again").mkdir()
    stage = Evaluate(str(home / "prompts.jsonl"), completions=str(home / "after.jsonl"), rules=other)
    apart = read_evaluated("after", str(ran(stage, tmp_path / "again" / "after", "evaluate")))
    first, second = rules_of([before, apart], before)
    assert [list(one.broken) for one in (first, second)] == [["before"], ["after"]]
    assert first.versus_reference == second.versus_reference == {}


def test_the_page_has_the_rules_and_says_what_moved(audit: Audit, tmp_path: Path) -> None:
    check = RuleCheck(file=str(rule_file(tmp_path)), ids=("rice",))
    models = tuple(ReportedModel(str(audit(name, check)), name) for name in ("before", "after"))
    page = (ran(Report(models, "before"), tmp_path / "report", "report") / "report.html").read_text()
    assert 'id="rules"' in page
    assert f"program {HERE}:rice" in page
    assert "Against before, after breaks rice less often (\u221262 points)" in page.replace("-62", "\u221262")


def test_without_a_measurable_difference_the_page_says_so() -> None:
    report = ReportData("Title", "", (Variant("sft", "SFT"),), "sft", rules=(RuleBreachRow("rice", "program x", {}, {}),))
    assert rules_takeaway(report) == "no model breaks a rule measurably more or less often than another."
    assert 'id="rules"' in render(report)
    assert rules_takeaway(replace(report, rules=())) == ""


def test_the_page_says_of_which_rules_a_classifier_may_miss_breaches() -> None:
    row = RuleBreachRow("rice", "classifier x", {}, {}, "on held-out wordings the classifier may be below 0.9")
    report = ReportData("Title", "", (Variant("sft", "SFT"),), "sft", rules=(row, RuleBreachRow("salt", "classifier x", {}, {})))
    assert rules_takeaway(report).endswith("The classifier may miss breaches of rice: its own test does not show that it finds them.")
    assert 'classifier x<small class="wrap">On held-out wordings the classifier may be below 0.9.</small>' in render(report)
