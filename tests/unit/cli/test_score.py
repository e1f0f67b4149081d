"""`palate score` from the command line: every shape that has completions, exact scores, a stop and its continuation, and bad input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from palate.cli import main
from palate.cli.inspection import columns_of
from palate.core import Interrupted
from palate.data.formats import read_completion_groups, read_samples
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation import score_file
from palate.evaluation.score_file import write_scores
from palate.models.reward_file import RULE_HEAD, Normalisation
from palate.models.scalar import scalar_from
from palate.rewards.combination import Combination, RewardModels
from palate.testing import tiny_policy, word_tokenizer
from tests.support.planted_rewards import a_world, cooks_tokenizer
from tests.support.rule_files import rule_file

HEADS = ("taste", "kind")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reward models with random heads: two alike, one raw, and some that do not fit beside them."""
    folder = tmp_path_factory.mktemp("models")
    policy = tiny_policy("qwen3", cooks_tokenizer())
    for seed, name in enumerate(("one", "two", "raw")):
        model = scalar_from(policy, HEADS, seed=seed)
        model.normalisation = Normalisation((2.0, 0.5), (0.25, -1.0))
        model.save(folder / name)
    (folder / "raw" / "reward.json").unlink()
    scalar_from(policy, ("taste", "honest"), seed=3).save(folder / "other-heads")
    words = scalar_from(tiny_policy("qwen3", word_tokenizer()), HEADS, seed=4)
    words.normalisation = Normalisation((2.0, 0.5), (0.25, -1.0))
    words.save(folder / "words")
    config = folder / "words" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 24}))
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scored(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["score", *map(str, words)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["score", *map(str, words)]) in (2, 3)
    return " ".join(capsys.readouterr().err.split())


ROWS = {
    "pair": {"prompt": [{"role": "user", "content": "what can we make"}], "chosen": [{"role": "assistant", "content": "rice today."}],
             "rejected": [{"role": "assistant", "content": "mud and ash for the cook."}]},
    "messages": {"messages": [{"role": "user", "content": "what can we make"}, {"role": "assistant", "content": "rice today."}]},
    "completion": {"prompt": [{"role": "user", "content": "what can we make"}],
                   "completion": [{"role": "assistant", "content": "rice today."}]},
    "samples": {"id": "mine", "prompt": [{"role": "user", "content": "what can we make"}],
                "completions": [{"text": "rice today."}, {"text": "mud and ash for the cook."}], "note": 7},
    "benchmark": {"prompt": "what can we make", "chosen": ["rice today."], "rejected": ["mud and ash for the cook.", "no."],
                  "subset": "Math"},
}  # fmt: skip


def plain_scores(path: Path, answer: str) -> list[float]:
    """What transformers alone gives, without Palate: the template, the model's logits at the last token, then gain and bias."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    module = AutoModelForSequenceClassification.from_pretrained(path).eval()
    turns = [{"role": "user", "content": "what can we make"}, {"role": "assistant", "content": answer}]
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), return_tensors="pt", add_special_tokens=False).input_ids
    with torch.inference_mode():
        logits = module(input_ids=ids).logits[0].tolist()
    return [2.0 * logits[0] + 0.25, 0.5 * logits[1] - 1.0]


@pytest.mark.parametrize("shape", ROWS)
def test_every_shape_with_completions_is_scored_as_transformers_scores_it(
    shape: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(Path("rows.jsonl"), [ROWS[shape]])
    (row,) = scored(capsys, models / "one", "rows.jsonl")
    first = row["completions"][0]
    expected = plain_scores(models / "one", "rice today.")
    assert first["text"] == "rice today."
    assert first["scores"] == pytest.approx(dict(zip(HEADS, expected, strict=True)), abs=1e-5)
    assert first["score"] == pytest.approx(sum(expected), abs=1e-5)
    sides = [one.get("side") for one in row["completions"]]
    assert sides == {"pair": ["chosen", "rejected"], "benchmark": ["chosen", "rejected", "rejected"]}.get(shape, [None] * len(sides))
    if shape == "samples":
        assert (row["id"], row["fields"]) == ("mine", {"note": 7})
    Path("again.jsonl").write_text(json.dumps(row) + "\n")
    assert len(read_samples("again.jsonl").rows[0][1]) == len(sides), "what is written is read again as samples"


def numbers_of(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {row["id"]: [one["score"] for one in row["completions"]] for row in rows}


def test_scores_do_not_depend_on_order_neighbours_or_batches(models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = a_world(40, 5)
    write_rows(tmp_path / "a.jsonl", rows)
    write_rows(tmp_path / "b.jsonl", rows[::-1])
    forward, backward = (numbers_of(scored(capsys, models / "one", name)) for name in ("a.jsonl", "b.jsonl"))
    assert list(forward) == list(backward)[::-1]
    model = RewardModels.load((str(models / "one"),))
    groups = read_completion_groups(tmp_path / "a.jsonl").rows
    tally = score_file.ScoreTally()
    alone = numbers_of(list(score_file.scored_rows(model, Combination.of(model.heads), groups, tally, at_once=1)))  # type: ignore[arg-type]
    assert tally.rows == len(rows)
    for name, numbers in forward.items():
        assert backward[name] == pytest.approx(numbers, abs=1e-5)
        assert alone[name] == pytest.approx(numbers, abs=1e-5)


def test_dimensions_weights_and_combinations(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), [ROWS["completion"]])

    def combined(*words: str) -> float:
        (row,) = scored(capsys, models / "one", "rows.jsonl", *words)
        score: float = row["completions"][0]["score"]
        return score

    taste, kind = plain_scores(models / "one", "rice today.")
    assert combined("--dimensions", "kind") == pytest.approx(kind, abs=1e-5)
    assert combined("--weights", "taste=3", "kind=1") == pytest.approx(3 * taste + kind, abs=1e-5)
    assert combined("--weights", "taste=3", "kind=1", "--combine", "mean") == pytest.approx((3 * taste + kind) / 4, abs=1e-5)
    assert combined("--combine", "min") == pytest.approx(min(taste, kind), abs=1e-5)
    assert combined("--combine", "max") == pytest.approx(max(taste, kind), abs=1e-5)


def test_an_ensemble_is_the_mean_of_its_members_or_the_worst_of_them(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), [ROWS["completion"]])
    one, two = (plain_scores(models / name, "rice today.") for name in ("one", "two"))
    (mean,) = scored(capsys, models / "one", "rows.jsonl", "--also", models / "two")
    (worst,) = scored(capsys, models / "one", "rows.jsonl", "--also", models / "two", "--ensemble", "wco")
    assert list(mean["completions"][0]["scores"].values()) == pytest.approx([(a + b) / 2 for a, b in zip(one, two, strict=True)], abs=1e-5)
    assert list(worst["completions"][0]["scores"].values()) == pytest.approx([min(a, b) for a, b in zip(one, two, strict=True)], abs=1e-5)


def test_a_raw_classifier_is_scored_and_what_is_too_long_has_a_reason_in_place_of_a_score(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(Path("rows.jsonl"), [ROWS["pair"]])
    (row,) = scored(capsys, models / "raw", "rows.jsonl", "--max_length", "22")
    short, long = row["completions"]
    assert short["score"] is not None
    assert (long["score"], long["scores"]) == (None, {"taste": None, "kind": None})
    assert "too long" in long["unscored"]
    assert main(["score", str(models / "raw"), "rows.jsonl", "--max_length", "22"]) == 0
    assert "scored 2 completions of 1 rows; without a score: 1 x too long" in capsys.readouterr().err


def test_standard_input_and_a_limit(models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(json.dumps({**ROWS["messages"], "id": str(k)}) + "\n" for k in range(5))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert [row["id"] for row in scored(capsys, models / "one", "-", "--limit", "2")] == ["0", "1"]


def test_a_scoring_that_was_stopped_goes_on_and_gives_the_same_file(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(Path("rows.jsonl"), a_world(70, 6))
    words = ["score", str(models / "one"), "rows.jsonl", "--out"]
    assert main([*words, "straight.jsonl"]) == 0
    model, groups = RewardModels.load((str(models / "one"),)), read_completion_groups("rows.jsonl", columns=columns_of([])).rows
    asked, score = [], model.score

    def stopping(*given: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return score(*given)

    monkeypatch.setattr(model, "score", stopping)
    with pytest.raises(Interrupted, match="stopped after 64 of"):
        write_scores(model, Combination.of(model.heads), groups, Path("stopped.jsonl"), {"of": "this"})
    assert not Path("stopped.jsonl").exists()
    tally = write_scores(model, Combination.of(model.heads), groups, Path("stopped.jsonl"), {"of": "this"})
    assert tally.rows == len(groups) - 64, "what was written is not scored again"
    assert [row for _, row in read_rows(Path("stopped.jsonl"))] == [row for _, row in read_rows(Path("straight.jsonl"))]
    assert sorted(path.name for path in Path().glob("stopped*")) == ["stopped.jsonl"]
    Path("old.jsonl.part").write_text("{}\n")
    assert "old.jsonl.part holds rows of another scoring" in fails(capsys, *words[1:], "old.jsonl")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--dimensions", "tast"], "has no dimension 'tast'. Did you mean 'taste'?"),
        (["--weights", "kindly=2"], "has no dimension 'kindly'. Did you mean 'kind'?"),
        (["--weights", "taste=2"], "weights: kind has no weight"),
        (["--weights", "taste"], "a weight is written DIMENSION=NUMBER"),
        (["--weights", "taste=nan", "kind=1"], "a weight is written DIMENSION=NUMBER"),
        (["--weights", "taste=1", "taste=2"], "taste stands twice"),
        (["--weights", "taste=1", "kind=1", "--dimensions", "taste"], "weights: kind is not among the dimensions taste"),
        (["--weights", "taste=1", "kind=1", "--combine", "min"], "weights have no meaning for min"),
        (["--weights", "taste=-1", "kind=1", "--combine", "mean"], "a sum above 0 for mean"),
        (["--ensemble", "wco"], "an ensemble's rule needs two models or more"),
        (["--also", "MODELS/one"], "the ensemble names a model twice"),
        (["--also", "MODELS/other-heads"], "has the dimensions taste, honest, and"),
        (["--also", "MODELS/raw"], "gives raw scores, and another member of the ensemble normalised ones"),
        (["--limit", "0"], "--limit is 0; give 1 or more"),
        (["--out", "out.jsonl", "--combine", "median"], "invalid choice: 'median'"),
        (["--also", "MODELS/two", "--ensemble", "worst"], "--ensemble: there is no rule 'worst'"),
        (["--also", "MODELS/two", "--ensemble", "wco=2"], "wco takes no number"),
        (["--also", "MODELS/two", "--ensemble", "uwo=1e300"], "coefficient must be >= 0 and at most 1e+18"),
        (["--also", "MODELS/two", "--ensemble", "soft_min=1e-320"], "beta must be from 1e-18 to 1e+18"),
        (["--weights", "taste=1e39", "kind=1"], "weights must be at most 1e+18 in size"),
        (["--also", "MODELS/two", "MODELS/../models0/one"], "the ensemble names a model twice"),
        (["--out", "folder"], "--out: folder is a folder. Name a file in it"),
        (["--out", "rows.jsonl/scored.jsonl"], "rows.jsonl: it is a file. Name a folder in which you may write"),
        (["--out", "folder/../rows.jsonl"], "rows.jsonl is the file that the command reads, and would be lost"),
    ],
)
def test_bad_input_has_one_message(words: list[str], told: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), [ROWS["pair"]])
    Path("folder").mkdir()
    before = Path("rows.jsonl").read_bytes()
    words = [word.replace("models0", models.name).replace("MODELS", str(models)) for word in words]
    assert told in fails(capsys, models / "one", "rows.jsonl", *words)
    assert (Path("rows.jsonl").read_bytes(), list(Path("folder").iterdir())) == (before, [])


def test_members_of_other_tokenizers_and_contexts_are_refused_in_one_message(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), [ROWS["pair"]])
    told = fails(capsys, models / "one", "rows.jsonl", "--also", models / "words")
    assert "words has another tokenizer or chat template; " in told
    assert f"words takes 24 tokens and {models / 'one'} " in told
    assert "Train the members from models with one tokenizer and one context, or give each model a part in `rewards`" in told


def test_an_ensemble_says_how_far_its_members_differ(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), [ROWS["completion"]])
    (row,) = scored(capsys, models / "one", "rows.jsonl", "--also", models / "two", "--weights", "taste=2", "kind=1")
    totals = [2 * taste + kind for taste, kind in (plain_scores(models / name, "rice today.") for name in ("one", "two"))]
    assert row["completions"][0]["spread"] == pytest.approx(abs(totals[0] - totals[1]) / 2, abs=1e-5)
    (alone,) = scored(capsys, models / "one", "rows.jsonl")
    assert "spread" not in alone["completions"][0]
    (low,) = scored(capsys, models / "one", "rows.jsonl", "--also", models / "two", "--ensemble", "mean_minus_sd=1")
    (worst,) = scored(capsys, models / "one", "rows.jsonl", "--also", models / "two", "--ensemble", "wco")
    assert low["completions"][0]["scores"] == pytest.approx(worst["completions"][0]["scores"], abs=1e-5)


def test_rows_without_completions_are_an_error(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.jsonl"), [{"prompt": "so what"}])
    assert "no completion to score" in fails(capsys, models / "one", "rows.jsonl")


def test_a_classifier_of_rules_gives_how_likely_each_rule_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str], models: Path) -> None:
    scalar_from(tiny_policy("qwen3", cooks_tokenizer()), (RULE_HEAD,), seed=5).save(tmp_path / "classifier")
    rules = rule_file(tmp_path)
    write_rows(Path("rows.jsonl"), [ROWS["samples"]])
    (row,) = scored(capsys, tmp_path / "classifier", "rows.jsonl", "--rules", rules, "--combine", "min")
    one = row["completions"][0]
    assert set(one["scores"]) == {"rice", "salt"}
    assert all(0 < value < 1 for value in one["scores"].values())
    assert one["score"] == min(one["scores"].values())
    (alone,) = scored(capsys, tmp_path / "classifier", "rows.jsonl", "--rules", rules, "--dimensions", "salt")
    assert alone["completions"][0]["score"] == one["scores"]["salt"]
    assert "it is a reward model and reads no rule" in fails(capsys, models / "one", "rows.jsonl", "--rules", rules)
    assert "--rules takes one classifier" in fails(capsys, tmp_path / "classifier", "rows.jsonl", "--rules", rules, "--max_length", 9)
    assert "classifier is a classifier of rules and not a reward model" in fails(capsys, tmp_path / "classifier", "rows.jsonl")
    (tmp_path / "rules.yaml").write_text("rules: []")
    assert "`rules` holds 0" in fails(capsys, tmp_path / "classifier", "rows.jsonl", "--rules", rules)
