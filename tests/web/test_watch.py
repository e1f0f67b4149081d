"""The live page of runs, in a real browser, while a real process writes the run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from palate.cli import main
from palate.core import RunError
from palate.data.jsonl import write_rows
from palate.runs.lock import LOCK
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.sft import SFT
from palate.testing import tiny_policy
from palate.web.live_curves import MOST_POINTS, LiveCurve
from palate.web.watch_app import WatchedRuns, watch_app
from tests.support.served import served
from tests.support.stages import ran
from tests.support.waiting import ended
from tests.web.conftest import LIMIT_MS

WRITER = """
import json, sys
from pathlib import Path
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
run = open_run_at(Path(sys.argv[1]), RunPlan("ppo", "online", seed=1))
with run.active(), run.progress(10, "online", {"online/kl/mean": 3.0}) as advance:
    advance(0)
    print("started", flush=True)
    for line in sys.stdin:
        said = json.loads(line)
        if "rewind" in said:
            run.rewind(said["rewind"])
        if "log" in said:
            run.log(said["log"], said["metrics"])
            advance(1)
        if "warn" in said:
            run.warn(said["warn"], {"kl": "the policy is <b>far</b> away; raise kl.control.coef"}, {})
        if "example" in said:
            with run.rows("examples.jsonl") as rows:
                rows.append({"step": said["example"], "id": "p1", "prompt": "What now?", "completion": said["text"]})
        print("written", flush=True)
"""


class Writer:
    """A process that has a run and writes what it is told."""

    def __init__(self, directory: Path) -> None:
        words = [sys.executable, "-c", WRITER, str(directory)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("started")

    def __call__(self, **said: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()
        self._expect("written")

    def log(self, step: int, **metrics: float) -> None:
        self(log=step, metrics={f"online/{name.replace('__', '/')}": value for name, value in metrics.items()})

    def end(self) -> None:
        self.process.communicate(timeout=LIMIT_MS / 1000)

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    started = Writer(tmp_path / "ppo")
    yield started
    started.process.kill()
    ended(started.process)


@contextmanager
def watched(*directories: Path) -> Iterator[str]:
    with served(watch_app(WatchedRuns(directories), only_here=True)) as url:
        yield url


def content(directory: Path) -> dict[str, Any]:
    """What the page of a run would show."""
    value: dict[str, Any] = json.loads(WatchedRuns([directory]).content())["runs"][0]
    return value


def logged(root: Path, name: str, stage: str, rows: list[dict[str, float]]) -> Run:
    run = open_run(root, RunPlan(name, stage))
    with run.active():
        for step, row in enumerate(rows):
            run.log(step, row)
    return run


def test_a_page_follows_a_process_that_writes(writer: Writer, tmp_path: Path, visit: Callable[..., Page]) -> None:
    with watched(tmp_path / "ppo") as url:
        page = visit(url)
        state = page.locator("#runs .state")
        expect(state).to_have_text("running")
        expect(page.locator("#nothing")).to_be_visible()
        expect(page.locator("#runs li")).to_contain_text("online: 0 of 10")
        writer.log(0, reward__mean=0.25, reward__se=0.1, kl__mean=0.5, odd__thing=1.0)
        reward = page.locator("#charts figure", has_text="Reward")
        expect(reward.locator(".now")).to_have_text("0.250")
        writer.log(1, reward__mean=0.75, reward__se=0.1, kl__mean=1.5, odd__thing=2.0)
        expect(reward.locator(".now")).to_have_text("0.750")
        assert reward.locator("svg").get_attribute("aria-label") == "Reward. ppo: 0.250 at 0, 0.750 at 1."
        assert reward.locator(".band").count() == 1
        kl = page.locator("#charts figure", has_text="KL to the reference")
        assert kl.locator(".band").count() == 0
        expect(page.locator("#others figure")).to_have_count(1)
        expect(page.locator("#warnings")).to_be_hidden()
        writer(warn=1)
        expect(page.locator("#warnings li")).to_have_text("kl, step 1the policy is <b>far</b> away; raise kl.control.coef")
        expect(kl.locator(".mark")).to_have_count(1)
        writer.end()
        expect(state).to_have_text("ended")
        expect(page.locator("#runs li")).to_contain_text("Done.")
        expect(page.locator("#runs li")).to_contain_text("2 rows of metrics")


def test_the_limit_of_the_kl_stands_on_its_curve(writer: Writer, tmp_path: Path, visit: Callable[..., Page]) -> None:
    with watched(tmp_path / "ppo") as url:
        page = visit(url)
        for step in range(3):
            writer.log(step, kl__mean=2.0 * step)
        expect(page.locator("#charts .limit")).to_have_count(1)


def test_a_killed_process_has_ended_and_one_elsewhere_that_is_silent_is_unknown(
    writer: Writer, tmp_path: Path, visit: Callable[..., Page]
) -> None:
    with watched(tmp_path / "ppo") as url:
        page = visit(url)
        writer.log(0, kl__mean=0.5)
        writer.process.kill()
        ended(writer.process)
        expect(page.locator("#runs .state")).to_have_text("ended")
        expect(page.locator("#runs .why")).to_have_text("Its process was killed or has crashed. The same command continues it.")
        (tmp_path / "ppo" / LOCK).write_text("")
        silent(tmp_path / "ppo")
        expect(page.locator("#runs .state")).to_have_text("unknown")
        expect(page.locator("#runs .why")).to_contain_text("Its process cannot be seen from here")


def silent(directory: Path) -> None:
    """Lets the run's files look as if nothing was written for an hour."""
    for path in [place for place in directory.rglob("*") if place.is_file()]:
        os.utime(path, (time.time() - 3600,) * 2)


def test_a_process_that_is_there_and_silent_is_stalled(writer: Writer, tmp_path: Path) -> None:
    assert content(tmp_path / "ppo")["state"] == "running"
    silent(tmp_path / "ppo")
    found = content(tmp_path / "ppo")
    assert found["state"] == "stalled"
    assert found["why"] == "Nothing was written for 60 min. Its process still exists."


def test_a_run_that_goes_back_takes_its_rows_back(writer: Writer, tmp_path: Path, visit: Callable[..., Page]) -> None:
    with watched(tmp_path / "ppo") as url:
        page = visit(url)
        for step in range(4):
            writer.log(step, kl__mean=float(step))
        label = page.locator("#charts figure svg")
        expect(label).to_have_attribute("aria-label", "KL to the reference. ppo: 0.000 at 0, 3.000 at 3.")
        writer(rewind=2)
        writer.log(2, kl__mean=9.0)
        expect(label).to_have_attribute("aria-label", "KL to the reference. ppo: 0.000 at 0, 9.000 at 2.")


def test_samples_of_a_prompt_stand_side_by_side_as_they_change(writer: Writer, tmp_path: Path, visit: Callable[..., Page]) -> None:
    with watched(tmp_path / "ppo") as url:
        page = visit(url)
        writer(example=0, text="<i>nothing</i>")
        expect(page.locator(".prompt .text")).to_have_text(["<i>nothing</i>"])
        for step in (2, 4, 6, 8):
            writer(example=step, text=f"text {step}")
        expect(page.locator(".prompt h4")).to_have_text(["before training", "after 4 iterations", "after 8 iterations"])
        expect(page.locator(".prompt .text")).to_have_text(["<i>nothing</i>", "text 4", "text 8"])
        page.locator("#prompts input").fill("1")
        expect(page.locator(".prompt .text")).to_have_text(["<i>nothing</i>", "text 2", "text 8"])
        writer(example=10, text="")
        expect(page.locator(".prompt .text")).to_have_text(["<i>nothing</i>", "text 2", "empty"])


def test_several_runs_share_the_charts_of_their_common_metrics(tmp_path: Path, visit: Callable[..., Page]) -> None:
    first = logged(tmp_path, "one", "sft", [{"sft/loss/mean": 2.0 - k, "sft/nll/mean": 1.0} for k in range(3)])
    second = logged(tmp_path, "two", "sft", [{"sft/loss/mean": 3.0 - k} for k in range(2)])
    third = logged(tmp_path, "pairs", "direct", [{"direct/loss/mean": 0.6, "direct/accuracy/mean": 0.5}])
    with watched(first.directory, second.directory, third.directory, first.directory) as url:
        page = visit(url)
        expect(page.locator("h1")).to_have_text("3 runs")
        expect(page.locator("#runs li")).to_have_count(3)
        loss = page.locator("#charts figure", has_text="Loss, sft")
        expect(loss.locator(".now b")).to_have_text(["0.000", "2.000"])
        expect(page.locator("#charts figure", has_text="Loss, direct").locator(".now b")).to_have_text(["0.600"])
        box = loss.locator("svg").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 50, box["y"] + 60)
        expect(loss.locator(".now")).to_have_text("at 02.0003.000")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_fits_its_window_in_both_themes(width: int, scheme: str, tmp_path: Path, visit: Callable[..., Page]) -> None:
    run = logged(tmp_path, "a-run-with-a-name-that-is-very-long-indeed", "online", [{"online/kl/mean": 1.0, "online/loss/mean": 2.0}])
    with run.rows("examples.jsonl") as rows:
        for step in range(5):
            rows.append({"step": step, "id": "p", "prompt": "x" * 90, "completion": "y" * 300})
    with watched(run.directory) as url:
        page = visit(url, viewport={"width": width, "height": 900}, color_scheme=scheme)
        expect(page.locator("#charts figure")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.line')).stroke]"
        )
        assert colours == (["rgb(250, 247, 241)", "rgb(194, 69, 45)"] if scheme == "light" else ["rgb(22, 20, 17)", "rgb(255, 127, 95)"])


def test_a_page_of_sft_says_what_the_model_writes_after_how_many_steps(tmp_path: Path, visit: Callable[..., Page]) -> None:
    tiny_policy().save(tmp_path / "policy")
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "rice"}] for text in ("beans", "salt")]
    write_rows(tmp_path / "talk.jsonl", [{"messages": messages} for messages in turns])
    stage = SFT(str(tmp_path / "policy"), str(tmp_path / "talk.jsonl"), demonstrations_per_step=1, epochs=11)
    with watched(ran(stage, tmp_path / "run", "sft")) as url:
        page = visit(url)
        expect(page.locator(".prompt > p")).to_have_text(["beans", "salt"])
        expect(page.locator(".prompt").first.locator("h4")).to_have_text(["before training", "after 11 steps", "after 22 steps"])


def test_two_prompts_of_one_row_stay_apart(tmp_path: Path) -> None:
    run = logged(tmp_path, "one", "sft", [])
    with run.rows("examples.jsonl") as rows:
        for prompt in ("first", "second"):
            rows.append({"step": 0, "id": "file:1", "prompt": prompt, "completion": "text"})
    assert [(one["prompt"], len(one["samples"])) for one in content(run.directory)["examples"]] == [("first", 1), ("second", 1)]


def test_a_page_whose_server_has_gone_says_so(tmp_path: Path, visit: Callable[..., Page]) -> None:
    run = logged(tmp_path, "one", "sft", [{"sft/loss/mean": 2.0}])
    with watched(run.directory) as url:
        page = visit(url)
        expect(page.locator("#runs .state")).to_have_text("ended")
    expect(page.locator("#lost")).to_contain_text("`palate watch` does not answer. What you see is of")
    expect(page.locator("#charts figure")).to_have_count(1)


def test_what_has_not_changed_is_not_sent_again_and_strangers_are_refused(tmp_path: Path) -> None:
    run = logged(tmp_path, "one", "sft", [{"sft/loss/mean": 2.0}])
    with watched(run.directory) as url:
        first = httpx.get(f"{url}/data")
        assert first.status_code == 200
        assert httpx.get(f"{url}/data", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
        with run.rows("metrics.jsonl") as rows:
            rows.append({"step": 1, "sft/loss/mean": 1.0})
        again = httpx.get(f"{url}/data", headers={"If-None-Match": first.headers["etag"]})
        assert again.json()["runs"][0]["curves"]["sft/loss/mean"]["y"] == [2.0, 1.0]
        assert httpx.get(f"{url}/data", headers={"Host": "elsewhere.example"}).status_code == 403
        assert httpx.get(f"{url}/data", headers={"Host": "localhost:1"}).status_code == 200
        assert httpx.post(f"{url}/data").status_code == 405
        assert "default-src 'none'" in first.headers["content-security-policy"]


def test_nothing_is_written_to_a_run_that_is_watched(writer: Writer, tmp_path: Path) -> None:
    writer.log(0, kl__mean=0.5)

    def state() -> dict[str, tuple[int, bytes]]:
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "ppo").rglob("*") if path.is_file()}

    before = state()
    runs = WatchedRuns([tmp_path / "ppo"])
    assert runs.content() == runs.content()
    assert state() == before


def test_members_of_an_ensemble_are_watched_with_it(tmp_path: Path) -> None:
    run = logged(tmp_path, "reward", "reward", [])
    for number in (2, 10):
        shutil.copytree(
            logged(tmp_path / "other", "reward", "reward", [{"reward/loss/mean": 0.6}]).directory, run.directory / f"members/{number}"
        )
    name = run.directory.name
    runs = json.loads(WatchedRuns([run.directory]).content())["runs"]
    assert [one["name"] for one in runs] == [name, f"{name}/2", f"{name}/10"]
    assert runs[1]["curves"]["reward/loss/mean"]["y"] == [0.6]


def test_a_run_that_is_deleted_while_it_is_watched_is_unknown(tmp_path: Path) -> None:
    run = logged(tmp_path, "one", "sft", [{"sft/loss/mean": 2.0}])
    runs = WatchedRuns([run.directory])
    runs.content()
    shutil.rmtree(run.directory)
    found = json.loads(runs.content())["runs"][0]
    assert found["state"] == "unknown"
    assert "does not exist" in found["why"]


def test_what_is_not_a_run_gets_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    told = {"file": "holds no run.json: it is not a run", "missing": "does not exist. `palate runs` lists", "empty": "holds no run.json"}
    for name, message in told.items():
        assert main(["watch", str(tmp_path / name), "--port", "0"]) == RunError.exit_code
        said = capsys.readouterr()
        assert message in said.err
        assert (said.out, said.err.count("\n")) == ("", 1)


def test_a_curve_stays_small_and_keeps_its_mean() -> None:
    curve = LiveCurve()
    for step in range(10_000):
        curve.add(step, step % 7)
    assert MOST_POINTS <= len(curve.steps) <= 2 * MOST_POINTS
    assert curve.width == 16
    assert curve.last == 9_999 % 7
    assert curve.steps[0] == 7.5
    assert sum(curve.values) / len(curve.values) == pytest.approx(3.0, abs=0.01)


def test_a_row_that_is_no_row_is_named_on_the_page(tmp_path: Path) -> None:
    run = logged(tmp_path, "one", "sft", [{"sft/loss/mean": 2.0}])
    with (run.directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": "x", "sft/loss/mean": 3}\n[]\n')
    found = content(run.directory)
    assert found["rows"] == 1
    assert found["faults"] == ["line 3 of metrics.jsonl is not a row: not a JSON object: list"]
