"""From a run of a judge to its card, and back into a run: the command line, the setting `calibration`, and what both say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from palate.cli import main
from palate.core import ConfigError, Judgment
from palate.data.exchange import Exchange, RaterInfo, Vote, read_exchange, write_exchange
from palate.data.judge_names import titled
from palate.judges.judge_card import read_card
from palate.judges.judge_rater import JudgeRater
from palate.testing.chat_answers import asked_pair, option_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.unit.judges.conftest import collected, endpoint, rows, samples, worth

Serve = Callable[[Answer], CompletionsServer]


def answer(body: object) -> tuple[int, object]:
    """Two logits per point, and one for what it sees first: four times as sure as people."""
    first, second = asked_pair(body)
    return 200, option_answer(2.0 * (worth(first) - worth(second)) + 1.0)


def people(compared: Path, target: Path, dimension: str = "helpful") -> Exchange:
    """Two people per pair, with half a logit per point, on the items of a run under other names and in another order."""
    draw, votes = random.Random(0), []
    items = [replace(item, id=f"mine-{k}") for k, item in enumerate(reversed(read_exchange(compared).items))]
    for item in items:
        gap = worth(item.candidates[0].text) - worth(item.candidates[1].text)
        for who in ("ann", "bob"):
            wins = draw.random() < 1 / (1 + 2.718 ** (-gap / 2))
            votes.append(Vote(Judgment(item.id, who, ((0,), (1,)) if wins else ((1,), (0,)), dimension)))
    found = Exchange(tuple(items), tuple(votes), (RaterInfo("ann"), RaterInfo("bob")))
    write_exchange(found, target)
    return found


def test_a_card_of_a_run_calibrates_the_next_run(serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, judge = samples(tmp_path, prompts=40, completions=3), JudgeRater(model=endpoint(serve_model(answer).url))
    plain = collected(tmp_path / "plain", given, judge)
    assert plain["judges"]["calibrated"] is False
    people(tmp_path / "plain" / "comparisons.jsonl", tmp_path / "people.jsonl")
    card = tmp_path / "card.json"
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "people.jsonl"), "--out", str(card)]) == 0
    said = capsys.readouterr().out
    (name,) = {str(row["rater"]) for row in rows(tmp_path / "plain", "judgments")}
    assert said.startswith(f"{name} is calibrated for helpful, on 120 pairs that people judged (240 votes).")
    for words in ("this judge", "another person", "the longer one wins", "flips:", "temperature:", "before: log-loss", f"card: {card}"):
        assert words in said
    calibration = read_card(card).calibration_of(name, "helpful")
    assert calibration.temperature > 2
    assert 0.6 < calibration.threshold < 0.85

    again = collected(tmp_path / "again", given, replace(judge, calibration=str(card)))
    assert again["judges"]["calibrated"] is True
    for before, after in zip(rows(tmp_path / "plain", "judgments"), rows(tmp_path / "again", "judgments"), strict=True):
        share = calibration.of_probability(float(before["probability"]))
        assert after["probability"] == pytest.approx(share)
        assert after["ranking"] == ([[0], [1]] if share > 0.5 else [[1], [0]])
        assert after["rater"] == before["rater"]
    capsys.readouterr()
    for run, status in (("plain", f"uncalibrated: {name}"), ("again", f"calibrated with its card: {name}")):
        assert main(["agreement", str(tmp_path / run)]) == 0
        assert status in capsys.readouterr().out
    assert main(["judge-fit", str(tmp_path / "again"), "--people", str(tmp_path / "people.jsonl")]) == 2
    assert "its judge was calibrated already" in capsys.readouterr().err


def test_another_judges_card_is_refused_before_anything_is_asked(serve_model: Serve, tmp_path: Path) -> None:
    server, given = serve_model(answer), samples(tmp_path, prompts=40, completions=3)
    judge = JudgeRater(model=endpoint(server.url))
    collected(tmp_path / "plain", given, judge)
    people(tmp_path / "plain" / "comparisons.jsonl", tmp_path / "people.jsonl")
    card = tmp_path / "card.json"
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "people.jsonl"), "--out", str(card)]) == 0
    asked = len(server.asked)
    other = replace(judge, calibration=str(card))
    with pytest.raises(ConfigError, match="is the card of small/helpful@"):
        collected(tmp_path / "honest", given, other, dimensions=("honest",))
    row = json.loads(card.read_text())
    for change, words in (
        ({"judge": row["judge"][:-1] + "x"}, "another version of the instructions is another judge"),
        ({"dimensions": {"kind": row["dimensions"]["helpful"]}}, "is about kind, and the question is helpful"),
    ):
        card.write_text(json.dumps(row | change))
        with pytest.raises(ConfigError, match=words):
            collected(tmp_path / "changed", given, replace(judge, calibration=str(card)))
    assert len(server.asked) == asked


def test_agreement_shows_a_judge_beside_people_and_counts_people_alone(
    serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, judge = samples(tmp_path, prompts=20, completions=3), JudgeRater(model=endpoint(serve_model(answer).url))
    collected(tmp_path / "plain", given, judge)
    theirs = people(tmp_path / "plain" / "comparisons.jsonl", tmp_path / "people.jsonl")
    judged = read_exchange(tmp_path / "plain" / "judgments.jsonl")
    names = {item.candidates: item.id for item in read_exchange(tmp_path / "plain" / "comparisons.jsonl").items}
    numbers = {item.id: names[item.candidates] for item in theirs.items}
    moved = tuple(replace(vote, judgment=replace(vote.judgment, comparison=numbers[vote.judgment.comparison])) for vote in theirs.votes)
    both = replace(
        judged,
        items=read_exchange(tmp_path / "plain" / "comparisons.jsonl").items,
        votes=(*judged.votes, *moved),
        raters=(*judged.raters, *theirs.raters),
    )
    write_exchange(both, tmp_path / "both.jsonl")
    found = {}
    for name in ("people", "both"):
        assert main(["agreement", str(tmp_path / f"{name}.jsonl"), "--json"]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    for figure in ("votes", "raters", "answers", "ceiling", "cohen", "fleiss"):
        assert found["both"][figure] == pytest.approx(found["people"][figure]), figure
    assert found["both"]["alpha"]["value"] == pytest.approx(found["people"]["alpha"]["value"])
    assert found["people"]["judges"] == []
    (line,) = found["both"]["judges"]
    assert (line["votes"], line["pairs"], line["is_calibrated"]) == (120, 60, None)
    assert (line["flips"]["value"], line["flips"]["n"]) == (0.0, 60)
    assert main(["agreement", str(tmp_path / "both.jsonl")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "judge (a model)" in out
    assert f"calibration not known: {line['judge']}. Measure it" in out
    assert "All other figures are of people alone." in out
    assert main(["judge-fit", str(tmp_path / "both.jsonl"), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["dimensions"][0]["verdict"].endswith("on 60 pairs that people judged (120 votes).")
    assert main(["agreement", str(tmp_path / "plain")]) == 0
    assert "Nobody but models judged here" in " ".join(capsys.readouterr().out.split())


def test_a_title_says_what_is_known_about_the_card() -> None:
    titles = [titled("small/helpful@1", is_calibrated=status) for status in (True, False, None)]
    assert titles == ["small/helpful@1", "small/helpful@1 (uncalibrated)", "small/helpful@1 (calibration not known)"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--judge eve", "--judge eve: there is no such rater"),
        ("--project soups", "--project names a project of a database"),
        ("--dimension kind", "there is no judgment of small/helpful@"),
        ("--people nothing.jsonl", "nothing.jsonl"),
    ],
)
def test_bad_input_is_one_message(serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, told: str) -> None:
    collected(tmp_path / "plain", samples(tmp_path, prompts=4), JudgeRater(model=endpoint(serve_model(answer).url)))
    assert main(["judge-fit", str(tmp_path / "plain"), *words.split()]) in {2, 3}
    err = capsys.readouterr().err
    assert told in err
    assert err.count("palate:") == 1
