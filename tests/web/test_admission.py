"""Strangers and hostile clients: nothing of theirs is read before they are let in, and nothing that they send breaks the server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from palate.web import admission
from palate.web.access import AccessError
from palate.web.admission import GuardedRoute, parse_body
from palate.web.connections import HEAD_BYTES, PatientProtocol
from palate.web.request_limits import Limits
from palate.web.service import WebSettings
from tests.support.rating_server import RatingServer, open_rating_server
from tests.support.waiting import LIMIT_SECONDS
from tests.web.test_access import routes


def test_every_route_is_guarded(server: RatingServer) -> None:
    assert [route.path for route in routes(server) if not isinstance(route, GuardedRoute)] == []


def connect(server: RatingServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS)


def first_line(raw: socket.socket) -> bytes:
    with raw.makefile("rb") as answer:
        return answer.readline()


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_stranger_is_refused_before_a_byte_of_the_body_has_come(server: RatingServer, kind: str) -> None:
    project = server.project()
    for path in (f"/api/projects/{project.id}/items", f"/projects/{project.id}/items"):
        with closing(connect(server)) as raw:
            raw.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 60000000\r\n\r\n".encode())
            assert first_line(raw).split()[1] in {b"401", b"303"}


def test_a_rater_is_refused_the_owners_upload_before_a_byte_of_it_has_come(server: RatingServer) -> None:
    project = server.project()
    server.account("bob", "rater", project)
    for path in (f"/api/projects/{project.id}/items", f"/projects/{project.id}/items"):
        with closing(connect(server)) as raw:
            kind = "application/json" if path.startswith("/api") else "multipart/form-data; boundary=x"
            host = server.url.removeprefix("http://")
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: 60000000\r\n"
            bob = server.client("bob")
            cookies = "; ".join(f"{one.name}={one.value}" for one in bob.http.cookies.jar)
            raw.sendall(f"{head}Cookie: {cookies}\r\nX-CSRF-Token: {bob.csrf}\r\n\r\n".encode())
            assert first_line(raw).split()[1] == b"403"


DEEP = b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD_BODIES = {
    "deep": (DEEP, "nested too deeply"),
    "a key twice": (b'{"name": "a", "name": "b"}', "'name' comes twice"),
    "a gigantic number": (b'{"name": "a", "overlap": 1' + b"0" * 5000 + b"}", "not JSON"),
    "a number of 4000 digits": (b'{"name": "a", "overlap": 1' + b"0" * 4000 + b"}", "overlap"),
    "infinity": (b'{"name": "a", "overlap": 1e999}', "not a finite number"),
    "NaN": (b'{"name": "a", "overlap": NaN}', "not a finite number"),
    "another encoding": ('{"name": "ä"}'.encode("utf-16"), "not JSON"),
    "half a character": (b'{"name": "\\ud800"}', ""),
    "NUL": (b'{"name": "a\\u0000"}', ""),
    "a list": (b"[1, 2]", "valid dictionary"),
    "a number": (b"1", "valid dictionary"),
    "no body": (b"", "required"),
    "cut off": (b'{"name": "a"', "not JSON"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_gets_one_message(server: RatingServer, name: str) -> None:
    server.account("ann", "owner")
    body, words = BAD_BODIES[name]
    ann = server.client("ann")
    answer = ann.http.post("/api/projects", content=body, headers={"Content-Type": "application/json", "X-CSRF-Token": ann.csrf})
    assert answer.status_code == 422
    assert words.lower() in answer.json()["detail"].lower()
    assert "Traceback" not in answer.text
    assert server.ratings.projects() == ()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken_for_json(server: RatingServer, kind: str) -> None:
    server.account("ann", "owner")
    ann = server.client("ann")
    answer = ann.http.post("/api/projects", content=b'{"name": "a"}', headers={"Content-Type": kind, "X-CSRF-Token": ann.csrf})
    assert (answer.status_code, answer.json()["code"]) == (415, "malformed")


def test_a_body_of_empty_lists_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MOST_CONTAINERS", 10)
    assert parse_body(b"[[],[],{}]") == [[], [], {}]
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(AccessError, match="more than 10"):
        parse_body(b"[" + b"[]," * 20 + b"[]]")


@pytest.mark.parametrize("path", ["/signin", "/projects"])
@pytest.mark.parametrize("charset", ["unicode_escape", "utf-8", "nonsense", "zlib"])
def test_a_form_in_an_odd_encoding_breaks_nothing(server: RatingServer, path: str, charset: str) -> None:
    server.account("ann", "owner")
    ann = server.client("ann")
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    fields = {"name": "\\ud800\\x00\0", "password": "\\ud800 four words", "csrf": ann.csrf, "kind": "\\ud800"}
    body = "".join(part.format(*field) for field in fields.items()) + "--x--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = ann.http.post(path, content=body.encode(), headers=headers)
    assert answer.status_code == (422 if charset == "unicode_escape" or path == "/projects" else 401)
    assert server.ratings.projects() == ()


def test_gigantic_numbers_in_scores_are_refused(server: RatingServer) -> None:
    project = server.project()
    server.account("ann", "owner", project)
    item = next(iter(server.ratings.items(project.id))).id
    for row in ({"spread": 10**400}, {"spread": 1, "features": [10**400]}, {"spread": 1, "features": [True]}):
        answer = server.client("ann").api(f"/projects/{project.id}/scores", {"rows": [{"item": item, **row}]})
        assert (answer.status_code, answer.json()["code"]) == (422, "data")


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RatingServer]:
    """A server that waits for nobody."""
    monkeypatch.setattr(PatientProtocol, "head_seconds", 0.2)
    monkeypatch.setattr(PatientProtocol, "drain_seconds", 0.2)
    with open_rating_server(tmp_path, WebSettings(limits=Limits(seconds=0.2, rate=1e9))) as opened:
        yield opened


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /signin HTTP/1.1\r\nHost: x\r\n\r\nGET /"]
)
def test_a_head_that_does_not_end_closes_its_connection(hasty: RatingServer, sent: bytes) -> None:
    with closing(connect(hasty)) as raw:
        raw.sendall(sent)
        received = list(iter(lambda: raw.recv(65536), b""))  # a connection that stays open would time out here
    is_whole_request = sent.count(b"\r\n\r\n") == 1
    assert b"".join(received).startswith(b"HTTP/1.1 200") == is_whole_request


def test_a_connection_that_waits_between_requests_stays(hasty: RatingServer) -> None:
    host = hasty.url.removeprefix("http://")
    with closing(HTTPConnection(host, timeout=LIMIT_SECONDS)) as kept:
        for _ in range(2):
            kept.request("GET", "/static/base.css")
            answer = kept.getresponse()
            assert (answer.status, len(answer.read()) > 0) == (200, True)
            kept.sock.settimeout(0.4)
            with pytest.raises(TimeoutError):  # it is not closed
                kept.sock.recv(1)
            kept.sock.settimeout(LIMIT_SECONDS)


def test_a_body_that_comes_too_slowly_is_refused(hasty: RatingServer) -> None:
    with closing(connect(hasty)) as raw:
        raw.sendall(
            b"POST /signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 90\r\n\r\nname="
        )
        assert first_line(raw).split()[1] == b"408"


def test_a_refused_body_without_an_end_closes_its_connection(hasty: RatingServer) -> None:
    with closing(connect(hasty)) as raw:
        raw.sendall(b"POST /api/projects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        answer = b""
        while part := raw.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 401")


def test_a_huge_head_is_refused(server: RatingServer) -> None:
    with closing(connect(server)) as raw:
        raw.sendall(b"GET /signin HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * (2 * HEAD_BYTES))
        assert first_line(raw).split()[1] == b"400"


def test_the_form_of_a_stranger_is_small(server: RatingServer) -> None:
    answer = httpx.post(f"{server.url}/signin", content=b"a&" * 100_000, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 413
