"""Pictures and clips at the desk, in a real browser, from a real server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from palate.core import Message
from palate.ratings import Candidate, Item, Project, Task
from palate.web.clip_metadata import patches
from palate.web.service import WebSettings
from tests.support.rating_server import RatingServer, open_rating_server
from tests.support.waiting import wait_until
from tests.web.conftest import Sit, until
from tests.web.test_judging import at_desk, chosen, said, settled

RECORD = """async ([width, height, frames]) => {
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const pen = canvas.getContext('2d');
  const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: 'video/mp4;codecs=avc1.42E01E', videoBitsPerSecond: 4e6 });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const ended = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  for (let frame = 0; frame < frames; frame++) {
    for (let n = 0; n < 150; n++) {
      pen.fillStyle = `hsl(${Math.random() * 360} 80% 50%)`;
      pen.fillRect(Math.random() * width, Math.random() * height, 20, 20);
    }
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  recorder.stop();
  await ended;
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}"""
"""Makes an MP4 (H.264) with the browser's own encoder: nothing else on the machine can."""


@pytest.fixture(scope="session")
def clip(browser: Browser) -> bytes:
    context = browser.new_context()
    made = bytes(context.new_page().evaluate(RECORD, [160, 120, 30]))
    context.close()
    assert made[4:8] == b"ftyp"
    assert len(made) > 20_000
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "media"
    (made / "run 1").mkdir(parents=True)
    return made


@pytest.fixture
def server(tmp_path: Path, folder: Path) -> Iterator[RatingServer]:
    with open_rating_server(tmp_path, WebSettings(media=folder)) as opened:
        yield opened


def shown(server: RatingServer, *names: str, task: Task | None = None) -> Project:
    project = server.project(task=task or Task(all_bad=True), items=0)
    item = Item((Message("user", "Which moves as it should?"),), tuple(Candidate(media=name) for name in names))
    server.ratings.add_items(project.id, [item], server.clock())
    server.account("bob", "rater", project)
    server.account("rev", "reviewer", project)
    return project


def is_playing(page: Page) -> list[bool]:
    found: list[bool] = page.evaluate("[...document.querySelectorAll('video')].map((one) => !one.paused)")
    return found


def test_a_picture_and_a_gif_are_shown_and_judged(server: RatingServer, folder: Path, sit: Sit) -> None:
    Image.new("RGB", (120, 80), "red").save(folder / "a.png")
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("green", "blue", "white")]
    frames[0].save(folder / "run 1" / "b.gif", save_all=True, append_images=frames[1:], duration=60, loop=0)
    project = shown(server, "a.png", "run 1/b.gif")
    page = at_desk(sit, "bob", project)
    images = page.locator(".answer img")
    expect(images).to_have_count(2)
    until(page, "[...document.images].filter((one) => one.closest('.answer')).every((one) => one.complete && one.naturalWidth)")
    assert sorted(images.evaluate_all("(all) => all.map((one) => one.naturalWidth)")) == [60, 120]
    assert images.evaluate_all("(all) => all.map((one) => one.alt)") == ["Completion 1, a picture", "Completion 2, a picture"]
    gif = images.nth(next(n for n in range(2) if images.nth(n).evaluate("(one) => one.naturalWidth") == 60))
    looks = set()
    wait_until(lambda: looks.add(gif.screenshot()) or len(looks) > 1)  # it moves
    expect(page.locator("#play")).to_be_hidden()
    html = page.content()
    assert "a.png" not in html
    assert "run 1" not in html
    gif.click()
    page.keyboard.press("Enter")
    settled(page)
    assert chosen(said(server, project)[0]) == 1


def test_clips_play_by_keyboard_and_stop_at_a_break(server: RatingServer, folder: Path, clip: bytes, sit: Sit) -> None:
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(clip)
    project = shown(server, "a.mp4", "b.mp4")
    page = at_desk(sit, "bob", project)
    until(page, "[...document.querySelectorAll('video')].every((one) => one.readyState > 0)")
    assert (
        page.evaluate("[...document.querySelectorAll('video')].map((one) => [one.videoWidth, one.muted, one.controls])")
        == [[160, True, True]] * 2
    )
    page.keyboard.press("v")
    until(page, "[...document.querySelectorAll('video')].every((one) => one.currentTime > 0.2)")
    page.keyboard.press("v")
    assert is_playing(page) == [False, False]
    first = page.locator("video").first
    first.focus()
    page.keyboard.press("Space")  # the browser's own control
    until(page, "!document.querySelector('video').paused")
    assert is_playing(page) == [True, False]
    assert page.locator("input[name='dimension-0']:checked").count() == 0
    page.keyboard.press("p")
    assert is_playing(page) == [False, False]
    page.keyboard.press("Escape")
    page.locator("#play").click()
    until(page, "[...document.querySelectorAll('video')].every((one) => !one.paused)")
    first.click()  # the picture of a clip is its control, and chooses nothing
    assert page.locator("input[name='dimension-0']:checked").count() == 0
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    settled(page)
    assert said(server, project)[0].answer.ranking == ((1,), (0,))


def test_a_clip_can_be_wound_on_and_the_reviewer_sees_it(server: RatingServer, folder: Path, clip: bytes, sit: Sit) -> None:
    (folder / "a.mp4").write_bytes(clip)
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    project = shown(server, "a.mp4", "b.png")
    item = next(iter(server.ratings.items(project.id))).id
    page = sit("rev", f"/projects/{project.id}/review/{item}")
    until(page, "document.querySelector('video')?.readyState > 0")
    assert page.locator("video").get_attribute("aria-label") == "Completion 1, a clip"
    page.evaluate("document.querySelector('video').currentTime = 0.7")
    until(page, "!document.querySelector('video').seeking && document.querySelector('video').currentTime === 0.7")


def test_parts_of_a_clip_can_be_asked_for(server: RatingServer, folder: Path, clip: bytes) -> None:
    (folder / "a.mp4").write_bytes(clip)
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    project = shown(server, "a.mp4", "b.png")
    bob = server.client("bob")
    mine = bob.api(f"/projects/{project.id}/assignments").json()["assignments"][0]["id"]
    path = f"/projects/{project.id}/assignments/{mine}/media/{server.ratings.assignment(mine).order.index(0)}"

    def part(words: str, **headers: str) -> tuple[int, str, bytes]:
        answer = bob.http.get(path, headers={"Range": words, **headers})
        assert answer.headers.get("x-content-type-options") == "nosniff"
        return answer.status_code, answer.headers.get("content-range", ""), answer.content

    size = len(clip)
    sent = bytearray(clip)
    for at, instead in patches(folder / "a.mp4"):  # names and times are blanked, and nothing moves
        sent[at : at + len(instead)] = instead
    clip = bytes(sent)
    whole = bob.get(path)
    assert (whole.content, whole.headers["accept-ranges"], whole.headers["content-type"]) == (clip, "bytes", "video/mp4")
    assert part("bytes=0-99") == (206, f"bytes 0-99/{size}", clip[:100])
    assert part("bytes=1000-") == (206, f"bytes 1000-{size - 1}/{size}", clip[1000:])
    assert part("bytes=-50") == (206, f"bytes {size - 50}-{size - 1}/{size}", clip[-50:])
    assert part(f"bytes=0-{size * 2}")[2] == clip
    assert part(f"bytes={size + 5}-")[0] == 416
    tag = whole.headers["etag"]
    assert part("bytes=0-9", **{"If-Range": tag})[0] == 206
    assert part("bytes=0-9", **{"If-Range": '"another"'}) == (200, "", clip)
    for words in ("bytes=9-1", "bytes=a-b", "lines=1-2", "bytes=", "bytes=" + ",".join(f"{n}-{n}" for n in range(3000))):
        assert part(words)[0] in {200, 206, 400, 416}
    assert len(part("bytes=" + ",".join(["0-"] * 900))[2]) < 3 * size  # no cheap way to make the server send a thousand copies
    assert server.client().http.get(path, headers={"Range": "bytes=0-9"}).status_code in {303, 401}


@pytest.mark.parametrize("name", ["none.png", "../secret.png", "run 1/../../secret.png", "link.png", "broken.mp4"])
def test_what_cannot_be_shown_is_told(server: RatingServer, folder: Path, sit: Sit, name: str) -> None:
    """A file that is missing, lies elsewhere, or is no clip: the rater is told what to do, and sees nothing of it."""
    Image.new("RGB", (8, 8), "red").save(folder.parent / "secret.png")
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "broken.mp4").write_bytes(random.Random(1).randbytes(5000))
    Image.new("RGB", (8, 8), "green").save(folder / "good.png")
    project = shown(server, name, "good.png")
    page = at_desk(sit, "bob", project)
    kind = "clip" if name.endswith("mp4") else "picture"
    expect(page.locator(".answer .notice")).to_have_text(f"This {kind} cannot be shown. Flag the item (f), or skip it (s).")
    expect(page.locator(".answer img")).to_have_count(1)


def test_a_phone_shows_clips_in_its_width(server: RatingServer, folder: Path, clip: bytes, sit: Sit) -> None:
    (folder / "a.mp4").write_bytes(clip)
    Image.new("RGB", (1600, 900), "red").save(folder / "b.png")
    project = shown(server, "a.mp4", "b.png")
    page = at_desk(sit, "bob", project, viewport={"width": 390, "height": 844}, has_touch=True)
    until(page, "document.querySelector('.answer img').complete && document.querySelector('video').readyState > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for one in page.locator(".answer :is(img, video)").all():
        box = one.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
