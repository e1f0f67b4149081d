"""Rankings that judges write: which line counts, what is refused with its reason, and the shares that follow."""

from __future__ import annotations

import math

import pytest

from palate.judges.judge_model import JudgeReply, NoReply
from palate.judges.verdicts import Abstention, OptionProbabilities, RankingReading, SampledVerdicts, WrittenVerdict
from palate.judges.written_rankings import ranking_in

LABELS = ("A", "B", "C")


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("Ranking: B > A = C", ((1,), (0, 2))),
        ("Ranking: C > B > A", ((2,), (1,), (0,))),
        ("Ranking: A = B = C", ((0, 1, 2),)),
        ("b>a>c", ((1,), (0,), (2,))),
        ("**Ranking: B > A = C**", ((1,), (0, 2))),
        ("**Ranking:** `B > C = A`.", ((1,), (0, 2))),
        ("Final ranking: [[B > A > C]]", ((1,), (0,), (2,))),
        ("> Ranking: Answer B > Answer C > Answer A", ((1,), (2,), (0,))),
        ("Ranking:\nC > A > B\n", ((2,), (0,), (1,))),
        ("A > B > C, I thought.\nRanking: A > B > C\nOn reflection:\nRanking: C > A = B", ((2,), (0, 1))),
    ],
)
def test_the_last_line_that_is_a_ranking_counts(text: str, tiers: object) -> None:
    assert ranking_in(text, LABELS) == tiers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("All are fine.", "the reply holds no ranking"),
        ("I prefer A > B > C because it is plain.", "the reply holds no ranking"),
        ("", "the reply holds no ranking"),
        ("Ranking: B > A", "the ranking leaves out C"),
        ("Ranking: B", "the ranking leaves out A, C"),
        ("Ranking: B > A > C > A", "the ranking names A twice"),
        ("Ranking: B > A > C > D", "the ranking names 'D', and the answers are A, B, C"),
        ("Ranking: B, A, C", "the ranking names 'B, A, C'"),
        ("Ranking: B >= A > C", "the ranking names ''"),
        ("Ranking:", "the ranking names ''"),
        ("Ranking: A > B > C\nRanking: A > B", "the ranking leaves out C"),
    ],
)
def test_anything_missing_doubled_or_unknown_is_not_a_ranking(text: str, reason: str) -> None:
    found = ranking_in(text, LABELS)
    assert isinstance(found, str)
    assert found.startswith(reason)


def test_a_long_line_without_a_ranking_is_read_at_once() -> None:
    assert isinstance(ranking_in("_ " * 50_000 + "=" * 50_000, LABELS), str)


def test_a_written_ranking_is_one_vote_on_every_two_places() -> None:
    found = WrittenVerdict().rank(LABELS, [JudgeReply("<think>Ranking: A > B > C</think>Ranking: B > A = C")])
    assert found == RankingReading((0.0, 0.5, 1.0), 1, "<think>Ranking: A > B > C</think>Ranking: B > A = C")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (JudgeReply("Ranking: A > B", cut="length"), "cut"),
        (JudgeReply("Ranking: A > B"), "no_verdict"),
        (JudgeReply("<think>\nRanking: A > B > C\n"), "no_verdict"),
        (NoReply("no server", "unreachable"), "unreachable"),
    ],
)
def test_replies_without_a_whole_ranking_are_abstentions(reply: JudgeReply | NoReply, kind: str) -> None:
    found = WrittenVerdict().rank(LABELS, [reply])
    assert isinstance(found, Abstention)
    assert found.kind == kind


def test_samples_are_shares_of_the_rankings_that_can_be_read() -> None:
    texts = ("Ranking: A > B > C", "Ranking: B > A > C", "Ranking: A > B = C", "none", "Ranking: A > B > C")
    found = SampledVerdicts(n=5).rank(LABELS, [JudgeReply(text) for text in texts])
    assert found == RankingReading((0.75, 1.0, 0.875), 4, "Ranking: A > B > C")
    few = SampledVerdicts(n=5).rank(LABELS, [JudgeReply(text) for text in ("Ranking: A > B > C", *["none"] * 4)])
    assert isinstance(few, Abstention)
    assert few.reason.startswith("1 of 5 replies hold a verdict: the reply holds no ranking")


def test_the_probability_of_being_the_best_orders_all_by_luces_axiom() -> None:
    weights = (0.5, 0.3, 0.1)  # the rest is said otherwise
    found = OptionProbabilities().rank(LABELS, [JudgeReply("", tuple(map(math.log, weights)))])
    assert isinstance(found, RankingReading)
    assert found.shares == pytest.approx((0.5 / 0.8, 0.5 / 0.6, 0.3 / 0.4))
    assert found.votes is None


def test_what_the_server_does_not_report_is_last_and_two_of_these_have_no_order() -> None:
    last = OptionProbabilities().rank(LABELS, [JudgeReply("", (math.log(0.6), -math.inf, math.log(0.4)))])
    assert isinstance(last, RankingReading)
    assert last.shares == pytest.approx((1.0, 0.6, 0.0))
    unknown = OptionProbabilities().rank(LABELS, [JudgeReply("", (0.0, -math.inf, -math.inf))])
    assert isinstance(unknown, Abstention)
    assert "no probability is known for B and C" in unknown.reason
    little = OptionProbabilities().rank(LABELS, [JudgeReply("I", (-6.0, -7.0, -8.0))])
    assert isinstance(little, Abstention)
    assert "the options A, B, C have a probability of 0.00373 together, wanted to write 'I'" in little.reason
