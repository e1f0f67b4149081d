"""Plays cases of the rating pages against a server in this process, with the inputs and requests that each case brings."""

from __future__ import annotations

import importlib.util
import io
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palate.cli import main
from palate.web.command import import_items, owner_link
from palate.web.service import WebSettings
from tests.support.rating_server import open_rating_server
from tests.support.repository import ROOT

FOLDER = ROOT.parent / "shared" / "cases" / "label"


def played(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the case prints, in its own words."""
    folder = next(iter(FOLDER.glob(f"{name}*")), None) if FOLDER.is_dir() else None
    if folder is None:
        pytest.skip(f"the folder of cases is not beside this repository ({name})")
    spec = importlib.util.spec_from_file_location("h", FOLDER / "lib" / "h.py")
    assert spec is not None
    assert spec.loader is not None
    helper: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    helper.Server = _served(helper)
    helper.subprocess = SimpleNamespace(run=_command)
    monkeypatch.setitem(sys.modules, "h", helper)
    monkeypatch.setattr(sys, "path", list(sys.path))
    printed = io.StringIO()
    with redirect_stdout(printed):
        runpy.run_path(str(folder / "run.py"))
    return printed.getvalue()


def _served(helper: Any) -> type:
    """The case's own `Server`, which runs here instead of in a process of its own."""

    class HereServer(helper.Server):  # type: ignore[misc]
        def start(self) -> HereServer:
            self.stack = ExitStack()
            options = dict(zip(self.args[1:], self.args[2:], strict=False))
            media = options.get("--media")
            folder = Path(self.db).parent
            server = self.stack.enter_context(open_rating_server(folder, WebSettings(media=Path(media) if media else None)))
            if "--items" in options:
                import_items(server.service, Path(options["--items"]), options["--project"])
            self.url, self.setup = server.url, f"{server.url}/setup/{owner_link(server.service)}"
            self.p = SimpleNamespace(pid="self", poll=lambda: None)
            return self

        def stop(self, sig: int = 0) -> None:
            self.stack.close()

    return HereServer


def _command(words: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), tempfile.TemporaryDirectory():
        code = main(list(words[1:]))
    return subprocess.CompletedProcess(list(words), code, out.getvalue(), err.getvalue())
