"""A judge who ranks beside people who rank: its vote, its flips, its card, and the lines of the command line."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.agreement import VoteTable, analyse
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.judge_habits import flips
from palate.cli import main
from palate.core import Judgment
from palate.data.exchange import Exchange, RaterInfo, Vote, read_exchange, write_exchange
from palate.judges.judge_card import read_card
from palate.judges.judge_rater import JudgeRater
from palate.testing.chat_answers import asked_ranking, choice_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.unit.judges.conftest import collected, endpoint, rows, samples, worth

Serve = Callable[[Answer], CompletionsServer]


def ranked(comparison: str, order: tuple[int, ...], scores: tuple[float, ...], rater: str = "judge") -> Judgment:
    """A ranking whose scores, in logits by place, are those of a Plackett-Luce model."""
    pairs = itertools.combinations(range(len(scores)), 2)
    shares = tuple(1 / (1 + math.exp(scores[j] - scores[i])) for i, j in pairs)
    best = tuple((place,) for place in sorted(range(len(scores)), key=lambda place: -scores[place]))
    return Judgment(comparison, rater, best, order=order, probabilities=shares)


def test_the_vote_of_a_judge_is_that_of_the_mean_over_its_orders() -> None:
    """It adds two logits to what stands first. The last order alone would put completion 2 on top."""
    worths = {0: 1.0, 1: 0.5, 2: 0.0}
    orders = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
    rows_of = [ranked("c", order, tuple(worths[k] + 2.0 * (place == 0) for place, k in enumerate(order))) for order in orders]
    person = Judgment("c", "ann", ((2,), (1,), (0,)), order=(2, 1, 0))
    table = VoteTable.of_judgments([*rows_of, person])
    assert table.votes.answer.tolist() == [0] * 6
    report = analyse(table, np.random.default_rng(0))
    assert (report.votes, report.averaged, report.doubles, report.agreement.value) == (6, 3, 1, 1.0)


@pytest.mark.parametrize(("lost", "flipped"), [({0, 5}, 0), ({0, 1}, 1), ({0, 1, 2, 3}, 0), (set(), 0)])
def test_flips_of_rankings_are_between_means(lost: set[int], flipped: int) -> None:
    """Completion 0 stands before 1 in orders 0, 1 and 4, and after it in 2, 3 and 5. It beats 1 in all orders but those of `lost`."""
    said = []
    for number, order in enumerate(itertools.permutations(range(3))):
        worths = {0: 1.0, 1: 2.0, 2: -5.0} if number in lost else {0: 2.0, 1: 1.0, 2: -5.0}
        said.append(ranked("c", order, tuple(worths[k] for k in order)))
    found = flips(JudgeAnswers.of_judgments(said, [], [], {}, lambda _: False))
    assert found is not None
    assert (found.share.value, found.share.n) == (pytest.approx(flipped / 3), 3)


def answer(body: Any) -> tuple[int, object]:
    """Two logits per point, and one for what it sees first: four times as sure as people."""
    return 200, choice_answer([2.0 * worth(text) + (place == 0) for place, text in enumerate(asked_ranking(body))])


def people(compared: Path, target: Path, judged: Path | None = None) -> Exchange:
    """Two people per comparison, who rank by half a logit per point; with `judged`, beside the judge's judgments."""
    draw, votes = random.Random(0), []
    items = list(read_exchange(compared).items)
    items = items if judged is not None else [replace(item, id=f"mine-{k}") for k, item in enumerate(reversed(items))]
    for item in items:
        for who in ("ann", "bob"):
            keys = [0.5 * worth(one.text) - math.log(-math.log(draw.random())) for one in item.candidates]  # Gumbel: Plackett-Luce
            best = tuple((k,) for k in sorted(range(len(keys)), key=lambda k: -keys[k]))
            votes.append(Vote(Judgment(item.id, who, best, "helpful")))
    known = Exchange() if judged is None else read_exchange(judged)
    raters = (RaterInfo("ann"), RaterInfo("bob"), *known.raters)
    found = Exchange(tuple(items), (*known.votes, *votes), raters)
    write_exchange(found, target)
    return found


def test_a_card_rests_on_all_orders_and_clusters_the_pairs_of_a_ranking() -> None:
    draw = random.Random(1)
    judge, persons = [], []
    for k in range(12):  # fewer than 20 prompts, so comparisons are the clusters
        worths = [draw.gauss(0, 1) for _ in range(4)]
        orders = [tuple(draw.sample(range(4), 4)) for _ in range(5)]
        judge += [ranked(f"c{k}", order, tuple(worths[number] for number in order)) for order in dict.fromkeys(orders)]
        persons.append(Judgment(f"c{k}", "ann", tuple((number,) for number in sorted(range(4), key=lambda number: -worths[number]))))
    table = JudgeAnswers.of_judgments(judge, persons, [], {}, lambda _: False)
    assert len(table.judge.pair) == 6 * len(judge)
    assert (table.pairs, len(set(table.cluster.tolist()))) == (72, 12)
    assert table.judge.has_probability.all()
    assert not table.is_by_prompt


def test_a_card_of_rankings_calibrates_the_next_run(serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, judge = samples(tmp_path, prompts=40, completions=4), JudgeRater(model=endpoint(serve_model(answer).url))
    collected(tmp_path / "plain", given, judge, completions_per_comparison=4)
    people(tmp_path / "plain" / "comparisons.jsonl", tmp_path / "people.jsonl")
    card = tmp_path / "card.json"
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "people.jsonl"), "--out", str(card)]) == 0
    said = capsys.readouterr().out
    (name,) = {str(row["rater"]) for row in rows(tmp_path / "plain", "judgments")}
    assert said.startswith(f"{name} is calibrated for helpful, on 240 pairs that people judged (480 votes).")
    calibration = read_card(card).calibration_of(name, "helpful")
    assert calibration.temperature > 2
    again = collected(tmp_path / "again", given, replace(judge, calibration=str(card)), completions_per_comparison=4)
    assert again["judges"]["calibrated"] is True
    for before, after in zip(rows(tmp_path / "plain", "judgments"), rows(tmp_path / "again", "judgments"), strict=True):
        assert after["probabilities"] == pytest.approx([calibration.of_probability(one) for one in before["probabilities"]])
    with_pairs = JudgeRater(model=endpoint(serve_model(answer).url), instructions=("overall-ranking",), calibration=str(card))
    with pytest.raises(Exception, match="is the card of small/helpful-ranking@"):
        collected(tmp_path / "other", given, with_pairs, completions_per_comparison=4, dimensions=("overall",))


def test_agreement_has_a_line_for_a_judge_who_ranks(serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, judge = samples(tmp_path, prompts=10, completions=4), JudgeRater(model=endpoint(serve_model(answer).url))
    collected(tmp_path / "run", given, judge, completions_per_comparison=4)
    people(tmp_path / "run" / "comparisons.jsonl", tmp_path / "both.jsonl", tmp_path / "run" / "judgments.jsonl")
    assert main(["agreement", str(tmp_path / "both.jsonl"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (line,) = found["judges"]
    assert (line["votes"], line["pairs"], line["flips"]["n"]) == (40, 60, 60)
    assert (line["habits"]["rankings"], line["habits"]["chance"], line["habits"]["tau"]["n"]) == (40, 0.25, 10)
    assert (found["votes"], found["doubles"], found["raters"]) == (120, 10, 2)  # of people alone
    assert main(["agreement", str(tmp_path / "both.jsonl")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("orders agree", "first wins", "by chance", "Kendall's tau between two orders", "All other figures are of people alone."):
        assert words in out
    assert main(["agreement", str(tmp_path / "run")]) == 0
    assert "Kendall's tau between two orders" in " ".join(capsys.readouterr().out.split())
