"""Published files of judgments are read whole, and go through every shape that can hold them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from palate.data.exchange import Exchange, read_exchange, write_exchange
from palate.testing import shared_data
from tests.support.llmfao import read_llmfao

COUNTS = {
    "mt_bench_human/human.jsonl": (1814, 3355, 65, 0),
    "mt_bench_human/gpt4_pair.jsonl": (2400, 2400, 1, 0),
    "hh-rlhf/harmless-base_half.jsonl": (1154, 1154, 1, 2),
    "oasst1-val-pairs/oasst_en_val_pairs.json": (1021, 1021, 1, 1),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_files_are_read_whole_and_come_back_from_our_own(tmp_path: Path, name: str) -> None:
    found = read_exchange(shared_data(name))
    assert (len(found.items), len(found.votes), len(found.raters), len(found.dropped)) == COUNTS[name]
    write_exchange(found, tmp_path / "a.jsonl")
    assert read_exchange(tmp_path / "a.jsonl") == found
    assert sum(1 for _ in found.answers()) == len(found.votes)


def test_votes_of_experts_are_counted_as_published() -> None:
    found = read_exchange(shared_data("mt_bench_human/human.jsonl"))
    wins = Counter("tie" if len(vote.judgment.ranking) == 1 else ("a", "b")[vote.judgment.ranking[0][0]] for vote in found.votes)
    assert wins == {"a": 1293, "b": 1282, "tie": 780}
    assert set(found.kinds().values()) == {"person"}
    judge = read_exchange(shared_data("mt_bench_human/gpt4_pair.jsonl"))
    assert set(judge.kinds().values()) == {"model"}


@cache
def crowd() -> Exchange:
    """The votes of a crowd. They are read once, and nothing changes them."""
    return read_llmfao(shared_data("llmfao/crowd-comparisons.csv"))


def test_votes_of_a_crowd_have_texts_guidelines_and_qualification_items() -> None:
    found = crowd()
    shown = Counter("tie" if len(vote.judgment.ranking) == 1 else ("left", "right")[vote.judgment.ranking[0][0]] for vote in found.votes)
    assert shown == {"left": 2911, "right": 2549, "tie": 3471}
    assert sum(item.is_qualification and item.gold is not None for item in found.items) == 7
    assert found.guidelines[0].text.startswith("# Which AI is Better?")
    assert all(item.conversation for item in found.items)


def verdicts(exchange: Exchange) -> Counter[tuple[object, ...]]:
    """Who said what about which item."""
    return Counter((vote.judgment.comparison, vote.tiers) for vote in exchange.votes)


@pytest.mark.parametrize("kind", ["palate", "label-studio", "argilla", "mt-bench"])
def test_a_crowds_votes_survive_other_tools(tmp_path: Path, kind: str) -> None:
    found = crowd()
    file = tmp_path / ("a.jsonl" if kind in ("palate", "mt-bench") else "a.json")
    assert write_exchange(found, file, kind).left_out == ()
    back = read_exchange(file)
    policies = {item.id: [one.policy for one in item.candidates] for item in (*found.items,)}
    if kind == "mt-bench":  # candidates stand in the order of their policies' names there
        turned = {item.id: [policies[item.id].index(one.policy) for one in item.candidates] for item in back.items}
        said = Counter(
            (vote.judgment.comparison, tuple(tuple(sorted(turned[vote.judgment.comparison][k] for k in tier)) for tier in vote.tiers))
            for vote in back.votes
        )
        assert said == verdicts(found)
    else:
        assert verdicts(back) == verdicts(found)
    assert len(back.raters) == 124


def test_a_crowds_votes_become_pairs_and_those_without_texts_are_named(tmp_path: Path) -> None:
    found = crowd()
    done = write_exchange(found, tmp_path / "a.jsonl", "trl")
    reasons = Counter(row.reason for row in done.left_out)
    assert (done.rows, reasons) == (1850, {"a candidate without a text": 289, "nobody judged it": 7})
    back = read_exchange(tmp_path / "a.jsonl")
    assert len(back.votes) == 7723
