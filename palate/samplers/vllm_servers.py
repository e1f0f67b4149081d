"""Sampling from vLLM's servers while a policy learns. Weights go to them as files, and a probe checks each server after every load."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from palate.clients.completions import CompletionChoice, CompletionsClient, completions_endpoint
from palate.clients.http import RequestFailed, key_header
from palate.clients.vllm_control import VLLMControl
from palate.core import Completion, Prompt, RunError, Sampling, StopReason, derive_seed
from palate.distributed.ranks import ranks
from palate.distributed.sharing import rejoined
from palate.models.causal import CausalPolicy
from palate.samplers.draw import check_sampling
from palate.samplers.ledger import SampledTokens
from palate.samplers.probe import DRAW_TEMPERATURE, Probe, ProbedTokens
from palate.samplers.sampler import prompt_names, token_budgets
from palate.samplers.server_pool import PooledServer, ServerPool, ServerTurn
from palate.samplers.server_requests import asked_together, drawing_fields, further_fields, told
from palate.samplers.vllm_server_settings import API, VLLMServerSettings, base_of_server
from palate.samplers.weight_files import published, write_weights
from palate.text.chat_text import Ids
from palate.text.sampled_texts import completions_of
from palate.text.spans import prompt_ids

PROBED_DRAWS = 8
"""Number of tokens that a server draws for its probe."""

LONGEST_ANSWER = 1 << 30
"""Bytes. vLLM writes some 150 for each token of each completion of a prompt."""


class VLLMServers:
    """Draws completions from servers that have a copy of the policy's weights. Rank 0 asks them, and the other ranks get what they say.

    A completion depends on what a server makes of the seed. vLLM gives the same tokens for the same weights and seed, as far as it computes
    the same numbers. Those depend on the requests that it computes together, and on the server.
    """

    def __init__(self, policy: CausalPolicy, settings: VLLMServerSettings, directory: Path, say: Callable[[str], None]) -> None:
        """Prepare to ask the servers; nothing is sent yet.

        Args:
            policy: the policy as it stands.
            settings: where the servers are.
            directory: the run's own folder for weights. It names this run's part of `settings.directory` too.
            say: tells the user what happens to a server.

        Raises:
            ConfigError: the environment variable holds no key.
        """
        self._policy, self._settings = policy, settings
        self._probe = Probe(policy, settings.tolerance)
        own = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
        self._name = f"palate-{own}"
        self._directory = directory.resolve() if settings.directory is None else Path(settings.directory).resolve() / self._name
        if ranks().is_writer:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(parents=True)
        headers = key_header("sampler", settings.key_variable)
        self._pool = ServerPool([self._server(base_of_server(url), headers) for url in settings.servers], say, settings.attempts)
        self._version, self._salt = "", ""
        self._files: Path | None = None
        self._loads, self._adapters = count(), count()
        self._learner = self._next = torch.empty(0)
        """The learner's numbers of the probe for the weights that were loaded last: of fixed tokens (p,), and of the next token (v,)."""

    def _server(self, base: str, headers: dict[str, str]) -> PooledServer:
        settings = self._settings
        endpoint = replace(completions_endpoint("sampler.servers", base + API), max_bytes=LONGEST_ANSWER)
        client = CompletionsClient(endpoint, settings.model, headers)
        return PooledServer(base, VLLMControl("sampler.servers", base, headers), client, is_asleep=settings.sleep)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        return self._policy.tokenizer

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of the policy; None where it has no limit."""
        return self._policy.max_tokens

    def load(self, policy: CausalPolicy, version: int) -> None:
        """Send the weights of the policy to all servers, and compare each with the learner.

        A server that does not take them draws nothing of this version, and is tried again at the next.

        Raises:
            RunError: no server took them.
        """
        self._version = str(version)
        if ranks().is_writer:
            number = next(self._loads)
            before = self._files
            self._learner = self._probe.learner_logps(policy)
            self._next = policy.next_logps(self._probe.prefix, temperature=DRAW_TEMPERATURE)
            # A name of its own for each load: nobody may have read another file of this name before.
            self._files = published(self._directory / f"load-{number}", lambda part: self._write(policy, part))
            self._salt = f"{self._name}-{number}-{time.time_ns()}"
            self._pool.prepare(self._prepare)
            if before is not None:
                shutil.rmtree(before, ignore_errors=True)
        ranks().wait_for_writer()

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return `n` completions per prompt, in the order of the prompts.

        At temperature 0 all log-probabilities are 0, as those of every sampler.

        Raises:
            ConfigError: `n` or a sampling parameter is out of range.
            DataError: a prompt leaves no room for a completion.
            RunError: no server is left that has the weights.
        """
        share = self.generate_share(prompts, n, sampling, seed)
        if ranks().is_writer and self._settings.sleep:
            self._let_sleep()
        ranks().wait_for_writer()  # servers may take longer than ranks wait for each other
        return rejoined(share)

    def generate_share(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return all completions on rank 0 and none on the others, without waiting for other ranks; see `generate`."""
        check_sampling(sampling)
        ids = [prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        budgets = token_budgets(ids, prompt_names(prompts), n, sampling, self.max_tokens)
        if not ranks().is_writer:
            return []
        is_greedy = sampling.temperature == 0
        draws = 1 if is_greedy else n  # all greedy completions of a prompt are one, and vLLM refuses to draw several

        def ask(number: int) -> tuple[ServerTurn, list[SampledTokens]]:
            fields = self._fields(sampling, budgets[number], derive_seed(seed, number))
            return self._asked(ids[number], fields, draws, budgets[number])

        groups = []
        for number, drawn in enumerate(self._verified(ask, len(prompts))):
            tokens = [SampledTokens(one.ids, (0.0,) * len(one.ids), one.stop) for one in drawn] if is_greedy else drawn
            made = completions_of(self.tokenizer, prompts[number].conversation, ids[number], tokens, policy=self._version)
            groups.append(list(made) * (n // draws))
        return groups

    def close(self) -> None:
        """Remove the weights and the adapters that were sent. The servers go on."""
        if ranks().is_writer:
            for turn in self._pool.turns():
                self._forget(turn.server, turn.server.adapter)
            shutil.rmtree(self._directory, ignore_errors=True)

    def _write(self, policy: CausalPolicy, directory: Path) -> None:
        if self._settings.update == "adapter":
            assert policy.adapters is not None, "the settings were checked"
            policy.adapters.save(directory)
        else:
            write_weights(policy, directory)

    def _prepare(self, server: PooledServer) -> None:
        """Load the files into a server and check what it computes. Raises RequestFailed or TrainingError."""
        assert self._files is not None, "there are no weights yet"
        if server.is_asleep:  # an update of weights that sleep may end vLLM
            server.control.wake_up(self._deadline())
            server.is_asleep = False
        if self._settings.update == "adapter":
            name, before = f"{self._name}-{next(self._adapters)}-{time.time_ns()}", server.adapter
            server.control.load_adapter(name, self._files, self._deadline())
            server.adapter, server.client = name, replace(server.client, model=name)
            self._forget(server, before)
        else:
            server.control.reload_weights(self._files, self._deadline())
        server.control.reset_prefix_cache(self._deadline())
        now = ProbedTokens(self._learner, torch.tensor(server.client.prompt_logps(self._probe.ids, self._deadline())))
        self._probe.check(self._version, server.url, now, server.probed)
        server.probed = now
        self._check_draws(server)

    def _check_draws(self, server: PooledServer) -> None:
        """Check what a server draws after a long prompt. It reads its cache of prompts for that, which fixed tokens do not show."""
        fields = self._fields(Sampling(temperature=DRAW_TEMPERATURE, max_tokens=1), 1, derive_seed(0, "probe", self._version))
        choices = server.client.complete(self._probe.prefix, fields, PROBED_DRAWS, self._deadline(), attempts=1)
        drawn = [(one.ids[0], one.logps[0]) for one in (self._tokens(choice, 1) for choice in choices)]
        self._probe.check_draws(self._version, server.url, self._next, drawn)

    def _forget(self, server: PooledServer, adapter: str) -> None:
        """Unload an adapter, if there is one. The server may have ended, or have forgotten it already."""
        if adapter:
            with suppress(RequestFailed):
                server.control.unload_adapter(adapter, self._deadline())

    def _verified(self, ask: Callable[[int], tuple[ServerTurn, list[SampledTokens]]], prompts: int) -> list[list[SampledTokens]]:
        """Return the completions of each prompt. Those of a server that has other weights at the end are drawn again elsewhere."""
        self._wake()
        done: dict[int, tuple[ServerTurn, list[SampledTokens]]] = {}
        waiting: Sequence[int] = range(prompts)
        for _ in range(self._settings.attempts):
            done.update(zip(waiting, asked_together(ask, waiting, self._settings.concurrency), strict=True))
            changed = {turn for turn in {done[number][0] for number in waiting} if self._is_changed(turn)}
            waiting = [number for number in waiting if done[number][0] in changed]
            if not waiting:
                return [done[number][1] for number in range(prompts)]
        raise RunError(
            f"the weights of {done[waiting[0]][0].server.url} changed while completions were drawn, {self._settings.attempts} times. "
            "Another program uses it, or it ends and starts again. Give each run servers of its own. The same command goes on from the "
            "last checkpoint"
        )

    def _is_changed(self, turn: ServerTurn) -> bool:
        """Return whether a server computes something else than at its load, and leave it out then. One that failed since is not asked."""
        if not turn.is_valid or turn.server.probed is None:
            return False
        try:
            found = torch.tensor(turn.server.client.prompt_logps(self._probe.ids, self._deadline()))
        except RequestFailed as failure:
            self._pool.leave_out(turn, failure)
            return True
        if is_changed := self._probe.is_changed(turn.server.probed.engine, found):
            self._pool.leave_out(turn, RequestFailed("has other weights than those of its load", "invalid"))
        return is_changed

    def _asked(self, prompt: Ids, fields: dict[str, object], n: int, budget: int) -> tuple[ServerTurn, list[SampledTokens]]:
        """Return completions of a prompt from the next server; where one fails, the next is asked."""
        told_last, attempts = "", self._settings.attempts * len(self._pool.servers)
        for _ in range(attempts):
            turn = self._pool.take()
            try:
                choices = turn.server.client.complete(prompt, fields, n, self._deadline(), attempts=1)
                return turn, [self._tokens(choice, budget) for choice in choices]
            except RequestFailed as failure:
                told_last = f"{turn.server.url} {told(failure)}"
                self._pool.leave_out(turn, failure)
        raise RunError(
            f"no server gave completions of a prompt of {len(prompt)} tokens, after {attempts} attempts: {told_last}. "
            "What was written stays, and the same command goes on from the last checkpoint"
        )

    def _tokens(self, choice: CompletionChoice, budget: int) -> SampledTokens:
        """Return the tokens of a completion.

        Raises:
            RequestFailed: it is of kind `invalid`: tokens or log-probabilities are missing, or the completion is not whole.
        """
        ids, logps, vocabulary = choice.ids, choice.logps, len(self._next)
        if ids is None or logps is None:
            missing = "token ids" if ids is None else "log-probabilities"
            raise RequestFailed(f"answered without {missing}: it must be a server of vLLM 0.20 or newer", "invalid")
        if not ids or len(ids) > budget or max(ids) >= vocabulary or not all(map(math.isfinite, logps)):
            raise RequestFailed(
                f"answered with {len(ids)} tokens up to {max(ids, default=-1)} and log-probabilities from {min(logps, default=0):g}, "
                f"where 1 to {budget} tokens below {vocabulary} with finite ones were asked for",
                "invalid",
            )
        stop: StopReason = "eos" if ids[-1] in self._policy.end_ids else "length"
        if stop == "length" and len(ids) < budget:
            raise RequestFailed(f"ended a completion after {len(ids)} of {budget} tokens without an end token", "invalid")
        return SampledTokens(ids, logps, stop)

    def _fields(self, sampling: Sampling, budget: int, seed: int) -> dict[str, object]:
        """Return the fields of a request. The salt keeps what vLLM knows of a prompt apart from what it knew with other weights."""
        fields = drawing_fields(sampling, budget, seed)
        return {**fields, **further_fields(sampling, self._policy.end_ids), "cache_salt": self._salt}

    def _wake(self) -> None:
        """Wake the servers that sleep; their weights are those of before."""
        for turn in self._pool.turns():
            if turn.server.is_asleep:
                turn.server.is_asleep = not self._took(turn, turn.server.control.wake_up)

    def _let_sleep(self) -> None:
        for turn in self._pool.turns():
            turn.server.is_asleep = True  # also where no answer comes
            self._took(turn, turn.server.control.sleep)

    def _took(self, turn: ServerTurn, tell: Callable[[float], None]) -> bool:
        """Return whether a server does what it is told; else it is left out."""
        try:
            tell(self._deadline())
        except RequestFailed as failure:
            self._pool.leave_out(turn, failure)
            return False
        return True

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.timeout_seconds
