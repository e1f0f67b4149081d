"""The whole loop of a model in use: people judge answers on the server's page, and the server goes on with what was learned from that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from palate.cli import main
from palate.core import Completion, Message, Prompt
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward
from palate.runs.record import read_record
from palate.serving.api_keys import add_key
from palate.serving.audit_log import INFERENCES
from palate.testing import chat_tokenizer, tiny_policy
from tests.support.serve_process import serve_process
from tests.support.stages import rows_of
from tests.support.waiting import LIMIT_SECONDS, wait_until
from tests.unit.serving.test_feedback_judgments import standing
from tests.web.conftest import intercept

VERDICTS = {"rice?": "B is better", "beans?": "A is better"}
"""What the person asks, and which answer they say is better."""


@pytest.fixture
def in_use(tmp_path: Path) -> Path:
    """A folder with a policy whose answers are short, a reward model, and links to both, which the server serves."""
    policy = tiny_policy("llama", chat_tokenizer("closed"), seed=5)
    policy.module.generation_config.eos_token_id = list(range(0, 256, 8))
    policy.save(tmp_path / "policy-1")
    scalar_from(policy, ("overall",), seed=0).save(tmp_path / "reward-1")
    for name in ("policy", "reward"):
        assert main(["use", str(tmp_path / f"{name}-in-use"), str(tmp_path / f"{name}-1")]) == 0
    return tmp_path


def seeded(route: Route) -> None:
    """Ask for the same answers every time: the page sends no seed."""
    route.continue_(post_data=json.dumps({**route.request.post_data_json, "seed": 7}))


def judged(page: Page, question: str, verdict: str) -> tuple[str, str]:
    """Ask, and say which of the two answers is better; returns both as the page shows them, the better one first."""
    turns = page.locator("#turns li")
    before = turns.count()
    page.get_by_label("Message").fill(question)
    page.get_by_role("button", name="Send").click()
    button = page.get_by_role("button", name=verdict)
    expect(button).to_be_enabled()
    left, right = (page.locator(side).text_content() or "" for side in ("#left", "#right"))
    button.click()
    expect(turns).to_have_count(before + 2)
    return (left, right) if verdict == "A is better" else (right, left)


def scores(url: str, key: str, texts: tuple[str, str]) -> tuple[list[float], list[float]]:
    """The scores that the server gives to two texts, and those of the answers that it draws and ranks."""

    def post(path: str, body: dict[str, Any]) -> Any:
        whole = {"messages": [{"role": "user", "content": "rice?"}], "weights": {"overall": 1}, **body}
        answer = httpx.post(f"{url}/v1/{path}", json=whole, headers={"Authorization": f"Bearer {key}"}, timeout=LIMIT_SECONDS)
        return answer.raise_for_status().json()

    given = [one["score"] for one in post("score", {"completions": texts})["data"]]
    return given, [one["score"] for one in post("chat/completions", {"n": 2, "seed": 7})["choices"]]


def own_scores(model: Path, texts: tuple[str, str]) -> list[float]:
    """What the reward model in a folder says of two texts."""
    prompt = Prompt("rice", (Message("user", "rice?"),))
    (found,) = LearnedReward(load_scalar(model)).score([prompt], [[Completion(text) for text in texts]])["score"]
    return [float(one or 0.0) for one in found]


@pytest.mark.slow
def test_what_people_say_on_the_page_is_what_the_served_reward_model_learns(in_use: Path, visit: Callable[..., Page]) -> None:
    store, runs, database = in_use / "served", in_use / "runs", str(in_use / "ratings.db")
    link, log, key = in_use / "reward-in-use", in_use / "log.txt", add_key(in_use / "keys.jsonl", "ann")
    options = ["--reward", link, "--store", store, "--keys", in_use / "keys.jsonl", "--slots", 4]
    with serve_process(in_use / "policy-in-use", log, *options) as (_, url):
        page = visit(url)
        intercept(page, "**/v1/chat/completions", seeded)
        page.get_by_label("API key").fill(key)
        shown = {question: judged(page, question, verdict) for question, verdict in VERDICTS.items()}
        assert all(better.strip() and worse.strip() and better != worse for better, worse in shown.values())

        assert main(["feedback", str(store), "--database", database, "--project", "soups"]) == 0
        judgments = standing(database, "soups")
        assert [(rater, texts) for rater, texts, _ in judgments] == [("ann", list(pair)) for pair in shown.values()]

        inferences, people = str(store / INFERENCES), ["--from", "people", "--from.project", "soups", "--from.wait", "false"]
        collect = ["collect", "--samples", inferences, *people, "--from.database", database, "--held_out", "0"]
        assert main([*collect, "--out", str(runs / "judged")]) == 0
        assert {tuple(row["raters"]) for row in rows_of(runs / "judged", "preferences.jsonl")} == {("ann",)}

        week = runs / "reward-week-2"
        refresh = ["refresh", "--reward", str(link), "--preferences", str(runs / "judged"), "--samples", inferences]
        assert main([*refresh, "--optimizer.lr", "0.01", "--out", str(week)]) == 0
        learned = rows_of(week, "rescored.jsonl")
        read = {row["prompt"][-1]["content"]: tuple(row[side][-1]["content"] for side in ("chosen", "rejected")) for row in learned}
        assert read == shown
        record, judged_record = read_record(week), read_record(runs / "judged")
        assert record is not None
        assert judged_record is not None
        assert {parent.field: parent.key for parent in record.parents}["preferences"] == judged_record.key

        given, drawn = scores(url, key, shown["rice?"])
        assert given == pytest.approx(own_scores(in_use / "reward-1", shown["rice?"]), abs=1e-5)
        assert main(["use", str(link), str(week)]) == 0
        wait_until(lambda: re.search(rf"policy-in-use is now .*, {week.resolve()}$", log.read_text(), re.MULTILINE), log.read_text)
        given_now, drawn_now = scores(url, key, shown["rice?"])
        assert given_now == pytest.approx(own_scores(week / "model", shown["rice?"]), abs=1e-5)
        assert given_now != pytest.approx(given, abs=1e-3)
        assert sorted(drawn_now) != pytest.approx(sorted(drawn), abs=1e-3)
