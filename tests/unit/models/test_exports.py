"""An exported directory writes conversations and stops as Palate does, for every chat template and every kind of export."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from palate.core import Completion, Conversation, Message, Prompt, Sampling
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy, load_tokenizer
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward
from palate.samplers.local import LocalSampler
from palate.testing import TEMPLATES, chat_tokenizer, tiny_policy
from palate.text.ends import end_ids
from palate.text.spans import prompt_ids
from palate.text.tokens import tokenizer_digest
from tests.support.completion_ids import completion_ids

UNTIED = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose output embeddings are not their input embeddings."""

GREEDY = Sampling(temperature=0.0, max_tokens=24)


def that_stops(family: str, template: str, seed: int, conversation: Conversation) -> CausalPolicy:
    """A random policy that answers the conversation with a few tokens and the end of a turn: two rows of its head have changed places."""
    policy = tiny_policy(family, chat_tokenizer(template), seed)
    ends, policy.end_ids = policy.end_ids, frozenset()
    ((free,),) = LocalSampler(policy).sample([prompt_ids(policy.tokenizer, conversation)], 1, GREEDY, 0)
    policy.end_ids = ends
    closing = completion_ids(policy.tokenizer, conversation, "a")[-1]
    last = next(token for at, token in enumerate(free.ids) if (token not in free.ids[:at] and at > 1) or at == len(free.ids) - 1)
    with torch.no_grad():
        head = policy.module.get_output_embeddings().weight
        head[[last, closing]] = head[[closing, last]]
    return policy


def asked(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, parts: bool) -> list[int]:
    """The prompt as a user of plain transformers writes it."""
    turns = [{"role": m.role, "content": [{"type": "text", "text": m.text}] if parts else m.text} for m in conversation]
    ids: list[int] = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    return ids


@given(
    family=st.sampled_from(UNTIED),
    template=st.sampled_from(sorted(TEMPLATES)),
    seed=st.integers(0, 99),
    words=st.lists(st.text("soup? ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=2),
)
@settings(max_examples=25)
def test_plain_transformers_writes_the_same_prompt_and_stops_where_palate_stops(
    family: str, template: str, seed: int, words: list[str]
) -> None:
    conversation: Conversation = (Message("user", words[0]),)
    for text in words[1:]:
        conversation += (Message("assistant", "no"), Message("user", text))
    policy = that_stops(family, template, seed, conversation)
    ids = prompt_ids(policy.tokenizer, conversation)
    ((drawn,),) = LocalSampler(policy).sample([ids], 1, GREEDY, 0)
    with TemporaryDirectory() as folder:
        policy.save(folder)
        plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if template != "dated":  # plain transformers writes today's date
        assert asked(tokenizer, conversation, parts=template == "parts") == list(ids)
    mask = torch.ones(1, len(ids))
    whole = plain.generate(torch.tensor([ids]), attention_mask=mask, max_new_tokens=24, do_sample=False, pad_token_id=256)
    assert tuple(whole[0, len(ids) :].tolist()) == drawn.ids


def test_the_policies_of_the_property_do_stop() -> None:
    conversation = (Message("user", "soup?"),)
    for template in ("closed", "endless", "two ends", "none"):
        policy = that_stops("llama", template, 0, conversation)
        ((drawn,),) = LocalSampler(policy).sample([prompt_ids(policy.tokenizer, conversation)], 1, GREEDY, 0)
        assert drawn.stop == "eos"
        assert 1 < len(drawn.ids) < 24


def _with_further_end(tmp_path: Path) -> CausalPolicy:
    """A policy from a directory whose generation config names an end that neither tokenizer nor template knows."""
    policy = tiny_policy("llama", chat_tokenizer("closed"))
    policy.save(tmp_path / "base")
    file = tmp_path / "base" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": 77, "temperature": 0.5}))
    return load_policy(tmp_path / "base")


def test_ends_of_all_sources_reach_every_export_and_every_part_that_loads_one(tmp_path: Path) -> None:
    policy = _with_further_end(tmp_path)
    tokenizer = policy.tokenizer
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|close|>"), 77}
    assert policy.end_ids == end_ids(tokenizer) == ends
    assert end_ids(load_tokenizer(tmp_path / "base")) == ends
    tokenizer.pad_token = tokenizer.eos_token  # a reward model pads with another token, so it has a copy of the tokenizer
    scalar_from(policy, ("overall",), seed=0).save(tmp_path / "reward")
    assert end_ids(load_scalar(tmp_path / "reward").tokenizer) == ends
    policy.save(tmp_path / "whole")
    written = GenerationConfig.from_pretrained(tmp_path / "whole")
    assert set(written.eos_token_id) == ends
    assert written.temperature == 0.5
    policy.with_adapter(LoRA(rank=2), str(tmp_path / "base"), 0).save(tmp_path / "adapter")
    assert set(GenerationConfig.from_pretrained(tmp_path / "adapter").eos_token_id) == ends
    assert load_policy(tmp_path / "adapter").end_ids == ends
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    assert end_ids(load_tokenizer(tmp_path / "tokenizer")) == ends - {77}


def test_ends_that_config_json_alone_names_are_known_to_the_tokenizer(tmp_path: Path) -> None:
    _with_further_end(tmp_path)
    (tmp_path / "base" / "generation_config.json").unlink()
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": 78}))
    assert end_ids(load_tokenizer(tmp_path / "base")) == load_policy(tmp_path / "base").end_ids
    assert 78 in end_ids(load_tokenizer(tmp_path / "base"))


def test_the_fallback_template_is_exported_and_the_tokenizer_in_memory_stays_as_it_is(tmp_path: Path) -> None:
    policy = tiny_policy("llama", chat_tokenizer("none"))
    policy.save(tmp_path)
    assert policy.tokenizer.chat_template is None
    turns = (Message("user", "soup?"), Message("assistant", "yes"), Message("user", "hot?"))
    assert asked(AutoTokenizer.from_pretrained(tmp_path), turns, parts=False) == list(prompt_ids(policy.tokenizer, turns))


@pytest.mark.parametrize("template", sorted(TEMPLATES.keys() - {"think"}))  # its prompts open thoughts that texts do not have
def test_a_reward_model_scores_a_text_as_the_ids_that_a_policy_ends_with(template: str) -> None:
    tokenizer = chat_tokenizer(template)
    policy = tiny_policy("llama", tokenizer)
    scorer = LearnedReward(scalar_from(policy, ("overall",), seed=0), tokenizer)
    prompt = Prompt("1", (Message("user", "soup?"),))
    ids = completion_ids(tokenizer, prompt.conversation, "yes")
    first = next(at for at, token in enumerate(ids) if token in policy.end_ids)
    sampled = Completion("yes", ids[: first + 1], stop="eos", tokenizer=tokenizer_digest(tokenizer))
    by_ids, by_text = (scorer.score([prompt], [[c]])["score"][0][0] for c in (sampled, Completion("yes")))
    assert by_ids is not None
    assert by_ids == pytest.approx(by_text, abs=1e-6)
