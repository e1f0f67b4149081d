"""The pairs of a ranking as questions of their own: a judge ranks all completions at once, and people compare two of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from palate.core import Judgment
from palate.judges.judge_views import pair_ranking
from palate.raters.answer_shares import answers_by_rater, first_share
from palate.raters.rater import Answered, Ask


def pairs_of_ask(ask: Ask) -> list[Ask]:
    """Return the pairs of a question's completions as questions named `comparison/i-j`; a question about a pair is its own."""
    comparison, dimension = ask
    if len(comparison.completions) == 2:
        return [ask]
    return [
        (replace(comparison, id=f"{comparison.id}/{i}-{j}", completions=(comparison.completions[i], comparison.completions[j])), dimension)
        for i, j in itertools.combinations(range(len(comparison.completions)), 2)
    ]


def answered_pairs(answered: Answered) -> Iterator[Answered]:
    """Yield the pairs of a ranked question with what a judge of the ranking says about each.

    Of each rater there is one answer per order of the pair: the mean probability over the orders of the ranking in which the one completion
    stands before the other, and that over the orders in which it stands after it. So a pair of a ranking looks like a pair that was judged
    in both orders, and the mean of the two is the mean over all orders, as balanced orders have as many of each.
    """
    ask, judgments = answered
    comparison, _ = ask
    if len(comparison.completions) == 2:
        yield answered
        return
    numbers = itertools.combinations(range(len(comparison.completions)), 2)
    for pair, (i, j) in zip(pairs_of_ask(ask), numbers, strict=True):
        yield pair, [one for _, own in answers_by_rater(judgments) for one in _in_both_orders(pair[0].id, own, i, j)]


def _in_both_orders(name: str, own: Sequence[Judgment], i: int, j: int) -> Iterator[Judgment]:
    """Yield a rater's answer to a pair in each order of which its rankings tell something."""
    for order in ((0, 1), (1, 0)):
        shown = [one for one in own if one.order is not None and (one.order.index(i) < one.order.index(j)) == (order == (0, 1))]
        if shown:
            share = math.fsum(first_share(one, i, j) for one in shown) / len(shown)
            probability = share if order == (0, 1) else 1 - share
            yield Judgment(name, own[0].rater, pair_ranking(probability), own[0].dimension, order, probability=probability)
