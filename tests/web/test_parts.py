"""Media, webhooks, files in and out."""

from __future__ import annotations

import csv
import hashlib
import hmac
import html
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from palate.cli import main
from palate.core import ConfigError, DataError, Message
from palate.data.exchange import read_exchange
from palate.ratings import Answer, Candidate, Item, Task
from palate.web.command import import_items
from palate.web.display import answer_in_words, media_file, parse_ranking
from palate.web.service import WebSettings
from palate.web.transfer import EXPORT_KINDS
from palate.web.webhooks import Webhooks, is_public
from tests.support.fuzz import good_files
from tests.support.rating_server import RatingServer, open_rating_server
from tests.support.rule_files import rule_file
from tests.support.waiting import LIMIT_SECONDS, joined


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "/etc/passwd", "a/../../secret.png", "..%2fsecret.png", "..\\secret.png", "link.png",
     "inside/link.png", "a.svg", "a.html", "a.png\x00.html", "", ".", "a.png/", "x" * 5000 + ".png",
     "secret.PNG/../../secret.png", "C:\\a.png", "//etc/a.png", "folder.png"],
)  # fmt: skip
def test_no_path_leads_out_of_the_media_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "media"
    (folder / "inside").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    for place in ("link.png", "inside/link.png"):
        (folder / place).symlink_to(tmp_path / "secret.png")
    (folder / "a.svg").write_text("<svg onload='alert(1)'/>")
    (folder / "a.html").write_text("<script>alert(1)</script>")
    assert media_file(folder, name) is None
    (folder / "inside" / "A.PNG").write_bytes(b"x")
    assert media_file(folder, "inside/A.PNG") == ((folder / "inside" / "A.PNG").resolve(), "image/png")


def test_media_are_served_by_place_shown_with_a_fixed_type(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "one.png")
    (folder / "two.gif").write_bytes(b"<html><script>alert(1)</script>")
    (folder / "clip.mp4").write_bytes(b"0" * 100)
    (tmp_path / "secret.png").write_bytes(b"secret")
    with open_rating_server(tmp_path, WebSettings(media=folder)) as server:
        project = server.project(items=0)
        pairs = [("one.png", "two.gif"), ("clip.mp4", "../secret.png")]
        rows = [Item((Message("user", "Which?"),), (Candidate(media=a), Candidate(media=b))) for a, b in pairs]
        server.ratings.add_items(project.id, rows, server.clock())
        server.account("bob", "rater", project)
        server.account("eve", "rater", project)
        server.account("rev", "reviewer", project)
        bob, eve, rev = server.client("bob"), server.client("eve"), server.client("rev")
        for shown in bob.api(f"/projects/{project.id}/assignments").json()["assignments"]:
            assert not any(name in shown["html"] for pair in pairs for name in pair)  # names would tell which model
            for place in (0, 1):
                path = f"/projects/{project.id}/assignments/{shown['id']}/media/{place}"
                held = server.ratings.assignment(shown["id"])
                name = server.ratings.item(held.item).candidates[held.order[place]].media
                answer = bob.get(path)
                kinds = {"one.png": "image/png", "two.gif": "image/gif", "clip.mp4": "video/mp4"}
                assert (answer.status_code, answer.headers["content-type"]) == (
                    (200, kinds[name]) if name in kinds else (404, answer.headers["content-type"])
                )
                if name in kinds:
                    assert answer.headers["x-content-type-options"] == "nosniff"
                    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
                assert eve.get(path).status_code == 404
            assert bob.get(path[:-1] + "7").status_code == 404
        item = next(iter(server.ratings.items(project.id))).id
        assert rev.get(f"/projects/{project.id}/items/{item}/media/0").status_code == 200
        assert bob.get(f"/projects/{project.id}/items/{item}/media/0").status_code == 403
        for attack in ("../palate/web/app.py", "..%2f..%2fapp.py", quote("../app.py", safe=""), "%2e%2e/app.py"):
            assert bob.http.get(f"/static/{attack}").status_code == 404


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255",
     "::1", "::",
     "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1", "192.0.2.1", "ff02::1"],
)  # fmt: skip
def test_private_addresses_are_no_targets(address: str) -> None:
    assert not is_public(address)
    hooks = Webhooks(("https://hooks.example.org/x",), frozenset({"hooks.example.org"}), resolve=lambda *_: ["93.184.216.34", address])
    with pytest.raises(ConfigError, match="not a public address"):
        hooks.address("hooks.example.org", 443)


def test_public_addresses_and_listed_ones_are() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:4700::1111")
    hooks = Webhooks((), frozenset({"10.0.0.5"}), resolve=lambda *_: ["10.0.0.5"])
    assert hooks.address("inside", 80) == "10.0.0.5"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://evil.example/", "file:///etc/passwd", "gopher://ok.example/", "http://ok.example@evil.example/", "http:///x",
     "https://user:pw@ok.example/", "http://ok.example:99999/", "http://ok.example.evil.example/", "//ok.example/", "http://[::1]/"],
)  # fmt: skip
def test_only_listed_hosts_are_called(url: str) -> None:
    with pytest.raises(ConfigError):
        Webhooks((url,), frozenset({"ok.example"}))


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0"]
)
def test_no_spelling_of_this_machine_is_called(host: str) -> None:
    """Even on the list, a name is called only where the system's resolver finds a public address; an address must be listed as it is."""
    hooks = Webhooks((), frozenset({host}))
    if host in {"::1", "::ffff:127.0.0.1"}:  # listed as they are
        assert hooks.address(host, 80) == host
        hooks = Webhooks((), frozenset({"hooks.example.org"}), resolve=lambda *_: [host])
    with pytest.raises(ConfigError, match="not a public address|cannot be resolved"):
        hooks.address(host, 80)


class _Hook(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []
    status = 200

    def do_POST(self) -> None:
        type(self).got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(type(self).status)
        self.send_header("Location", "http://127.0.0.1:1/stolen")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def hook(status: int) -> Iterator[tuple[str, type[_Hook]]]:
    handler = type("Handler", (_Hook,), {"got": [], "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("palate.web.webhooks.TIMEOUT_SECONDS", LIMIT_SECONDS)
        yield f"http://127.0.0.1:{server.server_address[1]}/in?a=1", handler
    server.shutdown()


def delivered(server: RatingServer) -> None:
    """Waits until the sender has ended; `close` itself waits only for a while."""
    server.service.webhooks.close()
    joined(server.service.webhooks._thread)


def judge_once(server: RatingServer) -> None:
    project = server.project()
    server.account("bob", "rater", project)
    client = server.client("bob")
    held = client.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    body = {"assignment": held, "key": "12345678", "answer": {"ranking": [[0], [1]], "reason": "private"}}
    for _ in range(2):  # the second is a repeat, and no event
        assert client.api(f"/projects/{project.id}/judgments", body).status_code == 200


def test_a_webhook_is_told_once_and_can_check_who_told(tmp_path: Path) -> None:
    with hook(200) as (url, handler), open_rating_server(tmp_path, webhooks=Webhooks((url,), frozenset({"127.0.0.1"}), "secret")) as server:
        judge_once(server)
        delivered(server)
        ((headers, body),) = handler.got
        assert headers["X-Palate-Signature"] == "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
        event = json.loads(body)
        assert event["event"] == "judgment"
        assert event["rater"] == server.accounts["bob"].pseudonym
        assert b"bob" not in body
        assert b"private" not in body


def test_a_name_that_moves_gains_nothing() -> None:
    """It is looked up once for each delivery, what was found is what is called, and each delivery looks anew."""
    with hook(200) as (url, handler):
        answers = [["127.0.0.1"], ["10.0.0.5"]]
        asked = []

        def resolve(host: str, _: int) -> list[str]:
            asked.append(host)
            return answers[len(asked) - 1]

        there = url.replace("127.0.0.1", "hooks.example.org")
        hooks = Webhooks((there,), frozenset({"hooks.example.org", "127.0.0.1"}), "secret", resolve)
        assert hooks.send(there, {"event": "x"}) == 200
        assert asked == ["hooks.example.org"]
        assert handler.got[0][0]["Host"].startswith("hooks.example.org")
        with pytest.raises(ConfigError, match=r"10\.0\.0\.5"):
            hooks.send(there, {"event": "x"})
        assert len(handler.got) == 1


def test_redirects_are_not_followed_and_lost_events_are_written_down(tmp_path: Path) -> None:
    with hook(302) as (url, handler), open_rating_server(tmp_path, webhooks=Webhooks((url,), frozenset({"127.0.0.1"}), "secret")) as server:
        judge_once(server)
        delivered(server)
        assert len(handler.got) == 3
        (lost,) = [one for one in server.ratings.audit_log() if one.action == "webhook lost"]
        assert lost.detail["reason"] == "status 302"


def test_exports_hold_pseudonyms_and_no_formulas(server: RatingServer) -> None:
    project = server.project(items=1)
    server.account("Robert", "rater", project)
    server.account("ann", "owner", project)
    held = server.ratings.claim(project.id, server.accounts["Robert"].id, server.clock(), server.service.random)
    assert held is not None
    server.ratings.submit(
        held.id, held.rater, Answer(ranking=((1,), (0,)), reason='=cmd|"/c calc"!A0\n,x', seconds=3.5), "12345678", server.clock()
    )
    ann = server.client("ann")
    answer = ann.get(f"/projects/{project.id}/export?kind=csv")
    assert answer.headers["content-disposition"].startswith("attachment")
    (row,) = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""))
    assert row["reason"] == '\'=cmd|"/c calc"!A0\n,x'
    assert row["rater"] == server.accounts["Robert"].pseudonym
    assert row["ranking"] == ">".join(str(held.order[place] + 1) for place in (1, 0))
    lines = ann.get(f"/projects/{project.id}/export").text
    assert json.loads(lines.splitlines()[-1])["judgment"]["ranking"] == [[1], [0]]
    assert lines == ann.http.get(f"/api/projects/{project.id}/judgments").text
    assert "Robert" not in answer.text + lines


GOOD = {"prompt": "p", "completions": ["a", "b"]}


@pytest.mark.parametrize("kind", EXPORT_KINDS)
def test_a_project_is_downloaded_in_every_kind(server: RatingServer, kind: str) -> None:
    project = server.project(items=1)
    server.account("bob", "rater", project)
    server.account("ann", "owner", project)
    held = server.ratings.claim(project.id, server.accounts["bob"].id, server.clock(), server.service.random)
    assert held is not None
    server.ratings.submit(held.id, held.rater, Answer(ranking=((1,), (0,))), "12345678", server.clock())
    ann = server.client("ann")
    for path in (f"/projects/{project.id}/export?kind={kind}", f"/api/projects/{project.id}/judgments?kind={kind}"):
        answer = ann.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith('attachment; filename="judgments.')
        assert answer.content
        if kind == "label-studio":
            assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == ["judgments.json", "judgments.xml"]


def test_a_kind_that_is_not_there_or_cannot_hold_the_project_is_refused(server: RatingServer) -> None:
    empty = server.project(items=0)
    server.account("ann", "owner", empty)
    ann = server.client("ann")
    for path in (f"/projects/{empty.id}/export?kind=", f"/api/projects/{empty.id}/judgments?kind="):
        for kind, words in (("word", "no kind"), ("trl", "judgments.jsonl: nothing to write"), ("mt-bench-pairs", "nothing to write")):
            answer = ann.get(path + kind)
            assert answer.status_code == 422
            assert words in answer.text


def test_an_uploaded_file_brings_its_judgments(server: RatingServer, tmp_path: Path) -> None:
    project = server.project(items=0)
    server.account("ann", "owner", project)
    ann = server.client("ann")
    files = good_files(tmp_path)
    for file in files:
        if file.name in {
            "votes.csv",
            "judgments.jsonl",
            "mt-bench-pairs.jsonl",
            "mt-bench-single.jsonl",
        }:  # systems and answers without texts
            continue
        made = server.project(file.name, Task("rank", all_bad=True) if file.name == "ranked.json" else None, items=0)
        sent = ann.post(f"/projects/{made.id}/items", files={"file": (file.name, file.read_bytes())})
        assert sent.status_code == 200, sent.text
        exchange = read_exchange(file)
        assert len(list(server.ratings.items(made.id))) == len(exchange.items)
        assert len(list(server.ratings.judgments(made.id))) == len(exchange.votes)
    rows = [json.loads(line) for line in (tmp_path / "trl.jsonl").read_text().splitlines()]
    whole = read_exchange(tmp_path / "trl.jsonl")
    items, votes = len(whole.items), len(whole.votes)
    assert items > 1
    assert votes > items
    told = ann.api(f"/projects/{project.id}/items", {"items": rows}).json()
    assert (len(told["added"]), told["judgments"], told["raters"]) == (items, votes, 0)
    again = ann.api(f"/projects/{project.id}/items", {"items": rows}).json()
    assert (again["added"], again["duplicates"], again["judgments"], again["known_judgments"]) == ([], items, 0, votes)
    names = {one.name for one in server.ratings.accounts()}
    assert names == {"ann", ""}
    assert ann.get(f"/projects/{project.id}/people").status_code == 200
    assert ann.get(f"/projects/{project.id}").status_code == 200


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "a.jsonl: holds no row"),
        ("a.jsonl.gz", b"x", "a.jsonl.gz: the file is packed"),
        ("a.exe", b"x", "does not read"),
        ("../../a", b"{", "../../a:1: not JSON"),
        ("a.csv", b"id,left,right,worker,winner\n0,a,b,7,tie\n", "which do not make a known shape"),
        ("votes.json", b"[1]", "votes.json:1: not a JSON object"),
        ("a.parquet", b"PAR1", "a.parquet: not a readable Parquet file"),
    ],
)
def test_a_bad_upload_is_named_as_it_was_sent(server: RatingServer, name: str, content: bytes, words: str) -> None:
    project = server.project(items=0)
    server.account("ann", "owner", project)
    sent = server.client("ann").post(f"/projects/{project.id}/items", files={"file": (name, content)})
    assert sent.status_code == 422
    assert words in html.unescape(sent.text)
    assert "palate-import" not in sent.text
    assert list(server.ratings.items(project.id)) == []


def test_an_upload_with_a_bad_row_adds_nothing(server: RatingServer) -> None:
    project = server.project(items=0)
    server.account("ann", "owner", project)
    ann = server.client("ann")
    sent = ann.post(f"/projects/{project.id}/items", files={"file": ("f.jsonl", json.dumps(GOOD) + "\n{")})
    assert sent.status_code == 422
    assert "f.jsonl:2: not JSON" in sent.text
    one = ann.api(f"/projects/{project.id}/items", {"items": [GOOD, {"prompt": "p", "completions": ["a"]}]})
    assert one.status_code == 422
    assert one.json()["detail"].startswith("items:2, candidates: 1 given, a task of kind compare takes 2.")
    assert list(server.ratings.items(project.id)) == []


def rows(*said: dict[str, object]) -> dict[str, tuple[str, str]]:
    return {"file": ("f.jsonl", "\n".join(map(json.dumps, said)))}


def test_missing_media_are_named_and_refused_when_none_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "there.png")

    def shown(*names: str) -> dict[str, object]:
        return {"prompt": "Which?", "completions": [{"media": name} for name in names]}

    with open_rating_server(tmp_path, WebSettings(media=folder)) as server:
        project = server.project(items=0)
        server.account("ann", "owner", project)
        ann = server.client("ann")
        path = f"/projects/{project.id}/items"
        none = ann.post(path, files=rows(shown("gone.png", "lost.png")))
        assert none.status_code == 422
        assert "2 media files such as" in none.text
        assert list(server.ratings.items(project.id)) == []
        some = ann.post(path, files=rows(shown("there.png", "gone.png")))
        assert "1 of 2 media files are missing in the media folder: gone.png." in some.text
        assert len(list(server.ratings.items(project.id))) == 1
        told = ann.api(
            path, {"items": [shown("there.png", *(f"{n}.png" for n in range(1))), shown("1.png", "2.png"), shown("3.png", "4.png")]}
        )
        assert told.json()["notes"] == ["5 of 6 media files are missing in the media folder: 0.png, 1.png, 2.png, ..."]
        assert ann.api(path, {"items": [{"prompt": "p", "completions": ["a", "b"]}]}).json()["notes"] == []


def test_media_without_a_folder_are_refused(server: RatingServer) -> None:
    project = server.project(items=0)
    server.account("ann", "owner", project)
    row = {"prompt": "Which?", "completions": [{"media": "a.png"}, {"media": "b.png"}]}
    sent = server.client("ann").post(f"/projects/{project.id}/items", files=rows(row))
    assert sent.status_code == 422
    assert "without --media" in sent.text


def test_empty_prompts_and_blank_completions_are_taken_and_counted(server: RatingServer) -> None:
    project = server.project(items=0)
    server.account("ann", "owner", project)
    sent = server.client("ann").post(
        f"/projects/{project.id}/items",
        files=rows(*({"prompt": one, "completions": two} for one, two in (("", ["a", " "]), ("p", ["\n", "b"]), ("q", ["a", "b"])))),
    )
    assert "3 items added" in html.unescape(sent.text)
    assert "1 prompt is empty" in sent.text
    assert "2 completions are blank" in sent.text


def test_a_rule_stands_at_the_top_of_a_row(server: RatingServer) -> None:
    project = server.project(items=0, task=Task(kind="rule", rules=("No names.", "No lies.")))
    server.account("ann", "owner", project)
    ann, path = server.client("ann"), f"/projects/{project.id}/items"
    for rule in ("No names.", "No lies."):
        row = {"prompt": f"p {rule}", "completions": ["a"], "rule": rule}
        assert ann.post(path, files=rows(row)).status_code == 200
    assert [one.fields["rule"] for one in server.ratings.items(project.id)] == ["No names.", "No lies."]
    for row, words in (
        ({"prompt": "x", "completions": ["a"], "rule": 3}, "f.jsonl:1: `rule` is not a string"),
        ({"prompt": "x", "completions": ["a"], "rule": "No lies.", "fields": {"rule": "No names."}}, "f.jsonl:1: `rule` differs"),
    ):
        sent = ann.post(path, files=rows(row))
        assert sent.status_code == 422
        assert words in sent.text


@given(st.permutations(range(4)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_rankings_in_words_come_back(numbers: list[int], ties: list[bool]) -> None:
    tiers = [[numbers[0]]]
    for number, tie in zip(numbers[1:], ties, strict=True):
        if tie:
            tiers[-1].append(number)
        else:
            tiers.append([number])
    ranking = tuple(tuple(sorted(tier)) for tier in tiers)
    assert parse_ranking(answer_in_words(Answer(ranking=ranking), (0, 1, 2, 3)), 4) == ranking


@pytest.mark.parametrize("words", ["", "1", "1 > 1", "1 > 3", "a > b", "1 2", "\u0661 > \u0662", "1 >", "0", "1 > 2; drop"])
def test_bad_rankings_are_refused(words: str) -> None:
    with pytest.raises(DataError):
        parse_ranking(words, 2)


def test_items_are_asked_about_the_rules_of_a_file(server: RatingServer, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"prompt": "x", "completions": ["a"]}\n{"prompt": "y", "completions": ["b"], "rule": "salt"}\n')
    rules = rule_file(tmp_path)
    assert import_items(server.service, items, "Rules", rules).startswith("3 items added to 'Rules'")
    (project,) = (one for one in server.ratings.projects() if one.name == "Rules")
    assert (project.task.kind, project.task.rules) == ("rule", ("the cook has rice", "the cook has salt"))
    assert "no salt" in server.ratings.guideline(project.id).text
    asked = [(item.candidates[0].text, item.fields["rule"]) for item in server.ratings.items(project.id)]
    assert asked == [("a", "the cook has rice"), ("a", "the cook has salt"), ("b", "the cook has salt")]
    assert import_items(server.service, items, "Rules", rules).startswith("0 items added"), "nothing is asked twice"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text("{")
    (tmp_path / "good.jsonl").write_text('{"prompt": "x", "completions": ["a"]}')
    for words, told in (
        (["--port", "99999"], "--port"),
        (["--media", str(tmp_path / "none")], "--media"),
        (["--items", str(tmp_path / "none")], "--items"),
        (["--items", str(tmp_path / "bad.jsonl")], "bad.jsonl:1: not JSON"),
        (["--rules", str(tmp_path / "none")], "--rules is about the items of --items"),
        (["--items", str(tmp_path / "good.jsonl"), "--rules", str(tmp_path / "none")], "none cannot be read"),
        (["--webhook", "http://evil.example/"], "--webhook_allow"),
        (["--prot", "1"], "--port"),
    ):
        assert main(["label", "--ratings", str(tmp_path / "r.db"), "--port", "0", *words]) in {2, 3}  # 8080 may be another's
        assert told in capsys.readouterr().err


def test_the_api_is_described(server: RatingServer) -> None:
    described = server.client().get("/api/openapi.json").json()
    assert len(described["paths"]) > 12
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            assert one["summary"], path
            assert one["description"], path
            assert one["x-least-role"] in {"rater", "reviewer", "owner"}, (method, path)
