"""The report of several models side by side: colours, sentences that name them all, figures without an interval, and prices."""

from __future__ import annotations

import math
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from palate.evaluation.intervals import Estimate, share
from palate.evaluation.report import Contest, LabelSource, ReportData, Training, TrainingPoint, TrainingRun, Variant, VariantRole, render
from palate.evaluation.report.formatting import confidence, errors, interval, percent_interval
from palate.evaluation.report.headline import headline
from palate.evaluation.report.model_colours import FREE, model_colours, run_colours
from palate.evaluation.report.svg import COLOURS
from palate.evaluation.report.takeaways import best_trained, eval_takeaway, gold_takeaway, training_takeaway
from palate.evaluation.report.tiles import tiles
from palate.evaluation.report.training_chart import furthest, training_chart
from palate.runs.record import Parent, RunPlan
from palate.runs.run import open_run_at
from palate.stages.report import Report, ReportedModel
from tests.unit.evaluation.sample_report import part_of_sample, sample_report, sample_without_gold


def points(gold: float = 0.6) -> tuple[TrainingPoint, ...]:
    return tuple(TrainingPoint(k, float(k), 0.1 * k, gold, 0.01, 0.02) for k in range(4))


def test_every_model_has_a_colour_of_its_own() -> None:
    roles: list[VariantRole] = ["sft", "sft", "direct", "online", "online", "other", "direct", "search", "base"]
    variants = [Variant(str(k), str(k), role) for k, role in enumerate(roles)]
    found = model_colours(variants)
    assert {found[str(k)] for k in (0, 2, 3, 5, 7, 8)} == {"sft", "direct", "online", "other", "search", "base"}
    assert len(set(found.values())) == len(variants)
    assert set(FREE) == set(COLOURS)
    many = model_colours([Variant(str(k), str(k), "online") for k in range(12)])
    assert len(set(many.values())) == len(COLOURS)


def test_a_run_has_the_colour_of_its_model_and_of_no_other_run() -> None:
    variants = [Variant("SFT", "SFT", "sft"), Variant("PPO", "PPO", "online"), Variant("CAI PPO", "CAI PPO", "online")]
    runs = [TrainingRun(name, 0.1, points(), variant=name) for name in ("CAI PPO", "PPO")]
    models = model_colours(variants)
    assert run_colours(runs, variants) == [models["CAI PPO"], models["PPO"]]
    unnamed = [TrainingRun(str(k), 0.1, points()) for k in range(4)]
    assert len(set(run_colours(unnamed, variants))) == 4
    assert run_colours([replace(unnamed[0], role="ablation"), *unnamed[1:2]], variants) == ["ablation", "online"]


def test_lines_and_legend_of_runs_have_their_models_colours() -> None:
    report = sample_report()
    variants = tuple(replace(one, role="online") if one.key == "dpo" else one for one in report.variants)
    runs = (TrainingRun("PPO", 0.1, points(), variant="ppo"), TrainingRun("more", 0.1, points(0.7), variant="dpo"))
    report = replace(report, variants=variants, training=Training(runs, "PPO"))
    small = part_of_sample(variants=variants, training=report.training)
    colours = model_colours(variants)
    chart = training_chart(report)
    assert chart is not None
    assert all(f"var(--c-{colours[key]})" in chart.wide for key in ("ppo", "dpo"))
    legend = re.findall(r'<span class="dot c-(\w+)" aria-hidden="true"></span>(PPO|more)</span>', render(small))
    assert legend == [(colours["ppo"], "PPO"), (colours["dpo"], "more")]


def test_a_line_never_goes_back() -> None:
    path = [(0.0, 1.0, 0.1), (2.0, 2.0, 0.1), (1.0, 3.0, 0.1), (2.0, 4.0, 0.1), (2.5, 5.0, 0.1)]
    assert furthest(path) == [path[0], path[1], path[4]]


def test_the_sentence_on_gold_names_every_other_model() -> None:
    report = sample_report()
    text = gold_takeaway(report)
    assert all(variant.name in text for variant in report.variants)
    roles: list[VariantRole] = ["base", "sft", "other", "other", "other", "ablation"]
    other = replace(report, variants=tuple(replace(one, role=role) for one, role in zip(report.variants, roles, strict=True)))
    best = best_trained(other)
    assert best is not None
    assert (best.variant, best_trained(report)) == (best.variant, best), "a model whose role nobody gave is a model too"


def test_the_sentence_on_training_names_every_run() -> None:
    report = sample_report()
    rising = tuple(replace(point, gold=0.5 + 0.05 * point.step) for point in points())
    runs = (TrainingRun("PPO", 0.1, rising), TrainingRun("CAI PPO", 0.2, points(0.7)))
    text = training_takeaway(replace(report, training=Training(runs, "PPO")))
    assert "PPO: gold rises from 0.50 to 0.65" in text
    assert "CAI PPO: gold does not measurably move: from 0.70 to 0.70" in text
    assert training_takeaway(report).startswith("With KL coefficient 0.05 gold rises from 0.56 to 0.68")


def constant(estimate: Estimate, value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan, math.nan, estimate.n)


def without_spread(part: Any, *, is_difference: bool = False) -> Any:
    """The same record, as if every value of an estimate were the same: only shares with Wilson's interval keep theirs."""
    if isinstance(part, Estimate):
        return constant(part, 0.0 if is_difference else part.value)
    if isinstance(part, tuple):
        return tuple(without_spread(one, is_difference=is_difference) for one in part)
    if isinstance(part, dict):
        return {key: without_spread(one, is_difference=is_difference) for key, one in part.items()}
    if not is_dataclass(part) or isinstance(part, type):
        return part
    names = {one.name: one.name in {"versus_reference", "difference", "gains", "gold"} for one in fields(part)}
    wilson = {"reward_model", "sources", "win_rates"}
    changed = {name: without_spread(getattr(part, name), is_difference=is_a_gap) for name, is_a_gap in names.items() if name not in wilson}
    return replace(cast("Any", part), **changed)


@pytest.mark.parametrize("make", [sample_report, sample_without_gold])
def test_no_figure_on_the_page_has_an_interval_of_nothing(make: Any) -> None:
    page = render(without_spread(make()))
    shown = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.findall(r"[^<>]*(?:n/a|\bnan\b|not known)[^<>]*", shown)


def test_a_skill_that_did_not_change_is_said_so() -> None:
    report = without_spread(sample_report())
    (tile,) = [one for one in tiles(report) if "skill" in one.label]
    assert (tile.value, tile.detail) == ("0 pts", "no difference in any of 400 questions")
    assert "n/a" not in eval_takeaway(report, report.evals)


def test_why_there_is_no_interval() -> None:
    same, once, unknown = (Estimate(0.5, math.nan, math.nan, math.nan, n) for n in (400, 1, 0))
    assert [interval(one) for one in (same, once, unknown)] == [
        "the same in all of 400 values", "measured once, no interval", "interval not known",
    ]  # fmt: skip
    assert percent_interval(same) == "the same in all of 400 values"
    assert [errors(one) for one in (replace(same, value=0.0), same, once, unknown)] == [
        "no difference in any of 400 values", "the same in all of 400 values", "measured once, no interval", "SE not known",
    ]  # fmt: skip
    assert confidence(same, "1 to 2", "prompts") == "the same in all of 400 prompts"
    assert confidence(share(200, 400), "45 to 55 %", "prompts") == "95 %: 45 to 55 %, 400 prompts"


def gaps(report: ReportData, **differences: Estimate) -> ReportData:
    """The report with these overall differences to the reference."""
    assert report.gold is not None
    scores = tuple(
        replace(row, versus_reference=differences[row.variant]) if row.dimension == "gold" and row.variant in differences else row
        for row in report.gold.scores
    )
    return replace(report, gold=replace(report.gold, scores=scores))


def difference(value: float) -> Estimate:
    return Estimate(value, 0.01, value - 0.02, value + 0.02, 400)


def compared() -> ReportData:
    """PPO with people's labels beside DPO with a judge's: 0.68 and 0.64 after 0.56."""
    report = sample_report()
    sources = (LabelSource("judge", 0, 9_000, 5, 9_000, variant="dpo"), LabelSource("people", 17_253, 0, 0, 17_253, variant="ppo"))
    return replace(gaps(report, dpo=difference(0.08), ppo=difference(0.12)), sources=sources, training=None)


def contest(first: str, second: str, value: float) -> Contest:
    return Contest(first, second, difference(value))


def test_where_ways_are_compared_the_first_sentence_says_what_each_gained_and_took() -> None:
    report = compared()
    assert report.gold is not None
    assert headline(report) == "PPO raises gold from 0.56 to 0.68 with 17,253 labels of people and DPO to 0.64 with none."
    first = replace(report, gold=replace(report.gold, contests=(contest("dpo", "ppo", -0.05),)))
    assert headline(first).endswith("with none. PPO gains measurably more than DPO.")
    level = replace(report, gold=replace(report.gold, contests=(contest("dpo", "ppo", 0.01),)))
    assert headline(level).endswith("with none. They are not measurably apart.")
    some = replace(report, sources=(*report.sources, LabelSource("both", 8_626, 0, 0, 8_626, variant="best")))
    both = (contest("best", "ppo", -0.05), contest("dpo", "ppo", 0.01), contest("dpo", "best", 0.05))
    assert some.gold is not None
    text = headline(gaps(replace(some, gold=replace(some.gold, contests=both)), best=difference(0.1)))
    assert re.search(r"Best of 16 to 0\.\d\d with 8,626", text)
    assert text.endswith("PPO gains measurably more than Best of 16, and is not measurably apart from DPO.")
    levels = replace(some, gold=replace(some.gold, contests=(contest("best", "ppo", 0.01), contest("ppo", "dpo", 0.01))))
    assert headline(gaps(levels, best=difference(0.1))).endswith("PPO is not measurably apart from Best of 16 and DPO.")


def test_a_way_that_gains_nothing_measurable_is_not_said_to_gain() -> None:
    flat = gaps(compared(), dpo=difference(0.01))
    assert headline(flat) == "PPO raises gold from 0.56 to 0.68 with 17,253 labels of people. DPO does not measurably change it."
    worse = gaps(compared(), dpo=difference(-0.08))
    assert "PPO raises gold from 0.56 to 0.68 with 17,253 labels of people. DPO lowers gold from 0.56 to" in headline(worse)
    neither = gaps(compared(), dpo=difference(0.01), ppo=difference(0.0))
    assert headline(neither) == "PPO and DPO do not measurably change gold."


def test_each_way_has_its_tile_and_a_single_source_compares_nothing() -> None:
    report = compared()
    assert [one.label for one in tiles(report)][:2] == ["gold, PPO over SFT", "gold, DPO over SFT"]
    single = replace(report, sources=report.sources[1:])
    assert headline(single).startswith("PPO raises gold from 0.56 to 0.68.")
    assert [one.label for one in tiles(single) if one.label.startswith("gold")] == ["gold, PPO over SFT"]


def test_costs_are_compared_where_there_are_prices() -> None:
    report = compared()
    judge, people = report.sources
    assert 'data-label="Cost"' not in render(part_of_sample(sources=report.sources))
    page = render(part_of_sample(sources=(replace(judge, cost=0.0, has_free_judge=True), replace(people, cost=1725.3), judge)))
    cells = [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r'data-label="Cost">(.*?)</td>', page)]
    assert cells == [["0.00", "judge", "without", "a", "price"], ["1,725.30"], ["no", "price", "of", "people"]]


def run_of(root: Path, name: str, stage: str, **parents: Path) -> Path:
    of = tuple(Parent(field, f"../{path.name}", path.name) for field, path in parents.items())
    with open_run_at(root / name, RunPlan(name, stage, {"name": name}, parents=of)).active() as run:
        return run.directory


def test_training_runs_belong_to_the_models_that_they_made(tmp_path: Path) -> None:
    sft = run_of(tmp_path, "sft", "sft")
    runs = {name: run_of(tmp_path, name, "online", model=sft) for name in ("ppo", "loose", "lost")}
    average = run_of(tmp_path, "average", "average", model=runs["loose"])
    models = {"SFT": sft, "mean": average, "tuned": runs["ppo"]}
    shown = tuple(ReportedModel(str(run_of(tmp_path, f"eval-{name}", "evaluate", model=model)), name) for name, model in models.items())
    stage = Report(shown, "SFT", training={"PPO": str(runs["ppo"]), "loose": str(runs["loose"]), "lost": str(runs["lost"])})
    assert stage._trained() == {"PPO": "tuned", "loose": "mean"}
