"""A judge ranks all completions of a prompt and people compare pairs of them: on a report card, and within a hybrid."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.agreement.judge_agreement import agreement_with_people
from palate.cli import main
from palate.core import Comparison, Completion, DataError, Judgment, Message, Prompt
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote, read_exchange, write_exchange
from palate.evaluation.judged_pairs import judged_pairs
from palate.evaluation.rater_votes import read_judgments
from palate.judges.function_judge import FunctionJudge
from palate.judges.hybrid import ByRules, ByShare, Hybrid
from palate.judges.judge_orders import orders_of
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.judges.ranked_pairs import answered_pairs, pairs_of_ask
from palate.raters.answer_shares import question_share
from palate.raters.simulated import RaterPool, Simulated
from palate.testing.chat_answers import asked_ranking, choice_answer
from palate.testing.completions_server import Answer, CompletionsServer
from tests.unit.judges.conftest import collected, endpoint, rows, samples, worth
from tests.unit.judges.test_ranking_card import ranked

Serve = Callable[[Answer], CompletionsServer]
WORLD = "tests.support.judged_world"
PEOPLE = Simulated(
    gold=f"{WORLD}:gold",
    pool=RaterPool(raters=6, reliability=0.9, sharpness=20.0, side_bias=0.0, length_bias=0.0, phrase_bias=0.0, indifference=0.0),
)


def answer(body: Any) -> tuple[int, object]:
    """Two logits per point, and one for what it sees first."""
    return 200, choice_answer([2.0 * worth(text) + (place == 0) for place, text in enumerate(asked_ranking(body))])


def single_pairs(compared: Path, target: Path, keep: float = 1.0) -> Exchange:
    """Two people per single pair of the completions of a run's rankings, in an order of their own, by half a logit per point."""
    draw, items, votes = random.Random(0), [], []
    for item in read_exchange(compared).items:
        for one, other in itertools.combinations(item.candidates, 2):
            if draw.random() < keep:
                pair = (one, other) if draw.random() < 0.5 else (other, one)
                items.append(replace(item, id=f"mine-{len(items)}", candidates=pair, task="compare"))
    for item in items:
        gap = worth(item.candidates[0].text) - worth(item.candidates[1].text)
        for who in ("ann", "bob"):
            wins = draw.random() < 1 / (1 + 2.718 ** (-gap / 2))
            votes.append(Vote(Judgment(item.id, who, ((0,), (1,)) if wins else ((1,), (0,)), "helpful")))
    found = Exchange(tuple(items), tuple(votes), (RaterInfo("ann"), RaterInfo("bob")))
    write_exchange(found, target)
    return found


def test_a_card_joins_rankings_with_single_pairs(serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, judge = samples(tmp_path, prompts=30, completions=4), JudgeRater(model=endpoint(serve_model(answer).url))
    collected(tmp_path / "plain", given, judge, completions_per_comparison=4)
    theirs = single_pairs(tmp_path / "plain" / "comparisons.jsonl", tmp_path / "people.jsonl", keep=0.5)
    card = tmp_path / "card.json"
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "people.jsonl"), "--out", str(card)]) == 0
    (name,) = {str(row["rater"]) for row in rows(tmp_path / "plain", "judgments")}
    on = f"on {len(theirs.items)} pairs that people judged ({len(theirs.votes)} votes)."
    assert capsys.readouterr().out.startswith(f"{name} is calibrated for helpful, {on}")
    figures = json.loads(card.read_text())["dimensions"]["helpful"]["figures"]
    assert figures["agreement"]["judge"]["decided"]["value"] > 0.7
    assert figures["fitted"]["calibration"]["temperature"] > 2
    assert figures["habits"]["flips"]["share"]["n"] == 180, "flips count every pair of every ranking"
    judged, known = read_exchange(tmp_path / "plain" / "judgments.jsonl"), read_exchange(tmp_path / "plain" / "comparisons.jsonl")
    both = Exchange((*known.items, *theirs.items), (*judged.votes, *theirs.votes), (*judged.raters, *theirs.raters))
    write_exchange(both, tmp_path / "both.jsonl")
    assert main(["agreement", str(tmp_path / "both.jsonl"), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)["judges"]
    assert (line["pairs"], line["flips"]["n"]) == (len(theirs.items), 180)
    other = replace(theirs, votes=tuple(replace(vote, judgment=replace(vote.judgment, dimension="kind")) for vote in theirs.votes))
    write_exchange(other, tmp_path / "other.jsonl")
    assert main(["judge-fit", str(tmp_path / "plain"), "--people", str(tmp_path / "other.jsonl")]) == 3
    assert "judged helpful, and people judged kind" in capsys.readouterr().err


TEXTS = ("a 3", "b 2", "c 1", "d 0")
ASKED = (Message("user", "q"),)


def judged(*judgments: Judgment, items: tuple[ExchangeItem, ...]) -> Exchange:
    raters = dict.fromkeys(one.rater for one in judgments)
    kinds = tuple(RaterInfo(rater, "model" if "/" in rater else "person") for rater in raters)
    return Exchange(items, tuple(map(Vote, judgments)), kinds)


def of_texts(name: str, *numbers: int) -> ExchangeItem:
    return ExchangeItem(name, ASKED, tuple(Candidate(TEXTS[k]) for k in numbers), "rank" if len(numbers) > 2 else "compare")


def test_a_single_pair_counts_in_its_ranking_turned_to_its_order() -> None:
    """The person says that b is better than a, and the pair is written the other way round than in the ranking."""
    name = "m/rank@1"
    ranking = [ranked("r", order, tuple(float(3 - k) for k in order), name) for order in orders_of(4, "balanced")]
    single = Judgment("p", "ann", ((0,), (1,)), order=(1, 0))  # shows a first and prefers a: the pair's second
    found = judged_pairs(judged(*ranking, single, items=(of_texts("p", 1, 0), of_texts("r", 0, 1, 2, 3))))
    table = found.dimensions["overall"]
    assert (table.pairs, int(table.labelled.sum())) == (6, 1)
    assert (table.people.answer.tolist(), table.people.shown.tolist()) == ([0], [0])
    assert table.verdict[table.people.pair].tolist() == [0]
    assert agreement_with_people(table, np.random.default_rng(0)).judge.decided.value == 1.0
    assert len(set(table.comparison.tolist())) == 1, "the pairs of a ranking are one cluster"
    assert len(set(table.prompt.tolist())) == 1
    assert found.kinds == {"person": 1}


def test_a_pair_in_two_rankings_has_all_their_answers_and_pairs_without_texts_stay_apart() -> None:
    name = "m/rank@1"
    one = Judgment("r", name, ((0,), (1,), (2,)), order=(0, 1, 2), probabilities=(0.9, 0.9, 0.9))
    other = Judgment("s", name, ((0,), (1,), (2,)), order=(0, 1, 2), probabilities=(0.3, 0.9, 0.9))
    single = Judgment("p", "ann", ((0,), (1,)), order=(0, 1))
    items = (of_texts("r", 0, 1, 2), of_texts("s", 0, 1, 3), of_texts("p", 0, 1))
    table = judged_pairs(judged(one, other, single, items=items)).dimensions["overall"]
    assert table.label[table.people.pair].tolist() == [pytest.approx(0.6)], "both answers, though they were given in the same order"
    bare = tuple(replace(item, candidates=tuple(Candidate(policy=f"p{k}") for k, _ in enumerate(item.candidates))) for item in items)
    with pytest.raises(DataError, match="no pair in common"):
        judged_pairs(judged(one, other, single, items=bare))


def test_a_ranking_is_its_pairs_in_both_orders() -> None:
    comparison = Comparison("p0/0-1-2", Prompt("p0", ASKED), tuple(Completion(text) for text in TEXTS[:3]))
    worths = {0: 1.0, 1: 0.2, 2: -1.0}
    said = [
        ranked("p0/0-1-2", order, tuple(worths[k] + (place == 0) for place, k in enumerate(order))) for order in orders_of(3, "balanced")
    ]
    found = list(answered_pairs(((comparison, "overall"), said)))
    assert [ask[0].id for ask, _ in found] == ["p0/0-1-2/0-1", "p0/0-1-2/0-2", "p0/0-1-2/1-2"]
    assert [ask for ask, _ in found] == pairs_of_ask((comparison, "overall"))
    for (ask, own), (i, j) in zip(found, itertools.combinations(range(3), 2), strict=True):
        assert [side.text for side in ask[0].completions] == [TEXTS[i], TEXTS[j]]
        assert [one.order for one in own] == [(0, 1), (1, 0)]
        mean = sum(float(one.first_probability(i, j) or 0) for one in said) / len(said)
        assert question_share(own) == pytest.approx(mean)
        first, second = (one.first_probability() for one in own)
        assert first is not None
        assert second is not None
        assert first > second, "what stands first is liked more"
    pair = replace(comparison, completions=comparison.completions[:2])
    assert pairs_of_ask((pair, "overall")) == [(pair, "overall")]


def hybrid(judge: Any, route: ByRules | ByShare, **settings: Any) -> Hybrid:
    return Hybrid(judge=judge, people=PEOPLE, route=route, **settings)


def test_a_hybrid_asks_its_judge_for_rankings_and_people_for_pairs(
    serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, given = serve_model(answer), samples(tmp_path, prompts=40, completions=4)
    of = hybrid(JudgeRater(model=endpoint(server.url)), ByRules(calibration=0.25, uncertain=(0.01, 0.99)))
    summary = collected(tmp_path / "run", given, of, completions_per_comparison=4)
    mix = summary["mix"]
    assert mix["dimensions"]["helpful"]["believed"]
    assert mix["dimensions"]["helpful"]["questions"] == 60
    assert len(server.asked) == 160, "four orders of each of 40 rankings"
    assert summary["judges"]["comparisons"] == 40
    assert len(rows(tmp_path / "run", "rankings")) == 40
    by = {row["comparison"]: row for row in rows(tmp_path / "run", "routes")}
    assert len(by) == 240
    assert mix["unanswered"] == 0
    counts = Counter((row["route"], row["by"]) for row in by.values())
    assert counts["calibration", "people"] == 60
    assert counts["uncertain", "people"] > 0
    assert counts["judge", "judge"] == 180 - counts["uncertain", "people"]
    preferences = rows(tmp_path / "run", "preferences")
    assert len(preferences) == 240
    for row in preferences:
        who = {str(name).split("-")[0].split("/")[0] for name in row["raters"]}
        assert who == ({"simulated"} if by[str(row["id"]).rpartition("/")[0]]["by"] == "people" else {"small"})
    both = Counter(str(row["rater"]).split("-")[0].split("/")[0] for row in rows(tmp_path / "run", "calibration"))
    assert both == {"simulated": 120, "small": 120}  # two people, and the judge in both orders
    items = read_exchange(tmp_path / "run" / "comparisons.jsonl").items
    assert Counter(len(item.candidates) for item in items) == {2: 240, 4: 40}
    collected(tmp_path / "again", given, of, completions_per_comparison=4)
    for file in ("routes", "judgments", "preferences", "calibration", "comparisons", "rankings"):
        assert (tmp_path / "run" / f"{file}.jsonl").read_bytes() == (tmp_path / "again" / f"{file}.jsonl").read_bytes()
    assert main(["agreement", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["judges"][0]["flips"]["n"] == counts["judge", "judge"]


def test_where_a_hybrids_judge_is_not_asked_or_does_not_rank(tmp_path: Path) -> None:
    """People answer every pair; and a likelihood compares pairs, because it scores each completion alone."""
    given = samples(tmp_path, prompts=6, completions=3)
    alone = hybrid(JudgeRater(model=FunctionJudge(function=f"{WORLD}:right")), ByShare(people=1.0))
    mix = collected(tmp_path / "people", given, alone, completions_per_comparison=3)["mix"]
    assert (mix["sources"]["people"]["questions"], mix["sources"]["judge"]["questions"]) == (18, 0)
    likely = hybrid(LikelihoodRater(model=FunctionJudge(function=f"{WORLD}:writer")), ByShare(people=0.5))
    mix = collected(tmp_path / "likely", given, likely, completions_per_comparison=3)["mix"]
    assert (mix["sources"]["people"]["questions"], mix["sources"]["judge"]["questions"]) == (9, 9)
    assert not (tmp_path / "likely" / "rankings.jsonl").exists()


def test_pairs_of_a_hybrids_ranking_stay_one_cluster_in_its_files(
    serve_model: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With few prompts the comparisons are the clusters, and a ranking of four is one comparison, not six."""
    of = hybrid(JudgeRater(model=endpoint(serve_model(answer).url)), ByRules(calibration=1.0))
    collected(tmp_path / "run", samples(tmp_path, prompts=12, completions=4), of, completions_per_comparison=4)
    exchange, _ = read_judgments(tmp_path / "run" / "calibration.jsonl")
    table = judged_pairs(exchange).dimensions["helpful"]
    assert (table.pairs, len(set(table.cluster.tolist())), table.is_by_prompt) == (72, 12, False)
    assert not np.isnan(table.words).any()
    assert main(["judge-fit", str(tmp_path / "run" / "calibration.jsonl")]) == 0
    assert "on 72 pairs that people judged (144 votes)" in capsys.readouterr().out
    found, _ = read_judgments(tmp_path / "run")
    assert sum(len(item.candidates) == 4 for item in found.items) == 12
