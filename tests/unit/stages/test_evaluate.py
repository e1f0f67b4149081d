"""What stage `evaluate` measures: each figure is of the right completion, under the distribution that was sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.core import Completion, ConfigError, DataError, Message, Prompt, Sampling, derive_seed
from palate.data.formats import prompt_row, sample_row
from palate.data.jsonl import write_rows
from palate.evaluation.evals import grade
from palate.models.load import load_policy
from palate.models.reward_file import Normalisation
from palate.models.scalar import scalar_from
from palate.rewards.learned import LearnedReward
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.samplers.local import LocalSampler
from palate.samplers.prompts import prompts_at
from palate.stages.evaluate import Evaluate
from palate.testing import tiny_policy
from palate.text.spans import prompt_ids
from tests.support.stages import dropped_of, ran, rows_of, summary_of

SAMPLING = Sampling(temperature=0.5, max_tokens=8)
GOLD = "tests.unit.stages.test_evaluate:gold"


def gold(prompt: str, completion: str, **fields: Any) -> dict[str, float]:
    """Two dimensions: what the row says, and how many words there are."""
    return {"given": float(fields.get("worth", 0)), "words": float(len(completion.split()))}


def rice(completion: str) -> int:
    return completion.count("rice")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, another, a reward model of two heads, prompts of several lengths and evals of every kind."""
    folder = tmp_path_factory.mktemp("home")
    tiny_policy(seed=0).save(folder / "policy")
    tiny_policy(seed=1).save(folder / "other")
    scorer = scalar_from(tiny_policy(seed=2), ("kind", "honest"), seed=0)
    scorer.normalisation = Normalisation((2.0, 0.5), (1.0, -1.0))
    scorer.save(folder / "reward")
    prompts = [{"prompt": f"the cook has {'rice and ' * k}salt", "worth": k} for k in (5, 0, 3, 1, 4, 2)]
    write_rows(folder / "prompts.jsonl", [*prompts, prompts[-1], {"nothing": 1}])
    evals = [{"id": f"e{k}", "eval": ("facts", "odd")[k % 2], "prompt": f"the cook has {k}", **check} for k, check in enumerate(EVALS)]
    write_rows(folder / "evals.jsonl", evals)
    return folder


EVALS: list[dict[str, Any]] = [
    {"kind": "comply"},
    {"kind": "answer", "answer": "rice"},
    {"kind": "gold", "dimension": "words"},
    {"kind": "answer", "answer": "salt"},
    {"kind": "refuse"},
    {"kind": "gold", "dimension": "given", "worth": 7},
]


@pytest.fixture
def evaluated(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs the stage and gives its directory."""

    def run(name: str = "run", seed: int = 1, **settings: Any) -> Path:
        start = Evaluate(str(home / "prompts.jsonl"), model=str(home / "policy"), sampling=SAMPLING, tokens_per_microbatch=40)
        return ran(replace(start, **settings), tmp_path / name, "evaluate", seed)

    return run


def test_a_model_has_no_kl_to_itself_at_the_temperature_it_was_sampled_at(evaluated: Callable[..., Path], home: Path) -> None:
    run = evaluated(reference=str(home / "policy"))
    assert [row["kl"] for row in rows_of(run, "completions.jsonl")] == pytest.approx([0] * 6, abs=1e-4)
    assert summary_of(run)["means"]["kl"]["mean"] == pytest.approx(0, abs=1e-4)


def drawn(home: Path, seed: int) -> tuple[list[Prompt], list[Completion]]:
    """The prompts of the file, and what the policy says to them."""
    run = open_run(home, RunPlan("read", "read", seed=seed))
    prompts = prompts_at(run, str(home / "prompts.jsonl"), None)
    groups = LocalSampler(load_policy(home / "policy")).generate(prompts, 1, SAMPLING, derive_seed(seed, "evaluate"))
    return prompts, [group[0] for group in groups]


def plain_kl(home: Path, prompt: Prompt, completion: Completion) -> float:
    """Summed over the completion, by Hugging Face models alone."""
    ids = [*prompt_ids(load_policy(home / "policy").tokenizer, prompt), *completion.ids]
    totals = []
    for name in ("policy", "other"):
        module = load_policy(home / name).module
        module.set_attn_implementation("sdpa")
        with torch.no_grad():
            logps = (module(torch.tensor([ids])).logits[0].float() / SAMPLING.temperature).log_softmax(-1)[-len(completion.ids) - 1 : -1]
        totals.append(float(logps.gather(-1, torch.tensor(completion.ids)[:, None]).sum()))
    return totals[0] - totals[1]


def test_a_held_out_reward_model_scores_the_same_completions(evaluated: Callable[..., Path], home: Path) -> None:
    run = evaluated(held_out_reward=str(home / "reward"), seed=3)
    prompts, completions = drawn(home, 3)
    tokenizer = load_policy(home / "policy").tokenizer
    expected = LearnedReward.load(str(home / "reward"), tokenizer).score(prompts, [[one] for one in completions])["score"]
    rows = rows_of(run, "completions.jsonl")
    assert [row["held_out_score"] for row in rows] == pytest.approx([score for (score,) in expected], abs=1e-4)
    assert "score" not in rows[0]
    assert summary_of(run)["means"]["held_out_score"]["mean"] == pytest.approx(np.mean([row["held_out_score"] for row in rows]))
    with pytest.raises(ConfigError, match="held_out_reward is the model in reward"):
        Evaluate("prompts.jsonl", model="m", reward="r", held_out_reward="r").check()


def test_figures_stand_beside_the_completion_they_are_of(evaluated: Callable[..., Path], home: Path) -> None:
    probes = {"rice": "tests.unit.stages.test_evaluate:rice"}
    run = evaluated(reference=str(home / "other"), reward=str(home / "reward"), gold=GOLD, probes=probes, seed=3)
    prompts, completions = drawn(home, 3)
    rows = rows_of(run, "completions.jsonl")
    assert [row["prompt"] for row in rows] == [prompt.text for prompt in prompts]
    assert len(rows) == 6
    expected = LearnedReward.load(str(home / "reward"), load_policy(home / "policy").tokenizer).score(
        prompts, [[one] for one in completions]
    )
    assert len({one.text for one in completions}) > 3
    for k, (row, prompt, completion) in enumerate(zip(rows, prompts, completions, strict=True)):
        assert (row["text"], row["stop"], row["tokens"]) == (completion.text, completion.stop, len(completion.ids))
        assert row["kl"] == pytest.approx(plain_kl(home, prompt, completion), abs=1e-3)
        assert row["dimensions"] == gold(prompt.text, completion.text, **prompt.fields)
        assert row["dimensions"]["given"] == prompt.fields["worth"] == (5, 0, 3, 1, 4, 2)[k]
        assert row["gold"] == pytest.approx(sum(row["dimensions"].values()) / 2)
        assert row["probes"] == {"rice": completion.text.count("rice")}
        assert row["score"] == pytest.approx(expected["kind"][k][0] + expected["honest"][k][0], abs=1e-4)
    means = summary_of(run)["means"]
    for name in ("kl", "score", "gold", "tokens"):
        assert means[name]["mean"] == pytest.approx(sum(row[name] for row in rows) / 6)
    assert means["eos"]["mean"] == pytest.approx(sum(row["stop"] == "eos" for row in rows) / 6)
    assert means["gold/given"]["mean"] == 2.5
    assert means["kl"]["n"] == summary_of(run)["prompts"] == 6


def test_what_was_not_asked_for_is_not_in_the_figures(evaluated: Callable[..., Path], home: Path) -> None:
    run = evaluated(limit=3)
    assert set(summary_of(run)["means"]) == {"tokens", "eos"}
    assert summary_of(run)["prompts"] == 3
    assert summary_of(run)["evals"] == {}
    whole = evaluated("whole")
    assert dropped_of(whole)[str(home / "prompts.jsonl")] == {"no known columns": 1, "the prompt of an earlier row": 1}


def test_completions_made_elsewhere_are_measured_as_they_are(evaluated: Callable[..., Path], tmp_path: Path) -> None:
    asked = [Prompt(f"p{k}", (Message("text", f"the cook {k}"),), fields={"worth": k}) for k in range(3)]
    given = [[Completion(text, stop=stop)] for text, stop in (("has rice", "eos"), ("no salt so", "length"), ("please", "eos"))]  # type: ignore[arg-type]
    (tmp_path / "best").mkdir()
    write_rows(tmp_path / "best" / "samples.jsonl", [sample_row(*pair) for pair in zip(asked, given, strict=True)][::-1])
    write_rows(tmp_path / "prompts.jsonl", map(prompt_row, asked))
    run = evaluated(model=None, prompts=str(tmp_path / "prompts.jsonl"), completions=str(tmp_path / "best"), gold=GOLD)
    found = [(row["text"], row["stop"], row["dimensions"]) for row in rows_of(run, "completions.jsonl")]
    assert found == [
        ("has rice", "eos", {"given": 0, "words": 2}),
        ("no salt so", "length", {"given": 1, "words": 3}),
        ("please", "eos", {"given": 2, "words": 1}),
    ]
    assert summary_of(run)["means"]["eos"]["mean"] == pytest.approx(2 / 3)


def asked(**fields: Any) -> Prompt:
    return Prompt("e", (Message("text", "the cook"),), fields=fields)


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({"kind": "answer", "answer": "20 minutes."}, "It takes 20 minutes", 1.0),
        ({"kind": "answer", "answer": "20 minutes."}, "It takes 25 minutes", 0.0),
        ({"kind": "refuse"}, "I cannot help with that.", 1.0),
        ({"kind": "refuse"}, "Take the salt.", 0.0),
        ({"kind": "comply"}, "Take the salt.", 1.0),
        ({"kind": "comply"}, "I cannot help with that.", 0.0),
        ({"kind": "comply"}, "", 0.0),
        ({"kind": "gold", "dimension": "words", "worth": 9}, "one two", 2.0),
        ({"kind": "gold", "dimension": "given", "worth": 9}, "one two", 9.0),
    ],
)
def test_grades(fields: dict[str, Any], text: str, expected: float) -> None:
    assert grade(asked(**fields), text, gold) == expected


@pytest.mark.parametrize(
    ("answer", "text", "is_right"),
    [
        ("4", "it is 14 .", False), ("4", "the answer is 4 .", True), ("4", "4.", True), ("4", "4.5", False), ("4", "0.4", False),
        ("4", "-4", False), ("-3", "-35", False), ("-3", "it is -3", True), ("-3", "it is \u22123.", True), ("4", "10-4", True),
        (4.0, "4", True), ("1000", "1,000 eggs", True), ("1000", "1,0001", False), ("4", "3/4", False), ("4", "14:40", False),
        ("4", "x4", False), ("4", "(4)", True), ("4", "$4, no more", True), ("007", "7", False), ("007", "agent 007.", True),
        ("no", "i know", False), ("no", "no, thanks", True), ("no", "no-one", False), ("can", "can't", False),
        ("two eggs.", "take two  eggs\nnow", True), ("two eggs", "two eggshells", False), ("5 eggs", "2.5 eggs", False),
        ("c++", "in c++ it is", True), ("\u5317\u4eac", "\u662f\u5317\u4eac\u3002", True), ("4", "\u662f4\u3002", True),
    ],
)  # fmt: skip
def test_an_answer_is_right_as_words_of_its_own(answer: object, text: str, is_right: bool) -> None:
    assert grade(asked(kind="answer", answer=answer), text, None) == is_right


@pytest.mark.parametrize("fields", [{}, {"answer": ""}, {"answer": " . "}])
def test_an_answer_that_is_missing_is_not_right_everywhere(fields: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="needs an answer that is not empty"):
        grade(asked(kind="answer", **fields), "anything", None)


def test_an_eval_of_no_known_kind_is_refused() -> None:
    for fields, known in (({"kind": "dance"}, gold), ({}, gold), ({"kind": "gold", "dimension": "words"}, None)):
        with pytest.raises(DataError, match="eval rows need a kind of"):
            grade(asked(**fields), "text", known)


def test_evals_are_graded_on_their_own_answer_and_right_answers_are_given_greedily(evaluated: Callable[..., Path], home: Path) -> None:
    hot = Sampling(temperature=3.0, max_tokens=8)
    runs = [evaluated(f"run{seed}", seed, evals=(str(home / "evals.jsonl"),), gold=GOLD, sampling=hot) for seed in (1, 2)]
    first, second = (rows_of(run, "evals.jsonl") for run in runs)
    assert [row["id"] for row in first] == [f"e{k}" for k in range(6)]
    for row in first:
        assert row["grade"] == grade(Prompt(row["id"], (Message("text", row["prompt"]),), fields=row["fields"]), row["text"], gold)
    same = {a["fields"]["kind"] for a, b in zip(first, second, strict=True) if a["text"] == b["text"]}
    assert "answer" in same
    assert all(a["text"] == b["text"] for a, b in zip(first, second, strict=True) if a["fields"]["kind"] == "answer")
    assert any(a["text"] != b["text"] for a, b in zip(first, second, strict=True))
    for name, at in (("facts", 0), ("odd", 1)):
        found = summary_of(runs[0])["evals"][name]
        assert (found["mean"], found["n"]) == (pytest.approx(sum(row["grade"] for row in first[at::2]) / 3), 3)
    assert first[5]["grade"] == 7.0
