"""A Python that has torch, transformers and Palate loaded already: tests start many processes, and each would load them for seconds.

`executable` is a program that takes Python's own words (`-m MODULE`, `-c CODE` or a script, with `-u` or `-B` before them). It passes them
with its files, folder and environment to a process that forks a child for each. Signals are passed on, and what ends the child ends the
program. If the program is killed, so is the child, with what it started.

A child differs from a new process in two ways: modules are there before its first line, and so it never sees another version of a package.
The processes that test are such children too (`tests/conftest.py`), and so they share most of their memory.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import marshal
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from functools import cache
from pathlib import Path

MODULES = (
    "palate.api", "palate.cli", "palate.distributed.group", "palate.evaluation.report", "palate.pipeline.describe",
    "palate.pipeline.estimates.memory_check", "palate.pipeline.execute", "palate.stages.direct", "palate.stages.evaluate",
    "palate.stages.online", "palate.stages.pair", "palate.stages.pretrain", "palate.stages.refresh", "palate.stages.sft",
    "palate.testing.models", "palate.web.app",
    "crowdkit.aggregation", "datasets", "evalica", "peft", "playwright.sync_api", "scipy.stats", "statsmodels.api",
)  # fmt: skip
"""What is loaded before the first child."""

CLIENT = Path(__file__).with_name("warm_client.py")
FOLDERS = os.environ.get("PYTHONPATH", "").split(os.pathsep)
SHARED = "WARM_PYTHON"
"""Variable with the path of the program that all processes of a test run share."""

OWN = "WARM_EXECUTABLE"
"""Variable with what a child takes for its own Python, so that what it starts is warm too."""

PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@cache
def executable() -> str:
    """Starts the warm process, once for a run of tests; returns the path of the program, which lives as long."""
    if SHARED in os.environ:
        return os.environ[SHARED]
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    program, address = folder / "python", folder / "socket"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -ISu "{CLIENT}" "{address}" "$@"\n')
    program.chmod(0o755)
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CLIENT.parents[2])}
    words = [sys.executable, "-m", "tests.support.warm_python", str(address)]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=here)  # it ends when its standard input does
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return str(program)


class Server:
    """Forks a child for each program that connects, and watches both."""

    def __init__(self, address: str) -> None:
        self._watched = selectors.DefaultSelector()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen(64)
        self._watched.register(self._listening, selectors.EVENT_READ, self._accept)
        self._watched.register(sys.stdin, selectors.EVENT_READ, lambda: sys.exit(0))

    def serve(self) -> None:
        """Serves until the standard input ends."""
        while True:
            for key, _ in self._watched.select():
                key.data()

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, 64)
        length, _, body = message.partition(b"\n")
        while len(body) < int(length):
            body += connection.recv(1 << 20)
        child = os.fork()
        if child == 0:
            os.setsid()
            for one in (self._listening, self._watched, connection):
                one.close()
            become(files, **marshal.loads(body))
        for file in files:
            os.close(file)
        ended = os.pidfd_open(child)

        def passed() -> None:
            if number := connection.recv(1):
                os.kill(child, number[0])
            else:
                self._watched.unregister(connection)
                for kill in (os.killpg, os.kill):  # with what it started; it may not lead its group yet
                    with contextlib.suppress(ProcessLookupError):
                        kill(child, signal.SIGKILL)

        def reap() -> None:
            self._watched.unregister(ended)
            os.close(ended)
            _, status = os.waitpid(child, 0)
            with contextlib.suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            with contextlib.suppress(KeyError):
                self._watched.unregister(connection)
            connection.close()

        self._watched.register(ended, selectors.EVENT_READ, reap)
        self._watched.register(connection, selectors.EVENT_READ, passed)


def become(files: list[int], numbers: list[int], words: list[str], folder: str, environment: dict[bytes, bytes]) -> None:
    """Runs in the child: does what a new Python with these words would do, and ends the process."""
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, max(numbers) + 1) for file in files]  # where no number of the program's is
    for file in files:
        os.close(file)
    for number, file in zip(numbers, aside, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environb.update(environment)
    sys.executable = os.environ.get(OWN, sys.executable)
    for number in PASSED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, given), *(place for place in sys.path[1:] if place not in FOLDERS)]
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    os._exit(ran(words))


def ran(words: list[str]) -> int:
    """Runs what the words say; returns the exit status."""
    code: object = 0
    try:
        run(words)
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 (what Python does with what nobody caught)
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return int(code or 0)


def run(words: list[str]) -> None:
    """Runs a module, code or a script with the words after it."""
    while words[0] in ("-u", "-B"):  # multiprocessing passes -B on where PYTHONDONTWRITEBYTECODE is set
        words = words[1:]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


def write_models() -> None:
    """Write a small model of each of the two usual families: for its first one transformers loads and compiles much, once per process.

    Nothing is computed with them, and random numbers go on as if there were none.
    """
    from transformers import AutoModelForCausalLM

    from palate.models.load import built
    from palate.models.transformers_io import save_pair
    from palate.testing import tiny_config, word_tokenizer

    tokenizer = word_tokenizer()
    for family in ("llama", "qwen3"):
        with tempfile.TemporaryDirectory() as folder:
            save_pair(built(AutoModelForCausalLM.from_config, tiny_config(family, tokenizer), 0), tokenizer, folder)


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    write_models()
    gc.collect()
    gc.freeze()
    server = Server(sys.argv[1])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve()
