"""An application that truly runs: uvicorn on a free port of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from palate.web.connections import server_config
from palate.web.listener import listen
from tests.support.waiting import joined, wait_until


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address of the running application, until the end of the block."""
    listener = listen("127.0.0.1", 0)
    process = uvicorn.Server(server_config(app, shutdown_seconds=2))
    thread = threading.Thread(target=process.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: process.started or not thread.is_alive())
    assert process.started
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.should_exit = True
        joined(thread)
        listener.close()
