"""Which prompts judgments reach: a planted hole is found and named, a clean split has none, and what is collected next fills it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.agreement.estimates import Estimate, share
from palate.cli import main
from palate.core import ConfigError, DataError
from palate.data.formats import read_completion_groups, read_prompts
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.coverage.coverage_figures import reach_of
from palate.evaluation.coverage.coverage_report import CoverageReport, collect_next, coverage, read_deployment, read_judged
from palate.evaluation.coverage.prompt_reach import features_of, prompt_reach
from palate.models.scalar import scalar_from
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.testing import tiny_policy, word_tokenizer

KINDS = {
    "cook": ("soup", "bread", "butter", "onion"),
    "code": ("python", "loop", "function", "list"),
    "tax": ("income", "refund", "form", "audit"),
}


def prompts(seed: int, count: int, kinds: Sequence[str] = tuple(KINDS)) -> list[str]:
    """As many prompts of each kind, which share a few words."""
    rng = np.random.default_rng(seed)
    fill = ("please", "help", "today", "quickly", "again", "first", "then", "alone")
    return [
        " ".join([*rng.choice(KINDS[kind], 3), *rng.choice(fill, 3), str(int(rng.integers(100)))]) for kind in kinds for _ in range(count)
    ]


def pair(prompt: str, *votes: float) -> dict[str, Any]:
    row = {"prompt": turn("user", prompt), "chosen": turn("assistant", "rice today."), "rejected": turn("assistant", "mud and ash.")}
    return {**row, **({"votes": list(votes), "raters": [f"r{k}" for k in range(len(votes))]} if votes else {})}


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def asked(folder: Path, texts: Sequence[str], name: str = "prompts.jsonl") -> Path:
    write_rows(folder / name, [{"prompt": turn("user", text)} for text in texts])
    return folder / name


def judged_file(folder: Path, texts: Sequence[str], *votes: float) -> Path:
    write_rows(folder / "preferences.jsonl", [pair(text, *votes) for text in texts])
    return folder / "preferences.jsonl"


def report_on(preferences: Path, deployment: Path) -> CoverageReport:
    return coverage(read_judged(preferences, None), read_deployment(deployment))[0]


def test_a_region_that_nobody_judged_is_a_hole_with_a_name_and_examples(tmp_path: Path) -> None:
    deployment = asked(tmp_path, prompts(0, 60))
    report = report_on(judged_file(tmp_path, prompts(1, 80, ("cook", "code"))), deployment)
    assert report.holes
    assert sum(one.prompts for one in report.holes) >= 50
    for hole in report.holes:
        assert set(hole.name.split(", ")) & set(KINDS["tax"])
        assert hole.judged_prompts == hole.judgments == 0
        assert hole.unlike.low > 0.5
        assert all(set(example.split()) & set(KINDS["tax"]) for example in hole.examples)
    assert report.clusters[: len(report.holes)] == report.holes
    assert "lie in clusters that the judgments do not reach" in report.sentence
    assert 0.2 < report.whole.unlike.value < 0.4


def test_where_judged_prompts_are_drawn_like_the_deployment_there_is_no_hole(tmp_path: Path) -> None:
    deployment = asked(tmp_path, prompts(0, 60))
    reports = [report_on(judged_file(tmp_path, prompts(seed, 80)), deployment) for seed in range(1, 9)]
    assert {one.sentence for one in reports} == {"The judgments reach every cluster of the 180 prompts."}
    assert 0.03 < sum(one.whole.unlike.value for one in reports) / len(reports) < 0.07


def test_counts_and_agreement_are_those_of_the_votes(tmp_path: Path) -> None:
    texts = prompts(0, 40)
    rows = [pair(texts[0], 1.0, 1.0), pair(texts[0], 1.0, 0.0, 1.0), pair(texts[1], 0.5, 0.5), pair(texts[2])]
    write_rows(tmp_path / "preferences.jsonl", rows)
    whole = report_on(tmp_path / "preferences.jsonl", asked(tmp_path, texts)).whole
    assert (whole.prompts, whole.judged_prompts, whole.judgments) == (120, 3, 8)
    assert whole.agreement.value == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert whole.agreement.n == 2
    assert whole.unlike.n == 0
    assert whole.error.n == 0


@pytest.mark.parametrize(
    ("prompts_here", "judged_here", "reach"),
    [
        (50, 500, "reached"),
        (50, 0, "hole"),
        (50, 40, "thin"),
        (50, 20, "hole"),
        (50, 120, "reached"),
        (1, 0, "reached"),
        (2, 10, "reached"),
    ],
)
def test_a_cluster_is_short_of_judged_prompts_beyond_the_intervals(prompts_here: int, judged_here: int, reach: str) -> None:
    assert reach_of(prompts_here, 400, judged_here, 2000) == reach


def test_a_cluster_with_many_prompts_unlike_the_judged_ones_is_reached_partly() -> None:
    assert reach_of(50, 400, 500, 2000, share(10, 50)) == "partly"
    assert reach_of(50, 400, 500, 2000, share(6, 50)) == "reached"
    assert reach_of(50, 400, 0, 2000, share(50, 50)) == "hole"


def test_without_any_judged_prompt_everything_is_a_hole() -> None:
    assert reach_of(5, 400, 0, 0) == "hole"


def test_the_nearest_judged_prompt_counts_and_the_same_words_are_at_no_distance() -> None:
    reach = prompt_reach(["butter bread", "python loop", ""], ["soup onion", "bread butter please", "python loop"])
    assert reach.nearest[1] == pytest.approx(1, abs=1e-4)
    assert 0.3 < reach.nearest[0] < 1
    assert reach.nearest[2] == 0
    assert reach.limit is None
    assert not reach.unreached.any()
    assert features_of(["python loop"]).shape == (1, 2048)


def test_the_limit_is_what_one_judged_prompt_in_twenty_is_below() -> None:
    known = prompts(3, 100)
    limit = prompt_reach(["x"], known).limit
    assert limit is not None
    apart = features_of([*known, "x"])[:-1]
    cosines = np.round(apart @ apart.T, 5)
    np.fill_diagonal(cosines, -1)
    assert 0.02 <= (cosines.max(1) < limit).mean() <= 0.05
    assert prompt_reach(["x"], known).limit == limit


def test_equal_prompts_are_near_in_any_number_of_them() -> None:
    known = ["one and the same"] + [f"word{k} other{k}" for k in range(2500)]
    reach = prompt_reach(["one and the same", "word2499 other2499", "unheard of"], known)
    assert reach.nearest[0] == reach.nearest[1] == pytest.approx(1, abs=1e-4)
    assert reach.nearest[2] < 0.5


def test_what_is_collected_next_fills_the_hole_and_keeps_a_random_part(tmp_path: Path) -> None:
    deployment = read_deployment(asked(tmp_path, [*prompts(0, 60), *prompts(1, 5, ("cook",))]))
    judged = read_judged(judged_file(tmp_path, prompts(1, 80, ("cook", "code"))), None)
    _, reach = coverage(judged, deployment)
    numbers = collect_next(judged, deployment, reach, 40)
    assert numbers == collect_next(judged, deployment, reach, 40)
    texts = [deployment.prompts[k].text for k in numbers]
    assert len(set(texts)) == 40
    assert not set(texts) & {prompt.text for prompt in judged.prompts}
    is_tax = [
        bool(set(deployment.prompts[k].text.split()) & set(KINDS["tax"]))
        for seed in range(10)
        for k in collect_next(judged, deployment, reach, 40, seed)
    ]
    chosen, at_random = [[flag for k, flag in enumerate(is_tax) if (k % 40 < 28) == is_first] for is_first in (True, False)]
    assert sum(chosen) / len(chosen) > 0.6
    assert sum(at_random) / len(at_random) < 0.4
    assert len(collect_next(judged, deployment, reach, 1000)) == 180
    assert collect_next(judged, deployment, reach, 40, seed=1) != numbers


def test_samples_keep_their_completions(tmp_path: Path) -> None:
    samples = [{"prompt": turn("user", text), "completions": [{"text": "one"}, {"text": "two"}]} for text in prompts(0, 2)]
    write_rows(tmp_path / "samples.jsonl", [*samples, samples[0]])
    deployment = read_deployment(tmp_path / "samples.jsonl")
    assert len(deployment.prompts) == 6
    judged = read_judged(judged_file(tmp_path, ["else"]), None)
    numbers = collect_next(judged, deployment, coverage(judged, deployment)[1], 10)
    write_rows(tmp_path / "next.jsonl", [deployment.rows[k] for k in numbers])
    assert [[one.text for one in group.completions] for group in read_completion_groups(tmp_path / "next.jsonl").rows] == [
        ["one", "two"]
    ] * 6


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: object) -> str:
        capsys.readouterr()
        assert main(["coverage", *map(str, words)]) == 0
        return capsys.readouterr().out

    return run


def test_the_command_names_the_hole_and_writes_what_sample_reads(tmp_path: Path, said: Callable[..., str]) -> None:
    deployment, preferences = asked(tmp_path, prompts(0, 60)), judged_file(tmp_path, prompts(1, 80, ("cook", "code")), 1.0, 1.0)
    out = said(preferences, "--prompts", deployment, "--out", tmp_path / "next.jsonl", "--count", 7)
    assert "do not reach" in out.splitlines()[0]
    assert "hole" in out
    assert "100%" in out
    assert "next.jsonl: 7 prompts to collect judgments on next." in out
    assert len(read_prompts(tmp_path / "next.jsonl").rows) == 7
    plain = json.loads(said(preferences, "--prompts", deployment, "--json"))
    assert plain["whole"]["judgments"] == 320
    assert plain["whole"]["error"]["value"] is None
    assert [one["reach"] for one in plain["clusters"]].count("hole") >= 1


def test_errors_of_a_reward_model_and_of_an_ensemble_stand_by_cluster(tmp_path: Path, said: Callable[..., str]) -> None:
    policy = tiny_policy("qwen3", word_tokenizer())
    for seed in (0, 1):
        scalar_from(policy, ("overall",), seed=seed).save(tmp_path / f"reward-{seed}")
    deployment, preferences = asked(tmp_path, prompts(0, 40)), judged_file(tmp_path, prompts(1, 40))
    rows = [pair(text, 1.0) for text in prompts(2, 10)]
    write_rows(tmp_path / "test.jsonl", rows)
    where = (preferences, "--prompts", deployment, "--held_out", tmp_path / "test.jsonl", "--json")
    one = json.loads(said(*where, "--reward", tmp_path / "reward-0"))
    whole = one["whole"]
    assert whole["judged_prompts"] == 150
    assert whole["error"]["n"] == 30
    assert whole["spread"] is None
    assert 0 < whole["expected_error"] < 0.5
    assert sum(round(part["error"]["value"] * part["error"]["n"]) for part in one["clusters"] if part["error"]["n"]) == round(
        30 * whole["error"]["value"]
    )
    both = json.loads(said(*where, "--reward", tmp_path / "reward-0", tmp_path / "reward-1"))
    assert both["whole"]["spread"] > 0
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    write_rows(tmp_path / "test.jsonl", turned)
    other = json.loads(said(*where, "--reward", tmp_path / "reward-0"))["whole"]
    assert other["error"]["value"] == pytest.approx(1 - whole["error"]["value"])


def test_a_run_of_collect_brings_its_held_out_preferences(tmp_path: Path) -> None:
    run = tmp_path / "judged"
    run.mkdir()
    judged_file(run, prompts(1, 2))
    write_rows(run / "held_out.jsonl", [pair(text) for text in prompts(2, 1)])
    judged = read_judged(run, None)
    assert len(judged.prompts) == 9
    assert judged.held_out.tolist() == [False] * 6 + [True] * 3
    assert not read_judged(run / "preferences.jsonl", None).held_out.any()


def test_what_cannot_be_used_is_refused_or_counted(tmp_path: Path, said: Callable[..., str]) -> None:
    deployment, preferences = asked(tmp_path, ["a b c"]), judged_file(tmp_path, ["a b"])
    for words, kind in (
        ((preferences, "--prompts", deployment, "--count", 0), ConfigError),
        ((preferences, "--prompts", deployment, "--clusters", 1), ConfigError),
        ((preferences, "--prompts", deployment, "--reward", tmp_path), ConfigError),
        ((preferences, "--prompts", tmp_path / "missing.jsonl"), DataError),
    ):
        assert main(["coverage", *map(str, words)]) == kind.exit_code
    with deployment.open("a") as file:
        file.write(json.dumps({"prompt": []}) + "\n")
    assert "left out: 1 x" in said(preferences, "--prompts", deployment)
    assert "too few for clusters" in said(preferences, "--prompts", deployment)
    assert list(read_rows(preferences))
    assert isinstance(report_on(preferences, deployment).whole.share, Estimate)


def test_a_run_of_another_stage_is_called_by_its_stage(tmp_path: Path) -> None:
    with open_run(tmp_path, RunPlan("answers", "sample")).active() as run:
        pass
    with pytest.raises(DataError, match=r"is a run of sample and has no preferences.jsonl. Name a run of collect, or a file"):
        read_judged(run.directory, None)
