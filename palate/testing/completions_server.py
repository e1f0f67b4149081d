"""A real HTTP server with the completions of an OpenAI-compatible API, which a policy in this process answers through the local sampler."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from palate.core import PalateError, Sampling
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler, SampledTokens

Answer = Callable[[Mapping[str, Any]], tuple[int, object] | tuple[int, object, Mapping[str, str]]]
"""Returns status, body and perhaps headers for the body of a request; bytes are sent as they are.

A header `Content-Length` that is longer than the body makes a connection that breaks off in the middle of an answer.
"""

STANDARD = frozenset(
    (
        *("model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty"),
        *("seed", "stop", "stream", "suffix", "temperature", "top_p", "user"),
    )
)
"""The fields of a request that OpenAI's own API knows."""


class CompletionsServer:
    """A server in a thread, at a free port of this machine.

    Attributes:
        url: the base of its API.
        asked: path, headers and body of each request, in the order they came.
        answer: answers the requests; a test may replace it.
        routes: answers requests to paths of their own, without their query; a test may replace them too.
    """

    def __init__(self, answer: Answer, routes: Mapping[str, Answer] | None = None) -> None:
        self.routes: dict[str, Answer] = dict(routes or {})
        self.asked: list[tuple[str, dict[str, str], Mapping[str, Any]]] = []
        self.answer = answer
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Answer a request."""
                size = int(self.headers["Content-Length"])
                content = self.rfile.read(size)
                if len(content) < size:
                    self.close_connection = True  # the client was killed
                    return
                body = json.loads(content)
                server.asked.append((self.path, dict(self.headers), body))
                status, value, *more = server.routes.get(self.path.partition("?")[0], server.answer)(body)
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                headers = {"Content-Length": str(len(content)), **(more[0] if more else {})}
                try:
                    self.send_response(status)
                    for name, text in headers.items():
                        self.send_header(name, text)
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # the client hung up

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self._http.shutdown()
        self._http.server_close()


def policy_answers(policy: CausalPolicy, *, is_strict: bool = False, knows_ids: bool = True) -> Answer:
    """Return what answers as vLLM does, with completions of the policy.

    Args:
        policy: the policy.
        is_strict: refuse fields that OpenAI's own API does not know.
        knows_ids: give token ids to those who ask for them.
    """
    sampler, turn = LocalSampler(policy), threading.Lock()

    def answer(body: Mapping[str, Any]) -> tuple[int, object]:
        foreign = sorted(body.keys() - STANDARD)
        if is_strict and foreign:
            return 400, {"error": {"message": f"Unrecognized request argument supplied: {foreign[0]}"}}
        if body.get("temperature") == 0 and body.get("n", 1) > 1:
            return 400, {"error": {"message": "n must be 1 when using greedy sampling"}}
        sampling = Sampling(
            body.get("temperature", 1.0), body.get("top_p", 1.0), max(body.get("top_k", 0), 0), body["max_tokens"], body.get("min_p", 0.0)
        )
        try:
            with turn:
                (samples,) = sampler.sample([body["prompt"]], body.get("n", 1), sampling, [body["seed"]])
        except PalateError as error:
            return 400, {"error": {"message": str(error)}}
        return 200, {"object": "text_completion", "choices": [choice(number, sample, body) for number, sample in enumerate(samples)]}

    def choice(number: int, sample: SampledTokens, body: Mapping[str, Any]) -> dict[str, object]:
        is_bare = body.get("skip_special_tokens", True)
        text = policy.tokenizer.decode(sample.ids[:-1] if sample.stop == "eos" else sample.ids, skip_special_tokens=is_bare)
        has_ids = knows_ids and body.get("return_token_ids")
        return {
            "index": number,
            "text": text,
            "finish_reason": "stop" if sample.stop == "eos" else "length",
            "logprobs": {"token_logprobs": list(sample.logps)} if body.get("logprobs") else None,
            **({"token_ids": list(sample.ids)} if has_ids else {}),
        }

    return answer
