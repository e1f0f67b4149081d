"""What the words of a command tell alone: a port in use, a model that is not there. One message, before anything is loaded or made."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from palate.core import ConfigError
from palate.web.listener import listen

HEAVY = ("torch", "transformers", "uvicorn", "fastapi", "sqlalchemy", "numpy")

CODE = f"""\
import sys
from palate.cli import main
status = main(sys.argv[1:])
print(status, *(name for name in {HEAVY!r} if name in sys.modules))
"""

COMMANDS = {"serve": ["."], "label": ["--ratings", "r.db", "--items", "items.jsonl"], "judge": ["runs"], "watch": ["a-run"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_port_in_use_is_one_message_before_anything_is_loaded_or_made(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-c", CODE, command, *COMMANDS[command], "--port", str(port)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    cause = f"cannot listen at 127.0.0.1:{port} (Address already in use)"
    assert done.stderr == f"palate: {cause}. Choose another --port, or end the program that uses it.\n"
    assert done.stdout == "2\n"
    assert list(tmp_path.iterdir()) == []


def test_each_cause_has_its_remedy() -> None:
    with pytest.raises(ConfigError, match="an address of this machine"):
        listen("192.0.2.1", 0)  # reserved for documents
    with pytest.raises(ConfigError, match="another --host or --port"):
        listen("127.0.0.1", 70_000)


def test_offline_a_name_that_the_cache_does_not_have_is_refused_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "palate", "inspect", "pairs.jsonl", "--model", "nobody/nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("palate: there is no model at nobody/nothing: no such folder is here, the cache of the hub has none")
    (tmp_path / "cache/models--nobody--nothing").mkdir(parents=True)
    assert (
        "forbids to ask" not in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment).stderr
    )


@pytest.mark.parametrize(
    "words",
    [
        "serve runs/gone --port 0", "serve . --reward . gone --port 0", "score gone pairs.jsonl", "score . pairs.jsonl --also gone",
        "reward-check runs/gone pairs.jsonl", "init pairs.jsonl --model gone", "inspect pairs.jsonl --model gone",
        "reward-check . pairs.jsonl --before runs/gone", "coverage pairs.jsonl --prompts pairs.jsonl --reward runs/gone",
    ],
)  # fmt: skip
def test_a_model_that_is_not_there_is_one_message_before_anything_is_loaded_or_asked(words: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    done = subprocess.run([sys.executable, "-c", CODE, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=True)
    gone = "runs/gone" if "runs/gone" in words else "gone"
    assert done.stderr == f"palate: there is no model at {gone}. Correct the path, or give a hub's name as OWNER/NAME.\n"
    assert done.stdout == "2\n"
