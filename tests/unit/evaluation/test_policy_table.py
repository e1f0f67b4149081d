"""Which policy wins, from files of judgments to the page: the order of MT-bench, whose votes count, what is joined."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from palate.cli.agreement_page import show_agreement
from palate.core import Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote, read_exchange, write_exchange
from palate.data.jsonl import write_rows
from palate.evaluation.policy_table import policy_figures
from palate.evaluation.rater_report import report_on
from palate.judges.hybrid import ROUTES
from palate.testing.synthetic_votes import shared_data

JUDGE = "judge-7b/helpful@0123456789ab"


def an_exchange(pairs: int, of_people: int, *, dimension: str = "overall") -> Exchange:
    """Pairs of `new` and `old`, on either side. People prefer `new` in two of three; the judge sees all pairs, and is mostly right."""
    draw = random.Random(0)
    items, votes = [], []
    for k in range(pairs):
        is_new_first, is_new_better = draw.random() < 0.5, draw.random() < 2 / 3
        names = ("new", "old") if is_new_first else ("old", "new")
        candidates = tuple(Candidate(f"{name} {k}", policy=name) for name in names)
        items.append(ExchangeItem(f"q{k}", (Message("user", f"question {k}"),), candidates))
        best = int(is_new_first != is_new_better)
        seen = best if draw.random() < 5 / 6 else 1 - best
        if k < of_people:
            votes.append(Vote(Judgment(f"q{k}", f"person {k % 3}", ((best,), (1 - best,)), dimension, (0, 1))))
        for order in ((0, 1), (1, 0)):
            place = order.index(seen)
            votes.append(Vote(Judgment(f"q{k}", JUDGE, ((place,), (1 - place,)), dimension, order)))
    raters = (*(RaterInfo(f"person {k}", "person") for k in range(3)), RaterInfo(JUDGE, "model"))
    return Exchange(tuple(items), tuple(votes), raters)


def page(exchange: Exchange) -> str:
    out = io.StringIO()
    show_agreement(report_on(exchange), Console(file=out, width=160))
    return out.getvalue()


def test_the_order_of_mt_bench_is_the_published_one() -> None:
    """Zheng et al. 2023, figure 3 and table 8: people and GPT-4 rank the six models alike."""
    order = ["gpt-4", "claude-v1", "gpt-3.5-turbo", "vicuna-13b-v1.2", "alpaca-13b", "llama-13b"]
    for name, votes in (("human", 3354), ("gpt4_pair", 2400)):
        strengths, rates = policy_figures(read_exchange(shared_data(f"mt_bench_human/{name}.jsonl")), None, np.random.default_rng(0))
        assert [one.policy for one in strengths] == order
        assert sum(one.votes for one in rates) == votes
        assert len(rates) == 15


def test_people_s_votes_count_and_the_judge_makes_their_rate_more_exact() -> None:
    whole = an_exchange(600, 150)
    strengths, (rate,) = policy_figures(whole, None, np.random.default_rng(0))
    assert [(one.policy, one.votes) for one in strengths] == [("new", 150), ("old", 150)]
    assert (rate.policy, rate.other, rate.votes, rate.judge) == ("new", "old", 150, JUDGE)
    assert rate.joined is not None
    assert rate.saved is not None
    assert rate.saved > 30
    assert rate.joined.high - rate.joined.low < 0.95 * (rate.rate.high - rate.rate.low)
    assert rate.joined.low < 2 / 3 < rate.joined.high


def test_nothing_is_joined_of_several_judges_or_where_people_did_not_judge_at_random() -> None:
    whole = an_exchange(600, 150)
    another = tuple(
        replace(vote, judgment=replace(vote.judgment, rater="other/helpful@0123456789ab"))
        for vote in whole.votes
        if vote.judgment.rater == JUDGE
    )
    several = replace(whole, votes=whole.votes + another, raters=(*whole.raters, RaterInfo("other/helpful@0123456789ab", "model")))
    for exchange, is_random in ((several, True), (whole, False)):
        _, (rate,) = policy_figures(exchange, None, np.random.default_rng(0), is_random=is_random)
        assert (rate.joined, rate.saved, rate.judge) == (None, None, "")


def test_a_run_that_routed_its_questions_joins_nothing(tmp_path) -> None:
    write_rows(tmp_path / ROUTES, [{"comparison": "q0"}])
    write_exchange(an_exchange(600, 150), tmp_path / "judgments.jsonl", "palate")
    assert report_on(tmp_path).win_rates[0].joined is None
    (tmp_path / ROUTES).unlink()
    assert report_on(tmp_path).win_rates[0].joined is not None


def test_models_votes_count_where_nobody_else_voted() -> None:
    strengths, (rate,) = policy_figures(an_exchange(100, 0), None, np.random.default_rng(0))
    assert strengths[0].votes == 200
    assert rate.joined is None


def test_dimensions_stand_apart_and_one_can_be_chosen() -> None:
    one, other = an_exchange(80, 80), an_exchange(80, 40, dimension="honest")
    both = replace(one, votes=one.votes + other.votes)
    strengths, _ = policy_figures(both, None, np.random.default_rng(0))
    assert [(each.dimension, each.votes) for each in strengths] == [("overall", 80)] * 2 + [("honest", 40)] * 2
    strengths, rates = policy_figures(both, "honest", np.random.default_rng(0))
    assert {each.dimension for each in (*strengths, *rates)} == {"honest"}


def test_the_page_says_whose_votes_these_are_and_what_was_joined() -> None:
    told = page(an_exchange(600, 150))
    assert "wins: share of the votes of people on its completions" in told
    assert f"made more exact by what {JUDGE} says" in told
    assert "votes saved" in told
    alone = page(an_exchange(100, 0))
    assert "share of the votes of models" in alone
    assert "votes saved" not in alone


def test_the_page_is_silent_where_nobody_knows_who_wrote_what() -> None:
    whole = an_exchange(60, 60)
    nameless = tuple(replace(item, candidates=tuple(replace(side, policy="") for side in item.candidates)) for item in whole.items)
    assert "wins: share of the votes" not in page(replace(whole, items=nameless))


@pytest.mark.parametrize("count", [40, 41])
def test_too_many_policies_are_not_ranked(count: int) -> None:
    whole = an_exchange(count, count)
    named = tuple(
        replace(item, candidates=tuple(replace(side, policy=f"p{(k + place) % count}") for place, side in enumerate(item.candidates)))
        for k, item in enumerate(whole.items)
    )
    strengths, _ = policy_figures(replace(whole, items=named), None, np.random.default_rng(0))
    assert len(strengths) == (40 if count == 40 else 0)


def test_equal_texts_of_other_policies_credit_those_who_wrote_them() -> None:
    items, votes = [], []
    for k in range(40):
        asked = (Message("user", f"question {k}"),)
        for name, writers in (("a", ("good", "base")), ("b", ("base", "bad"))):  # all of them write the same two texts
            candidates = tuple(Candidate(text, policy=writer) for text, writer in zip(("yes", "no"), writers, strict=True))
            items.append(ExchangeItem(f"{name}{k}", asked, candidates if k % 2 else candidates[::-1]))
            first_is_best = bool(k % 2) == (k % 10 > 0)
            votes.append(Vote(Judgment(f"{name}{k}", "ann", ((0,), (1,)) if first_is_best else ((1,), (0,)), "overall", (0, 1))))
    strengths, rates = policy_figures(Exchange(tuple(items), tuple(votes), (RaterInfo("ann", "person"),)), None, np.random.default_rng(0))
    assert [one.policy for one in strengths] == ["good", "base", "bad"]
    assert {(one.policy, one.other): (one.votes, one.rate.value) for one in rates} == {
        ("good", "base"): (40, 0.9),
        ("base", "bad"): (40, 0.9),
    }
