"""Cases about models: adapters, exports, scorers, and what a sequence's neighbours may change. They read shared inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from palate.cli import main
from palate.core import Completion, Sampling
from palate.data.formats import read_prompts
from palate.data.jsonl import read_rows
from palate.models import attention
from palate.models.load import as_policy, built, load_policy, without_dropout
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward
from palate.samplers.local import LocalSampler
from palate.testing import tiny_config, tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree, pack
from tests.support.case_models import CASES, case_models
from tests.support.repository import ROOT

SHARED = ROOT.parent / "shared"
STORIES = str(SHARED / "data" / "models" / "stories260K-hf")
WORDS = "the cook has rice and beans but no salt so what can we make for two guests today please"

pytestmark = [
    pytest.mark.skipif(not CASES.is_dir(), reason="the folder of shared cases is absent"),
    pytest.mark.filterwarnings("ignore::palate.models.paths.PaddedPathWarning"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the cases."""
    return case_models(tmp_path_factory.mktemp("models"), "chatml", "no_pad", "longrope", "hybrid", "conv", "composite")


def data(name: str) -> str:
    return str(CASES / "data" / name)


def palate(*words: Any) -> int:
    return main([str(word) for word in words])


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)]


@pytest.fixture(scope="module")
def kept_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model is kept as an adapter."""
    run = tmp_path_factory.mktemp("kept") / "R1"
    words = ("--adapters", "lora", "--adapters.merge", "false", "--optimizer.lr", "1e-2", "--epochs", 2, "--out", run)
    assert palate("sft", "--model", STORIES, "--data", data("cats.jsonl"), *words) == 0
    return run


def same_everywhere(adapter: Path) -> bool:
    """Whether Palate, peft and transformers read the same model from an adapter's directory."""
    ids = torch.tensor([AutoTokenizer.from_pretrained(STORIES)("Once upon a time there was a dog").input_ids])
    tree = Tree(tuple(ids[0, :1].tolist()), (Branch(tuple(ids[0, 1:].tolist()), (True,) * (ids.shape[1] - 1)),))
    with torch.no_grad():
        ours = load_policy(adapter).logps(pack([tree])).logps
        logits = [load.from_pretrained(adapter).eval()(ids).logits for load in (AutoPeftModelForCausalLM, AutoModelForCausalLM)]
    theirs = [one[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0] for one in logits]
    return all(torch.allclose(ours, one, atol=1e-4, rtol=1e-4) for one in theirs)


def test_an_adapter_on_an_adapter_is_read_by_others_as_it_is(kept_adapter: Path, tmp_path: Path) -> None:
    assert same_everywhere(kept_adapter / "adapter")
    words = ("--data", data("dogs.jsonl"), "--adapters", "lora", "--optimizer.lr", "1e-2", "--epochs", 1)
    assert palate("sft", "--model", kept_adapter, *words, "--adapters.merge", "false", "--out", tmp_path / "R2") == 0
    assert same_everywhere(tmp_path / "R2" / "adapter")
    assert palate("sft", "--model", kept_adapter, *words, "--out", tmp_path / "R3") == 0
    assert (tmp_path / "R3" / "model").is_dir()
    assert not (tmp_path / "R3" / "adapter").exists()


def test_the_template_of_an_adapter_counts(kept_adapter: Path, tmp_path: Path, capsys) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for path in (kept_adapter / "adapter").iterdir():
        (adapter / path.name).write_bytes(path.read_bytes())
    base = json.loads((adapter / "base.json").read_text())
    (adapter / "base.json").write_text(json.dumps({**base, "base": STORIES}))
    own = AutoTokenizer.from_pretrained(adapter)
    own.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}[assistant]"
    own.save_pretrained(adapter)
    assert load_policy(adapter).tokenizer.chat_template == own.chat_template
    assert palate("inspect", data("yes.jsonl"), "--model", adapter) == 0
    assert "[user]" in capsys.readouterr().out


def test_exports_of_reward_models_score_alike_in_transformers(made: Path, tmp_path: Path) -> None:
    for name in ("no_pad", "composite"):
        words = ("--preferences", data("pairs.jsonl"), "--held_out_share", "0.2", "--out", tmp_path / name)
        assert palate("reward", "--model", made / name, *words) == 0
        ours = load_scalar(tmp_path / name / "model")
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / name / "model").eval()
        for text in ("yes yes 1", "no"):
            ids = ours.tokenizer.apply_chat_template(
                [{"role": "user", "content": "Question 1?"}, {"role": "assistant", "content": text}], return_dict=False
            )[:-1]  # without the line break after the end of the turn
            assert ids[-1] == ours.tokenizer.eos_token_id
            tree = Tree(tuple(ids[:4]), (Branch(tuple(ids[4:]), (True,) * (len(ids) - 4)),))
            with torch.no_grad():
                torch.testing.assert_close(ours.scores(pack([tree]))[0], plain(torch.tensor([ids])).logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["chatml", "longrope"])
def test_long_neighbours_change_nothing(name: str, made: Path) -> None:
    policy, plain = load_policy(made / name), AutoModelForCausalLM.from_pretrained(made / name, dtype=torch.float32).eval()
    draw = torch.Generator().manual_seed(1)

    def tree(prompt: int, *branches: int) -> Tree:
        ids = [tuple(torch.randint(0, 250, (n,), generator=draw).tolist()) for n in (prompt, *branches)]
        return Tree(ids[0], tuple(Branch(branch, (True,) * len(branch)) for branch in ids[1:]))

    short, long = tree(5, 4, 7), tree(20, 60)
    with torch.no_grad():
        theirs = []
        for branch in short.branches:
            logps = plain(torch.tensor([short.trunk + branch.ids])).logits[0, 4:-1].log_softmax(-1)
            theirs.append(logps.gather(1, torch.tensor(branch.ids)[:, None])[:, 0])
        expected = torch.cat(theirs)
        torch.testing.assert_close(policy.logps(pack([short])).logps, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(policy.logps(pack([short, long])).logps[: len(expected)], expected, atol=1e-4, rtol=1e-4)
        prompt = tree(6, 1).trunk
        (group,) = LocalSampler(policy).sample([prompt], 2, Sampling(max_tokens=40), 3)
        learner = policy.logps(pack([Tree(prompt, tuple(Branch(s.ids, (True,) * len(s.ids)) for s in group))])).logps
    torch.testing.assert_close(learner, torch.tensor([x for s in group for x in s.logps]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["hybrid", "conv"])
def test_hybrid_models_are_sampled(name: str, made: Path, tmp_path: Path) -> None:
    words = ("--samples_per_prompt", 2, "--sampling.max_tokens", 8, "--sampling.temperature", 0, "--out", tmp_path / "R")
    assert palate("sample", "--model", made / name, "--prompts", data("two_prompts.jsonl"), *words) == 0
    assert len(rows(tmp_path / "R" / "samples.jsonl")) == 2
    policy, plain = load_policy(made / name), AutoModelForCausalLM.from_pretrained(made / name).eval()
    prompt = (60, 70, 80, 90)
    ((sample,),) = LocalSampler(policy).sample([prompt], 1, Sampling(temperature=0, max_tokens=8), 0)
    found = plain.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=sorted(policy.end_ids))
    assert list(sample.ids) == found[0, 4:].tolist()


def test_one_prompt_with_many_pairs_takes_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    states = attention._states
    monkeypatch.setattr(attention, "_states", lambda module, batch: sizes.append(len(batch.input_ids)) or states(module, batch))
    words = ("--preferences", data("one_prompt.jsonl"), "--tokens_per_microbatch", 1024, "--limit", 120, "--out", tmp_path / "R")
    assert palate("direct", "--model", STORIES, *words) == 0
    assert max(sizes) <= 2048
    assert json.loads((tmp_path / "R" / "summary.json").read_text())["pairs"] == 120


def test_few_steps_are_warned_of(tmp_path: Path, capsys) -> None:
    words = ("--preferences", data("one_prompt.jsonl"), "--tokens_per_microbatch", 4096, "--prompts_per_step", 4, "--limit", 40)
    assert palate("direct", "--model", STORIES, *words, "--out", tmp_path / "R") == 0
    assert "1 prompts hold 40 judgments" in capsys.readouterr().err


def test_held_out_judgments_of_another_dimension_stop_before_training(made: Path, tmp_path: Path, capsys) -> None:
    words = ("--preferences", data("pairs.jsonl"), "--held_out", data("other_dimension.jsonl"), "--out", tmp_path / "R")
    assert palate("reward", "--model", made / "chatml", *words) == 3
    error = capsys.readouterr().err
    assert "helpful" in error
    assert "overall" in error
    assert not (tmp_path / "R" / "metrics.jsonl").exists()


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, prompts, and reward models of another vocabulary and of a short context."""
    folder = tmp_path_factory.mktemp("kitchen")
    words = WORDS.split()
    tiny_policy("llama", word_tokenizer(words)).save(folder / "pol")
    scalar_from(tiny_policy("llama", word_tokenizer(words[::-1]), seed=3), ("score",), seed=5).save(folder / "rm")
    asked = [f"the cook has {one} and {two}" for one in ("rice", "beans", "salt") for two in ("rice", "no beans", "so salt today please")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))
    return folder


def test_a_reward_model_of_another_vocabulary_reads_texts(kitchen: Path, tmp_path: Path) -> None:
    words = ("--model", kitchen / "pol", "--reward", kitchen / "rm", "--prompts", kitchen / "prompts.jsonl", "--sampling.max_tokens", 8)
    assert palate("rerank", *words, "--n", 2, "--out", tmp_path / "rerank") == 0
    assert palate("evaluate", *words, "--out", tmp_path / "evaluate") == 0
    reward = LearnedReward.load(str(kitchen / "rm"))
    prompts = {prompt.id: prompt for prompt in read_prompts(kitchen / "prompts.jsonl").rows}
    for row in rows(tmp_path / "evaluate" / "completions.jsonl"):
        ((score,),) = reward.score([prompts[row["id"]]], [[Completion(row["text"], stop=row["stop"])]])["score"]
        assert row["score"] == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_reward_model_of_a_short_context_scores_nothing_it_cannot_take(family: str, kitchen: Path, tmp_path: Path, capsys) -> None:
    tokenizer = word_tokenizer(WORDS.split())
    config = without_dropout(tiny_config(family, tokenizer))
    setattr(config, "n_positions" if family == "gpt2" else "max_position_embeddings", 20)
    scalar_from(as_policy(built(AutoModelForCausalLM.from_config, config, 1), tokenizer), ("score",), seed=2).save(tmp_path / "rm")
    words = ("--model", kitchen / "pol", "--reward", tmp_path / "rm", "--prompts", kitchen / "prompts.jsonl", "--sampling.max_tokens", 30)
    for stage, more in (("rerank", ("--n", 4)), ("evaluate", ())):
        assert palate(stage, *words, *more, "--out", tmp_path / stage) == 3
        assert "too long for the reward model" in capsys.readouterr().err


def test_lora_on_embeddings_is_kept_and_read_again(kitchen: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": "the cook has rice", "completion": " and beans so rice"} for _ in range(8)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    words = ("--adapters", "lora", "--adapters.target_modules", "q_proj", "embed_tokens", "--optimizer.lr", 0.02, "--out", tmp_path / "R")
    assert palate("sft", "--model", kitchen / "pol", "--data", tmp_path / "d.jsonl", *words) == 0
    assert (tmp_path / "R" / "model").is_dir()
