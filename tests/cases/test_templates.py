"""The shared cases about ends and chat templates, on their own inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from palate.cli import main
from palate.core import Completion, Message, Prompt
from palate.models.load import load_policy
from palate.rewards.learned import LearnedReward
from palate.text.spans import prompt_ids
from palate.text.tokens import tokenizer_digest
from tests.support.case_models import CASES, case_models
from tests.support.completion_ids import completion_ids

if not CASES.is_dir():
    pytest.skip("the folder of shared cases is not there", allow_module_level=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models of these cases, made by the script of the folder."""
    return case_models(
        tmp_path_factory.mktemp("models"), "chatml", "endless", "forgetful", "parts", "two_ends", "dated", "base", "no_template"
    )


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def inspected(capsys: pytest.CaptureFixture[str], data: str, model: Path) -> str:
    main(["inspect", str(CASES / "data" / f"{data}.jsonl"), "--model", str(model)])
    return "".join(capsys.readouterr())


def trained(model: Path, stage: str, *words: str) -> Path:
    assert main([stage, "--model", str(model), "--out", "R", *words]) == 0
    return Path("R")


@pytest.mark.parametrize(
    ("model", "learned"),
    [
        ("endless", ("\n<think>I add them.</think>\nFour.<|user|>", "\n<think>Four and one.</think>\nFive.<|user|>")),
        ("forgetful", ("<think>\nI add them.\n</think>\n\nFour.<|im_end|>", "<think>\nFour and one.\n</think>\n\nFive.<|im_end|>")),
        ("parts", ("<think>\nI add them.\n</think>\n\nFour.<|end|>", "<think>\nFour and one.\n</think>\n\nFive.<|end|>")),
    ],
)
def test_both_answers_are_learned_whole_with_their_ends(
    models: Path, model: str, learned: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    out = inspected(capsys, "think_turns", models / model)
    assert all(f"«{text}»" in out for text in learned)
    assert ("note: 1 x the chat template rewrites earlier answers" in out) == (model != "parts")


def test_thoughts_that_the_template_does_not_write_are_a_reason(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 x the chat template does not write `reasoning_content`" in inspected(capsys, "reasoning_key", models / "chatml")


def test_a_turn_of_weight_zero_is_read_and_not_learned(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = inspected(capsys, "weight_zero", models / "chatml")
    assert "completion: «GOOD<|im_end|>»" in out
    assert "BAD<|im_end|>" in out


def test_an_end_token_in_an_answer_is_a_reason(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 x a text holds a token of the chat template" in inspected(capsys, "end_token_in_answer", models / "chatml")


def test_an_export_names_the_end_of_the_template(models: Path) -> None:
    run = trained(models / "base", "sft", "--data", str(CASES / "data" / "yes.jsonl"), "--limit", "2")
    ends = GenerationConfig.from_pretrained(run / "model").eos_token_id
    names = AutoTokenizer.from_pretrained(run / "model").convert_ids_to_tokens(ends)
    assert set(names) == {"<|im_end|>", "<|endoftext|>"}


def test_an_export_has_the_template_that_was_used(models: Path) -> None:
    run = trained(models / "no_template", "sft", "--data", str(CASES / "data" / "yes.jsonl"), "--limit", "2")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Is soup hot?"}], add_generation_prompt=True, return_dict=False)
    original = load_policy(models / "no_template").tokenizer
    assert original.chat_template is None
    assert tuple(ids) == prompt_ids(original, (Message("user", "Is soup hot?"),))


def test_a_reward_model_reads_the_score_where_samples_end(models: Path) -> None:
    run = trained(models / "two_ends", "reward", "--preferences", str(CASES / "data" / "pairs.jsonl"), "--held_out_share", "0.2")
    policy = load_policy(models / "two_ends")
    scorer = LearnedReward.load(str(run / "model"), policy.tokenizer)
    prompt = Prompt("x", (Message("user", "Question 77?"),))
    ids = completion_ids(policy.tokenizer, prompt.conversation, "yes yes 77")
    first = next(at for at, token in enumerate(ids) if token in policy.end_ids)
    sampled = Completion("yes yes 77", ids[: first + 1], stop="eos", tokenizer=tokenizer_digest(policy.tokenizer))
    by_ids, by_text = (scorer.score([prompt], [[c]])["score"][0][0] for c in (sampled, Completion("yes yes 77")))
    assert by_ids == pytest.approx(by_text, abs=1e-5)


def test_the_date_is_fixed_and_recorded(models: Path) -> None:
    run = trained(models / "dated", "sft", "--data", str(CASES / "data" / "yes.jsonl"), "--limit", "2")
    ((note,),) = json.loads((run / "run.json").read_text())["notes"].values()
    assert "2 x the chat template writes the date" in note
    tokenizer = load_policy(run / "model").tokenizer
    assert "Today is 2025-01-01" in tokenizer.decode(prompt_ids(tokenizer, (Message("user", "a"),)))
    assert "strftime_now" in AutoTokenizer.from_pretrained(run / "model").chat_template
