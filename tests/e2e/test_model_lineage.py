"""From a checkpoint to its raters and out again: gate, card, trace and forget on a pipeline that ran from raw text."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from palate.cli import main
from palate.config.artifacts import RETIRED, model_at
from palate.core import RunError
from palate.data.exclusions import FILE
from palate.data.jsonl import read_rows
from palate.models.load import load_policy
from palate.runs.pointer import swap
from palate.runs.record import list_runs
from palate.runs.retirement import is_retired
from tests.support.small_kitchen import pipeline_words, run_small, standing

pytestmark = pytest.mark.slow

GATE = """\
limits:
  - {metric: gold, of: change, by: high, at_least: 0}
  - {metric: kl, by: estimate, at_least: 0}
  - {metric: eval/facts, of: change, by: high, at_least: 0}
  - {metric: bias, by: low, at_most: 1}
  - {metric: win_rate/gold, by: low, at_most: 0.9}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of the whole pipeline; no test changes them."""
    return run_small(tmp_path_factory.mktemp("first"))


@pytest.fixture
def copied(first: Path, tmp_path: Path) -> Path:
    """A copy of the runs."""
    return Path(shutil.copytree(first, tmp_path / "runs"))


def judgments(runs: Path, name: str = "judged") -> list[dict[str, Any]]:
    return [dict(row) for _, row in read_rows(standing(runs)[name] / "judgments.jsonl")]


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_gate_on_real_runs(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text(GATE)
    names = standing(first)
    words = ["gate", str(file), "--candidate", str(names["direct"]), "--baseline", str(names["eval-sft"])]
    status = main([*words, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == (0 if found["passed"] else 1)
    assert all(limit["status"] != "unknown" for limit in found["limits"])
    summary = json.loads((names["eval-direct"] / "summary.json").read_text())
    assert found["limits"][1]["candidate"]["value"] == pytest.approx(summary["means"]["kl"]["mean"])
    assert "None of the 20 prompts was a prompt of training." in found["notes"]


def test_the_score_of_what_a_reward_chose_is_not_evidence(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("limits: [{metric: score, by: estimate, at_least: -100}]")
    assert main(["gate", str(file), "--candidate", str(standing(first)["eval-best"])]) == 0
    assert "trained against the reward" in capsys.readouterr().out


def test_a_trace_counts_the_judgments_of_each_rater(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "trace", str(standing(first)["best"] / "samples.jsonl"))
    assert [run["stage"] for run in found["runs"]] == ["world", "pretrain", "sft", "sample", "collect", "reward", "direct", "rerank"]
    (source,) = found["judgments"]
    rows = judgments(first)
    assert source["raters"] == Counter(str(row["rater"]) for row in rows)
    assert source["dimensions"] == Counter(str(row["dimension"]) for row in rows)
    assert (source["source"], source["judgments"], source["guidelines"]) == ("simulated", len(rows), {"": len(rows)})
    names = {name: f"{name}-{directory.name.rpartition('-')[2]}" for name, directory in standing(first).items()}
    assert source["readers"] == [names["reward"], names["direct"]]
    (reward,) = found["rewards"]
    held_out = json.loads((standing(first)["reward"] / "summary.json").read_text())["held_out"]["overall"]
    assert (reward["name"], reward["accuracy"], reward["held_out"]) == (names["reward"], held_out["accuracy"], held_out["n"])
    assert reward["readers"] == [names["best"]]
    assert str(first) not in json.dumps(found)
    assert main(["trace", str(standing(first)["direct"]), "--raters", "2"]) == 0
    shown = capsys.readouterr().out
    assert "1 more" in shown
    assert "rewards: none" in shown


def test_a_card_is_one_of_hugging_face_and_its_figures_are_those_of_the_runs(first: Path, tmp_path: Path) -> None:
    names = standing(first)
    out = tmp_path / "card" / "README.md"
    words = ["card", str(names["direct"]), "--out", str(out), "--license", "apache-2.0", "--baseline", str(names["eval-sft"])]
    assert main(words) == 0
    text = out.read_text()
    card = ModelCard(text)  # parses the metadata and model-index
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
    summary = json.loads((names["eval-direct"] / "summary.json").read_text())
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    for name, figures in summary["means"].items():
        assert values[name] == pytest.approx(figures["mean"]), name
    for name, figures in summary["evals"].items():
        assert values[f"eval/{name}"] == pytest.approx(figures["mean"]), name
    rows = judgments(first)
    assert f"holds {len(rows)} judgments of 3 raters" in text
    for rater, count in Counter(str(row["rater"]) for row in rows).items():
        assert f"| `{rater}` | {count} |" in text
    collected = json.loads((names["judged"] / "summary.json").read_text())
    assert f"agree on {100 * collected['agreement']:.1f} % of {collected['doubly_judged']} questions" in text
    assert f"its {len(rows)} judgments come from simulated raters, who are not people." in text
    assert "Not measured: " in text
    assert "breaches of written rules" in text.partition("Not measured: ")[2].partition("\n")[0]
    assert "the score of a reward" in text.partition("Not measured: ")[2].partition("\n")[0]
    assert "the truth" not in text.partition("Not measured: ")[2].partition("\n")[0]
    for run in ("world", "base", "sft", "samples", "judged", "direct"):
        assert f"`{run}-" in text
    assert "eval-best" not in text
    assert str(first) not in text
    before = out.read_bytes()
    assert main(words) == 0
    assert out.read_bytes() == before


def test_a_card_of_a_reward_model_has_its_accuracy(first: Path, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    assert main(["card", str(standing(first)["reward"]), "--out", str(out)]) == 0
    card = ModelCard(out.read_text())
    held_out = json.loads((standing(first)["reward"] / "summary.json").read_text())["held_out"]["overall"]
    assert card.data.pipeline_tag == "text-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", pytest.approx(held_out["accuracy"]))


def test_a_card_is_about_one_model(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = standing(first)
    assert main(["card", str(names["judged"])]) == 2
    assert "holds no model" in capsys.readouterr().err
    assert main(["card", str(names["direct"]), "--evaluations", str(names["eval-sft"])]) == 2
    assert "measured another model" in capsys.readouterr().err
    assert main(["card", str(names["world"].parent)]) == 4
    assert "is not a run" in capsys.readouterr().err


def test_a_card_stands_beside_the_weights_by_default_and_loading_goes_on(copied: Path) -> None:
    place = standing(copied)["direct"]
    assert main(["card", str(place)]) == 0
    assert (place / "model" / "README.md").read_text().startswith("---\n")
    load_policy(model_at(str(place)))


def test_forgetting_a_rater_retires_its_descendants_and_nothing_else(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = as_json(capsys, "forget", "simulated-2", "--in", str(copied), "--dry-run")
    assert list(copied.rglob(RETIRED)) == []
    assert not (copied / FILE).exists()
    assert main(["forget", "simulated-2", "--in", str(copied)]) == 0
    retired = {record.name for directory, record in list_runs(copied) if is_retired(directory)}
    assert retired == {"judged", "reward", "direct", "best", "eval-direct", "eval-best"}
    assert {one["run"].rpartition("-")[0] for one in listed["retired"]} == retired
    through = {one["run"].rpartition("-")[0]: [name.rpartition("-")[0] for name in one["through"]] for one in listed["retired"]}
    assert through["judged"] == []
    assert through["best"] == ["direct", "reward"]
    capsys.readouterr()
    assert main(["runs", str(copied)]) == 0
    assert capsys.readouterr().out.count("retired") == 6


def test_nothing_takes_a_retired_model(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = standing(copied)
    assert main(["forget", "simulated-2", "--in", str(copied)]) == 0
    for path in (names["direct"], names["direct"] / "model"):
        with pytest.raises(RunError, match="is retired"):
            model_at(str(path))
        with pytest.raises(RunError, match="is retired"):
            load_policy(path)
    with pytest.raises(RunError, match="is retired"):
        swap(tmp_path / "link", names["direct"])
    prompts, out = str(names["world"] / "held_out.jsonl"), ["--runs", str(tmp_path / "elsewhere")]
    file = tmp_path / "gate.yaml"
    file.write_text("limits: [{metric: gold, by: estimate, at_least: 0}]")
    capsys.readouterr()
    for words, status in (
        (["sample", "--model", str(names["direct"]), "--prompts", prompts, *out], 4),
        (["sample", "--model", str(names["direct"] / "model"), "--prompts", prompts, *out], 4),
        (["reward", "--model", str(names["sft"]), "--preferences", str(names["judged"]), *out], 4),
        (["direct", "--model", str(names["sft"]), "--preferences", str(names["judged"] / "preferences.jsonl"), *out], 4),
        (["score", str(names["reward"]), str(names["samples"] / "samples.jsonl")], 4),
        (["card", str(names["direct"])], 4),
        (["gate", str(file), "--candidate", str(names["eval-direct"])], 2),
    ):
        assert main(words) == status, words
        err = capsys.readouterr().err
        assert "is retired" in err
        assert len(err.strip().splitlines()) == 1
    assert main(["gate", str(file), "--candidate", str(names["eval-sft"]), "--baseline", str(names["eval-direct"])]) == 0


def test_the_pipeline_runs_again_without_the_rater_and_says_what_changed(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(first, tmp_path / "runs"))
    pipeline_words(tmp_path)
    before = standing(copied)
    kept = [row for row in judgments(copied) if row["rater"] != "simulated-2"]
    found = as_json(capsys, "forget", "simulated-2", "--in", str(copied), "--retrain", str(tmp_path / "small.yaml"))
    after = standing(copied)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {"judged", "reward", "direct", "best", "eval-direct", "eval-best"}
    assert judgments(copied) == kept
    for row in (dict(row) for file in ("preferences", "held_out") for _, row in read_rows(after["judged"] / f"{file}.jsonl")):
        assert "simulated-2" not in row["raters"]
        assert len(row["raters"]) == 2 or row["probability"] == (0.5 if row["votes"] == [0.5] else 0.75)
    figures = {
        name: {run: json.loads((places[run] / "summary.json").read_text()) for run in ("eval-direct", "reward")}
        for name, places in (("before", before), ("after", after))
    }
    changes = {(one["run"], one["metric"]): one for one in found["changes"]}
    for name in ("gold", "kl", "tokens"):
        for when, summary in figures.items():
            assert changes["eval-direct", name][when] == pytest.approx(summary["eval-direct"]["means"][name]["mean"])
        change = changes["eval-direct", name]
        assert change["change"]["value"] == pytest.approx(change["after"] - change["before"])
        assert change["change"]["n"] == 20
    for when, summary in figures.items():
        assert changes["reward", "accuracy/helpful"][when] == summary["reward"]["held_out"]["helpful"]["accuracy"]
    assert ("eval-best", "score") not in changes, "both were scored by reward models of their own"
    # Nothing is left to do, and forgetting again finds nothing.
    capsys.readouterr()
    assert main(["run", str(tmp_path / "small.yaml"), "--runs", str(copied)]) == 0
    assert re.findall(r"^\S+ +(\w+) ", capsys.readouterr().out.split("\n\n")[0], flags=re.MULTILINE) == ["skipped"] * 12
    trace = as_json(capsys, "trace", str(after["direct"]))
    assert "simulated-2" not in trace["judgments"][0]["raters"]


def test_forgetting_a_second_rater_keeps_what_has_nothing_of_it(first: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(first, tmp_path / "runs"))
    words = pipeline_words(tmp_path, "--only", "judged")
    assert main(["forget", "simulated-2", "--in", str(copied)]) == 0
    assert main(words) == 0
    without = standing(copied)
    assert main(["forget", "simulated-0", "--in", str(copied)]) == 0
    assert main(words) == 0
    assert main(pipeline_words(tmp_path, "--only", "other")) == 0
    assert {row["rater"] for row in judgments(copied)} == {"simulated-1"}
    assert standing(copied)["judged"] != without["judged"]
    entries = json.loads((copied / FILE).read_text())["excluded"]
    assert [(one["kind"], one["name"]) for one in entries] == [("rater", "simulated-2"), ("rater", "simulated-0")]


def test_a_run_that_was_withdrawn_is_refused_as_an_input(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = standing(copied)
    assert main(["forget", str(names["other"]), "--in", str(copied)]) == 0
    assert {record.name for directory, record in list_runs(copied) if is_retired(directory)} == {"other"}
    capsys.readouterr()
    assert main(["forget", "nobody", "--in", str(copied)]) == 2
    assert "Known:" in (err := capsys.readouterr().err) or "Did you mean" in err
    assert main(["forget", "nobody", "--in", str(tmp_path / "nowhere")]) == 2


def test_a_file_of_preferences_from_outside(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names in it may be those of people: they are never shown, and rows are left out by rater and by source."""
    file, runs = tmp_path / "pairs.jsonl", tmp_path / "outside"
    raters = ("Maria Rossi", "simulated-7")
    with file.open("w") as out:
        for k, (_, row) in enumerate(list(read_rows(standing(first)["judged"] / "preferences.jsonl"))[:24]):
            votes = {"votes": [1.0], "raters": [raters[k % 2]], "source": ("old", "new")[k % 3 == 0]}
            out.write(json.dumps({key: row[key] for key in ("id", "prompt", "chosen", "rejected")} | votes) + "\n")
    words = ["direct", "--model", str(standing(first)["sft"]), "--preferences", str(file), "--runs", str(runs), "--prompts_per_step", "4"]
    assert main(words) == 0
    (made,) = standing(runs).values()
    found = as_json(capsys, "trace", str(made))
    (source,) = [one for one in found["judgments"] if one["source"] == "file"]
    assert set(source["raters"].values()) == {12}
    assert "Maria" not in json.dumps(found)
    assert main(["forget", "Maria Rossi", "--in", str(runs)]) == 0
    assert "Maria" not in (runs / FILE).read_text() + (made / RETIRED).read_text() + capsys.readouterr().out
    assert main(words) == 0
    (second,) = standing(runs).values()
    record = json.loads((second / "run.json").read_text())
    assert record["dropped"][str(file)]["judged by a rater who is excluded"] == 12
    assert main(["forget", "old", "--in", str(runs)]) == 0
    assert main(words) == 0
    (third,) = standing(runs).values()
    record = json.loads((third / "run.json").read_text())
    assert record["dropped"][str(file)]["from a source that is excluded"] == 8
    assert main(["forget", str(file), "--in", str(runs)]) == 0
    capsys.readouterr()
    assert main(words) == 2
    assert "withdrew" in capsys.readouterr().err
    assert yaml.safe_load((runs / FILE).read_text())["excluded"][2]["kind"] == "input"
