"""`palate use` changes what a running server answers with; a model that cannot be loaded changes nothing."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import httpx
import pytest

from palate.models.scalar import scalar_from
from palate.runs.pointer import swap
from palate.samplers.continuous import ContinuousSampler
from palate.serving.local_source import LocalSource
from palate.serving.serve_app import Serving
from palate.serving.serve_options import ServeOptions
from palate.serving.server import app_of, opened
from palate.testing import chat_tokenizer, tiny_policy
from tests.support.served import served
from tests.support.waiting import LIMIT_SECONDS, wait_until


def test_a_link_that_names_another_run_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, name in enumerate(("one", "two")):
        policy = tiny_policy("llama", chat_tokenizer("closed"), seed=seed)
        policy.save(tmp_path / name)
        scalar_from(policy, ("taste",), seed=seed).save(tmp_path / f"reward-{name}")
    link, reward = tmp_path / "in-use", tmp_path / "reward"
    swap(link, tmp_path / "one")
    swap(reward, tmp_path / "reward-one")
    (tmp_path / "broken").mkdir()
    swaps = list[int]()
    with opened(ServeOptions(str(link), reward=(str(reward),), slots=4), after_swap=lambda: swaps.append(gc.collect())) as serving:
        assert serving.follower is not None
        serving.follower._poll_seconds = 0.02
        first = weakref.ref(serving.model)
        thread, module = _sampler(serving)._thread, weakref.ref(_sampler(serving).policy.module)
        with served(app_of(serving)) as url, httpx.Client(base_url=url, timeout=LIMIT_SECONDS) as client:

            def said() -> str:
                body = {"model": "in-use", "prompt": "rice", "max_tokens": 20, "seed": 1, "return_token_ids": True}
                return json.dumps(client.post("/v1/completions", json=body).json()["choices"])

            def scored() -> float:
                found: float = client.post("/v1/score", json={"prompt": "rice", "completions": ["beans"]}).json()["data"][0]["score"]
                return found

            before, score = said(), scored()
            assert said() == before
            swap(link, tmp_path / "broken")
            wait_until(lambda: "the model in use stays" in caplog.text)
            assert said() == before
            swap(link, tmp_path / "two")
            wait_until(lambda: serving.model is not first())
            after = said()
            assert after != before
            assert scored() == score
            second = serving.model
            wait_until(lambda: not thread.is_alive())
            wait_until(lambda: len(swaps) == 1)
            wait_until(lambda: module() is None)  # two models do not stay in memory
            swap(reward, tmp_path / "reward-two")
            wait_until(lambda: serving.model is not second)
            assert scored() != score
            assert said() == after
            assert client.get("/v1/models").json()["data"][0]["id"] == "in-use"


def _sampler(serving: Serving) -> ContinuousSampler:
    assert isinstance(serving.model.source, LocalSource)
    return serving.model.source.sampler
