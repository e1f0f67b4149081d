"""Sampling from a server: what is sent, what servers leave out, what goes wrong, and who asks."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Completion, ConfigError, ModelError, RunError, Sampling
from palate.data.jsonl import write_rows
from palate.distributed.ranks import Ranks, working_together
from palate.models.causal import CausalPolicy
from palate.samplers.openai_sampler import OpenAISampler, OpenAISamplerSettings
from palate.stages.sample import Sample
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.completions_server import CompletionsServer, policy_answers
from palate.text.spans import prompt_ids
from tests.support.stages import ran, rows_of, summary_of
from tests.support.waiting import happened
from tests.unit.samplers.conftest import CHATS, PROMPTS, TEXTS

T = TypeVar("T")
FEW = Sampling(max_tokens=6)


def asking(server: CompletionsServer, model: Path, **settings: Any) -> OpenAISampler:
    return OpenAISamplerSettings(**{"url": server.url, "model": "small", "attempts": 2, **settings}).open(str(model))


def with_choice(server: CompletionsServer, **changed: Any) -> None:
    """Let the server change each choice; None takes a field out."""
    answer = server.answer

    def other(body: Mapping[str, Any]) -> tuple[int, object]:
        status, value = answer(body)
        for choice in cast("dict[str, Any]", value)["choices"]:
            for name, change in changed.items():
                choice[name] = change(choice) if callable(change) else change
        return status, value

    server.answer = other


def test_a_request_holds_the_tokens_of_the_prompt_and_everything_that_says_how_to_draw(
    server: CompletionsServer, model: Path, policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "abc")
    sampler = asking(server, model, key_variable="SECRET", concurrency=1)
    sampler.generate(PROMPTS, 2, Sampling(0.7, 0.9, 5, 6, 0.01), 1)
    assert [body["prompt"] for _, _, body in server.asked] == [list(prompt_ids(policy.tokenizer, prompt)) for prompt in PROMPTS]
    assert {path for path, _, _ in server.asked} == {"/v1/completions"}
    assert {headers["Authorization"] for _, headers, _ in server.asked} == {"Bearer abc"}
    seeds = [body["seed"] for _, _, body in server.asked]
    assert len(set(seeds)) == len(PROMPTS)
    assert all(0 <= seed < 2**31 for seed in seeds)
    body = {name: value for name, value in server.asked[0][2].items() if name not in {"prompt", "seed"}}
    assert body == {
        "model": "small", "n": 2, "max_tokens": 6, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.01, "logprobs": 1,
        "frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1.0, "stop_token_ids": sorted(policy.end_ids),
        "return_token_ids": True, "skip_special_tokens": False, "spaces_between_special_tokens": False,
    }  # fmt: skip
    sampler.generate(PROMPTS[:1], 1, FEW, 1)
    assert server.asked[-1][2]["top_k"] == -1


def test_a_strict_server_gets_the_standard_fields_alone(policy: CausalPolicy, model: Path) -> None:
    strict = CompletionsServer(policy_answers(policy, is_strict=True))
    with pytest.raises(RunError, match=r"answered 400: .*Unrecognized request argument.*set sampler\.extensions to false"):
        asking(strict, model).generate(TEXTS, 1, FEW, 1)
    sampler = asking(strict, model, extensions=False)
    assert [len(group) for group in sampler.generate(TEXTS, 2, FEW, 1)] == [2] * 3
    with pytest.raises(ConfigError, match="extensions is false, so sampling.top_k and sampling.min_p are not sent"):
        sampler.generate(TEXTS, 1, Sampling(top_k=3), 1)
    strict.close()


def test_without_token_ids_the_tokens_are_those_of_the_text_and_not_exact(policy: CausalPolicy, model: Path) -> None:
    server = CompletionsServer(policy_answers(policy, knows_ids=False))
    groups = asking(server, model).generate(PROMPTS, 16, FEW, 1)
    with_ids = CompletionsServer(policy_answers(policy))
    exact = asking(with_ids, model).generate(PROMPTS, 16, FEW, 1)
    pairs = [pair for group, other in zip(groups, exact, strict=True) for pair in zip(group, other, strict=True)]
    assert {one.is_exact for one, _ in pairs} == {False}
    assert [one.stop for one, _ in pairs] == [other.stop for _, other in pairs]
    # Where the text is one of whole words, its tokens are those that were drawn.
    assert all(one.ids == other.ids for one, other in pairs if other.is_exact)
    assert sum(other.is_exact for _, other in pairs) > 5
    assert {one.logps for one, _ in pairs} == {()}
    server.close()
    with_ids.close()


def test_a_server_that_leaves_out_the_end_or_goes_on_behind_it_is_understood(
    server: CompletionsServer, model: Path, policy: CausalPolicy
) -> None:
    sampler, many = asking(server, model), Sampling(max_tokens=20)
    (eos,) = policy.end_ids
    expected = sampler.generate(TEXTS, 8, many, 1)

    def bare(choice: Mapping[str, Any]) -> list[int]:
        return [token for token in choice["token_ids"] if token != eos]

    answer = server.answer
    with_choice(server, token_ids=bare, logprobs=None)
    found = sampler.generate(TEXTS, 8, many, 1)
    assert [[(one.ids, one.stop) for one in group] for group in found] == [[(one.ids, one.stop) for one in group] for group in expected]
    assert all(math.isnan(logp) for group in found for one in group for logp in one.logps)
    server.answer = answer
    with_choice(server, token_ids=lambda choice: [*choice["token_ids"], 7, 8], logprobs=None, finish_reason="length")
    found = sampler.generate(TEXTS, 8, many, 1)
    ended = [(one, other) for group, others in zip(found, expected, strict=True) for one, other in zip(group, others, strict=True)]
    assert [one.stop for one, _ in ended] == [other.stop for _, other in ended]
    assert all(one.ids == other.ids for one, other in ended if other.stop == "eos")


@pytest.mark.parametrize("finish", ["length", "abort", None])
def test_what_the_model_did_not_end_is_cut(server: CompletionsServer, model: Path, finish: object) -> None:
    with_choice(server, token_ids=[5, 6], text=" the", logprobs=None, finish_reason=finish)
    assert asking(server, model).generate(TEXTS[:1], 1, FEW, 1)[0][0].stop == "length"
    with_choice(server, token_ids=None)
    assert asking(server, model).generate(TEXTS[:1], 1, FEW, 1)[0][0].stop == "length"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, b"<html>"), "answered with something that is not JSON"),
        ((200, []), "answered without completions"),
        ((200, {"choices": []}), "answered with 0 completions instead of 2"),
        ((200, {"choices": [{"index": 0}] * 2}), "answered with a completion without text"),
        ((200, {"choices": [{"text": "", "token_ids": ["a"]}] * 2}), "answered with token ids that are not numbers"),
        ((200, {"choices": [{"text": "", "logprobs": {"token_logprobs": "a"}}] * 2}), "answered with log-probabilities that are not"),
        ((200, {"choices": [{"text": "", "token_ids": [5], "logprobs": {"token_logprobs": []}}] * 2}), "0 log-probabilities of 1 tokens"),
        ((503, {}), r"answered 503: '\{\}' \(tried 2 times\)"),
        ((404, {}), "answered 404.*sampler.model must be the name"),
        ((401, {}), "answered 401.*sampler.key_variable"),
    ],
)
def test_an_answer_of_no_use_is_one_message(server: CompletionsServer, model: Path, answer: tuple[int, object], told: str) -> None:
    server.answer = lambda body: answer
    with pytest.raises(RunError, match=rf"{server.url} gave no completions of prompt \d \(\w+\): it .*{told}.*the same command goes on"):
        asking(server, model, concurrency=2).generate(TEXTS, 2, FEW, 1)
    assert len(server.asked) <= 2 * 2 + 2  # after a failure the prompts that wait are not asked for


def test_a_server_that_is_down_or_slow_is_one_message(server: CompletionsServer, model: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(RunError, match=r"cannot be reached \(ConnectionRefused.*tried 2 times\)\)\. Start the server"):
        asking(server, model, url=url).generate(TEXTS, 1, FEW, 1)

    over = threading.Event()

    def slow(body: Mapping[str, Any]) -> tuple[int, object]:
        happened(over)
        return 200, {}

    server.answer = slow
    with pytest.raises(RunError, match=r"it gave no whole answer within the deadline\. Raise sampler.timeout_seconds"):
        asking(server, model, timeout_seconds=0.3).generate(TEXTS[:1], 1, FEW, 1)
    over.set()


def test_completions_come_in_the_order_of_their_numbers(server: CompletionsServer, model: Path) -> None:
    expected = asking(server, model).generate(TEXTS, 4, FEW, 1)
    answer = server.answer

    def reversed_answer(body: Mapping[str, Any]) -> tuple[int, object]:
        status, value = answer(body)
        return status, {"choices": cast("dict[str, Any]", value)["choices"][::-1]}

    server.answer = reversed_answer
    assert asking(server, model).generate(TEXTS, 4, FEW, 1) == expected


def test_a_busy_server_is_asked_again(server: CompletionsServer, model: Path) -> None:
    answer, left = server.answer, [(503, {}), (429, {})]
    server.answer = lambda body: left.pop() if left else answer(body)
    assert len(asking(server, model, attempts=3).generate(TEXTS[:1], 2, FEW, 1)[0]) == 2
    assert len(server.asked) == 3


def test_tokens_that_the_model_does_not_have_say_that_the_server_has_another_model(server: CompletionsServer, model: Path) -> None:
    with_choice(server, token_ids=[100_000], logprobs=None)
    with pytest.raises(ModelError, match="answered with token 100000.*the server has another model"):
        asking(server, model).generate(TEXTS, 1, FEW, 1)


class Second(Ranks):
    """The second of two ranks, whose writer says this."""

    rank, world = 1, 2

    def __init__(self, told: list[list[Completion]]) -> None:
        self.told, self.has_waited = told, False

    def wait_for_writer(self) -> None:
        self.has_waited = True

    def broadcast(self, value: T | None) -> T:
        assert self.has_waited  # a broadcast has a deadline, and a server may be slower
        return cast("T", self.told)


def test_the_other_ranks_ask_nothing(server: CompletionsServer, model: Path) -> None:
    told = [[Completion("yes")]]
    with working_together(Second(told)):
        assert asking(server, model).generate(TEXTS, 1, FEW, 1) == told
    assert server.asked == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "host"}, "sampler: url must be http"),
        ({"timeout_seconds": 0}, "timeout_seconds: Input should be greater than 0"),
        ({"model": None}, "needs 'model'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: Mapping[str, Any], told: str) -> None:
    values = {"kind": "openai", "url": "http://host/v1", "model": "m", **settings}
    sampler = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(ConfigError, match=told):
        read_config(Sample, Settings({"model": "m", "prompts": "p", "sampler": sampler}, {(): "here"}))


def test_a_key_that_is_not_set_is_refused(server: CompletionsServer, model: Path) -> None:
    with pytest.raises(ConfigError, match="sampler: the environment variable NOT_THERE holds no key"):
        asking(server, model, key_variable="NOT_THERE")


def test_the_stage_writes_from_a_server_what_it_writes_from_the_model(server: CompletionsServer, model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"the cook has {word}"} for word in ("rice", "beans", "salt")])
    settings = {"model": str(model), "prompts": str(tmp_path / "prompts.jsonl"), "sampling": {"temperature": 0, "max_tokens": 8}}
    kinds: dict[str, Any] = {"local": "local", "server": {"kind": "openai", "url": server.url, "model": "small"}}
    runs = {
        name: ran(read_config(Sample, Settings({**settings, "sampler": kind}, {(): "here"})), tmp_path / name, "sample")
        for name, kind in kinds.items()
    }
    assert rows_of(runs["local"], "samples.jsonl") == rows_of(runs["server"], "samples.jsonl")
    assert summary_of(runs["local"]) == summary_of(runs["server"])
    assert len(server.asked) == 3


def test_weights_are_not_read(server: CompletionsServer, tmp_path: Path) -> None:
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    sampler = asking(server, tmp_path)
    assert [len(group) for group in sampler.generate(CHATS, 1, FEW, 1)] == [1, 1]
