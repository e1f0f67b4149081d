"""A tiny model behind the serving API, in a thread of this process, on a free port; and a server before another one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from palate.clients.http import bearer
from palate.models.causal import CausalPolicy
from palate.samplers.continuous import ContinuousSampler
from palate.serving.answer_sources import AnswerSource
from palate.serving.answering import ServedModel
from palate.serving.drawing import Outbox
from palate.serving.local_source import LocalSource
from palate.serving.serve_app import ApiGate, Serving
from palate.serving.server import app_of
from palate.serving.upstream_server import UpstreamServer
from palate.serving.upstream_source import UpstreamSource
from tests.support.served import served
from tests.support.waiting import LIMIT_SECONDS

NAME = "tiny"


@dataclass(frozen=True)
class ModelServer:
    """A running server."""

    url: str
    serving: Serving

    @property
    def api(self) -> str:
        return f"{self.url}/v1"

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["json"] = body
        return httpx.post(f"{self.url}{path}", timeout=LIMIT_SECONDS, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=LIMIT_SECONDS, **options)


@contextmanager
def model_server(policy: CausalPolicy, *, slots: int = 16, pace: Callable[[], float] | None = None, **parts: Any) -> Iterator[ModelServer]:
    """A server of a policy until the end of the block. `pace` is the clock of its streams; `parts` as those of `source_server`."""
    outbox = Outbox(pace) if pace is not None else Outbox()
    sampler = ContinuousSampler(policy, slots=slots, after_step=outbox.flush)
    with source_server(LocalSource(sampler, outbox), **parts) as server:
        yield server


@contextmanager
def front_server(api: str, *, silence: float = LIMIT_SECONDS, slots: int = 16, key: str = "", **parts: Any) -> Iterator[ModelServer]:
    """A server before the server at `api`, which may say nothing for `silence` seconds, until the end of the block."""
    with source_server(UpstreamSource(UpstreamServer(api, NAME, bearer(key), silence), slots=slots), **parts) as server:
        yield server


@contextmanager
def source_server(
    source: AnswerSource, *, gate: ApiGate | None = None, of: Callable[[ServedModel], Serving] | None = None, **parts: Any
) -> Iterator[ModelServer]:
    """A server of any source until the end of the block; `parts` are further parts of its `ServedModel`."""
    numbers = itertools.count()
    model = ServedModel(NAME, source, **parts)
    serving = of(model) if of is not None else Serving(model, gate or ApiGate(), token=lambda: f"{next(numbers):08d}")
    try:
        with served(app_of(serving)) as url:
            yield ModelServer(url, serving)
    finally:
        model.close()
