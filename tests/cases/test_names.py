"""Cases of lost names and lost tokens that real users met, in the folder `shared/cases` beside the repository: each comes out right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.core import Message
from palate.data.formats import read_preferences
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.testing import byte_tokenizer, tiny_policy, word_tokenizer
from palate.text.spans import preference_tree, prompt_ids, split_ids
from tests.support.repository import ROOT
from tests.unit.text.conftest import CHATML, bpe

SHARED = ROOT.parent / "shared"
CASES = SHARED / "cases"
STORIES = SHARED / "data" / "models" / "stories260K-hf"
COOK = [f"the cook has {one} and {other}" for one in ("rice", "beans", "salt") for other in ("rice", "no beans", "so salt today please")]
ONLINE = ("--samples_per_prompt", 4, "--minibatches", 1, "--sampling.max_tokens", 8, "--method.advantage", "leave_one_out")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not CASES.is_dir() or not STORIES.is_dir():
        pytest.skip("the folder shared/ is not here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def palate(*words: object, code: int = 0) -> None:
    assert main([str(word) for word in words]) == code


def write(name: str, *rows: dict[str, Any]) -> Path:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(name)


def rows(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def sample(model: object, prompts: object, out: str, *words: object) -> list[dict[str, Any]]:
    palate("sample", "--model", model, "--prompts", prompts, "--sampling.max_tokens", 8, "--out", out, *words)
    return rows(f"{out}/samples.jsonl")


def cook(*more: dict[str, Any]) -> Path:
    return write("prompts.jsonl", *({"prompt": text, **extra} for text in COOK for extra in more or ({},)))


def test_columns_of_a_chat_do_not_replace_what_was_sampled_from() -> None:
    case = CASES / "train" / "data" / "prompt_and_messages.jsonl"
    tiny_policy("llama", bpe(chat_template=CHATML, eos="<|im_end|>")).save("chatml")
    (row,) = sample("chatml", case, "s", "--samples_per_prompt", 1)
    (given,) = rows(case)
    assert row["prompt"] == given["messages"][:-1]
    assert row["fields"] == {"prompt": given["prompt"], "prompt_id": given["prompt_id"]}


def test_columns_named_as_arguments_of_a_gold_function_do_not_stop_it() -> None:
    case = CASES / "train" / "data" / "prompt_and_messages.jsonl"
    tiny_policy("llama", bpe(chat_template=CHATML, eos="<|im_end|>")).save("chatml")
    Path("asked.py").write_text("def gold(prompt, completion, fields):\n    return {'first': float(prompt != fields['prompt'])}\n")
    palate("evaluate", "--model", "chatml", "--prompts", case, "--gold", "asked:gold", "--sampling.max_tokens", 4, "--out", "e")
    (row,) = rows("e/completions.jsonl")
    assert row["dimensions"] == {"first": 1.0}


def test_a_plain_prompt_and_its_completion_are_the_tokens_that_were_sampled() -> None:
    case = CASES / "train" / "data" / "plain_prompts.jsonl"
    first, *_ = sample(STORIES, case, "s", "--samples_per_prompt", 1, "--sampling.temperature", 0)
    assert first["completions"][0]["text"].startswith(" little girl")
    tokenizer = load_policy(str(STORIES)).tokenizer
    for row in sample(STORIES, case, "t", "--samples_per_prompt", 4, "--sampling.temperature", 0.7):
        prompt = (Message("text", row["prompt"]),)
        for completion in row["completions"]:
            trunk, (branch,) = split_ids(tokenizer, prompt, [completion["text"]])
            assert (trunk + branch)[: len(trunk) + completion["tokens"]] == (*prompt_ids(tokenizer, prompt), *completion["ids"])


def test_samples_given_as_prompts_are_sampled_again() -> None:
    write("p.jsonl", {"prompt": "Once upon a time, there was a"}, {"prompt": "Lily and Tom went to the"})
    sample(STORIES, "p.jsonl", "a", "--samples_per_prompt", 2, "--seed", 0)
    again = sample(STORIES, "a/samples.jsonl", "b", "--samples_per_prompt", 3, "--seed", 1)
    assert [len(row["completions"]) for row in again] == [3, 3]
    assert not any("fields" in row for row in again)


def test_prompts_of_one_text_with_other_columns_are_other_prompts() -> None:
    tiny_policy("qwen3").save("pol")
    cook({"answer": "yes"}, {"answer": "no"})
    Path("both_answers.py").write_text(
        "def f(prompt, completion, answer):\n    open('seen.txt', 'a').write(answer + '\\n')\n    return len(completion) / 10\n"
    )
    reward = ("--rewards.x", "function", "--rewards.x.function", "both_answers:f")
    palate(
        "online",
        "--model",
        "pol",
        "--prompts",
        "prompts.jsonl",
        *reward,
        "--iterations",
        1,
        "--prompts_per_iteration",
        18,
        *ONLINE,
        "--out",
        "o",
    )
    assert set(Path("seen.txt").read_text().split()) == {"yes", "no"}


def test_a_side_that_was_cut_is_not_learned_with_an_end() -> None:
    policy = tiny_policy("qwen3")
    policy.save("pol")
    scalar_from(tiny_policy("qwen3", seed=3), ("score",), seed=5).save("rm")
    made = {tuple(one["ids"]): one["stop"] for row in sample("pol", cook(), "s", "--samples_per_prompt", 8) for one in row["completions"]}
    palate("pair", "--samples", "s", "--reward", "rm", "--out", "pr")
    cut = 0
    for pair in read_preferences("pr/preferences.jsonl").rows:
        sides = pair.chosen, pair.rejected
        tree = preference_tree(policy.tokenizer, pair.prompt.conversation, sides, 9999)
        for side, branch in zip(sides, tree.branches, strict=True):
            assert branch.ids == side.ids
            assert made[side.ids] == side.stop
            assert (branch.ids[-1] == policy.tokenizer.eos_token_id) == (side.stop == "eos")
            cut += side.is_cut
    assert cut


@pytest.mark.parametrize("row", [{"completions": [{"text": " a"}]}, {"completion": " a"}, {"completions": [" a", " b"]}])
def test_completions_made_elsewhere_are_measured_and_paired(row: dict[str, Any]) -> None:
    write("p.jsonl", {"prompt": "Once"})
    write("f.jsonl", {"prompt": "Once", **row})
    palate("evaluate", "--completions", "f.jsonl", "--prompts", "p.jsonl", "--out", "o")
    assert [(one["text"], one["stop"]) for one in rows("o/completions.jsonl")] == [(" a", "unknown")]
    assert "eos" not in json.loads(Path("o/summary.json").read_text())["means"]
    scalar_from(tiny_policy("qwen3", byte_tokenizer()), ("score",), seed=5).save("rm")
    palate("pair", "--samples", "f.jsonl", "--reward", "rm", "--out", "pr", code=0 if len(row.get("completions", ())) > 1 else 3)


def test_a_function_sees_the_special_tokens_that_were_sampled() -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<answer>", "</answer>"]})
    tiny_policy("qwen3", tokenizer).save("pol")
    Path("tags.py").write_text(
        "def f(prompts, completions):\n    open('n.txt', 'a').write(str(sum('answer>' in c for c in completions)) + '\\n')\n"
        "    return [len(c) / 10 for c in completions]\n"
    )
    reward = ("--rewards.x", "function", "--rewards.x.function", "tags:f", "--rewards.x.batched", "true")
    words = ("--iterations", 1, "--prompts_per_iteration", 9, "--samples_per_prompt", 32, *ONLINE[2:])
    palate("online", "--model", "pol", "--prompts", cook(), *reward, *words, "--out", "o")
    assert int(Path("n.txt").read_text().split()[0]) > 0
