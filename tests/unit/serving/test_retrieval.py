"""Passages that a function finds stand before the question, are kept with the answer, and cannot break the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError
from palate.data.formats import read_preferences
from palate.data.jsonl import read_rows
from palate.models.causal import CausalPolicy
from palate.serving.audit_log import AUDIT, INFERENCES, AuditLog, InferenceLog
from palate.serving.content_rules import ContentRules
from palate.serving.feedback import FeedbackStore
from palate.serving.feedback_rows import write_feedback_files
from palate.serving.retrieval import PassageFinder
from palate.serving.serve_app import Serving
from tests.support.passages import HERE, may_return
from tests.support.rule_files import HERE as RULES
from tests.support.rule_files import rule_file
from tests.support.served_model import NAME, ModelServer, model_server

CHAT: dict[str, Any] = {"model": NAME, "max_tokens": 8, "seed": 2, "n": 2}
READ = "Use these passages where they help.\n\n[1] asked so\n\n[2] a bean\n\nQuestion: so"


def test_passages_stand_before_the_question_and_are_kept(server: ModelServer, chat_policy: CausalPolicy, tmp_path: Path) -> None:
    asked = {**CHAT, "messages": [{"role": "user", "content": "so"}]}
    passages = ["asked so", "  a bean \n"]
    expected = server.post("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": READ}]}).json()
    letter = [{"id": "letter", "text": "no early letter", "question": "is there one", "program": f"{RULES}:has_letter"}]
    with ExitStack() as stack:
        inferences = InferenceLog(tmp_path, lambda: 7.0)
        feedback = stack.enter_context(FeedbackStore(tmp_path, inferences, lambda: 8.0))
        rules = ContentRules.open(rule_file(tmp_path, letter), "input")  # the passages break it, and the question does not
        parts: dict[str, Any] = {"inferences": inferences, "audit": AuditLog(tmp_path, lambda: 5.0), "input_rules": rules}
        parts |= {"finder": PassageFinder(f"{HERE}:found", 60), "of": lambda model: Serving(model, feedback=feedback)}
        front = stack.enter_context(model_server(chat_policy, **parts))
        answer = front.post("/v1/chat/completions", asked).json()
        assert (answer["choices"], answer["usage"]) == (expected["choices"], expected["usage"])
        said = {"inference_id": answer["id"], "metric_name": "comparison", "value": {"chosen": 1, "rejected": 0}}
        assert front.post("/feedback", said).status_code == 200
    (_, added), (_, checked) = read_rows(tmp_path / AUDIT)
    assert added == {
        "time": 5.0, "inference_id": answer["id"], "side": "retrieval", "action": "added", "text": "so", "passages": passages,
    }  # fmt: skip
    assert (checked["text"], checked["action"]) == ("so", "passed")
    ((_, row),) = read_rows(tmp_path / INFERENCES)
    assert (row["prompt"][-1]["content"], row["fields"]) == (READ, {"passages": passages})
    list(write_feedback_files(tmp_path, tmp_path))
    (preference,) = read_preferences(tmp_path / "preferences.jsonl").rows
    assert preference.prompt.text == READ
    assert preference.prompt.fields["passages"] == passages


@pytest.fixture
def hangs() -> Iterator[None]:
    """The slow function returns after the test."""
    may_return.clear()
    yield
    may_return.set()


def test_where_nothing_is_found_nothing_is_added(server: ModelServer, chat_policy: CausalPolicy) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "so"}]}
    expected = server.post("/v1/chat/completions", body).json()["choices"]
    with model_server(chat_policy, finder=PassageFinder(f"{HERE}:nothing", 60)) as front:
        assert front.post("/v1/chat/completions", body).json()["choices"] == expected


@pytest.mark.usefixtures("hangs")
@pytest.mark.parametrize(
    ("name", "status", "code", "message"),
    [
        ("broken", 502, "retrieval_failed", "raised LookupError: the index is gone"),
        ("ended", 502, "retrieval_failed", "raised SystemExit: no index"),
        ("one_text", 502, "retrieval_failed", "gave 'beans' (str), not a list of texts"),
        ("blank", 502, "retrieval_failed", "not a list of texts"),
        ("slow", 504, "retrieval_timeout", "did not return within 0.1 s"),
    ],
)
def test_a_function_that_fails_is_named_and_the_server_goes_on(
    chat_policy: CausalPolicy, name: str, status: int, code: str, message: str
) -> None:
    with model_server(chat_policy, finder=PassageFinder(f"{HERE}:{name}", 0.1)) as front:
        for stream in (True, False):
            answer = front.post("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "so"}], "stream": stream})
            assert answer.status_code == status
            error = answer.json()["error"]
            assert (error["code"], error["message"]) == (code, f"The function '{HERE}:{name}' of --retrieve {message}.") or (
                name == "blank" and message in error["message"]
            )
        assert front.post("/v1/completions", {"prompt": "so", "max_tokens": 2}).status_code == 200


@pytest.mark.usefixtures("hangs")
def test_too_many_calls_are_refused(chat_policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serving.retrieval.MOST_CALLS", 1)
    with model_server(chat_policy, finder=PassageFinder(f"{HERE}:slow", 0.1)) as front:
        body = {**CHAT, "messages": [{"role": "user", "content": "so"}]}
        assert [front.post("/v1/chat/completions", body).status_code for _ in range(2)] == [504, 429]


def test_a_path_without_a_function_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--retrieve: .*has no 'find'"):
        PassageFinder(f"{HERE}:find", 60)
