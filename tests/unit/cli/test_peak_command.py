"""`palate peak` from the command line, on runs of each stage, and bad input."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.cli import main
from palate.data.files import write_json
from palate.data.jsonl import write_rows
from palate.evaluation.best_of_n import best_of_n_kl
from palate.runs.record import RunPlan
from palate.runs.run import open_run

RNG = np.random.default_rng(5)


def recorded(name: str, stage: str) -> Path:
    """An empty run of a stage."""
    run = open_run(Path("runs"), RunPlan(name, stage, seed=1))
    with run.active():
        pass
    return run.directory


def online(name: str, count: int = 40, peaks: Mapping[str, float] = {"gold": 1.2, "held_out_score": 1.8}) -> Path:
    """An online run with its peaks at these sqrt(KL), on KLs up to 9 nats."""
    rows = []
    for step in range(count):
        d = 3 * math.sqrt(step / 39)
        row = {"step": step, "online/kl/mean": d * d, "online/score/mean": d, "online/score/se": 0.05}
        for measure, at in peaks.items():
            gain = 0 if d == 0 else 0.2 * d / at * (1 + math.log(at) - math.log(d))
            row |= {f"online/{measure}/mean": 0.5 + gain + 0.01 * RNG.normal(), f"online/{measure}/se": 0.01}
        rows.append(row)
    directory = recorded(name, "online")
    write_rows(directory / "metrics.jsonl", rows)
    return directory


def rerank(name: str) -> Path:
    """A rerank run whose gold peaks at sqrt(KL) = 1."""
    directory = recorded(name, "rerank")
    sizes = [2**k for k in range(9)]
    kl = [best_of_n_kl(n) for n in sizes]
    rows = []
    for number in range(60):
        noise = 0.1 * RNG.normal() + 0.01 * RNG.normal(size=len(sizes))
        d = np.sqrt(kl)
        rows.append({"id": str(number), "score": d.tolist(), "gold": (0.5 + noise + 0.4 * d - 0.2 * d * d).tolist()})
    write_rows(directory / "curve.jsonl", rows)
    write_json(directory / "summary.json", {"curve": {"n": list(map(float, sizes)), "kl_at_most": kl}})
    return directory


def evaluate(name: str, kl: float, gold: float, prompts: Sequence[int] = range(50), *, is_held_out: bool = False) -> Path:
    """An evaluate run; prompts differ more than models do. Gold may stand for a held-out score too."""
    directory = recorded(name, "evaluate")
    spread = np.random.default_rng(2).normal(size=100)
    rows = [{"prompt": f"question {k}", "text": "", "gold": gold + spread[k] + 0.01 * RNG.normal(), "kl": kl} for k in prompts]
    write_rows(directory / "completions.jsonl", [{**row, "held_out_score": row["gold"]} if is_held_out else row for row in rows])
    return directory


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def figures(capsys: pytest.CaptureFixture[str], *runs: Path) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["peak", *map(str, runs), "--json", "--out", "kept/peaks.json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert json.loads(Path("kept/peaks.json").read_text()) == found
    return found


def test_online_rerank_and_evaluate_runs_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    models = [
        evaluate(f"e{k}", kl, 0.5 + 0.3 * d * (1 - math.log(d) if d else 0), is_held_out=True)
        for k, kl in enumerate((0, 4, 1, 0.25, 2))
        for d in [kl**0.5]
    ]
    runs = [online("ppo"), rerank("best"), *models]
    found = figures(capsys, *runs)
    assert [(one["run"], one["measure"], one["form"]) for one in found["curves"]] == [
        ("ppo", "proxy", "rl"),
        ("ppo", "held_out", "rl"),
        ("ppo", "gold", "rl"),
        ("best", "proxy", "best_of_n"),
        ("best", "gold", "best_of_n"),
        ("evaluated models", "held_out", "rl"),
        ("evaluated models", "gold", "rl"),
    ]
    advice = {one["run"]: one for one in found["advice"]}
    assert {run: one["measure"] for run, one in advice.items()} == {"ppo": "gold", "best": "gold", "evaluated models": "gold"}
    for run, peak in {"ppo": 1.2, "best": 1.0, "evaluated models": 1.0}.items():
        assert advice[run]["sqrt_kl"] == pytest.approx(peak, rel=0.1)
        assert advice[run]["low"] <= peak**2 <= advice[run]["high"]
        assert advice[run]["kl_budget"] == pytest.approx(advice[run]["sqrt_kl"] ** 2)
        assert advice[run]["is_shown"]
    points = found["curves"][2]["points"]
    assert advice["ppo"]["label"] == min(points, key=lambda one: abs(one["sqrt_kl"] - advice["ppo"]["sqrt_kl"]))["iteration"]
    assert [one["se"] for one in points] == pytest.approx([0.01] * 40)
    assert advice["evaluated models"]["label"] == "e2"
    assert [one["model"] for one in found["curves"][-1]["points"]] == ["e0", "e3", "e2", "e4", "e1"]
    assert found["curves"][-1]["points"][0]["se"] > 5 * math.sqrt(found["curves"][-1]["fit"]["errors"][0][0]) / 50
    gap, level = found["held_out_beyond_gold"]
    assert level["value"] == 0
    assert gap["value"] == pytest.approx(0.6, abs=0.2)
    assert gap["low"] < 0.6 < gap["high"]


def test_the_page_says_when_to_stop_and_shows_every_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peak", str(online("ppo"))]) == 0
    shown = capsys.readouterr().out
    assert "ppo: stop near iteration" in shown
    assert "gold of ppo stops rising at sqrt(KL) = 1." in shown
    assert "the held-out peak is +0." in shown
    assert "proxy of ppo has no peak inside the measured range" in shown
    table = shown.partition("\nppo")[2].splitlines()
    assert [line.split()[0] for line in table[2:42]] == [str(step) for step in range(40)]


def test_people_inside_the_loop_advise_before_a_held_out_score(capsys: pytest.CaptureFixture[str]) -> None:
    run = online("asked", peaks={"held_out_score": 1.8})
    rates = []
    for iteration in range(2, 40, 2):
        d = 3 * math.sqrt(iteration / 39)
        rate = 0.5 + 0.2 * d / 1.2 * (1 + math.log(1.2) - math.log(d))
        rates.append({"iteration": iteration, "value": rate, "se": 0.02, "low": rate - 0.04, "high": rate + 0.04, "n": 32})
    rates[3]["se"] = 0.001  # answers that happen to agree
    write_rows(run / "people" / "checks.jsonl", [{"iteration": 2, "rates": rates[:1]}, {"iteration": 38, "rates": rates}])
    found = figures(capsys, run)
    (advice,) = found["advice"]
    assert (advice["measure"], advice["is_shown"]) == ("people", True)
    assert advice["sqrt_kl"] == pytest.approx(1.2, rel=0.05)
    (curve,) = (one for one in found["curves"] if one["measure"] == "people")
    assert [point["iteration"] for point in curve["points"]] == [str(number) for number in range(2, 40, 2)]
    near = sum(3 * math.sqrt(iteration / 39) <= 2 * 1.2 for iteration in range(2, 40, 2))
    assert (curve["fit"]["start"], curve["fit"]["freedom"]) == (0.5, near - 2)  # a half is known, so it is not fitted
    assert [point["se"] for point in curve["points"]] == pytest.approx([0.02 * math.sqrt(18 / 19)] * 19, rel=1e-3)


def test_a_held_out_score_advises_where_there_is_no_gold_and_a_proxy_never_does(capsys: pytest.CaptureFixture[str]) -> None:
    (advice,) = figures(capsys, online("held", peaks={"held_out_score": 1.8}))["advice"]
    assert advice["measure"] == "held_out"
    assert main(["peak", str(online("alone", peaks={}))]) == 0
    shown = capsys.readouterr().out
    assert "alone: no advice, because only the proxy was measured" in shown
    assert "stop near" not in shown


def test_a_run_of_one_iteration_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peak", str(online("short", count=1))]) == 0
    assert "gold of short: no fit: there is one point" in capsys.readouterr().out


def test_models_are_compared_on_the_prompts_they_share(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [evaluate(f"e{k}", k, 0.5 + 0.1 * k, range(k, 50 + k)) for k in range(5)]
    assert figures(capsys, *runs)["curves"][0]["prompts"] == 46


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [recorded("dpo", "direct")], "is a run of direct, which measures no KL. Evaluate its model"),
        (lambda: [recorded("sft", "sft")], "Give online, rerank or evaluate runs"),
        (lambda: [Path("nowhere")], "nowhere is not a run"),
        (lambda: [recorded("new", "online")], "has no iteration yet"),
        (lambda: [recorded("old", "rerank")], "has no curve.jsonl"),
        (lambda: [evaluate("a", 0, 0), evaluate("b", 1, 0, range(50, 60))], "no prompt has gold and KL of all"),
        (lambda: [online("twice"), Path(str(next(Path("runs").iterdir())))], "two of the runs are called twice"),
    ],
)
def test_bad_input_is_one_message(make: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peak", *map(str, make())]) in {2, 3}  # settings, data
    assert words in capsys.readouterr().err


def test_a_run_that_was_killed_in_a_line_is_read_and_one_that_rises_has_no_stop(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows without a KL are left out; no figure of a run says where a measure that rises to the end would stop."""
    directory = recorded("line", "online")
    kl = [(0.2 * step) ** 2 for step in range(12)]
    rows = [
        {"step": k, "online/kl/mean": one, "online/gold/mean": 0.5 + 0.1 * one**0.5 + 1e-4 * (-1) ** k, "online/gold/se": 1e-4}
        for k, one in enumerate(kl)
    ]
    write_rows(directory / "metrics.jsonl", [*rows, {"step": 12, "online/kl/mean": None, "online/gold/mean": 0.7}])
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "online/k')
    assert main(["peak", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert "line: no stop: gold still rises at the largest KL, 4.84 nats (iteration 11)." in shown
    assert "it still rises at sqrt(KL) = 2.20. A peak, if there is one, is beyond 10 times that." in shown
    assert "inf" not in shown
    write_rows(directory / "metrics.jsonl", [{"step": 0, "online/gold/mean": 0.7}])
    assert main(["peak", str(directory)]) == 3
    assert "so its KL is not known" in capsys.readouterr().err
