"""Stage `evaluate` with published evals and options: likelihoods are those of plain Hugging Face code, and all six run end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.core import DataError, Message, Prompt, Sampling
from palate.data.jsonl import write_rows
from palate.evaluation.option_likelihood import OptionScores, branch_scores, choice_grade, option_scores
from palate.models.load import load_policy
from palate.stages.evaluate import Evaluate
from palate.testing import tiny_policy
from palate.testing.synthetic_votes import shared_data
from palate.text.pack import Branch, Tree
from tests.support.stages import dropped_of, ran, rows_of, summary_of

STORIES = "models/stories260K-hf"
SAMPLING = Sampling(max_tokens=12)


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[..., Path]:
    """Runs the stage on two prompts and the given evals."""
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "the cook has salt"}, {"prompt": "the cook"}])

    def run(model: Path | str, *evals: Path | str, name: str = "run", **settings: Any) -> Path:
        files = tuple(map(str, evals))
        stage = Evaluate(str(tmp_path / "prompts.jsonl"), model=str(model), evals=files, sampling=SAMPLING, **settings)
        return ran(stage, tmp_path / name, "evaluate")

    return run


def plain_logp(policy: Any, start: list[int], ids: list[int]) -> float:
    """The log-probability of ids after a start, by the model's own forward."""
    module = policy.module
    module.set_attn_implementation("sdpa")
    with torch.no_grad():
        logps = module(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)[len(start) - 1 : -1]
    return float(logps.gather(-1, torch.tensor(ids)[:, None]).sum())


def choice(k: int, text: str, options: list[str], **fields: Any) -> Prompt:
    return Prompt(f"q{k}", (Message("text", text),), {"options": options, "answer": options[0], **fields}, "")


QUESTIONS = [
    choice(0, "the cook has", [" rice", " salt and rice", " no salt"]),
    choice(1, "the cook has rice and salt and", [" rice", " salt"]),
    choice(2, "", ["the cook has rice", "no rice please"]),
    choice(3, "the cook has", [" salt and rice", " oil"]),
]


def test_scores_are_those_of_plain_code_whatever_the_batch_and_the_order() -> None:
    policy = tiny_policy(seed=0)
    found = option_scores(policy, QUESTIONS, 16_384)
    for tokens in (1, 9, 40):
        for scores, again in zip(found, option_scores(policy, QUESTIONS[::-1], tokens)[::-1], strict=True):
            assert scores is not None
            assert again is not None
            assert again.logps == pytest.approx(scores.logps, abs=1e-4)
            assert again.tokens == scores.tokens
    tokenizer = policy.tokenizer
    for prompt, scores in zip(QUESTIONS, found, strict=True):
        assert scores is not None
        for option, logp, count in zip(list(prompt.fields["options"]), scores.logps, scores.tokens, strict=True):  # type: ignore[call-overload]
            whole = tokenizer(prompt.text + option).input_ids
            start = tokenizer(prompt.text).input_ids if prompt.text else whole[:1]
            if not prompt.text and tokenizer(option, add_special_tokens=False).input_ids == whole:
                start, whole = [tokenizer.eos_token_id], [tokenizer.eos_token_id, *whole]
            assert whole[: len(start)] == start
            assert count == len(whole) - len(start)
            assert logp == pytest.approx(plain_logp(policy, start, whole[len(start) :]), abs=1e-3)


def test_branches_are_summed_over_their_learned_tokens_alone() -> None:
    policy = tiny_policy(seed=0)
    whole = Tree((4, 5), (Branch((6, 7, 8), (True, True, True)),))
    part = Tree((4, 5), (Branch((6, 7, 8), (False, True, True)), Branch((6,), (True,))))
    both, alone = branch_scores(policy, [part, whole], 99)
    assert (both.tokens, alone.tokens) == ((2, 1), (3,))
    assert sum(both.logps) == pytest.approx(alone.logps[0], abs=1e-4)


def test_a_choice_is_graded_by_the_likeliest_option_or_by_the_mass() -> None:
    scores = OptionScores((-4.0, -3.0, -9.0), (4, 1, 1))
    options = ["a", "b", "c"]
    assert choice_grade(choice(0, "x", options), scores) == 0.0
    assert choice_grade(choice(0, "x", options), scores, per_token=True) == 1.0
    mass = choice_grade(Prompt("q", QUESTIONS[0].conversation, {"options": options, "answer": ["a", "b"], "grade_by": "mass"}), scores)
    assert mass == pytest.approx(1 - 1 / (1 + 2.718281828**5 + 2.718281828**6), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": [" a", ""]}, "two or more different texts that are not empty"),
        ({"options": [" a", " a"]}, "two or more different"),
        ({"options": [" a"]}, "two or more different"),
        ({"answer": " z"}, "the option that is right"),
        ({"answer": None}, "the option that is right"),
        ({"answer": [" a", " b"]}, "every option is right"),
        ({"grade_by": "luck"}, "known are best and mass"),
        ({"kind": "dance"}, "eval rows need a kind of"),
        ({"eval": ""}, "the name of their eval"),
    ],
)
def test_a_wrong_row_of_ones_own_is_refused_before_the_model_answers(
    evaluated: Callable[..., Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    tiny_policy(seed=0).save(tmp_path / "policy")
    good = {"eval": "mine", "kind": "choice", "prompt": "the cook has", "options": [" a", " b"], "answer": " a"}
    write_rows(tmp_path / "evals.jsonl", [good, {**good, **change}])
    with pytest.raises(DataError, match=message):
        evaluated(tmp_path / "policy", tmp_path / "evals.jsonl")


def test_own_rows_of_several_files_stand_in_order_and_have_their_own_answers(evaluated: Callable[..., Path], tmp_path: Path) -> None:
    tiny_policy(seed=0).save(tmp_path / "policy")
    row = {"eval": "mine", "kind": "choice", "prompt": "the cook has", "options": [" rice", " salt"]}
    for name, answer in (("a", " rice"), ("b", " salt")):
        write_rows(tmp_path / f"{name}.jsonl", [{"id": "same", **row, "answer": answer}, {"eval": "n", "kind": "comply", "prompt": "salt"}])
    run = evaluated(tmp_path / "policy", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    rows = rows_of(run, "evals.jsonl")
    assert [row["eval"] for row in rows] == ["mine", "n", "mine", "n"]
    assert rows[0]["grade"] == 1 - rows[2]["grade"]
    assert rows[0]["logps"] == rows[2]["logps"]
    assert rows[0]["text"] == rows[2]["text"] == row["options"][rows[0]["logps"].index(max(rows[0]["logps"]))]  # type: ignore[index]
    assert rows[1]["tokens"] == len(rows[1]["text"].split()) or rows[1]["tokens"] > 0
    assert summary_of(run)["evals"]["mine"]["mean"] == 0.5
    assert "published" not in summary_of(run)


def test_all_published_evals_run_end_to_end(evaluated: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    names = (
        "bbq/Age.jsonl.gz", "crows-pairs/crows_pairs_anonymized.csv", "xstest/xstest_prompts.csv", "truthfulqa/mc_task.json",
        "gsm8k/test.jsonl", "winobias/pro_type1.dev.txt", "winobias/anti_type1.dev.txt",
    )  # fmt: skip
    run = evaluated(shared_data(STORIES), *map(shared_data, names), evals_limit=8)
    rows, published = rows_of(run, "evals.jsonl"), summary_of(run)["published"]
    assert set(published) == {"bbq", "crows_pairs", "xstest", "truthfulqa", "gsm8k", "winobias"}
    assert published["winobias"]["difference"]["n"] == 8
    assert published["gsm8k"]["strict"]["n"] == published["crows_pairs"]["stereotyping"]["n"] == 8
    assert len(rows) + sum(dropped_of(run).get("eval questions with options", {}).values()) == 64
    policy = load_policy(shared_data(STORIES))
    more = 0
    pairs = [row for row in rows if row["eval"] == "crows_pairs"]
    for row in pairs:
        logps = [plain_logp(policy, ids[:1], ids[1:]) for ids in (policy.tokenizer(text).input_ids for text in row["fields"]["options"])]
        assert row["logps"] == pytest.approx(logps, abs=2e-3)
        more += logps[0] > logps[1]
    assert published["crows_pairs"]["stereotyping"]["mean"] == more / 8
    truth = [row for row in rows if row["eval"] == "truthfulqa_mc1"]
    right = 0
    for row in truth:
        start = policy.tokenizer(row["prompt"]).input_ids
        wholes = [policy.tokenizer(row["prompt"] + option).input_ids for option in row["fields"]["options"]]
        logps = [plain_logp(policy, whole[:1], whole[1:]) for whole in wholes]  # what they share cancels
        right += row["fields"]["options"][logps.index(max(logps))] in row["fields"]["answer"]
        assert start[: len(start) - 1] == wholes[0][: len(start) - 1]
    assert published["truthfulqa"]["mc1"]["mean"] == right / len(truth)


def test_a_question_that_is_too_long_is_left_out_and_counted(evaluated: Callable[..., Path], tmp_path: Path) -> None:
    long = {"question": "long " * 600, "mc1_targets": {"A": 1, "B": 0}, "mc2_targets": {"A": 1, "B": 0}}
    (tmp_path / "mc_task.json").write_text(json.dumps([long, {**long, "question": "Why?"}]))
    run = evaluated(shared_data(STORIES), tmp_path / "mc_task.json")
    assert summary_of(run)["published"]["truthfulqa"]["mc1"]["n"] == 1
    assert sum(dropped_of(run)["eval questions with options"].values()) == 2
    (tmp_path / "mc_task.json").write_text(json.dumps([long]))
    with pytest.raises(DataError, match="takes none of the 2 questions"):
        evaluated(shared_data(STORIES), tmp_path / "mc_task.json", name="none")


def test_instructions_are_checked_and_those_without_a_check_are_named_and_missing(evaluated: Callable[..., Path], tmp_path: Path) -> None:
    tiny_policy(seed=0).save(tmp_path / "policy")
    no_comma, french = ("punctuation:no_comma", {}), ("language:response_language", {"language": "fr"})
    many = ("length_constraints:number_words", {"num_words": 99, "relation": "at least"})
    given = [[no_comma], [no_comma, many], [no_comma, french], [french]]
    rows = [
        {"key": k, "prompt": "the cook has", "instruction_id_list": [name for name, _ in one], "kwargs": [args for _, args in one]}
        for k, one in enumerate(given)
    ]
    write_rows(tmp_path / "input_data.jsonl", rows)
    run = evaluated(tmp_path / "policy", tmp_path / "input_data.jsonl")
    answered = rows_of(run, "evals.jsonl")
    assert [row["eval"] for row in answered] == ["ifeval", "ifeval", "ifeval_partly"]
    text = str(answered[0]["text"])
    assert {str(row["text"]) for row in answered} == {text}
    follows = bool(text.strip()) and "," not in text
    assert [row["followed"] for row in answered] == [[follows], [follows, False], [follows, None]]
    assert [row["grade"] for row in answered] == [float(follows), 0.0, float(follows)]
    assert summary_of(run)["published"]["ifeval"]["prompt_strict"] == {**summary_of(run)["published"]["ifeval"]["prompt_strict"], "n": 2}
    assert dropped_of(run)["instructions without a check"] == {"language:response_language": 2}
