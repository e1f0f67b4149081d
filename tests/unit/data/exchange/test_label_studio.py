"""Label Studio itself: a file it exported, and, where it is installed, our tasks through it and back."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from palate.core import Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote, join_items, read_exchange, write_exchange
from tests.support.waiting import LIMIT_SECONDS, ended, wait_until

EXPORTED = Path(__file__).parents[3] / "golden" / "label_studio_export.json"
PROGRAM = os.environ.get("PALATE_LABEL_STUDIO") or shutil.which("label-studio")
START_SECONDS = 5 * LIMIT_SECONDS
"""To start for the first time it migrates a database a hundred times over."""


def test_what_people_did_on_its_page_is_read() -> None:
    """Exported by Label Studio 1.23.2: tasks and page written by Palate, answers clicked and dragged in a browser."""
    found = read_exchange(EXPORTED)
    said = {one.judgment.comparison: one for one in found.votes}
    assert set(said) == {"p0", "p1", "p2", "r0"}
    assert {one.judgment.rater for one in found.votes} == {"1"}
    assert (said["p0"].tiers, said["p0"].judgment.reason, said["p0"].judgment.seconds) == (((1,), (0,)), "clearer", 10.566)
    assert (said["p1"].tiers, said["p2"].is_skipped, said["p2"].tiers) == (((0, 1),), True, ())
    assert said["r0"].tiers == ((1,), (0, 3), (2,))
    # A prediction is exported as its number alone; the rest of the file is good.
    assert [one.kind for one in found.dropped] == ["a number in place of its content"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Somebody signed in at a new Label Studio."""
    if PROGRAM is None:
        pytest.skip("Label Studio is not installed: set PALATE_LABEL_STUDIO to its program, of an environment of its own")
    folder = tmp_path_factory.mktemp("studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mail, word = "owner@example.org", "four words make one"
    place = {"LABEL_STUDIO_BASE_DATA_DIR": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"], "LATEST_VERSION_CHECK": "false"}
    who = {"LABEL_STUDIO_USERNAME": mail, "LABEL_STUDIO_PASSWORD": word}
    words = [PROGRAM, "start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1"]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(words, env=place | who, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_SECONDS, follow_redirects=True) as client:
            wait_until(lambda: answers(client, server, folder / "log"), (folder / "log").read_text, START_SECONDS)
            form = client.get("/user/login/").text
            found = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', form)
            assert found is not None
            client.headers["Referer"] = str(client.base_url)
            client.post("/user/login/", data={"csrfmiddlewaretoken": found[1], "email": mail, "password": word})
            client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
            yield client
    finally:
        server.terminate()
        try:
            ended(server)
        except subprocess.TimeoutExpired:
            server.kill()
            ended(server)
        log.close()


def answers(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> bool:
    assert server.poll() is None, log.read_text(errors="replace")[-3000:]
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


ODD = "<script>alert(1)</script> & \"q\" 'é' $left ä\n\u2028new"


def pairs() -> Exchange:
    items = tuple(
        ExchangeItem(f"p{k}", (Message("user", f"{k} {ODD}"),), (Candidate(f"{k} a {ODD}", policy="x"), Candidate(f"{k} b", policy="y")))
        for k in range(3)
    )
    votes = (
        Vote(Judgment("p0", "ann", ((0,), (1,)), "overall", (0, 1), None, ODD, 3.5, "2"), "j1", 1e9),
        Vote(Judgment("p0", "bob", ((0,), (1,)), "overall", (1, 0)), "j2", 2e9),
        Vote(Judgment("p1", "ann", ((0, 1),), "honest", strength=2.0), "j3", 3e9),
        Vote(Judgment("p1", "bob", ((0, 1),)), "j4", 4e9, is_all_bad=True),
        Vote(Judgment("p2", "ann", ()), "j5", 5e9, is_skipped=True),
    )
    return Exchange(items, votes, (RaterInfo("ann"), RaterInfo("bob")))


def rankings() -> Exchange:
    turns = Message("system", "Be brief."), Message("user", "Soup?"), Message("assistant", "Which?"), Message("user", "Any.")
    items = tuple(ExchangeItem(f"r{k}", turns, tuple(Candidate(f"{name} {k}") for name in "abcd"), "rank") for k in range(2))
    votes = (
        Vote(Judgment("r0", "ann", ((2,), (0, 1), (3,)), order=(3, 1, 0, 2)), "j1", 1e9),
        Vote(Judgment("r1", "bob", ((0,), (1,), (2,), (3,)), order=(0, 1, 2, 3)), "j2", 2e9),
    )
    return Exchange(items, votes, (RaterInfo("ann"), RaterInfo("bob")))


@pytest.mark.slow
@pytest.mark.parametrize("made", [pairs, rankings])
def test_tasks_go_through_it_and_come_back(studio: httpx.Client, tmp_path: Path, made) -> None:
    exchange = made()
    tasks = tmp_path / "tasks.json"
    write_exchange(exchange, tasks, "label-studio")
    project = {"title": made.__name__, "label_config": tasks.with_suffix(".xml").read_text()}
    answer = studio.post("/api/projects/", json=project)
    assert answer.status_code == 201, answer.text[:2000]
    number = answer.json()["id"]
    assert studio.post(f"/api/projects/{number}/import", json=json.loads(tasks.read_text())).status_code == 201
    exported = studio.get(f"/api/projects/{number}/export", params={"exportType": "JSON", "download_all_tasks": "true"})
    back = tmp_path / "back.json"
    back.write_bytes(exported.content)
    found = join_items(read_exchange(back), exchange)
    assert found.items == exchange.items

    def told(one: Vote) -> str:
        return f"{one.judgment.comparison} {one.judgment.rater} {one.judgment.dimension}"

    assert sorted(found.votes, key=told) == sorted(exchange.votes, key=told)
