"""From marks of a judge in a run to its card, and from the card into a reward: the command line, the setting `calibration`, and names."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.core import ConfigError
from palate.data.exchange import read_exchange
from palate.data.jsonl import write_rows
from palate.judges.judge_card import read_card
from palate.judges.judge_rater import JudgeRater
from palate.judges.verdicts import OptionProbabilities, WrittenVerdict
from palate.rewards.composition import Composition
from palate.rewards.judge import JudgeReward
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run_at
from palate.testing.chat_answers import chat_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.unit.judges.conftest import collected, endpoint, rows, samples, worth
from tests.unit.judges.test_calibrated_judge import people
from tests.unit.rewards.conftest import batch

Serve = Callable[[Answer], CompletionsServer]
POINTWISE = ("helpful-pointwise",)


def answer(body: Any) -> tuple[int, object]:
    """A mark for every two points, most of the time."""
    mark = worth(body["messages"][-1]["content"].split("=====\n")[3].strip()) // 2 + 1
    other = mark - 1 if mark > 1 else 2
    return 200, chat_answer(str(mark), options={str(mark): math.log(0.8), str(other): math.log(0.2)}, finish="length")


def reward(url: str, **settings: Any) -> JudgeReward:
    chosen = {"instructions": POINTWISE[0], "verdict": OptionProbabilities(), "reasons_first": False, **settings}
    return JudgeReward(model=endpoint(url), **chosen)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run_at(tmp_path / "scored", RunPlan("rerank", "rerank"))


@pytest.fixture
def server(serve_model: Serve) -> CompletionsServer:
    return serve_model(answer)


@pytest.fixture
def card(server: CompletionsServer, tmp_path: Path) -> Path:
    """The card of a judge whose marks were compared with two people's votes on 120 pairs."""
    given, judge = samples(tmp_path, prompts=40, completions=3), JudgeRater(model=endpoint(server.url), instructions=POINTWISE)
    collected(tmp_path / "plain", given, judge)
    people(tmp_path / "plain" / "comparisons.jsonl", tmp_path / "people.jsonl")
    card = tmp_path / "card.json"
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "people.jsonl"), "--out", str(card)]) == 0
    return card


def scored(part: JudgeReward, run: Run, *texts: str) -> list[float]:
    composition = Composition.load({"kind": part}, run=run)
    try:
        return composition.score(batch(*texts).prompts, batch(*texts).groups).rewards.tolist()
    finally:
        composition.close()


def test_a_card_makes_marks_a_score_in_peoples_log_odds(
    server: CompletionsServer, card: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "people.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "Its marks are calibrated as the score of a reward." in said.partition("\n")[0]
    for words in (
        "marks as a score in nats: (mark - ",
        "difference of scores: log-loss",
        "one half for every pair: log-loss 0.693",
        "the length rule:",
    ):
        assert words in said
    (name,) = {str(row["rater"]) for row in rows(tmp_path / "plain", "judgments")}
    fitted = read_card(card).mark_calibration_of(name, "helpful")
    assert fitted.temperature == pytest.approx(1.0, abs=0.35), "a mark is two points, and people have half a nat per point"
    assert 2 < fitted.threshold < 4
    marks = (0.8 * 5 + 0.2 * 4, 0.8 * 1 + 0.2 * 2)
    found = scored(reward(server.url, calibration=str(card)), run, "answer 9", "answer 0")
    assert found == pytest.approx([(mark - fitted.threshold) / fitted.temperature for mark in marks])
    assert not run.record.notes
    plain = scored(reward(server.url), run, "answer 9", "answer 0")
    assert plain == pytest.approx([(mark - 1) / 4 for mark in marks])
    assert run.record.notes[f"rewards.kind ({name})"] == [
        "uncalibrated, because nobody measured it on people's labels. Measure it with `palate judge-fit`, and name its report card in "
        "`calibration`"
    ]


def test_a_file_of_marks_gives_the_card_that_its_run_gives(card: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / "plain" / "marks.jsonl"), "--people", str(tmp_path / "people.jsonl")]
    assert main(["judge-fit", *files, "--out", str(tmp_path / "other.json")]) == 0
    entries = [json.loads(file.read_text())["dimensions"]["helpful"] for file in (card, tmp_path / "other.json")]
    assert entries[1]["marks"] == pytest.approx(entries[0]["marks"])
    assert (
        entries[1]["figures"]["agreement"]["judge"]["decided"]["value"] == entries[0]["figures"]["agreement"]["judge"]["decided"]["value"]
    )


def test_peoples_marks_may_stand_for_their_votes(card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = read_exchange(tmp_path / "plain" / "comparisons.jsonl").items
    texts = dict.fromkeys((item.conversation[0].text, candidate.text) for item in items for candidate in item.candidates)
    marks = [
        {"prompt": prompt, "completion": text, "rater": who, "mark": 1 + (worth(text) + (k + own) % 3) // 2, "dimension": "helpful"}
        for k, (prompt, text) in enumerate(texts)
        for own, who in enumerate(("ann", "bob"))
    ]
    write_rows(tmp_path / "likert.jsonl", marks)
    capsys.readouterr()
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "likert.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "Its marks are calibrated as the score of a reward." in said
    assert "distance from one person's mark, on 120 completions that people marked (240 marks):" in said
    for words in ("this judge, on a line: 0.", "another person: 0.", "a constant mark: 1.", "a line in the number of words: 1."):
        assert words in said


def test_another_judges_card_is_refused_in_one_message_before_anything_is_asked(
    server: CompletionsServer, card: Path, run: Run, tmp_path: Path
) -> None:
    asked = len(server.asked)
    right = reward(server.url, calibration=str(card))
    for part, words in (
        (replace(right, verdict=WrittenVerdict()), "another version of the instructions is another judge"),
        (replace(right, instructions="honest-pointwise"), "is the card of small/helpful-pointwise@"),
        (replace(right, model=replace(right.model, model="large")), "and the judge is large/helpful-pointwise@"),
        (replace(right, calibration=str(tmp_path / "none.json")), "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=rf"^rewards\.kind\.calibration: .*{words}"):
            scored(part, run, "answer 9")
    row = json.loads(card.read_text())
    row["dimensions"]["helpful"]["marks"] = {"calibrated": False, "missing": "people were away"}
    card.write_text(json.dumps(row))
    with pytest.raises(ConfigError, match="are not calibrated for helpful: people were away. Measure this judge"):
        scored(right, run, "answer 9")
    assert len(server.asked) == asked


def test_instructions_without_a_dimension_take_a_card_about_one(server: CompletionsServer, card: Path) -> None:
    found = read_card(card)
    assert found.mark_calibration_of(found.judge, None) == found.mark_calibration_of(found.judge, "helpful")
    both = replace(found, dimensions={**found.dimensions, "honest": found.dimensions["helpful"]})
    with pytest.raises(ConfigError, match="is about helpful, honest, and the instructions name none"):
        both.mark_calibration_of(found.judge, None)


def test_figures_of_a_judge_without_a_card_are_named_so(server: CompletionsServer, card: Path, run: Run) -> None:
    names = {}
    for status, part in (("plain", reward(server.url)), ("card", reward(server.url, calibration=str(card)))):
        composition = Composition.load({"kind": part}, run=run)
        found = composition.score(batch("answer 9").prompts, batch("answer 9").groups)
        composition.close()
        names[status] = set(found.metrics())
    assert names["card"] == {"score_kind/mean", "part_kind/mean", "unscored_kind/share"}
    assert names["plain"] == {name.replace("kind", "kind_uncalibrated") for name in names["card"]}
