"""From votes to probabilities: what each rule says of few votes, and how well it tells a vote that was held out."""

import numpy as np
import pytest

from palate.agreement import (
    Votes,
    concluded,
    dawid_skene,
    first_probability,
    hold_out,
    majority,
    next_vote_shares,
    smoothed_share,
    smoothed_shares,
    vote_log_loss,
)
from palate.core import Comparison, Completion, DataError, Message, Prompt
from palate.testing import shared_data
from palate.testing.synthetic_votes import llmfao, mt_bench

COUNTS = np.array([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def test_majority_shares_what_is_equal() -> None:
    assert majority(COUNTS).tolist() == [[1, 0, 0], [1, 0, 0], [0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3]]


def test_smoothing_is_votes_given_in_advance() -> None:
    base = np.array([0.5, 0.2, 0.3])
    assert smoothed_shares(COUNTS, 1.0, base)[1] == pytest.approx([1.5 / 2, 0.2 / 2, 0.3 / 2])
    assert smoothed_shares(COUNTS, 1.0, base)[3] == pytest.approx(base)
    assert smoothed_shares(COUNTS)[3] == pytest.approx(np.array([4, 0, 2]) / 6)
    assert smoothed_shares(COUNTS, 0.0)[0] == pytest.approx([2 / 3, 0, 1 / 3])
    with pytest.raises(DataError, match="prior is a number of votes >= 0"):
        smoothed_shares(COUNTS, -1.0)


def test_the_label_of_a_pair_is_the_same_rule() -> None:
    even = np.array([0.5, 0.0, 0.5])
    for votes, row in (([1.0], [1, 0, 0]), ([1.0, 0.5, 0.0], [1, 1, 1]), ([0.0, 0.0], [0, 0, 2])):
        for prior in (0.5, 1.0, 4.0):
            shares = smoothed_shares(np.array([row], dtype=float), prior, even)
            assert smoothed_share(votes, prior) == pytest.approx(first_probability(shares)[0])
    assert smoothed_share([1.0]) == 0.75


def test_a_preference_is_of_the_likelier_side() -> None:
    pair = Comparison("c", Prompt("p", (Message("user", "hi"),)), (Completion("a"), Completion("b")))
    one = concluded(pair, 0.3, "honest", ("j1",))
    assert (one.chosen.text, one.rejected.text, one.probability, one.dimension, one.judgments) == ("b", "a", 0.7, "honest", ("j1",))
    assert concluded(pair, 0.5).chosen.text == "a"
    with pytest.raises(DataError, match="needs two completions and a probability"):
        concluded(pair, 1.2)


def test_one_vote_of_each_item_with_enough_is_held_out() -> None:
    votes = Votes.of((f"i{i}", f"r{r}", 0) for i in range(40) for r in range(1 + i % 5))
    rest, held = hold_out(votes, np.random.default_rng(0))
    assert len(rest) + len(held) == len(votes)
    assert sorted(held.item) == [k for k in range(40) if k % 5 >= 2]
    others = {tuple(hold_out(votes, np.random.default_rng(s))[1].rater) for s in range(5)}
    assert len(others) == 5


def losses(votes: Votes) -> tuple[float, float, float, float]:
    """Log-loss of a held-out vote, one of each pair with three or more, mean of five draws: raw, smoothed, posterior, as heard."""
    found = []
    for seed in range(5):
        rest, held = hold_out(votes, np.random.default_rng(seed))
        counts = rest.counts()
        rules = smoothed_shares(counts, 0.0), smoothed_shares(counts), dawid_skene(rest).posterior, next_vote_shares(rest)
        found.append([vote_log_loss(shares, held) for shares in rules])
    raw, smoothed, posterior, heard = np.mean(found, axis=0)
    return raw, smoothed, posterior, heard


@pytest.mark.parametrize(
    ("read", "folder", "smoothed_at_most", "heard_at_most"), [(llmfao, "llmfao", 0.97, 0.945), (mt_bench, "mt_bench_human", 0.81, 0.805)]
)
def test_a_held_out_vote_is_told_as_well_as_can_be(read, folder, smoothed_at_most, heard_at_most) -> None:
    raw, smoothed, posterior, heard = losses(read(shared_data(folder).parent).votes)
    assert smoothed < smoothed_at_most
    assert heard < heard_at_most
    assert min(raw, posterior) > smoothed + 0.3
