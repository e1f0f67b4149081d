"""Continuous sampling: one thread draws for all requests, and a request that comes while others are decoded joins them at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from palate.core import ConfigError, ModelError, RunError
from palate.models.angles import short_angles
from palate.models.causal import CausalPolicy
from palate.models.shared_layers import together
from palate.samplers.cache import Cache
from palate.samplers.draw import check_sampling
from palate.samplers.draw_requests import DrawJob, DrawnToken, DrawRequest, Listener, SamplerLoad
from palate.samplers.forward import forward_of
from palate.samplers.ledger import Ledger, SampledTokens
from palate.samplers.packed import REFILL_SHARE, PackedRows
from palate.samplers.padded_decoding import PaddedDecoder, takes_padding
from palate.samplers.requests import ActiveRows, RowRequest, Share
from palate.samplers.sampler import token_budgets
from palate.text.chat_text import Ids

USUAL_CONTEXT = 4096
"""Tokens of a row where nobody says another number. Each row has memory for so many from the start."""


@dataclass(frozen=True, slots=True)
class _Row:
    job: DrawJob
    sample: int


@dataclass
class _Inbox:
    """New jobs for the sampler's thread."""

    jobs: list[DrawJob] = field(default_factory=list)
    is_closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class ContinuousSampler:
    """Draws for many requests at once, up to `slots` samples together. Each request has its own settings and seed."""

    def __init__(
        self, policy: CausalPolicy, *, slots: int = 64, context: int | None = None, after_step: Callable[[], None] = lambda: None
    ) -> None:
        """Start the thread.

        Args:
            policy: the model; nobody else may compute with it meanwhile.
            slots: samples that are decoded together.
            context: tokens of a prompt and its sample together, at most; None takes what the model takes, up to `USUAL_CONTEXT`.
            after_step: called by the thread after each step in which listeners were told something.

        Raises:
            ConfigError: `slots` or `context` cannot be.
            ModelError: the model needs another way of decoding.
        """
        self.policy, self.slots, self.load = policy, slots, SamplerLoad()
        self.context = _context(policy, slots, context)
        self._after_step = after_step
        self._inbox = _Inbox()
        self._prompts: dict[int, Ids] = {}
        self._numbers = 0
        if policy.path != "packed" and not takes_padding(policy):
            raise ModelError(
                "this model decodes with a cache of its own, which takes no new requests while it runs. Serve it with another server, such "
                "as vLLM"
            )
        self._thread = threading.Thread(target=self._run, name="palate sampler", daemon=True)
        self._thread.start()

    def submit(self, request: DrawRequest, listener: Listener) -> DrawJob:
        """Draw for a request; return at once.

        Raises:
            ConfigError: n or a sampling parameter is out of range.
            DataError: the prompt leaves no room for a token.
            RunError: the sampler is closed.
        """
        check_sampling(request.sampling)
        (budget,) = token_budgets([request.prompt], ["of the request"], request.n, request.sampling, self.context)
        with self._inbox.changed:
            if self._inbox.is_closed:
                raise RunError("the sampler is closed: start it again")
            job = DrawJob(self._numbers, request, budget, listener)
            self._numbers += 1
            self._inbox.jobs.append(job)
            self.load.waiting += request.n
            self._inbox.changed.notify()
        return job

    def close(self) -> None:
        """End the thread. Requests under way fail with RunError."""
        with self._inbox.changed:
            self._inbox.is_closed = True
            self._inbox.changed.notify()
        self._thread.join()

    def _run(self) -> None:
        waiting: deque[DrawJob] = deque()
        with torch.inference_mode(), self.policy.under(), together(self.policy.module):
            table = self._new_table()
            while self._take_new(waiting, is_idle=not (waiting or table.rows)):
                try:
                    is_told = self._step(table, waiting)
                except Exception as error:  # noqa: BLE001  # whatever breaks, the requests under way are told and the next ones get a new table
                    _fail((*(row.job for row in table.rows), *waiting), error)
                    waiting.clear()
                    self._prompts.clear()
                    table, is_told = self._new_table(), True
                self.load.active = len(table.rows)
                self.load.waiting = sum(job.request.n - job.admitted for job in (*waiting, *self._inbox.jobs))
                if is_told:
                    self._after_step()
        _fail((*(row.job for row in table.rows), *waiting, *self._inbox.jobs), RunError("the server ends: send the request again"))
        self._after_step()

    def _new_table(self) -> _Table:
        policy = self.policy
        weight, _ = policy.head
        ledger = Ledger(self.slots, self.context, end_ids=policy.end_ids, vocabulary=len(weight), device=weight.device)
        if policy.path != "packed":
            return _Table(PaddedDecoder(policy, self._prompts, slots=self.slots), ledger)
        forward = forward_of(policy, self.context)
        rows = PackedRows(forward, Cache(), self._prompts, longest=self.context, slots=self.slots, device=weight.device, is_eager=True)
        return _Table(rows, ledger)

    def _take_new(self, waiting: deque[DrawJob], *, is_idle: bool) -> bool:
        """Move new jobs to the queue, and wait for one where there is nothing to do; return whether to go on."""
        with self._inbox.changed:
            while is_idle and not self._inbox.jobs and not self._inbox.is_closed:
                self._inbox.changed.wait()
            waiting.extend(self._inbox.jobs)
            self._prompts |= {job.number: job.request.prompt for job in self._inbox.jobs}
            self._inbox.jobs.clear()
            return not self._inbox.is_closed

    def _step(self, table: _Table, waiting: deque[DrawJob]) -> bool:
        """Admit requests, or draw the next token of every row; return whether a listener was told something."""
        shares = self._shares(waiting, table.decoder.places()) if self._admits(table, waiting) else []
        if shares:
            table.admit(shares)
            self.load.prompt_tokens += sum(len(job.request.prompt) for share, job in shares if share.first == 0)
            logits = table.decoder.admit([share for share, _ in shares])
        elif table.rows:
            logits = table.decoder.advance(table.ledger.tokens)
        else:
            return False
        table.ledger.accept(logits)
        self.load.drawn_tokens += len(logits)
        is_told, is_over = self._told(table, logits)
        alive = table.ledger.alive()
        if is_over:
            alive[is_over] = False
        if bool(alive.all()):
            return is_told
        for job, sample, tokens in table.keep(alive):
            _finish(job, sample, tokens)
        for number in self._prompts.keys() - {row.job.number for row in table.rows} - {job.number for job in waiting}:
            del self._prompts[number]
        return True

    def _admits(self, table: _Table, waiting: deque[DrawJob]) -> bool:
        """Whether to fill rows now: all that waits has a place, or enough rows are free that one prefill serves several requests."""
        places = table.decoder.places() if waiting else 0
        return places > 0 and (places * REFILL_SHARE >= self.slots or places >= sum(job.request.n - job.admitted for job in waiting))

    def _shares(self, waiting: deque[DrawJob], places: int) -> list[tuple[Share, DrawJob]]:
        """Take what fits from the queue. A prompt of which samples wait comes last, and one that was begun before comes first."""
        taken: list[tuple[Share, DrawJob]] = []
        while waiting and places:
            job = waiting[0]
            if job.is_cancelled:
                waiting.popleft()
                continue
            count = min(places, job.request.n - job.admitted)
            share = Share(
                job.number, job.admitted, count, job.request.n - job.admitted - count, longest=len(job.request.prompt) + job.budget
            )
            taken.append((share, job))
            job.admitted += count
            places -= count
            if not share.waiting:
                waiting.popleft()
        begun = [one for one in taken[:1] if one[0].first]
        unfinished = [one for one in taken[-1:] if one[0].waiting and one not in begun]
        whole = taken[len(begun) : len(taken) - len(unfinished)]
        return [*begun, *sorted(whole, key=lambda one: -len(one[1].request.prompt)), *unfinished]

    def _told(self, table: _Table, logits: Tensor) -> tuple[bool, list[int]]:
        """Tell listeners the tokens of the last k rows; return whether there was one, and the rows that are over before their end."""
        first = len(table.rows) - len(logits)
        over = [place for place, row in enumerate(table.rows) if row.job.is_cancelled]
        listening = [k for k, row in enumerate(table.rows[first:]) if row.job.request.listens and not row.job.is_cancelled]
        if not listening:
            return False, over
        tokens = table.ledger.tokens[first:].tolist()
        counted = [k for k in listening if table.rows[first + k].job.request.likeliest is not None]
        logps = _with_logps(logits, counted, tokens, [table.rows[first + k].job.request.likeliest or 0 for k in counted])
        for k in listening:
            row = table.rows[first + k]
            if not _goes_on(row, logps.get(k) or DrawnToken(tokens[k])):
                over.append(first + k)
        return True, over


@dataclass
class _Table:
    """The active rows: the model's side, what was drawn, and whose each row is."""

    decoder: ActiveRows
    ledger: Ledger
    rows: list[_Row] = field(default_factory=list)

    def admit(self, shares: Sequence[tuple[Share, DrawJob]]) -> None:
        """Add the rows of shares."""
        new = [_Row(job, share.first + number) for share, job in shares for number in range(share.count)]
        self.ledger.admit(
            [RowRequest(row.job.number, row.sample, row.job.request.stream, row.job.budget, row.job.request.sampling) for row in new]
        )
        self.rows += new

    def keep(self, alive: Tensor) -> list[tuple[DrawJob, int, SampledTokens]]:
        """Drop rows, and return whose they were with what was drawn."""
        jobs = {row.job.number: row.job for row in self.rows}
        order = self.decoder.keep(alive)
        done = self.ledger.keep(alive, order)
        self.rows = [self.rows[place] for place in order.tolist()]
        return [(jobs[request.prompt], request.sample, tokens) for request, tokens in done]


def _goes_on(row: _Row, drawn: DrawnToken) -> bool:
    """Tell the listener a token; return whether its sample goes on. One that raises an exception gets nothing more."""
    try:
        return row.job.listener.token(row.sample, drawn)
    except Exception as error:  # noqa: BLE001  # a fault of one request must not end the others
        _fail([row.job], error)
        row.job.cancel()
        return False


def _finish(job: DrawJob, sample: int, tokens: SampledTokens) -> None:
    """Give the listener a finished sample."""
    if job.is_cancelled:
        return
    try:
        job.listener.done(sample, tokens)
    except Exception as error:  # noqa: BLE001  # as above
        _fail([job], error)
        job.cancel()


def _fail(jobs: Sequence[DrawJob], error: Exception) -> None:
    for job in dict.fromkeys(jobs):
        if not job.is_cancelled:
            job.listener.failed(error)


def _context(policy: CausalPolicy, slots: int, wanted: int | None) -> int:
    """Return the tokens of a row: what is wanted, else what the model takes without other angles."""
    limits = [limit for limit in (policy.max_tokens, short_angles(policy.module)) if limit is not None]
    if slots < 1:
        raise ConfigError(f"slots is {slots}: the sampler needs at least 1 row")
    if wanted is not None and (wanted < 2 or wanted > min(limits, default=wanted)):
        raise ConfigError(
            f"context is {wanted}: it must be 2 or more, and this model takes at most {min(limits, default=0) or 'any number'}"
        )
    return min([*limits, USUAL_CONTEXT]) if wanted is None else wanted


def _with_logps(logits: Tensor, places: Sequence[int], tokens: Sequence[int], counts: Sequence[int]) -> dict[int, DrawnToken]:
    """Return the tokens of some rows with log-probabilities at temperature 1, by place."""
    if not places:
        return {}
    logps = torch.log_softmax(logits[list(places)].float(), -1)
    most = min(max(counts), logps.shape[-1])
    values, entries = (x.tolist() for x in logps.topk(most)) if most else ([[]] * len(places), [[]] * len(places))
    own = [row[tokens[place]] for row, place in zip(logps, places, strict=True)]
    return {
        place: DrawnToken(tokens[place], float(logp), tuple(zip(ids[:count], nats[:count], strict=True)))
        for place, logp, ids, nats, count in zip(places, own, entries, values, counts, strict=True)
    }
