"""Servers that take turns: requests go round, a server that fails is left out, and all are prepared anew when none is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from palate.clients.completions import CompletionsClient
from palate.clients.http import FIRST_PAUSE, LONGEST_PAUSE, RequestFailed
from palate.clients.vllm_control import VLLMControl
from palate.core import RunError, TrainingError
from palate.samplers.probe import ProbedTokens
from palate.samplers.server_requests import told

NEW = "was not tried yet"


@dataclass(eq=False)
class PooledServer:
    """One server, and what is known of it.

    Attributes:
        url: its address, for messages.
        control: its control.
        client: its completions, under the name of the model that was loaded last.
        probed: its probe at its last load; None before the first.
        adapter: the name of the adapter that it loaded last; "" without one.
        is_asleep: whether it may be asleep.
        fault: why no request goes to it; "" where it takes part.
        is_slow: whether it gave no answer in time. It is tried again only where no other is left, because that may take as long again.
        loads: how often it was prepared with success.
    """

    url: str
    control: VLLMControl
    client: CompletionsClient
    probed: ProbedTokens | None = None
    adapter: str = ""
    is_asleep: bool = False
    fault: str = NEW
    is_slow: bool = False
    loads: int = 0


@dataclass(frozen=True)
class ServerTurn:
    """A server that a request may go to, as it was prepared at its load of this number."""

    server: PooledServer
    load: int

    @property
    def is_valid(self) -> bool:
        """Whether the server has taken part without a break since then."""
        return not self.server.fault and self.server.loads == self.load


@dataclass
class ServerPool:
    """Servers in turn.

    A server that failed once gets no request until it was prepared again. So one that was started again behind the same address, with the
    weights it began with, is not taken for the one before.

    Attributes:
        servers: the servers.
        say: tells the user that a server is left out, or takes part again.
        attempts: how often all servers are prepared, at most, when none is left.
    """

    servers: Sequence[PooledServer]
    say: Callable[[str], None]
    attempts: int
    _prepare: Callable[[PooledServer], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _taken: int = 0

    def prepare(self, prepare: Callable[[PooledServer], None]) -> None:
        """Prepare all servers at once, those that had failed too, and let those take part that can.

        Args:
            prepare: loads the weights into a server and checks them; it raises RequestFailed or TrainingError.

        Raises:
            RunError: no server takes part, after all attempts.
        """
        with self._lock:
            self._prepare = prepare
            self._prepare_all()

    def take(self) -> ServerTurn:
        """Return the next server. Where none is left, all are prepared again; whoever asks meanwhile waits.

        Raises:
            RunError: none takes part, after all attempts.
        """
        with self._lock:
            if not any(self._usable()):
                self._prepare_all()
            usable = list(self._usable())
            self._taken += 1
            server = usable[self._taken % len(usable)]
            return ServerTurn(server, server.loads)

    def leave_out(self, turn: ServerTurn, failure: RequestFailed) -> None:
        """Send no more requests to a server that failed at this turn."""
        with self._lock:
            if turn.is_valid:  # another request may have failed before, and the server have been prepared since
                self._mark(turn.server, failure)

    def turns(self) -> list[ServerTurn]:
        """Return a turn of every server that takes part."""
        with self._lock:
            return [ServerTurn(server, server.loads) for server in self._usable()]

    def _usable(self) -> Iterator[PooledServer]:
        return (server for server in self.servers if not server.fault)

    def _mark(self, server: PooledServer, failure: RequestFailed | TrainingError) -> None:
        """Note why a server cannot take part, and say so where it did until now, or was never tried."""
        is_news = server.fault in ("", NEW)
        server.fault = f"{server.url} {told(failure)}" if isinstance(failure, RequestFailed) else str(failure)
        server.is_slow = isinstance(failure, RequestFailed) and failure.kind == "timeout"
        if is_news:
            self.say(f"{server.fault}. Nothing is drawn there until it takes the weights")

    def _prepare_all(self) -> None:
        """Prepare servers until at least one takes part: first those that answer in time, then all."""
        pause = FIRST_PAUSE
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            quick = [server for server in self.servers if not server.is_slow]
            for servers in (quick, [server for server in self.servers if server not in quick]):
                self._prepare_some(servers)
                if any(self._usable()):
                    return
        raise RunError(
            f"no server of sampler.servers draws completions: {'; '.join(server.fault for server in self.servers)}. Start "
            "them, or name others in sampler.servers. What was written stays, and the same command goes on from the last checkpoint"
        )

    def _prepare_some(self, servers: Sequence[PooledServer]) -> None:
        if not servers:
            return
        with ThreadPoolExecutor(len(servers)) as threads:
            failures = list(threads.map(self._failure_of, servers))
        for server, failure in zip(servers, failures, strict=True):
            if failure is not None:
                self._mark(server, failure)
                continue
            if server.fault not in ("", NEW):
                self.say(f"{server.url} takes part again")
            server.fault, server.is_slow = "", False
            server.loads += 1

    def _failure_of(self, server: PooledServer) -> RequestFailed | TrainingError | None:
        """Prepare a server and return why it cannot take part; None where it can."""
        assert self._prepare is not None, "servers are prepared before they are asked"
        try:
            self._prepare(server)
        except (RequestFailed, TrainingError) as failure:
            return failure
        return None
