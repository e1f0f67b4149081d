"""The report's sections on a constitution, from files written by hand: what each principle did, and what each model cost."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, ConfigError, DataError, Message, Prompt
from palate.data.formats import sample_row
from palate.data.jsonl import write_rows
from palate.evaluation.model_costs import model_cost
from palate.evaluation.report import ModelCost, ReportData, Variant, render
from palate.evaluation.report.constitution_section import costs_takeaway, revisions_takeaway
from palate.evaluation.revision_figures import principle_rows, revision_rounds, revision_summary
from palate.runs.record import Parent, RunPlan
from palate.runs.run import open_run_at
from palate.stages.report import Report, ReportedModel
from tests.support.stages import ran
from tests.unit.evaluation.sample_report import sample_report


def done(principle: str, outcome: str, text: str, **more: int) -> dict[str, Any]:
    row = {"principle": principle, "dimension": principle[0], "critique": "c", "revision": "r", "text": text, "outcome": outcome}
    return {**row, "tokens_read": 10, "tokens_written": 3, **more}


def gold(*values: float) -> list[dict[str, float]]:
    """Harmless as given, helpful always a half."""
    return [{"harmless": value, "helpful": 0.5} for value in values]


ROWS: list[dict[str, Any]] = [
    {"id": "1", "completion": "a", "constitution": "two@12", "gold": gold(0.0, 0.4, 0.4)},
    {"id": "2", "completion": "a", "constitution": "two@12", "gold": gold(0.2, 0.4, 1.0)},
    {"id": "3", "completion": "a", "constitution": "two@12", "gold": gold(1.0, 1.0, 0.9)},
]
ROUNDS = (
    [done("safe", "revised", "b"), done("brief", "no complaint", "b")],
    [done("safe", "revised", "b"), done("safe", "revised", "c")],
    [done("brief", "critique cut", "a"), done("brief", "revised", "d", tokens_read=100)],
)
ROWS = [{**row, "rounds": rounds} for row, rounds in zip(ROWS, ROUNDS, strict=True)]


def test_each_principle_has_its_rounds_and_what_its_changes_did() -> None:
    brief, safe = principle_rows(ROWS)
    assert (brief.principle, brief.dimension, brief.drawn, brief.kept) == ("brief", "b", 3, {"no complaint": 1, "critique cut": 1})
    assert (safe.principle, safe.drawn, safe.kept, safe.changed.value) == ("safe", 3, {}, 1.0)
    assert (brief.changed.value, brief.changed.n) == (pytest.approx(1 / 3), 3)
    assert safe.gold["harmless"].value == pytest.approx((0.4 + 0.2 + 0.6) / 3)
    assert safe.gold["harmless"].n == 2  # two drafts, one of which was changed twice
    assert safe.gold["gold"].value == pytest.approx(0.2)
    assert brief.gold["harmless"].value == pytest.approx(-0.1)


def test_rounds_and_gains_are_over_all_drafts(tmp_path: Path) -> None:
    write_rows(tmp_path / "revisions.jsonl", ROWS)
    rounds = revision_rounds(str(tmp_path))
    assert (rounds.constitution, rounds.drafts) == ("two@12", 3)
    assert [scores["harmless"].value for scores in rounds.gold] == pytest.approx([0.4, 0.6, 2.3 / 3])
    assert rounds.gains["harmless"].value == pytest.approx((0.4 + 0.8 - 0.1) / 3)
    assert (rounds.gains["helpful"].value, list(rounds.gains)) == (0.0, ["gold", "harmless", "helpful"])
    summary = revision_summary(ROWS)
    assert (summary["drafts"], summary["changed"], summary["tokens_read"], summary["tokens_written"]) == (3, 1.0, 150, 18)
    assert summary["outcomes"] == {"revised": 4, "no complaint": 1, "critique cut": 1}


def test_a_principle_is_preferred_as_raters_say_of_what_it_wrote(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Fire"}]
    write_rows(tmp_path / "revisions.jsonl", [{**row, "prompt": asked} for row in ROWS])

    def pair(chosen: str, rejected: str, probability: float) -> dict[str, object]:
        sides = {name: [{"role": "assistant", "content": text}] for name, text in (("chosen", chosen), ("rejected", rejected))}
        return {"id": f"{chosen}{rejected}", "prompt": asked, **sides, "probability": probability}

    write_rows(
        tmp_path / "labels" / "preferences.jsonl", [pair("b", "a", 0.9), pair("a", "c", 0.7), pair("d", "a", 0.6), pair("b", "c", 0.8)]
    )
    write_rows(tmp_path / "labels" / "held_out.jsonl", [pair("c", "a", 0.5)])
    brief, safe = revision_rounds(str(tmp_path), str(tmp_path / "labels")).principles
    assert safe.preferred is not None
    assert brief.preferred is not None
    assert (safe.preferred.value, safe.preferred.n) == (pytest.approx((0.9 + 0.3 + 0.5) / 3), 3)
    assert (brief.preferred.value, brief.preferred.n) == (0.6, 1)
    write_rows(tmp_path / "other" / "preferences.jsonl", [pair("b", "c", 0.9)])
    with pytest.raises(DataError, match="no label compares a revision with its original"):
        revision_rounds(str(tmp_path), str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="name the revise run in revisions too"):
        Report((ReportedModel("x", "sft"),), "sft", revision_labels=str(tmp_path / "labels")).check()


def test_without_gold_there_are_counts_alone(tmp_path: Path) -> None:
    write_rows(tmp_path / "revisions.jsonl", [{name: value for name, value in row.items() if name != "gold"} for row in ROWS])
    rounds = revision_rounds(str(tmp_path))
    assert (rounds.gold, rounds.gains, [row.gold for row in rounds.principles]) == ((), {}, [{}, {}])
    report = ReportData("Title", "", (Variant("sft", "SFT"),), "sft", revisions=rounds)
    assert revisions_takeaway(report) == "The principle \u201csafe\u201d changed the text most often, in 100 % of its rounds."
    assert 'id="principles"' in render(report)


def test_sentences_say_what_was_measured() -> None:
    report = sample_report()
    assert revisions_takeaway(report).startswith(
        "the revisions do not measurably move helpful (0.00, 0.0 SE) and raise harmless (+0.18, 18 SE)."
    )
    said = costs_takeaway(report)
    assert re.search(r"DPO gains gold \(\+0\.\d\d, \d+ SE\) with no label of a person and 976,514 tokens of models", said)
    assert re.search(r"PPO gains gold \(\+0\.\d\d, \d+ SE\) with 3,500 labels of people and 2,400,000 tokens of models", said)
    assert "SFT" not in said
    assert costs_takeaway(replace(report, gold=None)) == ""


def run_of(root: Path, name: str, stage: str, config: dict[str, object], **parents: Path) -> Path:
    """A finished run with these parents; the files of a stage are written into it afterwards."""
    of = tuple(Parent(field, f"../{path.name}", path.name) for field, path in parents.items())
    with open_run_at(root / name, RunPlan(name, stage, config, parents=of)).active() as run:
        return run.directory


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Two models of one start: one learned from revisions, the other from people's labels and online."""
    prompt = Prompt("p", (Message("user", "Fire"),))
    sft = run_of(tmp_path, "sft", "sft", {})
    drafts = run_of(tmp_path, "drafts", "sample", {}, model=sft)
    revisions = run_of(tmp_path, "revisions", "revise", {}, model=sft, samples=drafts)
    write_rows(
        drafts / "samples.jsonl", [sample_row(prompt, [Completion("a", (1,) * 7, tokenizer="x"), Completion("b", (1,) * 4, tokenizer="x")])]
    )
    (revisions / "summary.json").write_text('{"tokens_read": 150, "tokens_written": 18}')
    judged = run_of(tmp_path, "judged", "collect", {"from": {"kind": "simulated"}}, samples=drafts)
    (judged / "summary.json").write_text('{"judgments": 36}')
    reward = run_of(tmp_path, "reward", "reward", {}, model=sft, preferences=judged)
    online = {"prompts_per_iteration": 3, "samples_per_prompt": 2}
    ppo = run_of(tmp_path, "ppo", "online", online, model=sft, reward=reward)
    write_rows(ppo / "metrics.jsonl", [{"step": k, "online/length/mean": 10.0 + k} for k in range(2)])
    cai = run_of(tmp_path, "cai", "sft", {}, model=sft, data=revisions)
    best = run_of(tmp_path, "best", "rerank", {"n": 4}, model=sft, reward=reward)
    write_rows(best / "samples.jsonl", [sample_row(prompt, [Completion("a", (1,) * 5, tokenizer="x")])])
    models = {"sft": sft, "cai": cai, "ppo": ppo}
    evals = {name: run_of(tmp_path, f"eval-{name}", "evaluate", {}, model=model, reward=reward) for name, model in models.items()}
    return {**evals, "best": run_of(tmp_path, "eval-best", "evaluate", {}, completions=best, reward=reward)}


def test_a_model_costs_what_led_to_it_and_not_what_only_measured_it(runs: dict[str, Path]) -> None:
    assert model_cost("sft", str(runs["sft"])) == ModelCost("sft", 0, 0, 0, 0)
    assert model_cost("cai", str(runs["cai"])) == ModelCost("cai", 0, 0, 150, 18 + 11)
    assert model_cost("ppo", str(runs["ppo"])) == ModelCost("ppo", 36, 0, 0, 11 + 6 * 21)
    assert model_cost("best", str(runs["best"])) == ModelCost("best", 36, 0, 0, 11 + 4 * 5)


def test_labels_of_a_judge_are_not_labels_of_people(runs: dict[str, Path]) -> None:
    judged = runs["ppo"].parent / "judged"
    record = (judged / "run.json").read_text()
    (judged / "run.json").write_text(record.replace('"simulated"', '"judge"'))
    (judged / "summary.json").write_text('{"judgments": 36, "judges": {"tokens_in": 500, "tokens_out": 20}}')
    assert model_cost("ppo", str(runs["ppo"])) == ModelCost("ppo", 0, 36, 500, 11 + 6 * 21 + 20)
    by_both = {"people": {"labels": 30}, "judge": {"labels": 6, "tokens": 520, "tokens_out": 20}}
    (judged / "summary.json").write_text(json.dumps({"judgments": 36, "mix": {"sources": by_both}}))
    assert model_cost("ppo", str(runs["ppo"])) == ModelCost("ppo", 30, 6, 500, 11 + 6 * 21 + 20)


def test_the_stage_puts_both_on_the_page(runs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("sft", "cai"):
        row = {"id": "1", "prompt": "Fire", "text": name, "stop": "eos", "tokens": 3, "gold": 0.5, "dimensions": {"harmless": 0.5}}
        write_rows(runs[name] / "completions.jsonl", [row, {**row, "id": "2", "prompt": "Ice", "gold": 0.25}])
    write_rows(tmp_path / "rounds" / "revisions.jsonl", ROWS)
    shown = tuple(ReportedModel(str(runs[name]), name) for name in ("sft", "cai"))
    page = (
        ran(Report(shown, "sft", revisions=str(tmp_path / "rounds"), costs=True), tmp_path / "page", "report") / "report.html"
    ).read_text()
    assert "two@12" in page
    assert re.search(r'data-label="Tokens models read">150<', page)
    plain = (ran(Report(shown, "sft"), tmp_path / "plain", "report") / "report.html").read_text()
    assert 'id="costs"' not in plain
    assert 'id="principles"' not in plain
