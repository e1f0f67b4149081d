"""A port that cannot be used: one message, before anything is loaded or made."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "uvicorn", "fastapi", "sqlalchemy", "numpy")

CODE = f"""\
import sys
from palate.cli import main
status = main(sys.argv[1:])
print(status, *(name for name in {HEAVY!r} if name in sys.modules))
"""

COMMANDS = {"serve": ["a-model"], "label": ["--ratings", "r.db", "--items", "items.jsonl"], "judge": ["runs"], "watch": ["a-run"]}


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
