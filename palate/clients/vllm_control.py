"""The endpoints that control vLLM's server: new weights, adapters, its cache, and its sleep.

All but those of adapters exist only in the server's development mode. Sources: `vllm/entrypoints/serve` of vLLM 0.20 to 0.33.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from palate.clients.http import Endpoint, RequestFailed

DEVELOPMENT = "Start the server with VLLM_SERVER_DEV_MODE=1"
ADAPTERS = "Start the server with --enable-lora, a --max-lora-rank that is large enough, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
SLEEP = f"{DEVELOPMENT} and --enable-sleep-mode, on a GPU"


@dataclass(frozen=True)
class VLLMControl:
    """The control of one server.

    Every method raises RequestFailed where the server does not do what it is told. The text begins with the endpoint's name.

    Attributes:
        kind: the setting's name, for errors.
        base: address of the server, without `/v1`.
        headers: headers of each request, such as `bearer(key)`.
    """

    kind: str
    base: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def reload_weights(self, directory: Path, deadline: float) -> None:
        """Let all workers read the weights in a directory. The server must find it under the same path."""
        told = {"method": "reload_weights", "kwargs": {"weights_path": str(directory)}}
        self._tell("/collective_rpc", told, deadline, DEVELOPMENT, f"The server must see {directory} too, with weights of its own model")

    def reset_prefix_cache(self, deadline: float) -> None:
        """Forget the keys and values of earlier prompts. vLLM refuses while requests run, and newer versions say so."""
        answer = self._tell("/reset_prefix_cache", {}, deadline, DEVELOPMENT)
        if _value(answer).get("success", True) is not True:
            raise RequestFailed("/reset_prefix_cache answered that the cache is still in use", "invalid")

    def load_adapter(self, name: str, directory: Path, deadline: float) -> None:
        """Load the adapter in a directory. Requests whose model is `name` use it."""
        self._tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(directory)}, deadline, ADAPTERS, ADAPTERS)

    def unload_adapter(self, name: str, deadline: float) -> None:
        """Forget an adapter."""
        self._tell("/v1/unload_lora_adapter", {"lora_name": name}, deadline, ADAPTERS)

    def sleep(self, deadline: float) -> None:
        """Move the weights to the machine's memory and free that of the GPU. The server answers no prompts until it is woken."""
        self._tell("/sleep?level=1", {}, deadline, SLEEP)

    def wake_up(self, deadline: float) -> None:
        """Bring the weights back to the GPU, with an empty cache. A server that is awake stays as it is."""
        self._tell("/wake_up", {}, deadline, SLEEP)

    def _tell(self, path: str, content: Mapping[str, object], deadline: float, missing: str, refused: str = "") -> bytes:
        """Post once and return the answer. Some endpoints answer with nothing, others with plain text.

        `missing` is the remedy where the endpoint does not exist, and `refused` where it answers with an error.
        """
        name = path.partition("?")[0]
        try:
            return Endpoint.of(self.kind, self.base + path).send(content, self.headers, deadline, attempts=1)
        except RequestFailed as failure:
            remedy = {404: missing}.get(failure.status, refused) if failure.kind == "status" else ""
            text = ". ".join(part for part in (f"{name}: {failure}", remedy) if part)
            raise RequestFailed(text, failure.kind, failure.status, is_sent=failure.is_sent) from failure


def _value(answer: bytes) -> Mapping[str, object]:
    """Return the JSON object of an answer; empty where it holds something else."""
    try:
        value = json.loads(answer)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
