"""Encoders as reward models: scores of plain transformers in any batch, new heads, and one error where a text has to be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from palate.cli import main
from palate.core import Completion, Message, ModelError, Prompt
from palate.data.jsonl import write_rows
from palate.models.adapters import LoRA
from palate.models.heads import head_of
from palate.models.load import load_policy
from palate.models.scalar import load_scalar, scalar_from
from palate.models.shapes import find_shape
from palate.models.written import check_export
from palate.rewards.learned import LearnedReward
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.stages.online.roles import new_value_model
from palate.testing import ENCODERS, pair_tokenizer, random_trees, save_encoder, tiny_policy, word_tokenizer
from palate.text.pack import pack

HEADS = ("helpful", "harmless")
PROMPTS = [
    Prompt(str(k), (Message("user", text),)) for k, text in enumerate(("what can we make", "no salt so what can the cook make today"))
]
GROUPS = [
    [Completion(text) for text in ("rice", "beans and rice for two guests today", "no")],
    [Completion("the cook has beans"), Completion("rice please")],
]


def plain_scores(directory: Path) -> Tensor:
    """The scores (b, h) of all completions by transformers alone, each pair of texts in a pass of its own."""
    tokenizer, module = AutoTokenizer.from_pretrained(directory), AutoModelForSequenceClassification.from_pretrained(directory).eval()
    scores = []
    for prompt, group in zip(PROMPTS, GROUPS, strict=True):
        for completion in group:
            with torch.inference_mode():
                scores.append(module(**tokenizer(prompt.text, completion.text, return_tensors="pt")).logits[0])
    return torch.stack(scores)


@pytest.mark.parametrize("family", ENCODERS)
def test_scores_are_those_of_plain_transformers_in_any_batch(family: str, tmp_path: Path) -> None:
    save_encoder(tmp_path / "plain", family, HEADS)
    reward = LearnedReward.load(str(tmp_path / "plain"))
    expected = plain_scores(tmp_path / "plain")
    assert expected.std() > 1e-3
    together, reasons = reward.table(PROMPTS, GROUPS)
    assert reasons == {}
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)
    alone = [reward.table([p], [[c]])[0] for p, group in zip(PROMPTS, GROUPS, strict=True) for c in group]
    torch.testing.assert_close(torch.cat(alone), expected, rtol=0, atol=1e-5)
    reward.model.save(tmp_path / "saved")
    check_export(reward.model, tmp_path / "saved")
    torch.testing.assert_close(plain_scores(tmp_path / "saved"), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(LearnedReward.load(str(tmp_path / "saved")).table(PROMPTS, GROUPS)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
def test_new_heads_on_a_pretrained_encoder_learn_whole(family: str, tmp_path: Path) -> None:
    save_encoder(tmp_path / "base", family)
    model, again, other = (scalar_from(tmp_path / "base", HEADS, seed=seed) for seed in (3, 3, 4))
    assert (model.heads, model.is_encoder, model.path) == (HEADS, True, "padded")
    batch = pack(random_trees([(3, [4, 2]), (1, [5])], 30))
    assert torch.equal(model.scores(batch), again.scores(batch))
    assert not torch.equal(head_of(model.module).weight, head_of(other.module).weight)
    torch.testing.assert_close(model.states(batch) @ model.head_weights.T, model.scores(batch), rtol=1e-5, atol=1e-5)
    model.scores(batch).sum().backward()
    without = {name for name, p in model.module.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in without if "norm" not in name and "bias" not in name}
    backbone = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base").base_model
    torch.testing.assert_close(model.module.get_input_embeddings().weight, backbone.get_input_embeddings().weight)


def test_roberta_takes_what_is_left_after_its_first_positions(tmp_path: Path) -> None:
    save_encoder(tmp_path / "plain", "roberta", HEADS)
    reward = LearnedReward.load(str(tmp_path / "plain"))
    assert reward.model.max_tokens == 128 - 2  # padding has id 1, and positions begin after it
    marks = 4
    fitting, longer = (Completion(" ".join(["rice"] * count)) for count in (61, 62))  # words and the spaces between them
    prompt = [Prompt("1", (Message("user", "-"),))]
    scores, reasons = reward.table(prompt, [[fitting, longer]])
    assert scores[0].isfinite().all()
    assert reasons == {1: f"too long for the reward model: {1 + 123 + marks} tokens, it takes 126"}


def test_what_needs_a_causal_model_names_the_encoder_and_what_it_can_do(tmp_path: Path) -> None:
    save_encoder(tmp_path / "base")
    base = str(tmp_path / "base")
    with pytest.raises(ModelError, match=r"is an encoder \(bert\): it reads whole texts and cannot continue one"):
        load_policy(base)
    for reads in ({"reads_likelihood": True}, {"reads_mean": True}):
        with pytest.raises(ModelError, match="pools a text in its own way"):
            scalar_from(base, HEADS, seed=0, **reads)
    with pytest.raises(ModelError, match="Leave out adapters"):
        scalar_from(base, HEADS, seed=0).with_adapter(LoRA(rank=2), base, seed=0)
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": "rice", "chosen": "salt", "rejected": "beans"}])
    assert main(["sft", "--model", base, "--data", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "sft")]) != 0


@pytest.mark.parametrize("family", ENCODERS)
def test_the_plan_of_memory_knows_encoders(family: str, tmp_path: Path) -> None:
    save_encoder(tmp_path / "base", family)
    shape = find_shape(str(tmp_path / "base"))
    module = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    assert (shape.layers, shape.hidden_size) == (module.config.num_hidden_layers, 32)
    assert shape.parameters == sum(p.numel() for p in module.parameters())


def test_reward_trains_an_encoder_that_every_consumer_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(tmp_path / "base")
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "policy")
    words = ("rice", "beans", "salt", "guests", "cook", "today", "please", "what", "can", "we", "make", "two")
    pairs = [
        {"prompt": f"the {one} has {other}", "chosen": "rice please", "rejected": "no salt"} for one in words[:6] for other in words[6:]
    ]
    write_rows(tmp_path / "pairs.jsonl", pairs)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in pairs[:4]])
    home = {name: str(tmp_path / name) for name in ("base", "policy", "pairs.jsonl", "prompts.jsonl", "reward", "best", "tuned")}
    learn = ["--epochs", "3", "--prompts_per_step", "4", "--optimizer.lr", "1e-2", "--out", home["reward"]]
    assert main(["reward", "--model", home["base"], "--preferences", home["pairs.jsonl"], *learn]) == 0
    summary = json.loads((tmp_path / "reward" / "summary.json").read_text())
    assert summary["held_out"]["overall"]["accuracy"] == 1.0
    capsys.readouterr()
    assert main(["score", home["reward"], home["pairs.jsonl"]]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["completions"][0]["score"] > first["completions"][1]["score"]
    assert main(["reward-check", home["reward"], home["pairs.jsonl"]]) == 0
    sample = ["--model", home["policy"], "--prompts", home["prompts.jsonl"], "--reward", home["reward"], "--sampling.max_tokens", "6"]
    assert main(["rerank", *sample, "--n", "2", "--out", home["best"]]) == 0
    little = ["--iterations", "1", "--prompts_per_iteration", "4", "--samples_per_prompt", "2", "--reward_requirements.min_accuracy", "0"]
    assert main(["online", *sample, *little, "--out", home["tuned"]]) == 0
    row = json.loads((tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["online/unscored_reward/share"] == 0
    load_scalar(tmp_path / "tuned" / "value")  # it starts from the policy, because an encoder has no state before a token


def test_a_value_model_does_not_start_from_an_encoder(tmp_path: Path) -> None:
    """Not even from one with the policy's vocabulary and context: it has no state before a token."""
    save_encoder(tmp_path / "encoder", "bert", HEADS)
    tokenizer = pair_tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    policy = tiny_policy("qwen3", tokenizer)
    policy.save(tmp_path / "policy")
    rewards = {str(tmp_path / "encoder"): LearnedReward.load(str(tmp_path / "encoder"))}
    run = open_run_at(tmp_path / "run", RunPlan("online", "online"))
    value = new_value_model(run, policy, str(tmp_path / "policy"), rewards, None)
    assert not value.is_encoder
    assert value.values(pack(random_trees([(3, [4, 2])], 30))).shape == (6, 1)
