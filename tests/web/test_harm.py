"""What others wrote can do nothing: no script runs, nothing is fetched, on any page that shows it."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Route, expect

from palate.core import Message
from palate.ratings import Answer, Candidate, Item, Project, Task
from palate.web.prose import LONGEST_MARKDOWN, render_markdown
from tests.support.rating_server import Client, RatingServer, open_rating_server
from tests.web.conftest import Sit, until, while_it_acts
from tests.web.xss import PAYLOADS

DANGEROUS = "script, iframe, object, embed, link, meta, base, style, img, svg, video, audio, form, input, math, template, [style]"


def test_the_corpus_is_large() -> None:
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markdown_makes_only_harmless_elements(payload: str) -> None:
    found: list[tuple[str, list[tuple[str, str | None]]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, attrs))

    Reader().feed(render_markdown(payload))
    allowed = {"p", "a", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "span", "em", "strong", "br", "ul", "li", "div", "bdi"}
    named = {"a": {"href", "rel", "target", "title"}, "li": {"value"}, "span": {"class", "data-code"}}
    assert {tag for tag, _ in found} <= allowed
    for tag, attrs in found:
        for name, value in attrs:
            assert name in {"dir", "class"} | named.get(tag, set())
            assert name != "href" or (value or "").startswith(("https://", "http://", "mailto:"))
        if tag == "a":
            assert dict(attrs)["rel"] == "noopener noreferrer nofollow"


def test_markdown_is_markdown() -> None:
    html = render_markdown("# T\n\n- **a** `b`\n\n| x |\n|---|\n| y |\n\n```py\nz < 1\n```\n[l](https://example.org)")
    for part in (">T</h1>", "<strong>a</strong>", '<code dir="ltr">b</code>', ">y</td>", "z &lt; 1", 'href="https://example.org"'):
        assert part in html
    assert render_markdown("[image]: x\n![a cat](https://example.org/cat.png)").count("[image: a cat https://example.org/cat.png]") == 1


def test_a_text_that_would_take_long_is_shown_as_it_stands() -> None:
    assert render_markdown("[" * (LONGEST_MARKDOWN + 1)).startswith('<pre class="plain">[[[')


ON_ONE_PAGE = 10


def spread(server: RatingServer) -> tuple[Project, Project, Project]:
    """The corpus in prompts, completions, guidelines, warnings, reasons, names, dimensions, rules and flags; (pairs, rankings, rules).

    The rankings have each text as a message and as a completion by itself, so that none can hide what follows it.
    """
    everything = "\n\n".join(PAYLOADS).replace("\x00", "")
    project = server.project("<script>alert(1)</script>", Task(dimensions=('"><img src=x onerror=alert(1)>', "b"), all_bad=True), items=0)
    rules = server.project(
        "'\"><svg onload=alert(1)>", Task(kind="rule", rules=('<img src=x onerror=alert(1)>" onclick="alert(1)',)), items=1
    )
    server.ratings.set_guideline(project.id, everything, server.clock(), warning="<img src=x onerror=alert(1)>")
    texts = [payload.replace("\x00", "") for payload in PAYLOADS]
    rows = [
        Item(
            (Message("system", everything), Message("user", everything)),
            (Candidate(everything), Candidate(everything + "!")),
            {"x": everything},
        ),
        *(Item((Message("user", one),), (Candidate(one), Candidate(one + "!"))) for one in texts[:6]),
    ]
    server.ratings.add_items(project.id, rows, server.clock())
    parts = [texts[at : at + ON_ONE_PAGE] for at in range(0, len(texts), ON_ONE_PAGE)]
    ranked = server.project("<svg onload=alert(1)>", Task(kind="rank"), items=0)
    server.ratings.set_guideline(ranked.id, everything, server.clock(), warning="<img src=x onerror=alert(1)>")
    server.ratings.add_items(
        ranked.id,
        [Item(tuple(Message("user", one) for one in part), tuple(Candidate(one) for one in part)) for part in parts],
        server.clock(),
    )
    server.account("<b>rev</b>", "reviewer", project, rules)
    server.account("<img src=x onerror=alert(1)>", "owner", project, ranked, rules)
    for index in range(6):
        bob = server.account(f"{index}\"'><script>alert(1)</script>", "rater", project)
        held = server.ratings.claim(project.id, bob.id, server.clock(), server.service.random)
        assert held is not None
        answer = Answer(ranking=((0,), (1,)), dimensions={"b": ((1,), (0,))}, reason=everything, flag=PAYLOADS[index])
        server.ratings.submit(held.id, bob.id, answer, "12345678", server.clock())
    return project, ranked, rules


def test_nothing_runs_and_nothing_is_fetched_on_any_page(server: RatingServer, sit: Sit) -> None:
    project, ranked, rules = spread(server)
    owner = "<img src=x onerror=alert(1)>"
    page = sit(owner)
    page.on("dialog", lambda dialog: pytest.fail(f"{dialog.message} ran"))
    places = [
        "/",
        f"/projects/{project.id}",
        f"/projects/{project.id}/people",
        f"/projects/{project.id}/review",
        "/accounts",
        "/audit",
        "/me",
    ]
    places += [f"/projects/{rules.id}/rate", "/api/docs", "/invitations/x"]
    places += [f"/projects/{project.id}/review/{one.id}" for one in list(server.ratings.items(project.id))[:3]]
    for place in places:
        page.goto(server.url + place)
        page.wait_for_load_state("networkidle")
        harmful = page.evaluate(
            f"[...document.querySelectorAll('main')].flatMap(m => [...m.querySelectorAll({DANGEROUS!r})]).map(e => e.outerHTML)"
        )
        ours = ("<form", "<input", '<svg class="interval"', "<template")
        assert [one for one in harmful if not one.startswith(ours)] == [], place
        assert (
            page.evaluate("[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on')).length")
            == 0
        )
    pages = -(-len(PAYLOADS) // ON_ONE_PAGE)
    for asked, further in ((project, 0), (ranked, pages - 1)):
        page.goto(f"{server.url}/projects/{asked.id}/rate")
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("article.item")).to_be_visible()
        assert page.locator(f"#sheet :is({DANGEROUS})").count() == 0
        for _ in range(further):  # what is fetched ahead is put in by script: another way in
            before = page.locator("article.item").get_attribute("data-assignment")
            page.keyboard.press("s")
            expect(page.locator("article.item")).not_to_have_attribute("data-assignment", before or "")
            assert page.locator(f"#sheet :is({DANGEROUS})").count() == 0


def skeleton(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Tags with the names of their attributes, and what leads elsewhere."""
    found: list[tuple[str, tuple[str, ...]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            leads = [(name, value or "") for name, value in attrs if name in {"href", "src", "action"}]
            away = [f"{name}={value}" for name, value in leads if not value.startswith("/")]
            found.append((tag, (*(name for name, _ in attrs), *away)))

    Reader().feed(html)
    return found


def in_every_field(server: RatingServer, texts: list[str]) -> dict[str, str]:
    """Pages on which the texts stand, each in every field that is no Markdown and is kept: a row, a vote or a project for each text."""
    now, owner = server.clock(), f"owner {len(server.accounts)}"
    dimensions = tuple(dict.fromkeys((text[:60].strip() or "x") + f" {number}" for number, text in enumerate(texts)))
    many = len(texts)
    named = [server.project(f"{text} {owner} {number}", items=0) for number, text in enumerate(texts)]
    main = server.project(f"main {owner}", Task(all_bad=True), items=1, overlap=min(many, 100))
    asked = server.project(f"dimensions {owner}", Task(dimensions=dimensions), items=1)
    probe = server.project(f"probe {owner}", Task(kind="probe", rules=tuple(texts)), items=0)
    ruled = [Item((Message("user", f"question {number}"),), (), fields={"rule": text}) for number, text in enumerate(texts)]
    server.ratings.add_items(probe.id, ruled, now)
    write = server.project(f"write {owner}", Task(kind="write"), items=1, overlap=min(many, 100))
    server.account(owner, "owner", *named, main, asked, probe, write)
    for number, text in enumerate(texts):
        name = f"{' '.join(text.split())[:50]} {owner} {number}"
        who = server.account(name if name.isprintable() else f"x {owner} {number}", "rater", main, probe, write)
        talk = (Message("user", text), Message("assistant", text))
        answers = {
            main: Answer(ranking=((0,), (1,)), reason=text, flag=f"{text} {number}"),
            probe: Answer(broken=True, dialogue=talk),
            write: Answer(text=text),
        }
        for one, answer in answers.items():
            held = server.ratings.claim(one.id, who.id, now, server.service.random)
            assert held is not None
            server.ratings.submit(held.id, held.rater, answer, f"key {one.id}", now)
    client = server.client(owner)
    places = {name: f"/projects/{one.id}{end}" for name, one, end in (
        ("dimensions", asked, "/rate"), ("dashboard", main, ""), ("people", main, "/people"), ("queue", main, "/review"),
    )}  # fmt: skip
    for one in (main, probe, write, asked):
        for number, item in enumerate(server.ratings.items(one.id)):
            places[f"case {one.name.split()[0]} {number}"] = f"/projects/{one.id}/review/{item.id}"
    return {name: client.get(place).text for name, place in {"home": "/", **places, "me": "/me"}.items()}


def echoed(server: RatingServer, client: Client, project: Project, text: str) -> list[str]:
    """Pages that give back what was just sent, and one with the text as a warning."""
    server.ratings.set_guideline(project.id, "plain", server.clock(), warning=text)
    # Every payload has the same fields at fault: what is said beside them is an element, too.
    form = {
        "name": text.ljust(140, "x"),
        "dimensions": text.ljust(90, "x").replace(",", ";"),
        "rules": text,
        "text": text,
        "warning": text,
        "overlap": text,
    }
    sent = [
        client.post("/projects", form),
        client.post(f"/projects/{project.id}/items", files={"file": (text.replace('"', "'"), b"{")}),
        client.post("/signin", {"name": text, "password": "x"}),
        client.get(f"/projects/{project.id}/{quote(text, safe='')}"),
        client.get(f"/projects/{project.id}/rate"),
    ]
    return [one.text for one in sent]


def test_every_payload_in_every_field_makes_no_element(tmp_path: Path) -> None:
    """With a payload a page has the same elements and attributes as with a harmless word."""
    payloads = [payload.replace("\x00", "") for payload in PAYLOADS]
    kept, echoes = [], []
    for name, texts in (("plain", ["harmless"] * len(payloads)), ("payloads", payloads)):
        (tmp_path / name).mkdir()
        with open_rating_server(tmp_path / name) as server:
            kept.append({place: skeleton(page) for place, page in in_every_field(server, texts).items()})
            project, client = server.project("Echo"), server.client(next(name for name in server.accounts if name.startswith("owner")))
            said = texts if name == "payloads" else texts[:1]
            echoes.append([[skeleton(page) for page in echoed(server, client, project, text)] for text in said])
    assert {place: kept[1][place] for place in kept[0] if kept[1][place] != kept[0][place]} == {}
    assert [payload for payload, pages in zip(payloads, echoes[1], strict=True) if pages != echoes[0][0]] == []
    assert len(kept[0]) > len(PAYLOADS)
    assert len(echoes[0][0]) == 5


INJECT = """async () => {
  Object.assign(window, { ran: false, stopped: 0 });
  addEventListener('securitypolicyviolation', () => { window.stopped += 1; });
  for (const html of ["<img src=x onerror='window.ran = true'>", "<img src='https://evil.example/a.png'>",
                      "<div style='background:url(https://evil.example/b.png)'>x</div>",
                      "<iframe src='https://evil.example/d'></iframe>"]) {
    const one = document.createElement('div');
    one.innerHTML = html;
    document.body.append(one);
  }
  const script = document.createElement('script');
  script.textContent = 'window.ran = true';
  document.body.append(script);
  await fetch('https://evil.example/c').catch(() => {});
}"""


@pytest.mark.parametrize("is_ours", [True, False])
def test_the_policy_would_stop_what_came_through(server: RatingServer, browser: Browser, is_ours: bool) -> None:
    """Were HTML to come through, nothing of it would run or be fetched; on a page without our headers, all of it."""
    context = browser.new_context()
    reached: list[str] = []

    def answered(route: Route) -> None:
        reached.append(route.request.url[-1])
        route.fulfill(body="")

    context.route("https://evil.example/**", answered)
    context.route("https://plain.example/**", lambda route: route.fulfill(body="<p>a page</p>", content_type="text/html"))
    page = context.new_page()
    page.goto(server.url + "/signin" if is_ours else "https://plain.example/")
    page.evaluate(INJECT)
    until(page, "window.stopped === 6" if is_ours else "window.ran")
    if not is_ours:
        while_it_acts(page, lambda: len(reached) == 4)
    ran = page.evaluate("window.ran")
    context.close()
    assert (ran, sorted(reached)) == ((False, []) if is_ours else (True, ["c", "d", "g", "g"]))


def every_page(server: RatingServer) -> list[str]:
    """The path of each page, with something on it, for `ann`, who owns all."""
    asked = {
        "pairs": Task(all_bad=True, strength=True),
        "dimensions": Task(kind="rank", dimensions=("helpful", "honest"), all_bad=True),
        "probe": Task(kind="probe", rules=("Never say no.",)),
        "rule": Task(kind="rule", rules=("Never say no.",)),
        "write": Task(kind="write"),
    }
    projects = [server.project(name, task) for name, task in asked.items()]
    first = projects[0]
    server.account("ann", "owner", *projects)
    server.account("bob", "rater", first)
    server.ratings.invite(first.id, "rater", "hash", server.clock() + 1000, 3)
    held = server.ratings.claim(first.id, server.accounts["bob"].id, server.clock(), server.service.random)
    assert held is not None
    answer = Answer(ranking=((0,), (1,)), reason="so", flag="look", seconds=20)
    server.ratings.submit(held.id, held.rater, answer, "12345678", server.clock())
    own = [f"/projects/{first.id}{end}" for end in ("", "/people", "/review", f"/review/{held.item}")]
    return [*(f"/projects/{one.id}/rate" for one in projects), *own, "/", "/projects/new", "/accounts", "/audit", "/me", "/api/docs", "/x"]


def test_text_has_contrast_and_every_field_and_button_has_a_name(server: RatingServer, sit: Sit) -> None:
    """Every colour of text against its paper, on every page, in both themes: at least 4.5 to 1 (WCAG AA)."""
    places = every_page(server)
    page = sit("ann", places[0], color_scheme="light")
    page.wait_for_selector("#verdict:not([hidden])")
    page.keyboard.press("1")
    low, nameless = {}, {}
    for place in places:
        if place != places[0]:
            page.goto(server.url + place)
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        nameless[place] = page.evaluate(NAMELESS)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            until(page, "document.getAnimations().every((one) => one.playState !== 'running')")  # colours fade in
            low[place, scheme] = page.evaluate(CONTRAST)
    assert {place: found for place, found in low.items() if found} == {}
    assert {place: found for place, found in nameless.items() if found} == {}


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

NAMELESS = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea:not([hidden]), button, a')]
  .filter((one) => !(one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()))
  .map((one) => one.outerHTML)"""


def test_tab_goes_through_the_desk_in_the_order_of_reading(server: RatingServer, sit: Sit) -> None:
    """From the top down and from the left; nothing is left out, and one gets out of it again."""
    project = server.project(task=Task(all_bad=True, strength=True))
    server.account("bob", "rater", project)
    page = sit("bob", f"/projects/{project.id}/rate")
    page.wait_for_selector("#verdict:not([hidden])")
    page.keyboard.press("1")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.querySelector('.skip').focus()")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found is None or found in seen:
            break
        seen.append(found)
    names = [name for name, _, _ in seen]
    wanted = ["Palate", "p Pause", "Dark mode", "Sign out", "1First", "r Reason (optional)", "u Undo", "s Skip", "f Flag", "Next Enter"]
    assert [name for name in names if name in wanted] == wanted
    desk = seen[names.index("1First") : names.index("Next Enter") + 1]
    assert all(below[1] > above[1] - 30 or below[2] > above[2] for above, below in pairwise(desk)), desk


FOCUSED = """() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  const box = one.getBoundingClientRect();
  return [one.getAttribute('aria-label') ?? one.labels?.[0]?.textContent.trim() ?? one.textContent.trim(), box.top, box.left];
}"""
"""Name and place of what has the focus."""


CONTRAST = r"""() => {
  const read = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = (one) => { for (; one; one = one.parentElement) {
    const c = read(getComputedStyle(one).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; }
    return [255, 255, 255]; };
  const low = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility() || one.closest(":disabled, .option:has(:disabled), .vh")) continue;
    const [a, b] = [light(read(getComputedStyle(one).color)), light(paper(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def test_a_rating_server_of_another_folder_shows_nothing_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with open_rating_server(tmp_path) as one, open_rating_server(tmp_path / "other") as two:
        one.account("bob")
        two.account("bob")
        client = one.client("bob")
        client.http.base_url = two.url
        assert client.get("/api/session").status_code == 401
