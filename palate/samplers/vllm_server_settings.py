"""Settings of vLLM's servers that draw while a policy learns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from palate.clients.completions import completions_endpoint
from palate.config.types import OUTSIDE_KEY, Amount, Count
from palate.core import ConfigError
from palate.models.adapters import LoRA

API = "/v1"


@dataclass(frozen=True, kw_only=True)
class VLLMServerSettings:
    """Where vLLM's servers are, and how weights reach them.

    Attributes:
        servers: addresses of the servers (`http://host:port`). Requests go round, and to another server where one fails.
        model: the name that the servers know the model by. They must have the policy that training starts from.
        update: what goes to the servers: all weights, with adapters merged, or the adapter alone.
        directory: a folder that all servers see under the same path, with room for the model twice. None takes the run's own folder.
        key_variable: name of an environment variable with the servers' key.
        concurrency: number of requests at the same time, over all servers; each asks for all completions of one prompt.
        timeout_seconds: seconds for one request, also for one that loads weights.
        attempts: how often a prompt is asked for, per server, and how often all servers are tried where none is left.
        tolerance: the largest difference of a probed token's log-probability, nats; none allows 0.001 in float32,
            0.03 in float16, and 0.25 in bfloat16.
        sleep: let the servers give back their memory while the policy learns. It needs GPUs and servers with `--enable-sleep-mode`.
    """

    servers: tuple[str, ...] = field(metadata=OUTSIDE_KEY)
    model: str = field(metadata=OUTSIDE_KEY)
    update: Literal["weights", "adapter"] = "weights"
    directory: str | None = field(default=None, metadata=OUTSIDE_KEY)
    key_variable: str | None = field(default=None, metadata=OUTSIDE_KEY)
    concurrency: Count = field(default=64, metadata=OUTSIDE_KEY)
    timeout_seconds: Amount = field(default=600.0, metadata=OUTSIDE_KEY)
    attempts: Count = field(default=8, metadata=OUTSIDE_KEY)
    tolerance: Amount | None = None
    sleep: bool = field(default=False, metadata=OUTSIDE_KEY)

    def __post_init__(self) -> None:
        """Check the settings that need nothing else."""
        if not self.servers:
            raise ConfigError("sampler.servers is empty: name at least one server, such as http://127.0.0.1:8000")
        bases = [base_of_server(url) for url in self.servers]
        if twice := sorted({base for base in bases if bases.count(base) > 1}):
            raise ConfigError(f"sampler.servers names {twice[0]} twice: name each server once")
        for base in bases:
            completions_endpoint("sampler.servers", base + API)
        if not math.isfinite(self.timeout_seconds):
            raise ConfigError(f"sampler: timeout_seconds must be finite, got {self.timeout_seconds}")

    def check_adapters(self, adapters: LoRA | None) -> None:
        """Raise ConfigError where the adapter alone is to be sent, and there is none, or vLLM does not take it."""
        if self.update != "adapter":
            return
        if adapters is None:
            raise ConfigError("sampler.update is adapter, and no adapter is trained: set adapters, or use sampler.update=weights")
        if adapters.modules_to_save:
            raise ConfigError(
                "sampler.update is adapter, and vLLM takes no adapter with modules that are trained as a whole: leave out "
                "adapters.modules_to_save, or use sampler.update=weights"
            )


def base_of_server(url: str) -> str:
    """Return the address of a server without `/v1`."""
    return url.rstrip("/").removesuffix(API)
