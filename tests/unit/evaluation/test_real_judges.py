"""The figures of real judges on real votes, from the project's own readers. Skipped where the data are not there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from palate.data.exchange import Exchange, read_exchange
from palate.evaluation.judge_report import JudgedDimension, report_on_judge
from palate.testing.synthetic_votes import shared_data
from tests.support.llmfao import read_llmfao


def test_mt_bench_flips_and_agreement_with_experts() -> None:
    """PEERS.md: 15.8 % flips. Zheng et al. 2023 print 66 % with ties and 85 % without, and 81 % for people among themselves."""
    files = (shared_data(f"mt_bench_human/{name}.jsonl") for name in ("gpt4_pair", "human"))
    report = report_on_judge(*map(read_exchange, files))
    (one,) = report.dimensions
    assert report.judge == "gpt4_pair"
    flips = one.habits.flips
    assert flips is not None
    assert (round(flips.share.value, 3), flips.share.n, flips.unknown) == (0.158, 2400, 380)
    assert (one.agreement.pairs, one.agreement.votes) == (1814, 3354)
    assert one.agreement.judge.with_ties.value == pytest.approx(0.66, abs=0.005)
    assert one.agreement.judge.decided.value == pytest.approx(0.856, abs=0.002)
    assert one.agreement.people.decided.value == pytest.approx(0.827, abs=0.002)
    assert one.agreement.over_constant.low > 0.3
    assert one.habits.policies == ("gpt-4",)
    assert one.habits.own.beyond.low > 0
    assert one.is_by_prompt
    assert one.fitted is not None
    assert one.fitted.after.ece.value < 0.05 < one.fitted.before.ece.value


def llmfao_judge(name: str) -> JudgedDimension:
    (one,) = report_on_judge(_votes(f"{name}-"), _votes(""), own=["GPT 4"] if name == "gpt4" else ["GPT 3.5 Turbo"]).dimensions
    return one


@cache
def _votes(part: str) -> Exchange:
    return _as_shown(read_llmfao(Path(shared_data("llmfao"), f"{part}crowd-comparisons.csv")))


def _as_shown(exchange: Exchange) -> Exchange:
    """Everybody saw the left answer first."""
    return replace(exchange, votes=tuple(replace(vote, judgment=replace(vote.judgment, order=(0, 1))) for vote in exchange.votes))


@pytest.mark.parametrize("name", ["gpt3", "gpt4"])
def test_llmfao_judges_have_biases_with_intervals(name: str) -> None:
    one = llmfao_judge(name)
    assert one.agreement.pairs == 1906  # of 2,139, equal ones counted once
    assert one.habits.flips is not None  # of the pairs that the file holds twice, the other way round
    assert one.habits.flips.share.n == 79
    for taste in (one.habits.side.judge, one.habits.side.people, one.habits.length.judge, one.habits.length.people):
        assert taste.low < taste.value < taste.high
    assert one.habits.length.beyond.n > 900
