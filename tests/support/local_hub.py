"""A model hub on this machine: the few endpoints by which huggingface_hub makes a repository and commits files to it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import joined

TOKEN = "hf_may_write"


@dataclass
class LocalHub:
    """What the hub was asked, and what it holds.

    Attributes:
        url: its address.
        repositories: whether each is private, by name.
        files: contents by (repository, branch, path).
        objects: contents of large files by their SHA-256.
        requests: method and path of each request.
        fails: a path that is answered with 500.
    """

    url: str = ""
    repositories: dict[str, bool] = field(default_factory=dict)
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    fails: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON for a request."""
        parts = path.strip("/").split("/")
        if self.fails and self.fails in path:
            return 500, {"error": "the disk is full"}
        if method == "PUT":
            assert sha256(body).hexdigest() == parts[-1]
            self.objects[parts[-1]] = body
            return 200, {}
        asked = [json.loads(line) for line in body.splitlines()]
        name = "/".join(parts[2:4])
        if method == "GET":
            return 200, {"name": "ann", "type": "user"} if parts[1] == "whoami-v2" else {"id": name, "private": self.repositories[name]}
        if path == "/api/repos/create":
            return self.create(asked[0])
        if parts[-1] == "batch":
            upload = [{**one, "actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}} for one in asked[0]["objects"]]
            return 200, {"transfer": "basic", "objects": upload}
        if "preupload" in parts:
            paths = [one["path"] for one in asked[0]["files"]]
            return 200, {"files": [{"path": path, "uploadMode": mode(path), "shouldIgnore": False} for path in paths]}
        if "commit" in parts:
            self.commit(name, parts[5], asked)
            return 200, {"commitUrl": f"{self.url}/{name}/commit/abc", "commitOid": "abc"}
        return 200, {}  # a branch, and the check of a card

    def create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        """Make a repository, unless it exists."""
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.repositories else 200
        self.repositories.setdefault(name, asked.get("visibility") == "private")
        return status, {"url": f"{self.url}/{name}"}

    def commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> None:
        """Keep what a commit says."""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            else:
                content = base64.b64decode(value["content"]) if line["key"] == "file" else self.objects[value["oid"]]
                self.files[name, branch, value["path"]] = content


def mode(path: str) -> str:
    """How the hub wants a file."""
    return "lfs" if path.endswith(".safetensors") else "regular"


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A running hub, until the end of the block."""
    hub = LocalHub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = self.path.partition("?")[0]
            hub.requests.append(f"{self.command} {path}")
            allowed = self.command == "PUT" or self.headers.get("authorization") == f"Bearer {TOKEN}"
            status, value = hub.answer(self.command, path, body) if allowed else (401, {"error": "who are you?"})
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 (names of http.server)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        joined(thread)
