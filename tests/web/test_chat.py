"""The page of `palate serve`, in a real browser: two answers, which is better, and where that goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from palate.data.jsonl import read_rows
from palate.serving.audit_log import InferenceLog
from palate.serving.feedback import FEEDBACK, FeedbackStore
from palate.serving.serve_app import Serving
from palate.testing import chat_tokenizer, tiny_policy
from tests.support.served_model import ModelServer, model_server


@pytest.fixture
def keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model's server that keeps feedback. Requests without a seed get the same one, and answers are short."""
    monkeypatch.setattr("palate.serving.api_routes.secrets.randbelow", lambda _: 7)
    with ExitStack() as stack:
        inferences = InferenceLog(tmp_path, lambda: 0.0)
        feedback = stack.enter_context(FeedbackStore(tmp_path, inferences, lambda: 0.0))
        policy = tiny_policy("llama", chat_tokenizer("closed"), seed=5)
        policy.end_ids = frozenset(range(0, 256, 8))
        yield stack.enter_context(model_server(policy, of=lambda model: Serving(model, feedback=feedback), inferences=inferences))


def test_a_reader_says_which_answer_is_better(keeping: ModelServer, tmp_path: Path, visit: Callable[..., Page]) -> None:
    page = visit(keeping.url)
    page.get_by_label("Message").fill("rice?")
    page.get_by_role("button", name="Send").click()
    better = page.get_by_role("button", name="B is better")
    expect(better).to_be_enabled()
    left, right = page.locator("#left").inner_text(), page.locator("#right").inner_text()
    assert left != right
    better.click()
    expect(page.locator("#turns li")).to_have_count(2)
    expect(page.locator("#two")).to_be_hidden()
    ((_, row),) = read_rows(tmp_path / FEEDBACK)
    assert (row["metric_name"], row["value"]) == ("comparison", {"chosen": 1, "rejected": 0})
    page.get_by_label("Show two answers").uncheck()
    page.get_by_label("Message").fill("beans?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#turns li")).to_have_count(4)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    prompts = [row["prompt"] for _, row in read_rows(tmp_path / "inferences.jsonl")]
    assert [turn["role"] for turn in prompts[1]] == ["user", "assistant", "user"]


def test_a_refusal_is_shown_and_the_message_stays(keeping: ModelServer, visit: Callable[..., Page]) -> None:
    page = visit(keeping.url)
    page.get_by_label("Message").fill("x" * 400)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#said")).to_contain_text("leaves no room for a completion")
    expect(page.get_by_label("Message")).to_have_value("x" * 400)
    expect(page.locator("#turns li")).to_have_count(0)
