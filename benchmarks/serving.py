"""Load `palate serve` over real HTTP: `python -m benchmarks.serving --clients 200 --fuzz 1000 --kills 50`.

It builds a small model and a reward model with random weights, and starts `palate serve` on them. The bare sampler works in this process
and takes turns with the server, so both meet the same machine:

- first token: one prompt after the other; the server streams.
- throughput: the same prompts, `--together` at a time on both sides; whole answers, then streams. Of a busy machine trust processor time.
- best of 8: one request after the other, with and without.
- clients: so many streams at once; all must end with [DONE].
- fuzz: so many requests with damaged fields or bytes; none may be answered with 500 or more.
- kills: the server is killed (SIGKILL) so often while feedback arrives; all that was acknowledged must be in the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.started_server import StartedServer
from palate.core import Sampling
from palate.models.causal import CausalPolicy
from palate.models.load import as_policy, vocabulary_size
from palate.models.scalar import scalar_from
from palate.samplers import LocalSampler
from palate.serving.feedback import FEEDBACK
from palate.testing import word_tokenizer

PROMPT_TOKENS, ANSWER_TOKENS = 40, 48
SERVED: dict[str, dict[str, object]] = {"whole": {}, "stream": {"stream": True, "stream_options": {"include_usage": True}}}
USED = re.compile(rb'"completion_tokens": ?(\d+)')
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**30, 0.5, -1e308, "", " ", "\u0000", "\u2028", "ä" * 300, "tiny", [], [[]], {}, [None], {"": ""}),
    *([0, 1], [[0], [1]], ["a", "a"], {"role": "user", "content": "x"}),
)
FIELDS = (
    *("model", "messages", "prompt", "max_tokens", "n", "stop", "seed"),
    *("logprobs", "top_p", "best_of", "weights", "stream", "value", "x"),
)


def built_policy(hidden: int, layers: int) -> CausalPolicy:
    """Return a Llama of words with random weights."""
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_size(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return as_policy(LlamaForCausalLM(config), tokenizer)


async def post(port: int, path: str, body: bytes) -> tuple[int, bytes, float]:
    """Return status, content, and seconds to the first text of an answer."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        start = await reader.readuntil(b"\r\n\r\n")
        first = await reader.read(65536)
        seconds = time.perf_counter() - begun
        return int(start[9:12]), first + await reader.read(), seconds
    finally:
        writer.close()


def request(prompt: Sequence[int], **fields: object) -> bytes:
    """Return the body of a request for a completion of `ANSWER_TOKENS` tokens."""
    return json.dumps({"prompt": list(prompt), "max_tokens": ANSWER_TOKENS, "seed": 1, **fields}).encode()


def first_tokens(port: int, bare: LocalSampler, prompts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the median seconds to a first token, bare and served."""
    alone, served = [], []
    for number, prompt in enumerate(prompts):
        begun = time.perf_counter()
        bare.sample([prompt], 1, Sampling(max_tokens=1), [number])
        alone.append(time.perf_counter() - begun)
        status, _, seconds = asyncio.run(post(port, "/v1/completions", request(prompt, stream=True)))
        assert status == 200
        served.append(seconds)
    return median(alone), median(served)


@dataclass(frozen=True)
class Rate:
    """One repeat: tokens per second of the clock, and milliseconds of processor time per token."""

    clock: float
    processor: float


def throughputs(server: StartedServer, bare: LocalSampler, prompts: Sequence[Sequence[int]], repeats: int) -> list[dict[str, Rate]]:
    """Return the rates of each repeat: bare, served whole, and served as streams. All draw the same tokens."""

    async def all_at_once(seeds: Sequence[int], options: dict[str, object]) -> int:
        bodies = [request(prompt, seed=seed, **options) for prompt, seed in zip(prompts, seeds, strict=True)]
        answers = await asyncio.gather(*(post(server.port, "/v1/completions", body) for body in bodies))
        return sum(int(USED.findall(content)[-1]) for _, content, _ in answers)

    found = []
    for repeat in range(repeats):
        seeds = [1000 * repeat + k for k in range(len(prompts))]
        begun, spent = time.perf_counter(), time.process_time()
        samples = bare.sample(prompts, 1, Sampling(max_tokens=ANSWER_TOKENS), seeds)
        drawn = sum(len(one.ids) for group in samples for one in group)
        rates = {"bare": Rate(drawn / (time.perf_counter() - begun), 1e3 * (time.process_time() - spent) / drawn)}
        for name, options in SERVED.items():
            begun, spent = time.perf_counter(), server.processor()
            assert asyncio.run(all_at_once(seeds, options)) == drawn
            rates[name] = Rate(drawn / (time.perf_counter() - begun), 1e3 * (server.processor() - spent) / drawn)
        found.append(rates)
    return found


def print_shares(found: Sequence[dict[str, Rate]]) -> None:
    """Print what serving costs beside the bare sampler."""
    clock, processor = median(rates["bare"].clock for rates in found), median(rates["bare"].processor for rates in found)
    print(f"bare: {clock:.0f} tokens per second, {processor:.3f} ms of processor time per token (medians of {len(found)})")
    for name in SERVED:
        for label, shares in (
            ("tokens per second", [rates[name].clock / rates["bare"].clock for rates in found]),
            ("processor time", [rates[name].processor / rates["bare"].processor for rates in found]),
        ):
            print(f"{name}: {label} against bare {median(shares):.3f}, from {min(shares):.3f} to {max(shares):.3f}")


@dataclass(frozen=True)
class Cost:
    """Seconds of requests: the median of the clock, and the mean of the server's processor time."""

    clock: float
    processor: float


def best_of(server: StartedServer, prompts: Sequence[Sequence[int]]) -> tuple[Cost, Cost]:
    """Return what one sample costs, and the best of eight; the two take turns in blocks of four requests."""
    clocks: dict[int, list[float]] = {1: [], 8: []}
    processors = dict.fromkeys(clocks, 0.0)
    for start in range(0, len(prompts), 4):
        for size, own in clocks.items():
            spent = server.processor()
            for number, prompt in enumerate(prompts[start : start + 4], start=start):
                begun = time.perf_counter()
                body = request(prompt, seed=number, **({"best_of": size} if size > 1 else {}))
                status, content, _ = asyncio.run(post(server.port, "/v1/completions", body))
                assert status == 200, content
                own.append(time.perf_counter() - begun)
            processors[size] += server.processor() - spent
    one, eight = (Cost(median(clocks[size]), processors[size] / len(prompts)) for size in clocks)
    return one, eight


def print_best_of(one: Cost, eight: Cost) -> None:
    """Print what ranking costs."""
    print(
        f"one sample {1e3 * one.clock:.0f} ms, best of 8 {1e3 * eight.clock:.0f} ms: {eight.clock / one.clock:.2f} times; "
        f"processor {1e3 * one.processor:.1f} and {1e3 * eight.processor:.1f} ms: {eight.processor / one.processor:.2f} times"
    )


def many_clients(port: int, prompts: Sequence[Sequence[int]], clients: int) -> tuple[int, float]:
    """Return how many of so many streams at once were whole, and the seconds until the last one was."""

    async def all_at_once() -> int:
        bodies = [request(prompts[k % len(prompts)], stream=True, seed=k) for k in range(clients)]
        answers = await asyncio.gather(*(post(port, "/v1/completions", body) for body in bodies), return_exceptions=True)
        return sum(not isinstance(one, BaseException) and one[0] == 200 and b"data: [DONE]" in one[1] for one in answers)

    begun = time.perf_counter()
    return asyncio.run(all_at_once()), time.perf_counter() - begun


def fuzzed(port: int, number: int, seed: int) -> Counter[int]:
    """Return how many damaged requests got each status."""
    rng = random.Random(seed)
    statuses = Counter[int]()
    for _ in range(number):
        base: dict[str, Any] = {"prompt": "so", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        base.pop(rng.choice(("prompt", "messages")))
        for _ in range(rng.randrange(1, 4)):
            base[rng.choice(FIELDS)] = rng.choice(VALUES)
        content = bytearray(json.dumps(base).encode())
        for _ in range(rng.randrange(3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = rng.choice(("/v1/completions", "/v1/chat/completions", "/v1/score", "/feedback"))
        statuses[asyncio.run(post(port, path, bytes(content)))[0]] += 1
    return statuses


def killed(server: StartedServer, store: Path, kills: int) -> tuple[int, int]:
    """Return how much feedback was acknowledged, and how much of that is lost."""
    acknowledged: list[str] = []

    async def say_until_killed(inference: str) -> None:
        body = json.dumps({"inference_id": inference, "metric_name": "helpful", "value": True}).encode()
        try:
            while True:
                status, content, _ = await post(server.port, "/feedback", body)
                if status == 200:
                    acknowledged.append(json.loads(_body(content))["feedback_id"])
        except (OSError, asyncio.IncompleteReadError, ValueError, LookupError):
            return

    async def one_life() -> None:
        _, content, _ = await post(server.port, "/v1/completions", request([5, 6, 7], max_tokens=2))
        name = json.loads(_body(content))["id"]
        sayers = [asyncio.ensure_future(say_until_killed(name)) for _ in range(4)]
        await asyncio.sleep(0.3 + random.random())
        server.kill()
        await asyncio.gather(*sayers)

    for _ in range(kills):
        asyncio.run(one_life())
        server.start()
    path = store / FEEDBACK
    kept = {json.loads(line)["feedback_id"] for line in path.read_text().splitlines() if line.endswith("}")} if path.exists() else set()
    return len(acknowledged), len(set(acknowledged) - kept)


def _body(content: bytes) -> bytes:
    """Return the JSON of an answer, without the frames of a chunked body."""
    return content[content.index(b"{") : content.rindex(b"}") + 1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--together", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--singles", type=int, default=40)
    parser.add_argument("--ranked", type=int, default=40)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--fuzz", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rng = random.Random(options.seed)
    policy = built_policy(options.hidden, options.layers)
    prompts = [[rng.randrange(4, vocabulary_size(policy.tokenizer)) for _ in range(PROMPT_TOKENS)] for _ in range(options.together)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        policy.save(place / "policy")
        scalar_from(policy, ("taste", "kind"), seed=1).save(place / "reward")
        words = ("--reward", str(place / "reward"), "--slots", str(options.together), "--store", str(place / "store"))
        server = StartedServer("serve", str(place / "policy"), *words)
        server.start()
        try:
            bare = LocalSampler(policy, slots=options.together)
            throughputs(server, bare, prompts, 2)  # warm
            size = sum(p.numel() for p in policy.parameters()) / 1e6
            print(f"model of {size:.2f} M parameters; {options.together} prompts of {PROMPT_TOKENS} tokens, {ANSWER_TOKENS} drawn")
            alone, served = first_tokens(server.port, bare, prompts[: options.singles])
            print(f"first token: bare {1e3 * alone:.1f} ms, served {1e3 * served:.1f} ms (medians of {options.singles})")
            print_shares(throughputs(server, bare, prompts, options.repeats))
            if options.ranked:
                print_best_of(*best_of(server, prompts[: options.ranked]))
            whole, seconds = many_clients(server.port, prompts, options.clients)
            print(f"{options.clients} streams at once: {whole} whole in {seconds:.1f} s")
            statuses = fuzzed(server.port, options.fuzz, options.seed)
            broken = sum(count for status, count in statuses.items() if status >= 500)
            print(f"{options.fuzz} damaged requests: {dict(sorted(statuses.items()))}; {broken} of 500 or more")
            said, lost = killed(server, place / "store", options.kills)
            print(f"{options.kills} kills: {said} times feedback was acknowledged, {lost} lost")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
