"""The official client works unchanged, and gets what the local sampler draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from palate.core import Message, Prompt, Sampling, derive_seed
from palate.models.causal import CausalPolicy
from palate.samplers import LocalSampler, SampledTokens
from palate.samplers.openai_sampler import OpenAISamplerSettings
from palate.text.spans import prompt_ids
from tests.support.served_model import NAME, ModelServer, model_server

openai = pytest.importorskip("openai")

CHAT = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "what can we make"}]


@pytest.fixture
def client(server: ModelServer) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0) as made:
        yield made


def drawn(policy: CausalPolicy, conversation: tuple[Message, ...], n: int, sampling: Sampling, seed: int) -> list[SampledTokens]:
    """What the local sampler draws for one prompt."""
    return LocalSampler(policy).sample([prompt_ids(policy.tokenizer, conversation)], n, sampling, [seed])[0]


def text_of(policy: CausalPolicy, tokens: SampledTokens, *, is_chat: bool) -> str:
    text: str = policy.tokenizer.decode([token for token in tokens.ids if token not in policy.end_ids], skip_special_tokens=True)
    return text.strip() if is_chat else text


def turns() -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in CHAT)  # type: ignore[arg-type]


def test_models(client: Any) -> None:
    assert [one.id for one in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).owned_by == "palate"
    with pytest.raises(openai.NotFoundError, match="There is no model 'other' here"):
        client.models.retrieve("other")


def test_a_chat_is_what_the_sampler_draws(client: Any, chat_policy: CausalPolicy) -> None:
    found = client.chat.completions.create(model=NAME, messages=CHAT, n=3, seed=11, temperature=0.8, top_p=0.9, max_tokens=12)
    expected = drawn(chat_policy, turns(), 3, Sampling(0.8, 0.9, max_tokens=12), 11)
    assert [choice.message.content for choice in found.choices] == [text_of(chat_policy, one, is_chat=True) for one in expected]
    assert [choice.finish_reason for choice in found.choices] == ["stop" if one.stop == "eos" else "length" for one in expected]
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert found.usage.prompt_tokens == len(prompt_ids(chat_policy.tokenizer, turns()))
    assert found.usage.completion_tokens == sum(len(one.ids) for one in expected)
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found.choices[0].message.role == "assistant"
    assert found.id.startswith("chatcmpl-")


def test_a_stream_says_the_same(client: Any) -> None:
    options = {"model": NAME, "messages": CHAT, "n": 2, "seed": 12, "max_tokens": 15}
    whole = client.chat.completions.create(**options)
    texts, usage = {0: "", 1: ""}, None
    finishes, roles = dict[int, str](), dict[int, str]()
    for part in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        assert part.id.startswith("chatcmpl-")
        usage = part.usage or usage
        for choice in part.choices:
            texts[choice.index] += choice.delta.content or ""
            roles.setdefault(choice.index, choice.delta.role)
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert finishes == {choice.index: choice.finish_reason for choice in whole.choices}
    assert roles == {0: "assistant", 1: "assistant"}
    assert usage == whole.usage


def test_tokens_of_a_moment_share_a_part(chat_policy: CausalPolicy) -> None:
    options = {"model": NAME, "prompt": "so what", "seed": 4, "max_tokens": 20, "logprobs": 1}

    def parts_with(pace: Callable[[], float]) -> list[Any]:
        with model_server(chat_policy, pace=pace) as server, openai.OpenAI(base_url=server.api, api_key="none") as client:
            whole = client.completions.create(**options).choices[0]
            found = [part.choices[0] for part in client.completions.create(**options, stream=True)]
        assert "".join(one.text for one in found) == whole.text
        assert [one.finish_reason for one in found] == [None] * (len(found) - 1) + [whole.finish_reason]
        logps = [logp for one in found if one.logprobs for logp in one.logprobs.token_logprobs]
        assert logps == pytest.approx(whole.logprobs.token_logprobs, abs=1e-5)
        return found

    first, rest, _ = parts_with(lambda: 0.0)
    assert len(first.logprobs.tokens) == 1  # it does not wait
    assert len(rest.logprobs.tokens) > 1
    ages = itertools.count()
    apart = parts_with(lambda: float(next(ages)))
    assert max(len(one.logprobs.tokens) for one in apart if one.logprobs) == 1


def test_plain_completions_of_several_prompts(client: Any, chat_policy: CausalPolicy) -> None:
    prompts = ["so what", "can we"]
    found = client.completions.create(model=NAME, prompt=prompts, n=2, seed=4, temperature=1.2, max_tokens=9)
    ids = [prompt_ids(chat_policy.tokenizer, (Message("text", text),)) for text in prompts]
    expected = LocalSampler(chat_policy).sample(ids, 2, Sampling(1.2, max_tokens=9), 4)
    assert [choice.text for choice in found.choices] == [text_of(chat_policy, one, is_chat=False) for group in expected for one in group]
    by_ids = client.completions.create(model=NAME, prompt=[list(one) for one in ids], n=2, seed=4, temperature=1.2, max_tokens=9)
    assert [choice.text for choice in by_ids.choices] == [choice.text for choice in found.choices]
    parts: dict[int, str] = {}
    for part in client.completions.create(model=NAME, prompt=prompts, n=2, seed=4, temperature=1.2, max_tokens=9, stream=True):
        for choice in part.choices:
            parts[choice.index] = parts.get(choice.index, "") + choice.text
    assert [parts[k] for k in range(4)] == [choice.text for choice in found.choices]
    default = client.completions.create(model=NAME, prompt="so", seed=1)
    assert default.usage.completion_tokens <= 16


def test_a_stop_text_ends_an_answer(client: Any) -> None:
    options = {"model": NAME, "prompt": "so what", "seed": 4, "max_tokens": 60}
    whole = client.completions.create(**options).choices[0].text
    stop = whole[20:22]
    found = client.completions.create(**options, stop=[stop, "\u00fc\u00fc"])
    assert found.choices[0].text == whole[: whole.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.completion_tokens < 60
    streamed = "".join(part.choices[0].text for part in client.completions.create(**options, stop=stop, stream=True))
    assert streamed == found.choices[0].text


def test_log_probabilities_are_the_models(client: Any, chat_policy: CausalPolicy) -> None:
    options = {"model": NAME, "messages": CHAT, "seed": 3, "temperature": 0, "max_tokens": 5}
    found = client.chat.completions.create(**options, logprobs=True, top_logprobs=2)
    ids = prompt_ids(chat_policy.tokenizer, turns())
    (tokens,) = drawn(chat_policy, turns(), 1, Sampling(0, max_tokens=5), 3)
    entries = found.choices[0].logprobs.content
    assert len(entries) == len(tokens.ids)
    for place, entry in enumerate(entries):
        logps = chat_policy.next_logps((*ids, *tokens.ids[:place]))
        assert entry.logprob == pytest.approx(float(logps[tokens.ids[place]]), abs=1e-5)
        assert [one.logprob for one in entry.top_logprobs] == pytest.approx(logps.topk(2).values.tolist(), abs=1e-5)
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token
    streamed = [
        entry.logprob
        for part in client.chat.completions.create(**options, logprobs=True, stream=True)
        for choice in part.choices
        for entry in (choice.logprobs.content if choice.logprobs else ())
    ]
    assert streamed == pytest.approx([entry.logprob for entry in entries], abs=1e-6)
    plain = client.completions.create(model=NAME, prompt="so", temperature=0, max_tokens=4, logprobs=1).choices[0].logprobs
    assert len(plain.tokens) == len(plain.token_logprobs) == len(plain.text_offset) == len(plain.top_logprobs)
    assert [max(one.values()) for one in plain.top_logprobs] == pytest.approx(plain.token_logprobs, abs=1e-6)
    assert client.chat.completions.create(**options).choices[0].logprobs is None


def test_palates_own_sampler_gets_the_exact_tokens(
    server: ModelServer, chat_policy: CausalPolicy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("model")
    chat_policy.save(folder)
    sampler = OpenAISamplerSettings(url=server.api, model=NAME).open(str(folder))
    prompts = [Prompt("a", turns()), Prompt("b", (Message("user", "rice?"),))]
    found = sampler.generate(prompts, 2, Sampling(max_tokens=8), 5)
    assert [len(group) for group in found] == [2, 2]
    for number, (prompt, group) in enumerate(zip(prompts, found, strict=True)):
        expected = drawn(chat_policy, prompt.conversation, 2, Sampling(max_tokens=8), derive_seed(5, number) >> 32)
        assert [one.ids for one in group] == [one.ids for one in expected]
        assert [one.stop for one in group] == [one.stop for one in expected]
        assert [logp for one in group for logp in one.logps] == pytest.approx([logp for one in expected for logp in one.logps], abs=1e-5)


def test_an_error_is_one_of_the_clients_own(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="n: input should be less than or equal to 128"):
        client.chat.completions.create(model=NAME, messages=CHAT, n=5000)
    with pytest.raises(openai.NotFoundError, match="There is no model"):
        client.chat.completions.create(model="gpt", messages=CHAT)
