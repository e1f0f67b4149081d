"""vLLM's servers under a policy that learns: whose weights they have, what happens when one fails, and who is told of it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from palate.clients.http import MAX_BYTES
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Completion, ConfigError, Message, Prompt, RunError, Sampling
from palate.distributed.ranks import Ranks, working_together
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.samplers.vllm_server_settings import VLLMServerSettings
from palate.samplers.vllm_servers import VLLMServers
from palate.samplers.weight_files import published
from palate.stages.online.online_settings import OnlineSettings
from tests.support.vllm_server import ServedVLLM
from tests.support.waiting import happened
from tests.unit.samplers.conftest import PROMPTS
from tests.unit.samplers.test_updates import GREEDY, moved, tuned

MANY = [Prompt(f"{number}", (Message("text", f"the cook has {word}"),)) for number, word in enumerate(("rice", "beans", "salt") * 4)]

Asking = Callable[..., VLLMServers]


@pytest.fixture
def served(policy: CausalPolicy) -> Iterator[list[ServedVLLM]]:
    """Two servers with the policy's weights."""
    running = [ServedVLLM(policy) for _ in range(2)]
    yield running
    for server in running:
        server.close()


@pytest.fixture
def said() -> list[str]:
    """What the user is told."""
    return []


@pytest.fixture
def asking(served: list[ServedVLLM], policy: CausalPolicy, tmp_path: Path, said: list[str]) -> Asking:
    def made(number: int = 2, learner: CausalPolicy = policy, **settings: Any) -> VLLMServers:
        given = {"servers": tuple(one.url for one in served[:number]), "model": "small", "attempts": 2, **settings}
        return VLLMServers(learner, VLLMServerSettings(**given), tmp_path / "weights", said.append)

    return made


def ids_of(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[one.ids for one in group] for group in groups]


def greedy_of(policy: CausalPolicy, prompts: list[Prompt]) -> list[list[tuple[int, ...]]]:
    return ids_of(LocalSampler(policy).generate(prompts, 1, GREEDY, 1))


def with_choices(served: ServedVLLM, **changed: Any) -> None:
    """Let a server change what it draws for prompts; None takes a field out."""
    usual = served.http.routes["/v1/completions"]

    def other(body: Mapping[str, Any]) -> tuple[int, object]:
        status, value, *_ = usual(body)
        for choice in cast("dict[str, Any]", value)["choices"]:
            choice.update({name: change(choice) if callable(change) else change for name, change in changed.items()})
        return status, value

    served.answering(other)


def test_requests_go_round_and_every_server_has_the_weights(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    sampler, other = asking(concurrency=1), moved(policy, 0.1)
    sampler.load(other, 7)
    groups = sampler.generate(MANY, 2, GREEDY, 1)
    assert [one.drew for one in served] == [6, 6]
    assert [group[:1] for group in ids_of(groups)] == greedy_of(other, MANY)
    assert {one.policy for group in groups for one in group} == {"7"}
    for one in served:
        assert one.told[:4] == ["reload_weights", "/reset_prefix_cache", "/v1/completions", "/v1/completions"]
    bodies = [body for one in served for path, _, body in one.http.asked if path == "/v1/completions" and "stop_token_ids" in body]
    assert {tuple(body["stop_token_ids"]) for body in bodies} == {tuple(sorted(policy.end_ids))}
    assert len({body["cache_salt"] for body in bodies}) == 1


def test_the_draws_do_not_depend_on_who_draws(asking: Asking) -> None:
    free = Sampling(max_tokens=8)
    drawn = []
    for number in (1, 2):
        sampler = asking(number)
        sampler.load(sampler._policy, 0)
        drawn.append(ids_of(sampler.generate(PROMPTS, 3, free, 5)))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("by", "told"), [(0.1, "gives other numbers in {url} than in the learner"), (3e-6, "did not reach {url}")])
def test_a_server_that_did_not_take_the_weights_draws_nothing(
    by: float, told: str, asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    sampler = asking()
    sampler.load(policy, 0)
    served[0].ignores.add("reload_weights")
    other = moved(policy, by)
    sampler.load(other, 1)
    assert len(said) == 1
    assert f"version 1 of the weights {told.format(url=served[0].url)}" in said[0]
    groups = sampler.generate(MANY, 1, GREEDY, 1)
    assert [one.drew for one in served] == [0, len(MANY)]
    assert ids_of(groups) == greedy_of(other, MANY)
    served[0].ignores.clear()
    sampler.load(other, 2)
    assert said[1:] == [f"{served[0].url} takes part again"]
    sampler.generate(MANY, 1, GREEDY, 1)
    assert served[0].drew > 0


def test_where_no_server_takes_the_weights_one_message_names_all(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    served[0].ignores.add("reload_weights")
    served[1].http.routes.pop("/collective_rpc")
    with pytest.raises(RunError) as failed:
        asking().load(moved(policy, 0.1), 3)
    text = str(failed.value)
    assert f"version 3 of the weights gives other numbers in {served[0].url}" in text
    assert f"{served[1].url} /collective_rpc: answered 404" in text
    assert "VLLM_SERVER_DEV_MODE=1" in text
    assert text.endswith("the same command goes on from the last checkpoint")


def test_a_server_that_does_not_see_the_files_is_told_from_one_without_the_endpoint(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, tmp_path: Path
) -> None:
    served[0].http.routes["/collective_rpc"] = lambda body: (500, {"error": "Repo id must use alphanumeric chars"})
    with pytest.raises(RunError, match=rf"answered 500.*The server must see {tmp_path}/weights/load-0 too") as failed:
        asking(1).load(policy, 0)
    assert "VLLM_SERVER_DEV_MODE" not in str(failed.value)


LONG = [Prompt("long", (Message("text", "the cook has rice and beans " * 24),))]


def test_a_cache_that_keeps_what_older_weights_computed_is_noticed(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    served[0].ignores |= {"reset_prefix_cache", "cache_salt"}
    sampler = asking()
    sampler.load(policy, 0)
    sampler.generate(LONG * 2, 1, GREEDY, 1)
    other = moved(policy, 0.1, 3)
    sampler.load(other, 1)
    assert [f"version 1 of the weights gives other numbers in {served[0].url} where it draws" in text for text in said] == [True]
    assert ids_of(sampler.generate(LONG * 2, 1, GREEDY, 1)) == greedy_of(other, LONG * 2)


def test_the_salt_alone_keeps_versions_apart(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]) -> None:
    for one in served:
        one.ignores.add("reset_prefix_cache")
    sampler = asking()
    for version, weights in enumerate((policy, moved(policy, 0.1, 3))):
        sampler.load(weights, version)
        assert ids_of(sampler.generate(LONG * 2, 1, GREEDY, 1)) == greedy_of(weights, LONG * 2)
    assert said == []


@pytest.mark.parametrize("answer", [(200, {"success": False}), (409, {"detail": "Prefix cache reset failed."})])
def test_a_cache_that_is_not_emptied_is_a_fault(
    answer: tuple[int, object], asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    served[0].http.routes["/reset_prefix_cache"] = lambda body: answer
    sampler = asking()
    sampler.load(policy, 0)
    assert len(said) == 1
    assert f"{served[0].url} /reset_prefix_cache" in said[0]
    sampler.generate(MANY, 1, GREEDY, 1)
    assert served[0].drew == 0


def test_log_probabilities_from_before_the_temperature_are_noticed(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    served[0].ignores.add("temperature")
    asking().load(policy, 0)
    assert len(said) == 1
    assert "Start it with --logprobs-mode processed_logprobs" in said[0]


def dying(served: ServedVLLM) -> Callable[[Mapping[str, Any]], Any]:
    """An answer that breaks off because the server was killed."""

    def answer(body: Mapping[str, Any]) -> Any:
        threading.Thread(target=served.close).start()
        return 200, b'{"choices": [', {"Content-Length": "10000"}

    return answer


def test_a_server_that_is_killed_in_the_middle_leaves_its_prompts_to_the_other(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    sampler = asking()
    sampler.load(policy, 0)
    free = Sampling(max_tokens=8)
    expected = sampler.generate(MANY, 2, free, 3)
    served[0].answering(dying(served[0]))
    assert ids_of(sampler.generate(MANY, 2, free, 3)) == ids_of(expected)
    assert len(said) == 1
    assert f"{served[0].url} cannot be reached" in said[0]
    sampler.load(policy, 1)  # the one that is left is enough, and nobody is told of the other again
    assert len(sampler.generate(MANY, 2, free, 3)) == len(MANY)
    assert len(said) == 1


def test_when_all_servers_are_gone_one_message_says_so(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    sampler = asking()
    sampler.load(policy, 0)
    for one in served:
        one.close()
    with pytest.raises(RunError) as failed:
        sampler.generate(MANY, 2, GREEDY, 3)
    text = str(failed.value)
    assert text.count("no server of sampler.servers draws completions") == 1
    assert all(f"{one.url} cannot be reached" in text for one in served)


def test_a_lone_server_that_fails_once_gets_the_weights_again_and_goes_on(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    (one,), left = served[:1], [(500, {"error": "EngineDeadError"})]
    sampler, other = asking(1, concurrency=1), moved(policy, 0.1)
    sampler.load(other, 1)
    usual = one.http.routes["/v1/completions"]

    def failing(body: Mapping[str, Any]) -> Any:
        if left:
            one.restart()
            return left.pop()
        return usual(body)

    one.answering(failing)
    assert ids_of(sampler.generate(MANY, 1, GREEDY, 1)) == greedy_of(other, MANY)
    assert one.told.count("reload_weights") == 2
    assert [text.partition(" ")[2].partition(":")[0] for text in said] == ["answered 500", "takes part again"]


def test_a_prompt_that_no_server_answers_ends_the_run(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    for one in served:
        one.answering(lambda body: (500, {"error": "no"}))
    sampler = asking()
    sampler.load(policy, 0)
    with pytest.raises(RunError, match=r"no server gave completions of a prompt of \d+ tokens, after 4 attempts: http\S+ answered 500"):
        sampler.generate(MANY, 1, GREEDY, 1)


def test_a_slow_server_is_left_out_and_not_tried_again_while_there_is_another(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    over = threading.Event()

    def slow(body: Mapping[str, Any]) -> tuple[int, object]:
        happened(over)
        return 500, {}

    sampler = asking(timeout_seconds=2.0, attempts=8)
    sampler.load(policy, 0)
    served[0].answering(slow)
    assert ids_of(sampler.generate(MANY, 1, GREEDY, 1)) == greedy_of(policy, MANY)
    assert f"{served[0].url} gave no whole answer within the deadline" in said[0]
    loads = served[0].told.count("reload_weights")
    sampler.load(policy, 1)
    assert served[0].told.count("reload_weights") == loads
    over.set()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"token_ids": None}, "answered without token ids"),
        ({"logprobs": None}, "answered without log-probabilities"),
        ({"token_ids": []}, "log-probabilities of 0 tokens"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "answered with 0 tokens"),
        ({"token_ids": [5] * 13, "logprobs": {"token_logprobs": [-1.0] * 13}}, "answered with 13 tokens"),
        ({"token_ids": [10_000] * 12, "logprobs": {"token_logprobs": [-1.0] * 12}}, "up to 10000"),
        ({"token_ids": [5] * 12, "logprobs": {"token_logprobs": [None] * 12}}, "and log-probabilities from nan"),
        ({"token_ids": [5] * 12, "logprobs": {"token_logprobs": [-1.0] * 11}}, "11 log-probabilities of 12 tokens"),
        ({"token_ids": [5], "logprobs": {"token_logprobs": [-1.0]}, "finish_reason": "abort"}, "ended a completion after 1 of 12 tokens"),
    ],
)
def test_an_answer_of_no_use_leaves_the_server_out(
    changed: Mapping[str, Any], told: str, asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    with_choices(served[0], **changed)
    sampler = asking()
    sampler.load(policy, 0)
    assert ids_of(sampler.generate(MANY, 1, GREEDY, 1)) == greedy_of(policy, MANY)
    assert [told in text for text in said] == [True]
    assert said[0].startswith(f"{served[0].url} ")


def test_a_server_that_says_nothing_of_fixed_tokens_is_left_out(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    usual, silent = served[0].http.routes["/v1/completions"], {"choices": [{"index": 0, "text": "", "prompt_logprobs": None}]}
    served[0].http.routes["/v1/completions"] = lambda body: (200, silent) if "prompt_logprobs" in body else usual(body)
    asking().load(policy, 0)
    assert [f"{served[0].url} answered without a log-probability per token of the prompt" in text for text in said] == [True]


def test_what_a_server_drew_with_other_weights_is_drawn_again(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    sampler, other = asking(), moved(policy, 0.1)
    sampler.load(other, 1)
    usual = served[0].http.routes["/v1/completions"]

    def restarting(body: Mapping[str, Any]) -> Any:
        served[0].restart()  # it ended and is there again, between two requests
        return usual(body)

    served[0].answering(restarting)
    assert ids_of(sampler.generate(MANY, 1, GREEDY, 1)) == greedy_of(other, MANY)
    assert [f"{served[0].url} has other weights than those of its load" in text for text in said] == [True]
    (only,) = said
    assert "Nothing is drawn there until it takes the weights" in only


def test_a_server_that_others_use_too_ends_the_run(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    sampler, other = asking(1), moved(policy, 0.1)
    sampler.load(other, 1)
    usual = served[0].http.routes["/v1/completions"]

    def restarting(body: Mapping[str, Any]) -> Any:
        served[0].restart()
        return usual(body)

    served[0].answering(restarting)
    with pytest.raises(RunError, match=r"the weights of http\S+ changed while completions were drawn, 2 times. Another program uses it"):
        sampler.generate(MANY, 1, GREEDY, 1)


def test_the_adapter_alone_goes_to_the_servers_under_a_new_name_each_time(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, said: list[str]
) -> None:
    learner = tuned(policy)
    sampler = asking(learner=learner, update="adapter")
    sampler.load(learner, 1)
    assert ids_of(sampler.generate(MANY, 1, GREEDY, 1)) == greedy_of(learner, MANY) != greedy_of(policy, MANY)
    first = set(served[0].adapters)
    sampler.load(learner, 2)
    assert all(len(one.adapters) == 1 for one in served)
    assert not first & set(served[0].adapters)
    assert "reload_weights" not in served[0].told
    served[1].ignores.add("load_lora_adapter")
    sampler.load(learner, 3)
    assert [f"version 3 of the weights gives other numbers in {served[1].url}" in text for text in said] == [True]
    sampler.close()
    assert served[0].adapters == {}


def test_servers_sleep_while_the_policy_learns_and_are_woken_before_they_get_weights(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy
) -> None:
    sampler = asking(1, sleep=True, concurrency=1)
    sampler.load(policy, 0)
    for _ in range(2):
        sampler.generate(MANY[:1], 1, GREEDY, 1)
    sampler.load(policy, 1)
    load, draw = ["reload_weights", "/reset_prefix_cache", *["/v1/completions"] * 2], ["/v1/completions"] * 2  # the last is the probe
    assert served[0].told == ["/wake_up", *load, *draw, "/sleep", "/wake_up", *draw, "/sleep", "/wake_up", *load]


def test_a_server_that_cannot_sleep_says_how_to_start_it(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    served[0].http.routes.pop("/wake_up")
    with pytest.raises(RunError, match=r"/wake_up: answered 404.*Start the server with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode"):
        asking(1, sleep=True).load(policy, 0)


def test_without_sleep_nobody_is_told_to(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    sampler = asking()
    sampler.load(policy, 0)
    sampler.generate(MANY, 1, GREEDY, 1)
    assert not {"/sleep", "/wake_up"} & set(served[0].told)


def test_the_weights_lie_there_once_and_are_gone_at_the_end(asking: Asking, policy: CausalPolicy, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "other").mkdir(parents=True)
    sampler = asking(directory=str(shared))
    for version in range(3):
        sampler.load(policy, version)
    (own,) = (path for path in shared.iterdir() if path.name != "other")
    assert [path.name for path in own.iterdir()] == ["load-2"]
    again = asking(directory=str(shared))  # of the same run, after it was killed
    assert [path.name for path in shared.iterdir() if path.name != "other"] == [own.name]
    assert list(own.iterdir()) == []
    again.close()
    assert [path.name for path in shared.iterdir()] == ["other"]


def test_a_key_goes_along_with_every_request(
    asking: Asking, served: list[ServedVLLM], policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "abc")
    sampler = asking(1, key_variable="SECRET")
    sampler.load(policy, 0)
    sampler.generate(MANY[:1], 1, GREEDY, 1)
    assert {headers.get("Authorization") for _, headers, _ in served[0].http.asked} == {"Bearer abc"}


def test_files_get_their_name_when_they_are_whole(tmp_path: Path) -> None:
    def half(directory: Path) -> None:
        directory.mkdir()
        (directory / "one").touch()
        assert not (tmp_path / "load-0").exists()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        published(tmp_path / "load-0", half)
    assert not (tmp_path / "load-0").exists()
    published(tmp_path / "load-0", lambda directory: directory.mkdir())
    assert [path.name for path in tmp_path.iterdir()] == ["load-0"]


def test_the_answers_of_long_completions_are_read(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    with_choices(served[0], text=" " * (MAX_BYTES + 1))
    sampler = asking(1)
    sampler.load(policy, 0)
    assert ids_of(sampler.generate(MANY[:1], 1, GREEDY, 1)) == greedy_of(policy, MANY[:1])
    assert served[0].drew == 1


class Second(Ranks):
    """The second of two ranks; the writer has these completions."""

    rank, world = 1, 2

    def __init__(self, told: list[list[Completion]]) -> None:
        self.told, self.waits = told, 0

    def wait_for_writer(self) -> None:
        self.waits += 1

    def gather(self, value: Any) -> Any:
        assert self.waits == 2  # an exchange has a deadline, and a server may be slower
        assert value == []
        return [self.told, value]


def test_the_other_ranks_ask_nothing_and_get_all(asking: Asking, served: list[ServedVLLM], policy: CausalPolicy) -> None:
    told = [[Completion("one")], [Completion("two")], [Completion("three")]]
    with working_together(Second(told)):
        sampler = asking()
        sampler.load(policy, 0)
        assert sampler.generate(MANY[:3], 1, GREEDY, 1) == told
        sampler.close()
    assert [one.told for one in served] == [[], []]


@pytest.mark.parametrize(
    ("sampler", "adapters", "told"),
    [
        ({"servers": []}, None, "sampler.servers is empty"),
        ({"servers": ["http://a:1", "http://a:1/v1"]}, None, "sampler.servers names http://a:1 twice"),
        ({"servers": ["a:1"]}, None, "sampler.servers: url must be http"),
        ({"timeout_seconds": 0}, None, "timeout_seconds: Input should be greater than 0"),
        ({"sleep": True, "asynchronous": 1}, None, "sampler.sleep lets the servers sleep"),
        ({"resample": 1, "asynchronous": 1}, None, "sampling cannot be asynchronous"),
        ({"update": "adapter"}, None, "sampler.update is adapter, and no adapter is trained"),
        ({"update": "adapter"}, {"modules_to_save": ["norm"]}, "vLLM takes no adapter with modules that are trained as a whole"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(sampler: Mapping[str, Any], adapters: Any, told: str) -> None:
    given = {"kind": "vllm_servers", "servers": ["http://a:1"], "model": "m", **sampler}
    values = {"model": "m", "prompts": "p", "reward": "r", "sampler": given, "adapters": adapters}
    with pytest.raises(ConfigError, match=told):
        read_config(OnlineSettings, Settings(values, {(): "here"})).check()


def test_the_learner_keeps_its_adapter(asking: Asking, policy: CausalPolicy) -> None:
    learner = copy.deepcopy(policy).with_adapter(LoRA(rank=4), "base", 0)
    asking(learner=learner).load(learner, 0)
    assert learner.adapters is not None
