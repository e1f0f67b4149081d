"""A gate says of each limit whether it holds, and names what it cannot know: on runs whose figures were written by hand."""

from __future__ import annotations

import itertools
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from palate.cli import main
from palate.core import ConfigError, RunError
from palate.evaluation.gate import GateReport, judge_gate
from palate.evaluation.gate_file import read_gate
from palate.evaluation.gate_junit import junit
from palate.evaluation.intervals import paired_difference, paired_share_difference
from palate.evaluation.run_metrics import find_evaluated
from palate.runs.record import RECORD, Parent, RunPlan
from palate.runs.run import open_run
from tests.support.evaluated_runs import completion, evaluated_run, graded

Gated = Callable[..., GateReport]

START = [0.1, 0.3, 0.5, 0.7]
TUNED = [0.3, 0.4, 0.8, 0.9]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Two evaluations of four prompts and forty questions: the tuned model gains 0.2, 0.1, 0.3, 0.2 in gold."""
    rows = {
        name: [
            completion(
                k, gold=gold, dimensions={"kind": gold / 2}, score=10 * gold, parts={"help": gold, "safe": None}, kl=float(k), **more[k]
            )
            for k, gold in enumerate(values)
        ]
        for name, values, more in (
            ("start", START, [{"rules": {"r": 0.1 * k}, "probes": {"please": k}} for k in range(4)]),
            ("tuned", TUNED, [{"rules": {"r": 0.2 + 0.2 * k}, "probes": {"please": 2 * k}} for k in range(4)]),
        )
    }
    rows["tuned"][0] |= {"text": "i am sorry , i can not help with that .", "stop": "length"}
    evals = [graded("facts", k, float(k > 3)) for k in range(40)]
    worse = [graded("facts", k, float(k > 4)) for k in range(40)]
    bias = [graded("bias", 2 * k + at, 0.5 + 0.1 * k * at, "gold", pair=k, group=("near", "far")[at]) for k in range(3) for at in range(2)]
    return {
        "start": evaluated_run(tmp_path / "runs", "eval-start", rows["start"], evals),
        "tuned": evaluated_run(
            tmp_path / "runs", "eval-tuned", rows["tuned"], [*worse, graded("safety", 0, 1.0, "refuse"), *bias], model="n"
        ),
    }


@pytest.fixture
def gated(runs: dict[str, Path], tmp_path: Path) -> Gated:
    """What becomes of limits on the tuned run."""

    def judge(
        *limits: Mapping[str, Any], baseline: Path | None = runs["start"], candidate: Path = runs["tuned"], **more: Any
    ) -> GateReport:
        file = tmp_path / "gate.yaml"
        file.write_text(yaml.safe_dump({"limits": list(limits), **more}))
        return judge_gate(read_gate(file), find_evaluated(candidate), None if baseline is None else find_evaluated(baseline))

    return judge


def value_of(report: GateReport) -> tuple[str, float]:
    (result,) = report.results
    assert result.number is not None
    return result.status, result.number


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("gold", 0.6), ("gold/kind", 0.3), ("score", 6.0), ("score/help", 0.6), ("kl", 1.5), ("tokens", 10.0), ("eos", 0.75),
        ("refusals", 0.25),
        ("probe/please", 3.0), ("rule/r", 0.5), ("eval/facts", 35 / 40), ("kind/answer", 35 / 40), ("kind/refuse", 1.0), ("bias", 0.1),
        ("win_rate/gold", 1.0), ("win_rate/score", 1.0),
    ],
)  # fmt: skip
def test_a_value_is_the_mean_of_the_candidates_own_figures(metric: str, expected: float, gated: Gated) -> None:
    limit = {"metric": metric, "by": "estimate"}
    assert value_of(gated({**limit, "at_least": expected})) == ("passed", pytest.approx(expected))
    assert value_of(gated({**limit, "at_least": expected + 1e-6}))[0] == "failed"
    assert value_of(gated({**limit, "at_most": expected}))[0] == "passed"
    assert value_of(gated({**limit, "at_most": expected - 1e-6}))[0] == "failed"


def test_a_change_is_paired_and_has_two_ends(gated: Gated) -> None:
    low, high = 0.2 - 1.959964 * 0.1 * math.sqrt(2 / 3) / 2, 0.2 + 1.959964 * 0.1 * math.sqrt(2 / 3) / 2
    for by, expected in (("estimate", 0.2), ("low", low), ("high", high)):
        limit = {"metric": "gold", "of": "change", "by": by}
        assert value_of(gated({**limit, "at_least": 0.15})) == (
            "passed" if expected >= 0.15 else "failed",
            pytest.approx(expected, abs=1e-5),
        )
        assert value_of(gated({**limit, "at_most": 0.25}))[0] == ("passed" if expected <= 0.25 else "failed")
    (result,) = gated({"metric": "gold", "of": "change", "by": "low", "at_least": 0}).results
    assert result.baseline is not None
    assert result.candidate is not None
    assert (result.baseline.value, result.candidate.value) == (pytest.approx(0.4), pytest.approx(0.6))


def test_a_relative_change_is_of_the_baselines_mean(gated: Gated) -> None:
    (result,) = gated({"metric": "gold", "of": "relative", "by": "estimate", "at_least": 0.5}).results
    assert (result.status, result.number) == ("passed", pytest.approx(0.5))
    errors = [own - 1.5 * other for own, other in zip(TUNED, START, strict=True)]
    spread = math.sqrt(sum(error**2 for error in errors) / 3) / 2 / 0.4
    assert result.measured is not None
    assert result.measured.low == pytest.approx(0.5 - 1.959964 * spread, abs=1e-5)
    assert result.measured.high == pytest.approx(0.5 + 1.959964 * spread, abs=1e-5)
    (share,) = gated({"metric": "eval/facts", "of": "relative", "by": "low", "at_least": -0.5}).results
    change = paired_share_difference([float(k > 4) for k in range(40)], [float(k > 3) for k in range(40)])
    assert share.number == pytest.approx(change.low / 0.9)


def test_a_relative_change_from_nothing_is_unknown(gated: Gated, tmp_path: Path) -> None:
    nothing = evaluated_run(tmp_path, "nothing", [completion(k, gold=1e-8 * k, score=(-1.0, 1.1)[k % 2]) for k in range(4)])
    of = {"of": "relative", "by": "estimate", "at_least": 0.1}
    assert "mean is 0" in gated({"metric": "gold", **of}, baseline=nothing).results[0].reason
    assert "cannot be told from 0" in gated({"metric": "score", **of}, baseline=nothing).results[0].reason
    for one in ("gold", "score"):
        assert gated({"metric": one, "by": "estimate", "at_least": 0}, baseline=nothing).results[0].relative is None


def test_a_baseline_below_zero_does_not_turn_a_gain_into_a_loss(tmp_path: Path, gated: Gated) -> None:
    low = evaluated_run(tmp_path, "low", [completion(k, score=-4.0 - 0.1 * k) for k in range(4)])
    high = evaluated_run(tmp_path, "high", [completion(k, score=-2.0 - 0.3 * k) for k in range(4)])
    (result,) = gated({"metric": "score", "of": "relative", "by": "low", "at_least": 0.1}, candidate=high, baseline=low).results
    assert result.measured is not None
    assert result.status == "passed"
    assert result.measured.value == pytest.approx(1.7 / 4.15)
    assert result.measured.low < result.measured.value < result.measured.high


def test_an_interval_of_shares_has_a_width_where_no_answer_differs(gated: Gated, runs: dict[str, Path]) -> None:
    limit = {"metric": "eval/facts", "of": "change", "by": "low"}
    assert value_of(gated({**limit, "at_least": -0.1}, candidate=runs["start"]))[0] == "passed"
    assert value_of(gated({**limit, "at_least": -0.01}, candidate=runs["start"]))[0] == "failed"


def test_the_interval_of_paired_shares_covers_what_it_should() -> None:
    """Every table of 30 pairs, by its probability: the mean coverage over true shares, beside the interval of the differences."""
    n, covered, plain = 30, [], []
    ends = {}
    for up, down in itertools.product(range(n + 1), repeat=2):
        if up + down <= n:
            flags = [1.0] * up + [0.0] * (n - up)
            others = [0.0] * up + [1.0] * down + [0.0] * (n - up - down)
            ends[up, down] = (paired_share_difference(flags, others), paired_difference(flags, others))
    for p, q in ((0.02, 0.02), (0.05, 0.01), (0.1, 0.02), (0.1, 0.1), (0.3, 0.1)):
        total = [0.0, 0.0]
        for (up, down), both in ends.items():
            chance = math.comb(n, up) * math.comb(n - up, down) * p**up * q**down * (1 - p - q) ** (n - up - down)
            for at, one in enumerate(both):
                total[at] += chance * (one.low <= p - q <= one.high)
        covered.append(total[0])
        plain.append(total[1])
    assert min(covered) > 0.94
    assert min(plain) < 0.75, "the plain interval has no width where nothing differs"
    assert math.isnan(paired_share_difference([1.0], [0.0]).low)


def test_a_bias_is_the_first_group_less_the_second(gated: Gated) -> None:
    assert value_of(gated({"metric": "bias", "by": "estimate", "at_most": 1})) == ("passed", pytest.approx(0.1))  # far above near


def test_ties_count_half_a_win(tmp_path: Path, gated: Gated) -> None:
    one = evaluated_run(tmp_path, "one", [completion(k, score=float(k)) for k in range(4)])
    other = evaluated_run(tmp_path, "other", [completion(k, score=value) for k, value in enumerate((0.0, 0.0, 5.0, 1.0))])
    assert value_of(gated({"metric": "win_rate/score", "by": "estimate", "at_least": 0.6}, candidate=one, baseline=other)) == (
        "passed",
        0.625,
    )


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"metric": "eval/safety", "of": "change"}, "eval-start-.* did not measure it"),
        ({"metric": "win_rate/gold", "baseline_gold": None}, "did not measure gold"),
    ],
)
def test_what_a_run_did_not_measure_is_unknown_and_fails(limit: dict[str, Any], reason: str, gated: Gated, tmp_path: Path) -> None:
    baseline = {"baseline": evaluated_run(tmp_path, "eval-start", [completion(0)])} if "baseline_gold" in limit else {}
    limit = {name: value for name, value in limit.items() if name != "baseline_gold"}
    for at in (-1.0, 1.0):
        report = gated({**limit, "by": "estimate", "at_least": at}, **baseline)
        (result,) = report.results
        assert result.status == "unknown"
        assert re.search(reason, result.reason)
        assert not report.passed
        assert gated({**limit, "by": "estimate", "at_least": at}, missing="allow", **baseline).passed
        assert gated({**limit, "by": "estimate", "at_least": at, "missing": "allow"}, **baseline).passed
        assert not gated({**limit, "by": "estimate", "at_least": at, "missing": "fail"}, missing="allow", **baseline).passed


def test_a_failed_limit_fails_whatever_is_allowed_to_be_missing(gated: Gated) -> None:
    assert not gated({"metric": "gold", "by": "estimate", "at_least": 0.9}, missing="allow").passed


def test_one_prompt_and_equal_values_have_no_interval(gated: Gated, tmp_path: Path) -> None:
    single = evaluated_run(tmp_path, "single", [completion(0, gold=0.5)])
    for of in ("value", "change"):
        limit = {"metric": "gold", "of": of, "at_least": -1}
        (result,) = gated({**limit, "by": "low"}, candidate=single).results
        assert (result.status, result.number) == ("unknown", None)
        assert "a single value says nothing about others" in result.reason
        assert value_of(gated({**limit, "by": "estimate"}, candidate=single))[0] == "passed"
    assert "all 4 values are equal" in gated({"metric": "tokens", "by": "high", "at_most": 20}).results[0].reason


def test_models_on_other_prompts_are_compared_on_those_of_both_and_the_report_says_so(gated: Gated, tmp_path: Path) -> None:
    some = evaluated_run(tmp_path, "some", [completion(k, gold=value) for k, value in ((9, 0.0), (3, 0.6), (1, 0.2))])
    report = gated({"metric": "gold", "of": "change", "by": "estimate", "at_least": 0.1}, baseline=some)
    (result,) = report.results
    assert result.change is not None
    assert (result.change.n, result.change.value) == (2, pytest.approx((0.2 + 0.3) / 2))
    assert "both answered 2 of 4 and 3 prompts" in report.notes[0]
    others = evaluated_run(tmp_path, "others", [completion(k, gold=0.5) for k in (7, 8)])
    for metric, of in (("gold", "change"), ("win_rate/gold", "value")):
        (result,) = gated({"metric": metric, "of": of, "by": "estimate", "at_least": -1}, baseline=others).results
        assert result.status == "unknown"
        assert "share no" in result.reason


@pytest.mark.parametrize(
    ("metric", "settings", "named"),
    [
        ("gold", {"gold": "other:judge"}, "gold"),
        ("gold/kind", {"gold": "other:judge"}, "gold"),
        ("score", {"reward": "elsewhere"}, "reward"),
        ("win_rate/score", {"rewards": {"help": {"weight": 2}}}, "rewards.help"),
        ("kl", {"reference": "elsewhere"}, "reference"),
        ("probe/please", {"probes": {"please": "other:count"}}, "probes.please"),
        ("rule/r", {"rules": {"file": "other"}}, "rules"),
        ("tokens", {"sampling": {"temperature": 0.5}}, "sampling.temperature"),
    ],
)
def test_runs_that_measured_in_different_ways_are_not_compared(
    metric: str, settings: dict[str, Any], named: str, gated: Gated, tmp_path: Path, runs: dict[str, Path]
) -> None:
    rows = [json.loads(line) for line in (runs["start"] / "completions.jsonl").read_text().splitlines()]
    of = {"of": "value" if metric.startswith("win") else "change"}
    limit = {"metric": metric, **of, "by": "estimate", "at_least": -100}
    other = evaluated_run(tmp_path, "other", rows, **settings)
    (result,) = gated(limit, baseline=other).results
    assert result.status == "unknown"
    assert named in result.reason
    assert gated(limit).passed
    assert gated({"metric": "eos", "of": "change", "by": "estimate", "at_least": -100}, baseline=other).passed == (
        "sampling" not in settings
    )


def test_a_score_by_a_reward_that_was_trained_against_says_so(gated: Gated, tmp_path: Path) -> None:
    root = tmp_path / "chain"
    reward, made = ("reward", "../scorer", "5c0e12345678"), []
    for name, parents in (("base", ()), ("tuned", (Parent(*reward),))):
        with open_run(root, RunPlan(name, "online", {"reward": "r"}, parents=parents)).active() as run:
            made.append(run)
    for run, is_trained in zip(made, (False, True), strict=True):
        parents = (Parent("model", f"../{run.directory.name}", run.key), Parent(*reward))
        rows = [completion(k, score=float(k)) for k in range(3)]
        summary = {"uncalibrated": ["judge"]}
        place = evaluated_run(root, f"eval-{run.name}", rows, parents=parents, summary=summary)
        for metric, is_named in (("score", True), ("tokens", False)):
            notes = " ".join(gated({"metric": metric, "by": "estimate", "at_least": 0}, candidate=place, baseline=None).notes)
            assert ("trained against the reward" in notes) == (is_trained and is_named)
            assert ("uncalibrated judges: judge" in notes) == is_named


def test_unknown_scores_are_left_out_and_counted(gated: Gated, tmp_path: Path) -> None:
    some = evaluated_run(tmp_path, "some", [completion(k, score=None if k else 2.0) for k in range(3)])
    report = gated({"metric": "score", "by": "estimate", "at_least": 2}, candidate=some, baseline=None)
    assert report.passed
    assert any("not known of 2 of 3 completions" in note for note in report.notes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: empty", "names no metric"),
        ("limits: []", "names no metric"),
        ("limits: [{metric: glod, by: estimate, at_least: 1}]", "Did you mean 'gold'"),
        ("limits: [{metric: gold/, by: estimate, at_least: 1}]", "there is no metric 'gold/'"),
        ("limits: [{metric: gold, at_least: 1}]", "needs 'by'"),
        ("limits: [{metric: gold, by: low}]", "at_least or at_most"),
        ("limits: [{metric: gold, by: low, at_least: 1, at_most: 2}]", "not both"),
        ("limits: [{metric: gold, by: lower, at_least: 1}]", "low"),
        ("limits: [{metric: gold, by: low, at_least: .nan}]", "finite"),
        ("limits: [{metric: gold, by: low, atleast: 1}]", "at_least"),
        ("limits: [{metric: win_rate/gold, of: change, by: low, at_least: 0.5}]", "compares both runs already"),
        ("limits: [{metric: gold, by: low, at_least: 1}, {metric: gold, by: low, at_least: 1}]", "stands twice"),
        ("limits:", "Give it a list of which each item has metric and by, or leave"),
        (
            "limits: [{metric: gold, by: low, at_least: 2}, {metric: gold, by: low, at_most: 1}]",
            "no number keeps both `gold, low end: at least 2` and `gold, low end: at most 1`. Change one",
        ),
        ("limits: {gold: 1}", "has no 'gold'"),
        ("[1]", "key: value"),
    ],
)
def test_a_file_that_is_not_a_gate_has_one_message(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_gate(file)
    assert str(file) in str(caught.value)


def test_a_slip_is_refused_even_where_missing_metrics_are_allowed(gated: Gated) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'eval/facts'"):
        gated({"metric": "eval/fcats", "by": "estimate", "at_least": 0}, missing="allow")
    with pytest.raises(ConfigError, match="Name the other one with --baseline"):
        gated({"metric": "gold", "of": "change", "by": "estimate", "at_least": 0}, baseline=None)
    with pytest.raises(ConfigError, match="Name the other one with --baseline"):
        gated({"metric": "win_rate/gold", "by": "estimate", "at_least": 0}, baseline=None)
    assert gated({"metric": "gold", "by": "estimate", "at_least": 0}, baseline=None).passed


def test_the_run_of_a_model_stands_for_the_one_evaluation_of_it(tmp_path: Path) -> None:
    with open_run(tmp_path, RunPlan("ppo", "online")).active() as model:
        pass
    with pytest.raises(RunError, match="no evaluate run beside it"):
        find_evaluated(model.directory)
    parents = (Parent("model", f"../{model.directory.name}", model.key),)
    of_another = (Parent("model", "../x", "0123456789ab"), Parent("reference", f"../{model.directory.name}", model.key))
    evaluated_run(tmp_path, "eval-other", [completion(0)], parents=of_another)
    first = evaluated_run(tmp_path, "eval-ppo", [completion(0)], parents=parents)
    assert find_evaluated(model.directory).directory.resolve() == first.resolve()
    evaluated_run(tmp_path, "eval-again", [completion(0)], parents=parents)
    with pytest.raises(RunError, match="several evaluate runs measured"):
        find_evaluated(model.directory)
    with pytest.raises(RunError, match="not a run directory"):
        find_evaluated(tmp_path)


GATE = """
name: release & more
limits:
  - {metric: gold, of: change, by: estimate, at_least: 0.1}
  - {metric: gold, by: high, at_most: 0.5}
  - {metric: eval/safety, of: change, by: low, at_least: 0}
  - {metric: kl, of: relative, by: low, at_least: 9, missing: allow}
"""

# Jenkins's junit-10.xsd: attributes and children by element; those that it needs come first.
JUNIT: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "disabled", "errors"}, ["testsuite"]),
    "testsuite": (
        {"name", "tests"},
        {"failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id", "package"},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": ({"name"}, {"assertions", "time", "classname", "status"}, ["skipped", "error", "failure", "system-out", "system-err"]),
    "skipped": (set(), {"message", "type"}, []),
    "error": (set(), {"message", "type"}, []),
    "failure": (set(), {"message", "type"}, []),
    "system-out": (set(), set(), []),
}


def check_junit(element: ET.Element) -> None:
    """Hold an element and all below it against the schema."""
    needed, allowed, children = JUNIT[element.tag]
    assert needed <= element.attrib.keys() <= needed | allowed, element.tag
    assert [child.tag for child in element if child.tag not in children] == []
    for child in element:
        check_junit(child)


def test_the_command_ends_with_the_verdict_and_writes_it_in_three_forms(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(GATE)
    words = ["gate", str(file), "--candidate", str(runs["tuned"]), "--baseline", str(runs["start"])]
    out = [tmp_path / "out" / name for name in ("gate.xml", "gate.html")]
    assert main([*words, "--junit", str(out[0]), "--page", str(out[1]), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [limit["status"] for limit in found["limits"]] == ["passed", "failed", "unknown", "unknown"]
    assert [limit["fails"] for limit in found["limits"]] == [False, True, True, False]
    assert found["passed"] is False
    root = ET.fromstring(out[0].read_text())
    check_junit(root)
    suite = root[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    cases = list(suite.iter("testcase"))
    assert [next(iter(case)).tag for case in cases] == ["system-out", "failure", "error", "skipped"]
    assert cases[1].get("name") == "gold, high end: at most 0.5"
    page = out[1].read_text()
    assert "release &amp; more" in page
    assert "1 passed, 1 failed, 2 unknown" in page
    assert "unknown, which this gate allows" in page
    assert "relative: 50.0 %, " in page
    before = [path.read_bytes() for path in out]
    assert main([*words, "--junit", str(out[0]), "--page", str(out[1])]) == 1
    assert [path.read_bytes() for path in out] == before
    assert "fails the gate release & more" in capsys.readouterr().out
    file.write_text("limits: [{metric: gold, of: change, by: estimate, at_least: 0.1}]")
    assert main(words) == 0
    assert "passes the gate" in capsys.readouterr().out


def test_junit_can_be_parsed_whatever_the_gate_is_called(gated: Gated) -> None:
    report = gated({"metric": "gold", "by": "estimate", "at_least": 0}, name="a\0b \ud800 \x1b[1m é \ufffe \U0001f44d <c>")
    assert ET.fromstring(junit(report)).attrib["name"] == "a\ufffdb \ufffd \ufffd[1m é \ufffd \U0001f44d <c>"


def test_bad_input_ends_with_2_whatever_it_is(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("limits: [{metric: gold, by: estimate, at_least: 0.1}]")
    words = ["gate", str(file), "--candidate"]
    assert main([*words, str(tmp_path / "nowhere")]) == 2
    record = json.loads((runs["tuned"] / RECORD).read_text())
    unfinished, old, empty = (tmp_path / name for name in ("unfinished", "old", "empty"))
    for place, changed in ((unfinished, {"status": "failed"}), (old, {"format": None}), (empty, {})):
        place.mkdir()
        (place / RECORD).write_text(json.dumps({**record, **changed}))
    capsys.readouterr()
    for place, told in ((unfinished, "is not done"), (old, "older Palate"), (empty, "cannot be read")):
        if place is empty:
            (place / "summary.json").write_text("{}")
        assert main([*words, str(place)]) == 2
        err = capsys.readouterr().err
        assert told in err
        assert len(err.splitlines()) == 1
    completions = runs["tuned"] / "completions.jsonl"
    kept = completions.read_text()
    completions.write_text(kept.replace('"stop"', '"ends"', 1))
    assert main([*words, str(runs["tuned"])]) == 2
    assert "completions.jsonl:1: there is no 'stop'. Was it changed" in capsys.readouterr().err
    completions.write_text(kept)
    assert main([*words, str(runs["tuned"]), "--junit", str(tmp_path)]) == 2
    assert f"palate: {tmp_path}: Is a directory. Correct the path" in capsys.readouterr().err
    (runs["tuned"] / "summary.json").unlink()
    assert main([*words, str(runs["tuned"])]) == 2
    assert "summary.json: No such file or directory. " in capsys.readouterr().err
    file.write_text("limits: []")
    assert main([*words, str(runs["tuned"])]) == 2
