"""A real HTTP server that does what vLLM's server does, as far as training asks it: weights and adapters that change, a cache, and sleep.

The local sampler of this process draws. The endpoints and their answers are those of vLLM 0.33.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from palate.models.adapters import Adapters
from palate.models.causal import CausalPolicy
from palate.testing.completions_server import Answer, CompletionsServer, policy_answers
from palate.text.pack import Branch, Tree, pack

BLOCK = 128
"""Tokens of a prompt that the cache keeps, as vLLM's on a CPU."""

Reply = tuple[int, object]


class Held:
    """One version of the weights, and what answers with them."""

    def __init__(self, policy: CausalPolicy) -> None:
        self.policy, self.answer = policy, policy_answers(policy)


class ServedVLLM:
    """vLLM's server in a thread.

    Attributes:
        url: its address.
        told: the paths that it was asked for, without queries, in order; those of `/collective_rpc` with their method.
        drew: the number of requests that drew completions for prompts, not for probes.
        ignores: what it says it did, and did not: `reload_weights`, `reset_prefix_cache`, `cache_salt`, `load_lora_adapter`, `temperature`.
        http: the server; a test may replace its answers.
    """

    def __init__(self, policy: CausalPolicy, *, ignores: tuple[str, ...] = ()) -> None:
        self.first = self.base = Held(copied(policy))
        self.adapters: dict[str, Held] = {}
        self.cache: dict[tuple[object, ...], Held] = {}
        self.is_asleep = False
        self.told: list[str] = []
        self.drew = 0
        self.ignores = set(ignores)
        self.turn = threading.Lock()
        self.http = CompletionsServer(self.unknown, {path: self.noted(path, answer) for path, answer in self.endpoints().items()})
        self.url = self.http.url.removesuffix("/v1")

    def endpoints(self) -> Mapping[str, Answer]:
        return {
            "/v1/completions": self.complete,
            "/collective_rpc": self.rpc,
            "/reset_prefix_cache": self.reset,
            "/sleep": self.fall_asleep,
            "/wake_up": self.wake_up,
            "/v1/load_lora_adapter": self.load_adapter,
            "/v1/unload_lora_adapter": self.unload_adapter,
        }

    def noted(self, path: str, answer: Answer) -> Answer:
        def noting(body: Mapping[str, Any]) -> Any:
            self.told.append(str(body.get("method", path)))
            with self.turn:
                return answer(body)

        return noting

    def answering(self, answer: Answer) -> None:
        """Let prompts that are not probes be answered by something else."""
        usual = self.http.routes["/v1/completions"]
        self.http.routes["/v1/completions"] = lambda body: usual(body) if is_probe(body) else answer(body)

    def restart(self) -> None:
        """Forget everything but the weights it began with."""
        with self.turn:
            self.base, self.adapters, self.cache = self.first, {}, {}

    def close(self) -> None:
        self.http.close()

    def unknown(self, body: Mapping[str, Any]) -> Reply:
        return 404, {"detail": "Not Found"}

    def complete(self, body: Mapping[str, Any]) -> Any:
        if self.is_asleep:
            return 500, {"error": {"message": "EngineCore is asleep"}}
        held = {"small": self.base, **self.adapters}.get(body["model"])
        if held is None:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if body.get("prompt_logprobs") is not None:
            return 200, {"choices": [{"index": 0, "text": "", "prompt_logprobs": prompt_logprobs(held.policy, body["prompt"])}]}
        self.drew += not is_probe(body)
        if len(body["prompt"]) > BLOCK:  # what was computed with the weights of then
            salt = None if "cache_salt" in self.ignores else body.get("cache_salt")
            held = self.cache.setdefault((body["model"], salt, *body["prompt"][:BLOCK]), held)
        status, value, *_ = held.answer(body)
        if "temperature" in self.ignores and status == 200:
            flatten(value, held.policy, body["prompt"])
        return status, value

    def rpc(self, body: Mapping[str, Any]) -> Reply:
        assert body["method"] == "reload_weights"
        directory = Path(body["kwargs"]["weights_path"])
        if not (directory / "config.json").is_file() or any(path.name.startswith(".") for path in (directory, *directory.iterdir())):
            return 500, {"error": f"{directory} is not whole"}
        if "reload_weights" not in self.ignores:
            self.base = Held(with_weights(self.first.policy, directory))
        return 200, {"results": [None]}

    def reset(self, body: Mapping[str, Any]) -> Reply:
        if "reset_prefix_cache" not in self.ignores:
            self.cache.clear()
        return 200, {"success": True}

    def fall_asleep(self, body: Mapping[str, Any]) -> Reply:
        self.is_asleep = True
        self.cache.clear()
        return 200, b""

    def wake_up(self, body: Mapping[str, Any]) -> Reply:
        self.is_asleep = False
        return 200, b""

    def load_adapter(self, body: Mapping[str, Any]) -> Reply:
        name = body["lora_name"]
        if name in self.adapters:
            return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
        base = copied(self.base.policy)
        if "load_lora_adapter" not in self.ignores:
            adapters = Adapters(base.module, "base")
            adapters.load(body["lora_path"])
            base = CausalPolicy(base.module, base.tokenizer, base.path, adapters)
        self.adapters[name] = Held(base)
        return 200, f"Success: LoRA adapter '{name}' added successfully.".encode()

    def unload_adapter(self, body: Mapping[str, Any]) -> Reply:
        if self.adapters.pop(body["lora_name"], None) is None:
            return 404, {"error": {"message": f"The lora adapter '{body['lora_name']}' cannot be found."}}
        return 200, b"Success"


def copied(policy: CausalPolicy) -> CausalPolicy:
    """The policy with weights of its own."""
    return CausalPolicy(copy.deepcopy(policy.module), policy.tokenizer, policy.path)


def with_weights(policy: CausalPolicy, directory: Path) -> CausalPolicy:
    """The policy with the weights of all files in a directory, as vLLM reads them."""
    other = copied(policy)
    weights = {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}
    missing, odd = other.module.load_state_dict(weights, strict=False)
    assert not odd
    assert set(missing) <= {"lm_head.weight"}
    return other


def is_probe(body: Mapping[str, Any]) -> bool:
    """Whether a request is one of the probe, and not a prompt of a test."""
    return body.get("prompt_logprobs") is not None or len(body["prompt"]) >= 300


def prompt_logprobs(policy: CausalPolicy, ids: list[int]) -> list[object]:
    """What vLLM says of the tokens of a prompt; nothing of the first."""
    tree = Tree((ids[0],), (Branch(tuple(ids[1:]), (True,) * (len(ids) - 1)),))
    with torch.no_grad():
        logps = policy.logps(pack([tree])).logps.tolist()
    return [None, *({str(token): {"logprob": logp, "rank": 1}} for token, logp in zip(ids[1:], logps, strict=True))]


def flatten(value: Any, policy: CausalPolicy, prompt: list[int]) -> None:
    """Give the log-probabilities from before the temperature, as a server does that is not started with processed ones."""
    for choice in value["choices"]:
        ids = tuple(choice["token_ids"])
        with torch.no_grad():
            logps = policy.logps(pack([Tree(tuple(prompt), (Branch(ids, (True,) * len(ids)),))])).logps.tolist()
        choice["logprobs"]["token_logprobs"] = logps
