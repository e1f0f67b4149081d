"""Stage reward with each objective by its name: it trains, tells what it learned, and goes on to the same bytes when it was cut off."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.data.jsonl import write_rows
from palate.models.load import Architecture, new_policy
from palate.testing import word_tokenizer
from palate.training import checkpoints
from palate.training.learner import Learner

CUT_AT = 3
KINDS = {
    "bradley_terry": ["--objective.label_smoothing", "0.05", "--objective.random", "0.1", "--objective.centering", "0.01"],
    "all_pairs": [],
    "plackett_luce": [],
    "pick_best": [],
    "rao_kupper": ["--objective.start", "0.2"],
    "davidson": ["--objective.lr", "0.1"],
    "crowd_bt": ["--objective.held", "0.1", "--objective.lr", "0.4"],
}
LEARNS = {"rao_kupper": "eta", "davidson": "nu", "crowd_bt": "reliability"}
GOOD = ("salt", "rice", "beans", "cook")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small policy, and 40 prompts with all pairs of three completions: the more good words, the better; one rater lies."""
    folder = tmp_path_factory.mktemp("home")
    size = Architecture(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=16, max_positions=64)
    new_policy(word_tokenizer(), size, 0).save(folder / "model")
    rng, rows = random.Random(0), []
    for prompt in range(40):
        # Told apart by how many good words they have; two of the three are equally good.
        texts = [" ".join(rng.sample(GOOD, k) + rng.sample(["no", "today", "please", "so"], 4 - k)) for k in (3, 1, 1)]
        for i, j in ((0, 1), (0, 2), (1, 2)):
            raters = rng.sample(["ann", "bob", "cat", "liar"], 3)
            truth = 0.5 if i else 1.0
            votes = [1 - truth if rater == "liar" else truth for rater in raters]
            row = {"prompt": f"the guests {prompt} ", "chosen": texts[i], "rejected": texts[j], "probability": sum(votes) / 3}
            rows.append({**row, "votes": votes, "raters": raters})
    write_rows(folder / "pairs.jsonl", rows)
    return folder


def words(home: Path, out: Path, kind: str) -> list[str]:
    files = ["--model", str(home / "model"), "--preferences", str(home / "pairs.jsonl"), "--out", str(out)]
    return ["reward", *files, "--prompts_per_step", "6", "--epochs", "3", "--optimizer.lr", "0.02", "--objective", kind, *KINDS[kind]]


def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Every step is saved, and step 3 breaks; what mends it is returned."""
    step = Learner.step

    def broken(self: Learner, *given: Any) -> dict[str, float]:
        if self.steps_done == CUT_AT:
            raise ZeroDivisionError("cut off")
        return step(self, *given)

    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Learner, "step", broken)
    return lambda: monkeypatch.setattr(Learner, "step", step)


@pytest.mark.parametrize("kind", KINDS)
def test_each_objective_trains_by_name_and_resumes_exactly(kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(words(home, tmp_path / "straight", kind)) == 0
    mend = cut_off(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        main(words(home, tmp_path / "resumed", kind))
    state = tmp_path / "resumed" / "state" / "learner"
    assert json.loads((state / "numbers.json").read_text())["steps_done"] == CUT_AT
    assert (b"objective.raw" in (state / "tensors.safetensors").read_bytes()) == (kind in LEARNS)
    mend()
    assert main(words(home, tmp_path / "resumed", kind)) == 0
    for file in ("metrics.jsonl", "summary.json", "predictions.jsonl", "model/model.safetensors", "model/reward.json"):
        assert (tmp_path / "resumed" / file).read_bytes() == (tmp_path / "straight" / file).read_bytes(), file

    summary = json.loads((tmp_path / "straight" / "summary.json").read_text())
    steps = [json.loads(line) for line in (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 18
    assert sum(row["reward/nll/mean"] for row in steps[-3:]) < sum(row["reward/nll/mean"] for row in steps[:3])  # it learns
    assert summary["held_out"]["overall"]["accuracy"] > 0.55  # of votes, a third of them ties and a quarter of the rest lies
    assert set(summary["learned"]) == ({LEARNS[kind]} if kind in LEARNS else set())
    if kind == "crowd_bt":
        found = summary["learned"]["reliability"]
        assert set(found) == {"ann", "bob", "cat", "liar"}
        assert sum(one["judgments"] for one in found.values()) == 3 * summary["preferences"]
        assert found["liar"]["value"] < 0.5 < min(found[name]["value"] for name in ("ann", "bob", "cat"))


def test_raters_are_weighed_in_a_pipeline_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "weighed.yaml").write_text(
        "name: weighed\n"
        "inputs: {model: null, pairs: null}\n"
        "stages:\n"
        "  liar:\n"
        "    stage: reward\n"
        "    model: $model\n"
        "    preferences: $pairs\n"
        "    prompts_per_step: 6\n"
        "    optimizer: {lr: 0.02}\n"
        "    rater_weights: {ann: 0, bob: 0, cat: 0}\n"
        "    objective: {kind: rao_kupper, start: 0.3}\n"
        "  others: {stage: reward, model: $model, preferences: $pairs, prompts_per_step: 6, optimizer: {lr: 0.02},\n"
        "           rater_weights: {liar: 0}}\n"
    )
    paths = [f"model={home / 'model'}", f"pairs={home / 'pairs.jsonl'}"]
    assert main(["run", str(tmp_path / "weighed.yaml"), *paths, "--runs", str(tmp_path / "runs")]) == 0
    margins = {}
    for name in ("liar", "others"):
        (directory,) = (tmp_path / "runs").glob(f"{name}-*")
        summary = json.loads((directory / "summary.json").read_text())
        rows = [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]
        # Chosen is the better one wherever it is no tie: whom the model heard decides which way its scores point.
        margins[name] = sum(row["chosen"] - row["rejected"] for row in rows if row["observed"] != 0.5)
        assert ("eta" in summary["learned"]) == (name == "liar")
    assert margins["liar"] < 0 < margins["others"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--rater_weights.nobody", "0.5"], "nobody called 'nobody' judged anything. Known: ann, bob, cat, liar"),
        (["--rater_weights.ann", "-1"], "rater_weights: ann must be 0 or more, got -1.0"),
        (["--objective", "crowd"], "objective has no kind 'crowd'. Did you mean 'crowd_bt'?"),
        (["--objective", "crowd_bt", "--objective.start", "0.4"], "crowd_bt: start must lie between 0.5 and 1, got 0.4"),
        (["--objective", "plackett_luce", "--objective.centering", "0.1"], "PlackettLuce has no 'centering'"),
    ],
)
def test_settings_that_make_no_sense_are_told(
    more: list[str], told: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["reward", "--model", str(home / "model"), "--preferences", str(home / "pairs.jsonl"), "--out", str(tmp_path / "out"), *more]
    assert main(given) != 0
    assert told in capfd.readouterr().err
