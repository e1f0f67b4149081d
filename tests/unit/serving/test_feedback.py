"""Feedback: on the disk before it is acknowledged, stored once, and read as data by the stages' own readers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.data.formats import read_demonstrations, read_preferences, read_samples, read_unpaired
from palate.data.jsonl import read_rows, write_rows
from palate.models.causal import CausalPolicy
from palate.serving.audit_log import INFERENCES, InferenceLog
from palate.serving.feedback import FEEDBACK, FeedbackStore
from palate.serving.serve_app import Serving
from tests.support.served_model import NAME, ModelServer, model_server

CHAT: dict[str, Any] = {
    "model": NAME,
    "messages": [{"role": "user", "content": "rice?"}],
    "max_tokens": 12,
    "seed": 2,
    "n": 2,
    "skip_special_tokens": False,
}


@contextmanager
def keeping(policy: CausalPolicy, folder: Path) -> Iterator[ModelServer]:
    """A server that keeps answers and feedback in a folder."""
    with ExitStack() as stack:
        inferences = InferenceLog(folder, lambda: 7.0)
        feedback = stack.enter_context(FeedbackStore(folder, inferences, lambda: 8.0))
        yield stack.enter_context(model_server(policy, of=lambda model: Serving(model, feedback=feedback), inferences=inferences))


def asked(server: ModelServer, **fields: Any) -> tuple[str, list[str]]:
    """The id of an answer, and its texts."""
    answer = server.post("/v1/chat/completions", {**CHAT, **fields}).json()
    return answer["id"], [one["message"]["content"] for one in answer["choices"]]


def say(server: ModelServer, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = server.post("/feedback", body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stored(folder: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(folder / FEEDBACK)]


def test_what_users_say_becomes_data(chat_policy: CausalPolicy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with keeping(chat_policy, tmp_path) as server:
        name, texts = asked(server)
        assert len(set(texts)) == 2
        say(server, inference_id=name, metric_name="helpful", value=True, rater="ann")
        say(server, inference_id=name, metric_name="helpful", value=False, rater="ann")  # she changed her mind
        say(server, inference_id=name, metric_name="helpful", value=True, rater="bob", choice=1)
        say(server, inference_id=name, metric_name="comparison", value={"chosen": 1, "rejected": 0}, rater="ann")
        say(server, inference_id=name, metric_name="demonstration", value="Rice with beans.")
        say(server, inference_id=name, metric_name="comment", value="too short")
        say(server, inference_id=name, metric_name="stars", value=4.5)
        assert len(stored(tmp_path)) == 7  # while the server runs
        assert 'palate_feedback_total{metric="helpful"} 3' in server.get("/metrics").text
        assert main(["feedback", str(tmp_path), "--out", str(tmp_path / "data")]) == 0
    assert "1 comparisons" in capsys.readouterr().out
    (demonstration,) = read_demonstrations(tmp_path / "data" / "demonstrations.jsonl").rows
    assert [(turn.role, turn.text) for turn in demonstration.conversation] == [("user", "rice?"), ("assistant", "Rice with beans.")]
    (preference,) = read_preferences(tmp_path / "data" / "preferences.jsonl").rows
    assert (preference.chosen.text, preference.rejected.text, preference.votes) == (texts[1], texts[0], (("ann", 1.0),))
    unpaired = read_unpaired(tmp_path / "data" / "unpaired.jsonl").rows
    assert [(one.completion.text, one.desirable) for one in unpaired] == [(texts[0], False), (texts[1], True)]
    (sample,) = read_samples(tmp_path / INFERENCES).rows
    assert [one.text for one in sample[1]] == texts


def test_comparisons_of_other_answers_and_comments_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [{"text": text, "policy": "tiny"} for text in ("Soup.", "Rice.", "No.", "No.")]
    told = {"inference_id": "c1", "prompt": "rice?", "completions": answers, "rater": "ann", "choice": 0}
    pairs = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 3)]
    said: list[dict[str, Any]] = [{"metric_name": "comparison", "value": {"chosen": better, "rejected": worse}} for better, worse in pairs]
    said += [{"metric_name": "comment", "value": "too short"}, {"metric_name": "comment", "value": "and dry"}]
    write_rows(tmp_path / FEEDBACK, [{"feedback_id": f"f{number}", **told, **one} for number, one in enumerate(said)])
    assert main(["feedback", str(tmp_path)]) == 0
    preferences = read_preferences(tmp_path / "preferences.jsonl").rows
    assert [(one.chosen.text, one.rejected.text) for one in preferences] == [("Rice.", "No."), ("No.", "Soup."), ("Rice.", "Soup.")]
    out = capsys.readouterr().out
    assert "3 comments, numbers or comparisons of equal texts stay in" in out
    assert "1 earlier words were replaced" in out


def test_a_key_stores_feedback_once(chat_policy: CausalPolicy, tmp_path: Path) -> None:
    with keeping(chat_policy, tmp_path) as server:
        name, _ = asked(server)
        body: dict[str, Any] = {"inference_id": name, "metric_name": "helpful", "value": True, "idempotency_key": "k1"}
        first = say(server, **body)
        assert say(server, **body) == first
        assert "other feedback" in say(server, 409, **{**body, "value": False})["error"]["message"]
        assert say(server, **{**body, "idempotency_key": "k2"}) != first
        assert say(server, **{**body, "idempotency_key": "k3", "dryrun": True})["feedback_id"]
        assert 'palate_feedback_total{metric="helpful"} 2' in server.get("/metrics").text  # what is in the file
    with keeping(chat_policy, tmp_path) as server:
        assert say(server, **body) == first
    assert [row["idempotency_key"] for row in stored(tmp_path)] == [":k1", ":k2"]


def test_feedback_is_synced_before_it_is_acknowledged(chat_policy: CausalPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        sync(handle)
        if os.path.samestat(os.fstat(handle), (tmp_path / FEEDBACK).stat()):
            sizes.append(os.fstat(handle).st_size)

    with keeping(chat_policy, tmp_path) as server:
        name, _ = asked(server)
        monkeypatch.setattr("palate.data.jsonl.os.fsync", noted)
        for count in (1, 2):
            say(server, inference_id=name, metric_name="helpful", value=True)
            assert len(sizes) == count
            assert sizes[-1] == (tmp_path / FEEDBACK).stat().st_size


def test_an_answer_of_before_the_restart_is_found(chat_policy: CausalPolicy, tmp_path: Path) -> None:
    with keeping(chat_policy, tmp_path) as server:
        name, texts = asked(server)
    with keeping(chat_policy, tmp_path) as server:
        say(server, inference_id=name, metric_name="helpful", value=True)
    (row,) = stored(tmp_path)
    assert [one["text"] for one in row["completions"]] == texts
    assert row["time"] == 8.0


def test_a_stream_can_be_judged_too(chat_policy: CausalPolicy, tmp_path: Path) -> None:
    with keeping(chat_policy, tmp_path) as server:
        _, texts = asked(server)
        lines = server.post("/v1/chat/completions", {**CHAT, "stream": True}).text.split("\n\n")
        name = json.loads(lines[0].removeprefix("data: "))["id"]
        say(server, inference_id=name, metric_name="helpful", value=True)
    assert [one["text"] for one in stored(tmp_path)[0]["completions"]] == texts


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"inference_id": "chatcmpl-none"}, 404, "There is no answer 'chatcmpl-none'"),
        ({"value": "yes"}, 400, "helpful takes true, false, or a number"),
        ({"value": None}, 400, "value: field required"),
        ({"value": 1e300}, 400, "takes true, false, or a number"),
        ({"choice": 2}, 400, "the model gave 2 choices"),
        ({"metric_name": "a b"}, 400, "should match pattern"),
        ({"metric_name": "demonstration"}, 400, "demonstration takes a text"),
        ({"metric_name": "comment", "value": " "}, 400, "comment takes a text"),
        ({"metric_name": "comparison"}, 400, "two different answers of the 2"),
        ({"metric_name": "comparison", "value": {"chosen": 1, "rejected": 1}}, 400, "two different answers"),
        ({"metric_name": "comparison", "value": {"chosen": 2, "rejected": 1}}, 400, "two different answers"),
        ({"metric_name": "comparison", "value": {"chosen": True, "rejected": False}}, 400, "two different answers"),
        ({"valu": 1}, 400, "Did you mean 'value'"),
    ],
)
def test_what_does_not_fit_is_refused(chat_policy: CausalPolicy, tmp_path: Path, change: dict[str, Any], status: int, message: str) -> None:
    with keeping(chat_policy, tmp_path) as server:
        name, _ = asked(server)
        found = say(server, status, **{"inference_id": name, "metric_name": "helpful", "value": True, **change})
    assert message in found["error"]["message"]
    assert stored(tmp_path) == []


def test_without_a_store_there_is_no_feedback(server: ModelServer) -> None:
    found = say(server, 404, inference_id="x", metric_name="helpful", value=True)
    assert "--store" in found["error"]["message"]


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", str(tmp_path)]) == 3
    assert "feedback.jsonl does not exist" in capsys.readouterr().err
    write_rows(tmp_path / FEEDBACK, [{"feedback_id": "f", "metric_name": "helpful"}])
    assert main(["feedback", str(tmp_path)]) == 3
    assert "feedback.jsonl:1: this is not feedback" in capsys.readouterr().err
