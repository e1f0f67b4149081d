"""What goes from stage to stage: the user's columns under their own names, and the tokens that were sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, DataError, Message, Prompt, Sampling
from palate.data.formats import read_demonstrations, read_preferences, sample_row
from palate.data.jsonl import write_rows
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.raters.simulated import RaterPool, Simulated
from palate.stages.collect import Collect
from palate.stages.evaluate import Evaluate
from palate.stages.pair import Pair
from palate.stages.rerank import Rerank
from palate.stages.sample import Sample
from palate.testing import tiny_policy, word_tokenizer
from palate.text.spans import NO_LIMIT, demonstration_tree, prompt_ids
from palate.training.comparisons import judged_prompts
from tests.support.stages import dropped_of, ran, rows_of, summary_of

SAMPLING = Sampling(temperature=1.5, max_tokens=24)
SAMPLES = 12
FIELDS = {"prompt": "mine", "completions": 7, "text": "x", "votes": 3, "chosen": "y", "weight": "z", "id": "w", "score": 2, "fields": 1}
"""A column of the user's for every column that some stage writes."""


def longest(prompt: str, completion: str, **columns: Any) -> dict[str, float]:
    """A truth that wants all columns of the user. A column of the name of an argument gives way to it."""
    assert columns == {name: value for name, value in FIELDS.items() if name != "prompt"}
    return {"overall": len(completion) / 50}


def sampled(policy: Path, prompts: Path, out: Path, samples: int, seed: int = 1) -> Path:
    """The run that samples from a policy."""
    return ran(Sample(str(policy), str(prompts), samples_per_prompt=samples, sampling=SAMPLING), out, "sample", seed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with a special token, a reward model, prompts with all these columns, and samples of them."""
    folder = tmp_path_factory.mktemp("home")
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<answer>"]})
    tiny_policy("qwen3", tokenizer).save(folder / "policy")
    scalar_from(str(folder / "policy"), ("overall",), seed=0).save(folder / "reward")
    prompts = [{"id": f"p{k}", "prompt": f"the cook has {k}", "fields": FIELDS} for k in range(6)]
    write_rows(folder / "prompts.jsonl", prompts)
    sampled(folder / "policy", folder / "prompts.jsonl", folder / "samples", SAMPLES)
    return folder


def drawn(home: Path) -> dict[str, list[tuple[int, ...]]]:
    """The ids of the samples, by prompt."""
    return {row["prompt"]: [tuple(one["ids"]) for one in row["completions"]] for row in rows_of(home / "samples", "samples.jsonl")}


def test_a_sample_keeps_the_columns_of_the_user_apart_from_its_own(home: Path) -> None:
    for row in rows_of(home / "samples", "samples.jsonl"):
        assert row["prompt"].startswith("the cook has")
        assert len(row["completions"]) == SAMPLES
        assert row["fields"] == FIELDS
    stops = {one["stop"] for row in rows_of(home / "samples", "samples.jsonl") for one in row["completions"]}
    assert stops == {"eos", "length"}
    assert summary_of(home / "samples")["exact"] <= 1


def test_samples_are_prompts_alone_when_they_are_given_as_prompts(home: Path, tmp_path: Path) -> None:
    again = sampled(home / "policy", home / "samples" / "samples.jsonl", tmp_path, 2, 2)
    rows = rows_of(again, "samples.jsonl")
    assert [len(row["completions"]) for row in rows] == [2] * 6
    assert all(row["fields"] == FIELDS for row in rows)


def test_pairs_have_the_sampled_tokens_and_say_which_side_was_cut(home: Path, tmp_path: Path) -> None:
    run = ran(Pair(str(home / "samples"), str(home / "reward")), tmp_path, "pair")
    preferences = read_preferences(run / "preferences.jsonl").rows
    tokenizer = load_policy(home / "policy").tokenizer
    judged, reasons = judged_prompts(preferences, tokenizer, NO_LIMIT)
    assert len(judged) == len(preferences) > 2
    assert reasons == []
    cut = 0
    for prompt, preference in zip(judged, preferences, strict=True):
        assert preference.prompt.fields == FIELDS
        assert prompt.tree.trunk == prompt_ids(tokenizer, preference.prompt)
        for side, branch in zip((preference.chosen, preference.rejected), prompt.tree.branches, strict=True):
            assert branch.ids == side.ids
            assert side.ids in drawn(home)[preference.prompt.text]
            assert (branch.ids[-1] == tokenizer.eos_token_id) == (side.stop == "eos")
            cut += side.is_cut
    assert cut


def test_collected_preferences_have_the_sampled_tokens_and_the_columns_of_the_user(home: Path, tmp_path: Path) -> None:
    raters = Simulated("tests.unit.stages.test_names_and_tokens:longest", pool=RaterPool(raters=2))
    run = ran(Collect(str(home / "samples"), raters, held_out=0.0), tmp_path, "collect")
    preferences = read_preferences(run / "preferences.jsonl").rows
    assert preferences
    for preference in preferences:
        assert preference.prompt.fields == FIELDS
        assert preference.votes
        assert {preference.chosen.ids, preference.rejected.ids} <= set(drawn(home)[preference.prompt.text])
        assert {preference.chosen.stop, preference.rejected.stop} == {"eos"}


def test_the_best_of_n_is_learned_token_by_token(home: Path, tmp_path: Path) -> None:
    run = ran(Rerank(str(home / "policy"), str(home / "prompts.jsonl"), str(home / "reward"), n=4, sampling=SAMPLING), tmp_path, "rerank")
    kept = {tuple(one["ids"]) for row in rows_of(run, "samples.jsonl") for one in row["completions"] if one["stop"] == "eos"}
    tokenizer = load_policy(home / "policy").tokenizer
    table = read_demonstrations(run / "demonstrations.jsonl")
    assert {branch.ids for row in table.rows for branch in demonstration_tree(tokenizer, row, NO_LIMIT).branches} == kept
    assert [row["fields"] for row in rows_of(run, "demonstrations.jsonl")] == [FIELDS] * len(kept)


def test_prompts_of_one_text_are_one_prompt_only_if_their_columns_agree(home: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "so", "answer": 1}, {"prompt": "no", "answer": 1}, {"prompt": "so", "answer": 2}, {"prompt": "so", "answer": 1}]
    write_rows(tmp_path / "prompts.jsonl", rows)
    pairs = [{"prompt": "so", "chosen": " rice", "rejected": " salt", "annotator": name} for name in ("ann", "bob", "ann")]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    found = {}
    for name in ("prompts", "pairs"):
        run = sampled(home / "policy", tmp_path / f"{name}.jsonl", tmp_path / name, 1)
        asked_of = [(row["prompt"], row["fields"]) for row in rows_of(run, "samples.jsonl")]
        found[name] = asked_of, dropped_of(run)[str(tmp_path / f"{name}.jsonl")]
    different = [("so", {"answer": 1}), ("no", {"answer": 1}), ("so", {"answer": 2})]
    assert found["prompts"] == (different, {"the prompt of an earlier row": 1})
    assert found["pairs"] == (
        [("so", {"annotator": "ann"})],
        {"the prompt of an earlier row": 1, "the prompt of an earlier row, with other columns": 1},
    )


def asked(k: int, **fields: object) -> Prompt:
    return Prompt(f"p{k}", (Message("text", f"the cook has {k}"),), fields)


def test_completions_made_elsewhere_answer_the_prompt_of_their_conversation(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"id": f"p{k}", "prompt": f"the cook has {k}", "worth": k} for k in (0, 1, 2, 1)])
    given = [
        sample_row(asked(2), [Completion("two"), Completion("further")]),
        sample_row(asked(9), [Completion("nine")]),
        {"prompt": "the cook has 1", "completion": "one", "worth": 1},
        {"prompt": "the cook has 1", "completions": []},
    ]
    write_rows(tmp_path / "given.jsonl", given)
    gold = "tests.unit.stages.test_names_and_tokens:worth"
    run = ran(Evaluate(str(tmp_path / "prompts.jsonl"), completions=str(tmp_path / "given.jsonl"), gold=gold), tmp_path / "run", "evaluate")
    rows = rows_of(run, "completions.jsonl")
    assert [(row["id"], row["text"], row["gold"]) for row in rows] == [("p1", "one", 1.0), ("p2", "two", 2.0)]
    assert set(summary_of(run)["means"]) == {"gold", "gold/worth"}  # neither lengths in tokens nor ends are known
    dropped = dropped_of(run)
    assert dropped[str(tmp_path / "given.jsonl")] == {
        "no completion": 1,
        "not the first completion of its prompt": 1,
        "its prompt is not among the prompts": 1,
    }
    assert dropped["prompts"] == {"no completion is given": 1}
    (tmp_path / "given.jsonl").write_text(json.dumps({"prompt": "other", "completion": "x"}))
    with pytest.raises(DataError, match="none of its 1 rows answers a prompt"):
        ran(Evaluate(str(tmp_path / "prompts.jsonl"), completions=str(tmp_path / "given.jsonl")), tmp_path / "none", "evaluate")


def worth(prompt: str, completion: str, /, **fields: Any) -> dict[str, float]:
    """A truth that stands in the row of the prompt."""
    return {"worth": float(fields["worth"])}
