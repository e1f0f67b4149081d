"""`palate watch`: a live page of runs. It reads their directories and writes nothing."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response

from palate.runs.live_metrics import LIVE_METRICS
from palate.web.connections import server_config
from palate.web.own_machine import LOOPBACK, OwnMachineOnly
from palate.web.request_limits import RequestLimits
from palate.web.static_files import PackageFiles
from palate.web.view import STATIC, fragment
from palate.web.watched_run import WatchedRun


class WatchedRuns:
    """The runs of a page. Several browsers may ask at once; one request reads at a time."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """Follow the runs in these directories, each once.

        Raises:
            RunError: one does not exist, or holds no run.
        """
        self._runs = [WatchedRun(place) for place in {place.resolve(): place for place in directories}.values()]
        self._members: dict[Path, WatchedRun] = {}
        self._lock = threading.Lock()

    def title(self) -> str:
        """Return a title of the page."""
        return self._runs[0].name if len(self._runs) == 1 else f"{len(self._runs)} runs"

    def content(self) -> bytes:
        """Read what is new, and return all that the page shows as JSON. The same state of the runs gives the same bytes."""
        with self._lock:
            shown = []
            for run in self._runs:
                shown.append(run)
                for place in run.members():
                    if place not in self._members:
                        self._members[place] = WatchedRun(place, f"{run.name}/{place.name}")
                    shown.append(self._members[place])
            for run in shown:
                run.read()
            value = {"panels": [one.panel() for one in LIVE_METRICS], "runs": [run.plain() for run in shown]}
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", errors="replace")


def watch_app(runs: WatchedRuns, *, only_here: bool) -> FastAPI:
    """Return the application.

    Args:
        runs: what it shows.
        only_here: answer only this machine, under its own names.
    """
    app = FastAPI(title="Palate", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(fragment("watch.html", {"me": None, "here": "", "title": runs.title()}))

    @app.get("/data")
    def data(request: Request) -> Response:
        content = runs.content()
        tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(content, media_type="application/json", headers={"ETag": tag})

    app.mount("/static", PackageFiles(directory=STATIC), name="static")
    if only_here:
        app.add_middleware(OwnMachineOnly, command="palate watch")
    app.add_middleware(RequestLimits)
    return app


def watch(directories: Sequence[Path], host: str, listener: socket.socket, say: Callable[[str], None]) -> None:
    """Serve the page of the runs until Ctrl-C, at the socket that listens at `host`.

    Raises:
        RunError: a directory does not exist, or holds no run.
    """
    runs = WatchedRuns(directories)
    is_here = host in LOOPBACK
    name = f"[{host}]" if ":" in host else host
    say(f"Watch {runs.title()} at http://{name}:{listener.getsockname()[1]}")
    if not is_here:
        say("Everybody who reaches this address can read the prompts and the completions.")
    say("Ctrl-C stops the page. It does not stop the runs.")
    config = server_config(watch_app(runs, only_here=is_here), shutdown_seconds=1)
    uvicorn.Server(config).run(sockets=[listener])
