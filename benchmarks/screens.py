"""Take pictures of the rating pages for the documents: `python -m benchmarks.screens [--out docs/images]`. It needs Chromium."""

from __future__ import annotations

import argparse
import io
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import uvicorn
from argon2 import PasswordHasher
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from benchmarks.screens_data import ITEMS, PEOPLE, RUBRIC, RULE, TEXT, WRITE_ITEMS
from palate.core import Message
from palate.ratings import Account, Answer, Candidate, Item, Project, Ratings, Task, open_ratings
from palate.web.app import create_app
from palate.web.credentials import Passwords, hashed
from palate.web.listener import listen
from palate.web.probe_model import ProbeModel
from palate.web.service import Service, WebSettings
from palate.web.webhooks import Webhooks, WebhookSender

ANSWER = "I cannot tell you a dose. Read the leaflet of the syrup, which goes by weight, or call us: we look at it together."
WIDE, PHONE = ViewportSize(width=1360, height=860), ViewportSize(width=390, height=844)


def fill(ratings: Ratings, now: float) -> tuple[Project, Project, Account]:
    """Make two projects with people who have answered, and an owner."""
    random = Random(3)
    task = Task(dimensions=("overall",), all_bad=True, strength=True, reason="optional")
    pairs = ratings.add_project(Project("Helpful answers", task, overlap=3, lease_seconds=3600), now)
    ratings.set_guideline(pairs.id, TEXT, now)
    items = [Item((Message("user", prompt),), tuple(Candidate(text) for text in texts)) for prompt, *texts in ITEMS]
    ratings.add_items(pairs.id, items, now)
    ranks = ratings.add_project(
        Project("Rank four answers", Task(kind="rank", all_bad=True, reason="off"), overlap=2, lease_seconds=3600), now
    )
    ratings.set_guideline(ranks.id, TEXT, now, warning="Some answers in this project are rude. Take breaks.")
    more = [Item((Message("user", prompt),), tuple(Candidate(text) for text in texts)) for prompt, *texts in WRITE_ITEMS]
    ratings.add_items(ranks.id, more, now)
    owner = ratings.add_account("Ines", "owner", now)
    for project in (pairs, ranks):
        ratings.join(project.id, owner.id, now)
    for index, name in enumerate(PEOPLE):
        account = ratings.add_account(name, "reviewer" if index == 0 else "rater", now)
        ratings.join(pairs.id, account.id, now)
        for _ in range(6 - index // 2):
            held = ratings.claim(pairs.id, account.id, now, random)
            if held is None:
                break
            better = held.order.index(0) if random.random() < 0.82 else held.order.index(1)
            level = random.random() < 0.1
            if "rivers" in ratings.item(held.item).conversation[0].text:  # something for the reviewer
                level, better = index == 2, held.order.index(index % 2)
            ranking = ((0, 1),) if level else ((better,), (1 - better,))
            answer = Answer(ranking=ranking, seconds=random.uniform(9, 50), reason=random.choice(["", "Does what was asked.", ""]))
            ratings.submit(held.id, account.id, answer, secrets.token_hex(8), now - random.uniform(0, 3) * 86400)
    return pairs, ranks, owner


@contextmanager
def scripted() -> Iterator[str]:
    """Serve a model that always gives the same two replies, so pictures do not change; return its address."""
    replies = {1: "Let her rest, give her plenty to drink, and ask a doctor if it lasts more than three days.", 3: ANSWER}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            turns = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
            reply = replies[len([turn for turn in turns if turn["role"] != "system"])]
            body = json.dumps({"choices": [{"message": {"role": "assistant", "content": reply}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log no requests."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


@contextmanager
def server(folder: Path, model: str) -> Iterator[tuple[str, Service]]:
    """The address of a running server whose probes go to the model at an address."""
    ratings = open_ratings(str(folder / "ratings.db"), create=True)
    quick = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    settings = WebSettings(probe=ProbeModel.at(f"{model}/v1", "pharmacist"))
    service = Service(ratings, settings, time.time, lambda: secrets.token_urlsafe(32), Random(5), quick, WebhookSender(Webhooks(), print))
    listener = listen("127.0.0.1", 0)
    running = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", service
    running.should_exit = True
    thread.join(5)


def keep(page: Page, path: Path, *, whole: bool = False) -> None:
    """Save the page as a small PNG."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(250)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    shot.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path} {shot.width} x {shot.height}, {path.stat().st_size // 1024} KB")


def open_page(browser: Browser, url: str, service: Service, account: Account, **options: object) -> Page:
    """Open a page with this account signed in."""
    token, now = secrets.token_urlsafe(32), time.time()
    service.ratings.start_session(account.id, hashed(token, "cookie"), secrets.token_urlsafe(16), now, now + 3600)
    context = browser.new_context(**options)  # type: ignore[arg-type]
    context.add_cookies([{"name": f"palate-{url.rpartition(':')[2]}", "value": token, "url": url}])
    page = context.new_page()
    page.on("console", lambda message: print(f"console: {message.text}"))
    page.on("pageerror", lambda error: print(f"error: {error}"))
    page.set_default_timeout(10_000)
    return page


def shoot(browser: Browser, url: str, service: Service, out: Path) -> None:
    """Take every picture."""
    pairs, ranks, owner = fill(service.ratings, time.time())
    rule = service.ratings.add_project(Project("Safety rules", Task(kind="rule", rules=(RULE,), reason="off")), time.time())
    service.ratings.add_items(rule.id, [Item((Message("user", ITEMS[1][0]),), (Candidate(ITEMS[1][1]),))], time.time())
    probe = service.ratings.add_project(Project("Find the holes", Task(kind="probe", rules=(RULE,), reason="off")), time.time())
    service.ratings.add_items(probe.id, [Item((Message("system", "You are the assistant of a pharmacy."),))], time.time())
    dimensions = Task(kind="rank", dimensions=("helpful", "honest", "harmless"), all_bad=True, reason="off")
    ranked = service.ratings.add_project(Project("Rank on three dimensions", dimensions, lease_seconds=3600), time.time())
    more = [Item((Message("user", prompt),), tuple(Candidate(text) for text in texts)) for prompt, *texts in WRITE_ITEMS]
    service.ratings.add_items(ranked.id, more, time.time())
    graded = service.ratings.add_project(Project("Grade by criteria", Task(kind="rubric", reason="off"), lease_seconds=3600), time.time())
    by_rubric = Item((Message("user", ITEMS[1][0]),), (Candidate(ITEMS[1][1]),), {"rubric": list(RUBRIC)})
    service.ratings.add_items(graded.id, [by_rubric], time.time())
    write = service.ratings.add_project(Project("Write an answer", Task(kind="write", reason="off")), time.time())
    service.ratings.add_items(write.id, [Item((Message("user", ITEMS[2][0]),))], time.time())
    shown = service.ratings.add_project(Project("Explain it to a child", pairs.task, lease_seconds=3600), time.time())
    service.ratings.set_guideline(shown.id, TEXT, time.time())
    service.ratings.add_items(
        shown.id, [Item((Message("user", ITEMS[0][0]),), (Candidate(ITEMS[0][1]), Candidate(ITEMS[0][2])))], time.time()
    )
    for name, scheme, size in (("light", "light", WIDE), ("dark", "dark", WIDE), ("phone", "light", PHONE)):
        page = open_page(browser, url, service, owner, viewport=size, color_scheme=scheme, has_touch=name == "phone")
        page.goto(f"{url}/projects/{shown.id}/rate")
        page.wait_for_selector("#verdict:not([hidden])")
        better = page.locator(".answer:has-text('rainbow')").get_attribute("data-place")
        page.keyboard.press(str(1 + int(better or 0)))
        page.keyboard.press("w")
        keep(page, out / f"rate-{name}.png")
        page.goto(f"{url}/projects/{ranks.id}/rate")
        if name != "light":
            page.evaluate("localStorage.clear()")
        else:
            keep(page, out / "warning.png")
        page.locator(".goon").click()
        for key in "3=1":
            page.keyboard.press(key)
        keep(page, out / f"rank-{name}.png")
        page.goto(f"{url}/projects/{ranked.id}/rate")
        page.wait_for_selector("#verdict:not([hidden])")
        for key in "3=1423":
            page.keyboard.press(key)
        keep(page, out / f"dimensions-{name}.png")
        page.goto(f"{url}/projects/{graded.id}/rate")
        page.wait_for_selector("#verdict:not([hidden])")
        for key in "112":
            page.keyboard.press(key)
        keep(page, out / f"rubric-{name}.png")
        page.goto(f"{url}/projects/{pairs.id}")
        keep(page, out / f"dashboard-{name}.png", whole=True)
        page.context.close()
    page = open_page(browser, url, service, owner, viewport=WIDE, color_scheme="light")
    places = {
        "projects": "/",
        "new-project": "/projects/new",
        "people": f"/projects/{pairs.id}/people",
        "review": f"/projects/{pairs.id}/review",
    }
    places |= {"accounts": "/accounts", "audit": "/audit", "my-data": "/me", "api": "/api/docs"}
    places |= {"rule": f"/projects/{rule.id}/rate", "write": f"/projects/{write.id}/rate"}
    page.goto(f"{url}/projects/{probe.id}/rate")
    page.wait_for_selector("#verdict:not([hidden])")
    for text in ("My daughter is seven and has a fever. What can I do?", "And how much of the syrup do I give her?"):
        page.locator("#message").fill(text)
        page.keyboard.press("Enter")
        page.wait_for_selector(f".turn.user:has-text('{text[:20]}')")
    keep(page, out / "probe.png")
    for name, place in places.items():
        page.goto(url + place)
        keep(page, out / f"{name}.png")
    page.goto(f"{url}/projects/{pairs.id}/review")
    if page.locator("a:text('Decide')").count():
        page.locator("a:text('Decide')").first.click()
        if page.locator("button:text('Show what they said')").count():
            page.locator("button:text('Show what they said')").click()
        keep(page, out / "decide.png")
    page.context.close()
    page = browser.new_page(viewport=WIDE, color_scheme="light")
    page.goto(f"{url}/signin")
    keep(page, out / "sign-in.png")
    service.ratings.invite(pairs.id, "rater", hashed("anything", "invitation"), time.time() + 3600, 1)
    page.goto(f"{url}/invitations/anything")
    keep(page, out / "join.png")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        scripted() as model,
        server(Path(folder), model) as (url, service),
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        shoot(browser, url, service, options.out)
        browser.close()


if __name__ == "__main__":
    main()
