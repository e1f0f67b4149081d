"""The report: self-contained, safe, the same bytes for the same data, and no number that is not in the data."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from palate.core import DataError
from palate.evaluation.intervals import Estimate
from palate.evaluation.report import (
    Contest,
    ExampleAnswer,
    Highlight,
    LengthRow,
    PromptExample,
    ReportData,
    RunWarning,
    Training,
    TrainingPoint,
    TrainingRun,
    Variant,
    render,
    takeaways,
    tiles,
    write_report,
)
from palate.evaluation.report import formatting as wording
from palate.evaluation.report.headline import headline
from palate.evaluation.report.report_page import marked
from palate.evaluation.report.trajectory import trajectory
from palate.evaluation.report.what_was_learned import learned_and_not
from tests.unit.evaluation.sample_report import part_of_sample, sample_report, sample_without_gold

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&{{ 7*7 }}'
ROOT = Path(__file__).parents[3]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Structure(HTMLParser):
    """Collects tags, ids and the stack of open elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def structure(page: str) -> Structure:
    parser = Structure()
    parser.feed(page)
    return parser


def small_report() -> ReportData:
    return ReportData("Title", "Subtitle", (Variant("sft", "SFT", "sft"),), "sft")


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample_report())


def test_the_page_asks_for_nothing(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    tags = structure(page).tags
    assert not {"script", "link", "iframe", "img", "object", "base", "form"} & {tag for tag, _ in tags}
    assert all((a.get("href") or "#").startswith("#") for _, a in tags)


def test_the_page_is_well_formed_with_unique_ids_and_live_anchors(page: str) -> None:
    found = structure(page)
    assert not found.faults
    assert not found.open
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in found.tags if a.get("href")} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets <= set(ids)


def test_the_page_serves_readers_who_do_not_see_it(page: str) -> None:
    tags = structure(page).tags
    charts = [a for _, a in tags if a.get("class") == "chart"]
    assert len(charts) == 11
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 30 for a in charts)
    assert all(a.get("scope") in {"col", "row"} for tag, a in tags if tag == "th")
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_the_same_data_give_the_same_bytes_in_another_process(page: str, tmp_path: Path) -> None:
    code = (
        "import sys; from tests.unit.evaluation.sample_report import sample_report; "
        "from palate.evaluation.report import write_report; write_report(sample_report(), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "r.html")], check=True, cwd=ROOT)
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page


def test_hostile_text_is_shown_and_not_run() -> None:
    report = sample_report()
    answer = ExampleAnswer("sft", HOSTILE, ((HOSTILE, 0.5),), (Highlight(0, 10, "bad", HOSTILE),))
    hostile = replace(
        report,
        title=HOSTILE,
        subtitle=HOSTILE,
        variants=tuple(Variant(v.key, HOSTILE, v.role, HOSTILE) for v in report.variants),
        examples=(PromptExample(HOSTILE, (answer,), HOSTILE, HOSTILE),),
        evals=tuple(replace(item, name=HOSTILE, question=HOSTILE) for item in report.evals),
        facts=((HOSTILE, HOSTILE),),
        unmeasured=(HOSTILE,),
        sources=tuple(replace(source, name=HOSTILE, mix=HOSTILE) for source in report.sources),
    )
    page = render(hostile)
    assert not {"script", "img"} & {tag for tag, _ in structure(page).tags}
    assert not structure(page).faults
    assert "&lt;script&gt;alert(1)" in page
    assert "{{ 7*7 }}" in page
    assert "<script" not in page


def test_dollar_signs_are_text_and_not_formulas() -> None:
    report = sample_without_gold()
    variants = tuple(replace(v, name=f"$x_{v.key}$ \\frac") for v in report.variants)
    page = render(part_of_sample(variants=variants, win_rates=report.win_rates))
    assert "$x_ppo$ \\frac</text>" in page


ANCHORS = {
    "gold": {"gold"},
    "best_of_n": {"best-of-n"},
    "reward_model": {"reward-model"},
    "revisions": {"principles"},
    "costs": {"costs"},
    "sources": {"who-judged"},
    "evals": {"tax", "refusals"},
    "audit": {"audit"},
    "examples": {"examples"},
    "timings": {"made"},
}


@pytest.mark.parametrize(
    "kept", [("gold", "audit", "examples"), ("best_of_n", "evals", "timings"), ("reward_model", "sources"), ("revisions", "costs")]
)
def test_a_section_is_there_exactly_when_its_data_are(kept: tuple[str, ...]) -> None:
    full = sample_report()
    report = replace(small_report(), **{name: getattr(full, name) for name in kept}, variants=full.variants)
    page = render(report)
    expected = set().union(*(ANCHORS[name] for name in kept))
    assert {a["id"] for tag, a in structure(page).tags if tag == "section" and "id" in a} == expected
    assert {a["href"] for tag, a in structure(page).tags if tag == "a"} == {f"#{anchor}" for anchor in expected}
    assert not structure(page).faults


def test_the_smallest_report_is_a_page() -> None:
    page = render(small_report())
    assert "<h1>Title</h1>" in page
    assert not structure(page).faults


def test_without_gold_the_page_leads_with_the_win_rate() -> None:
    page = render(sample_without_gold())
    assert "<h1>DPO is preferred to SFT on 59 % of prompts.</h1>" in page
    assert "to answer the question that was asked" in page
    assert "not the one that was trained against" in page
    assert 'id="gold"' not in page


def test_a_judge_that_was_trained_against_is_named_as_such() -> None:
    report = sample_without_gold()
    assert report.win_rates is not None
    assert "not evidence of quality" in render(part_of_sample(win_rates=replace(report.win_rates, held_out=False)))


def changed_gap(gap: Estimate) -> ReportData:
    """The sample with PPO's overall difference replaced, and every other trained model out of the way."""
    report = sample_report()
    assert report.gold is not None
    kept = tuple(s for s in report.gold.scores if s.variant in {"base", "sft", "ppo"})
    scores = tuple(replace(s, versus_reference=gap) if (s.variant, s.dimension) == ("ppo", "gold") else s for s in kept)
    return replace(report, gold=replace(report.gold, scores=scores), training=None)


def test_the_headline_follows_the_data() -> None:
    assert headline(changed_gap(Estimate(0.1, 0.01, 0.08, 0.12, 400))).startswith("PPO raises gold from 0.56 to 0.68")
    assert headline(changed_gap(Estimate(-0.1, 0.01, -0.12, -0.08, 400))).startswith("PPO lowers gold")
    flat = changed_gap(Estimate(0.01, 0.01, -0.01, 0.03, 400))
    assert headline(flat) == "PPO does not measurably change gold over SFT (+0.01)."
    assert "PPO does not measurably move (+0.01, 1.0 SE)" in takeaways.gold_takeaway(flat)


def test_the_fall_is_claimed_only_when_it_is_measured() -> None:
    report = sample_report()
    assert report.training is not None
    assert "gold falls from 0.66 to 0.50" in headline(report)
    loose, tuned = report.training.runs
    short = replace(loose, points=loose.points[:7])
    low, high = (replace(tuned, points=tuple(replace(p, gold=gold) for p in tuned.points)) for gold in (0.6, 0.75))
    page = headline(replace(report, training=replace(report.training, runs=(short, low))))
    assert "no measurable fall" in page
    assert "falls from" not in page
    page = headline(replace(report, training=replace(report.training, runs=(short, high))))
    assert f"climbs on, and gold ends at {short.points[-1].gold:.2f}, below the 0.75 with the penalty" in page
    wide = replace(loose, points=tuple(replace(p, gold_se=0.4) for p in loose.points))
    assert "no measurable fall" in headline(replace(report, training=replace(report.training, runs=(wide, tuned))))


def test_the_headline_says_what_the_penalty_was_worth_where_the_run_without_it_is_not_below() -> None:
    report = sample_report()
    training = report.training
    assert training is not None
    loose, tuned = training.runs

    def page(tuned_gold: float, count: int) -> str:
        after_a_peak = tuple(replace(p, gold=tuned_gold if k else 0.9) for k, p in enumerate(tuned.points))
        runs = (replace(loose, points=loose.points[:count]), replace(tuned, points=after_a_peak))
        return headline(replace(report, training=replace(training, runs=runs)))

    assert page(0.75, 17).endswith("gold falls from 0.66 to 0.50.")
    assert page(0.50, 17).endswith("gold falls from 0.66 to 0.50. That is not measurably apart from the 0.50 with the penalty.")
    assert page(0.40, 17).endswith("gold falls from 0.66 to 0.50. That is above the 0.40 with the penalty.")
    end = f"{loose.points[6].gold:.2f}"
    assert page(float(end), 7).endswith(f"no measurable fall from its peak. That is not measurably apart from the {end} with the penalty.")
    assert page(0.40, 7).endswith("no measurable fall from its peak. That is above the 0.40 with the penalty.")
    flat = replace(loose, points=tuple(replace(p, proxy=0.0) for p in loose.points))
    said = headline(replace(report, training=replace(training, runs=(flat, tuned))))
    assert said.endswith("score does not measurably rise in this run.")


def test_the_page_names_texts_that_are_off_beside_the_penalty() -> None:
    report = sample_report()
    training = report.training
    assert training is not None
    report = replace(report, training=replace(training, also_off="texts"))
    assert "With the KL penalty and the texts off, the reward model" in headline(report)
    assert "Without the KL penalty and the texts it peaks at 0.66" in takeaways.training_takeaway(report)
    assert "gold after its peak, KL penalty and the texts off" in " ".join(tile.label for tile in tiles.tiles(report))


def test_the_highest_of_many_noisy_points_is_no_fall() -> None:
    """Where gold is flat, chance makes a peak: the plain interval would take that for a fall far too often."""
    rng = np.random.default_rng(0)
    falls = {"plain": 0, "chosen": 0}
    for _ in range(400):
        points = tuple(TrainingPoint(k, float(k), float(k), 0.7 + 0.012 * rng.standard_normal(), 0.012, 0.01) for k in range(28))
        path = trajectory(TrainingRun("loose", 0.0, points, "ablation", 192))
        assert path is not None
        falls["plain"] += path.change(path.peak, path.end).high < 0
        falls["chosen"] += path.fall().high < 0
    assert falls["plain"] > 0.1 * 400
    assert falls["chosen"] <= 0.05 * 400


def test_models_that_are_not_apart_share_the_headline() -> None:
    report = replace(sample_report(), sources=())
    assert report.gold is not None
    assert headline(replace(report, training=None)).startswith("PPO raises gold from 0.56 to 0.68.")
    level = Contest("best", "ppo", Estimate(0.01, 0.01, -0.01, 0.03, 400))
    gold = replace(report.gold, contests=(level, Contest("dpo", "ppo", Estimate(-0.05, 0.01, -0.07, -0.03, 400))))
    text = headline(replace(report, gold=gold, training=None))
    assert re.match(r"PPO and Best of 16 raise gold from 0\.56 to 0\.\d\d and 0\.\d\d\. They are not measurably apart\.$", text)


def test_a_judge_that_does_not_beat_a_length_rule_makes_no_headline() -> None:
    report = sample_without_gold()
    full = sample_report()
    assert full.reward_model is not None
    row = replace(full.reward_model.rows[0], longer_wins=0.9)
    weak = replace(report, reward_model=replace(full.reward_model, rows=(row,)))
    assert headline(weak).startswith("The reward model is not measurably better than a rule that looks at the length alone")
    assert not any("preferred" in tile.label for tile in tiles.tiles(weak))
    assert weak.win_rates is not None
    lists = learned_and_not(weak.reward_model, weak.win_rates, (), (), {v.key: v.name for v in weak.variants})
    assert not any("scored above" in line for line in lists.learned)
    assert any("scored above" in line for line in lists.not_learned)


def online_run(rewards: list[float], se: float | None, scores: list[float] | None = None) -> TrainingRun:
    points = [
        TrainingPoint(k, float(k), score, reward=reward, reward_se=se, proxy_se=se)
        for k, (reward, score) in enumerate(zip(rewards, scores or rewards, strict=True))
    ]
    return TrainingRun("PPO", 0.1, tuple(points))


@pytest.mark.parametrize(
    ("rewards", "se", "is_learned"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.1, 1.0, 1.0, 1.0], 0.1, True),
        ([0.0, 0.1, -0.1, 0.0, 0.1, 0.1, 0.0, 0.2], 0.2, False),
        ([0.0, 1.0], None, False),
    ],
    ids=["rises", "noise", "errors that are not known"],
)
def test_a_run_has_learned_when_the_interval_of_its_change_says_so(rewards: list[float], se: float | None, *, is_learned: bool) -> None:
    lists = learned_and_not(None, None, [online_run(rewards, se)], (), {})
    assert bool(lists.learned) is is_learned
    assert bool(lists.not_learned) is not is_learned


def test_a_score_that_rises_while_the_reward_does_not_is_not_learned() -> None:
    run = online_run([-1.0] * 8, 0.05, [0.1 * k for k in range(8)])
    (line,) = learned_and_not(None, None, [run], (), {}).not_learned
    assert "the reward did not measurably change" in line


def test_cut_completions_are_said_so() -> None:
    row = LengthRow("sft", Estimate(48, 0.1, 47.8, 48.2, 200), 48, 48, 48, Estimate(0.05, 0.01, 0.03, 0.09, 200))
    lists = learned_and_not(None, None, [], [row], {"sft": "SFT"})
    assert "Only 5.0 % (95 %: 3.0 % to 9.0 %) of the completions of SFT end by themselves; the rest are cut." in lists.not_learned
    report = replace(sample_report(), lengths=(row,))
    assert "Most completions are cut at the limit of tokens and do not end: SFT (95 %)." in takeaways.length_takeaway(report)


def test_what_training_maximises_is_drawn_as_such() -> None:
    same, other = online_run([0.0, 1.0], 0.1), online_run([-1.0, -0.9], 0.1, [0.0, 1.0])
    pages = [render(part_of_sample(training=Training((run,), "PPO"))) for run in (same, other)]
    assert [page.count("what training maximises</text>") > 0 for page in pages] == [True, True]
    assert [">Reward</text>" in page for page in pages] == [False, True]
    assert ["without penalties</text>" in page for page in pages] == [False, True]


def test_the_legend_has_the_marks_that_answers_have() -> None:
    report = small_report()
    for kind, word in (("good", "checked and right"), ("bad", "wrong or harmful"), ("exploit", "a trick")):
        answer = ExampleAnswer("sft", "some text", (), (Highlight(0, 4, kind),))
        page = render(replace(report, examples=(PromptExample("why?", (answer,)),)))
        assert [w for w in ("checked and right", "wrong or harmful", "a trick") if f">{w}</mark>" in page] == [word]
    plain = render(replace(report, examples=(PromptExample("why?", (ExampleAnswer("sft", "some text"),)),)))
    assert "Marks:" not in plain


def test_warnings_of_guards_stand_on_the_page() -> None:
    page = render(replace(small_report(), warnings=(RunWarning("ppo", "eos", 3, "only 0.1 of the completions end", 2),)))
    assert "only 0.1 of the completions end" in page
    assert 'href="#warnings"' in page


def test_a_model_without_an_eval_is_not_said_to_have_passed_it() -> None:
    report = sample_report()
    evals = tuple(e for e in report.evals if e.kind == "capability")
    best = takeaways.best_trained(report)
    assert best is not None
    without = tuple(replace(item, results=tuple(r for r in item.results if r.variant != best.variant)) for item in evals)
    told = takeaways.eval_takeaway(replace(report, evals=without), without)
    assert f"{report.variant(best.variant).name} does not differ" not in told
    assert "does not differ measurably" in told


def test_numbers_of_sentences_come_from_the_data() -> None:
    report = sample_report()
    assert report.reward_model is not None
    row = replace(report.reward_model.rows[0], longer_wins=0.912, ceiling=0.934)
    text = takeaways.reward_takeaway(replace(report, reward_model=replace(report.reward_model, rows=(row,))))
    assert "overall 71 %, below \u201clonger wins\u201d (91 %), ceiling 93 %" in text
    assert "Aylin (+0.031, 2.6 SE)" in takeaways.audit_takeaway(report)
    assert "best-of-64" in takeaways.best_of_n_takeaway(report)
    assert "n = 32" in takeaways.best_of_n_takeaway(report)
    capability = tuple(e for e in report.evals if e.kind == "capability")
    assert "PPO does not differ measurably from SFT in facts and sums" in takeaways.eval_takeaway(report, capability)
    assert "PPO, KL 0, facts (\u22129 points" in takeaways.eval_takeaway(report, capability)


def test_tiles_carry_interval_and_size() -> None:
    made = tiles.tiles(replace(sample_report(), sources=()))
    assert [tile.value for tile in made] == ["+0.12", "\u22120.16", "71 %", "\u22121 pts", "94 %", "3 min 31 s"]
    assert all(re.search(r"95 %: .*\d (prompts|completions|pairs|questions)", tile.detail) for tile in made[:5])


@pytest.mark.parametrize("parts", [((0, 4), (2, 6)), ((3, 99),), ((4, 4),), ((-1, 2),)])
def test_highlights_that_do_not_fit_are_refused(parts: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(DataError, match="warm the beans"):
        marked("warm the beans", tuple(Highlight(a, b, "good") for a, b in parts))


def test_highlights_mark_their_words() -> None:
    text = str(marked("a <b> c", (Highlight(2, 5, "bad", 'why "so"'),)))
    assert text == 'a <mark class="bad" title="why &#34;so&#34;">&lt;b&gt;<span class="vh"> (why &#34;so&#34;)</span></mark> c'


def test_a_variant_that_was_not_declared_is_refused() -> None:
    report = sample_report()
    with pytest.raises(DataError, match="gold scores names the variant 'ppo'"):
        replace(report, variants=tuple(v for v in report.variants if v.key != "ppo"))
    assert report.training is not None
    with pytest.raises(DataError, match="no points"):
        replace(report, training=replace(report.training, runs=(replace(report.training.runs[0], points=()),)))
    with pytest.raises(DataError, match="no training run 'other'"):
        replace(report, training=replace(report.training, tuned="other"))
    with pytest.raises(DataError, match="distinct"):
        replace(report, variants=(*report.variants, report.variants[0]))


def test_writing_leaves_one_whole_file(tmp_path: Path) -> None:
    path = write_report(small_report(), tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == render(small_report())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_building_the_data_loads_neither_matplotlib_nor_torch() -> None:
    parts = ["report", "evals", "best_of_n", "overoptimisation", "calibration"]
    imports = ", ".join(f"palate.evaluation.{part}" for part in parts)
    code = f"import sys, palate.agreement, {imports}; print([m for m in ('torch', 'matplotlib', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_wording() -> None:
    assert [wording.number(v) for v in (-0.001, -0.5, float("nan"), float("inf"))] == ["0.00", "\u22120.50", "n/a", "\u221e"]
    assert [wording.signed(v) for v in (0.125, -0.2, 0.0)] == ["+0.12", "\u22120.20", "0.00"]
    assert [wording.percent(v) for v in (0.999, 1.0, 0.0, 0.001, 0.5)] == ["> 99 %", "100 %", "0 %", "< 1 %", "50 %"]
    assert [wording.seconds(v) for v in (8.23, 59, 250, 7500)] == ["8.2 s", "59 s", "4 min 10 s", "2 h 5 min"]
    assert wording.listed(["a", "b", "c"]) == "a, b and c"


def test_a_home_that_cannot_be_written_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    code = "import palate.evaluation.report, matplotlib"
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    environment = {name: value for name, value in environment.items() if not name.startswith(("MPL", "XDG"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
