"""AlpacaEval's leaderboard: the win rate of each policy against one baseline, by judge."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from palate.core import DataError
from palate.data.exchange.alpaca_eval import TIE, preference_of
from palate.data.exchange.contents import Exchange, ExchangeItem
from palate.data.exchange.shape import Written, unheld
from palate.data.exchange.spreadsheet import guarded
from palate.data.files import write_atomic
from palate.data.formats.dropped import Dropped

COLUMNS = (
    *("", "win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "avg_length"),
    *("length_controlled_winrate", "lc_standard_error", "annotator"),
)
"""The first column, without a name, holds the policy. AlpacaEval's order is another; readers go by the names."""


@dataclass(frozen=True)
class AlpacaLeaderboardShape:
    """A table with the columns of AlpacaEval, in percent. Palate does not read it back.

    The length-controlled columns stay empty: they come from a regression with the difficulty of AlpacaEval's own instructions, which this
    file does not hold.
    """

    name: str = "alpaca-leaderboard"
    loses: str = "everything but win rates: texts and single votes. `length_controlled_winrate` stays empty, because Palate does not fit it"

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write a row for each policy and rater, the highest win rate first.

        The baseline is the policy that is in every pair; of a single pair of policies, the first. Several answers of a rater to a pair,
        such as one in each order, count as their mean.

        Raises:
            DataError: no policy is in every pair, or there is no vote on a pair of named policies.
        """
        items = {item.id: item for item in exchange.items}
        left_out: list[Dropped] = []
        answers: dict[tuple[str, str], list[float]] = defaultdict(list)
        for vote in exchange.votes:
            item, judgment = items[vote.judgment.comparison], vote.judgment
            if len(item.candidates) != 2 or not all(side.policy for side in item.candidates):
                left_out.append(unheld(item.id, "not a pair of named policies"))
            elif not vote.is_ranking or judgment.dimension != "overall":
                left_out.append(unheld(item.id, "not a ranking on `overall`, or not kept"))
            else:
                answers[item.id, judgment.rater].append(preference_of(judgment))
        judged = [items[name] for name in dict.fromkeys(name for name, _ in answers)]
        if not judged:
            raise DataError(f"{path}: nothing to write: no vote on a pair of named policies. Write another kind.")
        baseline = _baseline(judged, path)
        preferences: dict[tuple[str, str], list[float]] = defaultdict(list)
        for (name, rater), several in answers.items():
            first, second = (side.policy for side in items[name].candidates)
            mean = statistics.fmean(several)
            preferences[second if first == baseline else first, rater].append(mean if first == baseline else 3 - mean)
        lengths = _lengths(exchange.items)
        rows = [_row(policy, rater, values, lengths.get(policy)) for (policy, rater), values in preferences.items()]
        rows.sort(key=lambda row: -float(row[1]))
        write_atomic(path, "\n".join(",".join(_quoted(cell) for cell in row) for row in (COLUMNS, *rows)) + "\n")
        return Written(len(rows), tuple(left_out))


def _baseline(items: list[ExchangeItem], path: Path) -> str:
    counts = Counter(side.policy for item in items for side in item.candidates)
    everywhere = [policy for policy, count in counts.items() if count == len(items)]
    if not everywhere:
        raise DataError(f"{path}: no policy is in every pair, so there is no baseline. Keep the pairs with one policy.")
    return everywhere[0]


def _lengths(items: tuple[ExchangeItem, ...]) -> dict[str, int]:
    """Mean number of characters of each policy's texts, rounded down."""
    texts: dict[str, list[int]] = defaultdict(list)
    for item in items:
        for side in item.candidates:
            if side.text:
                texts[side.policy].append(len(side.text))
    return {policy: int(statistics.fmean(lengths)) for policy, lengths in texts.items()}


def _row(policy: str, rater: str, preferences: list[float], length: int | None) -> list[str]:
    n, shares = len(preferences), [100 * (preference - 1) for preference in preferences]
    wins, losses = sum(value > TIE for value in preferences), sum(value < TIE for value in preferences)
    error = f"{statistics.stdev(shares) / math.sqrt(n):.4f}" if n > 1 else ""
    discrete = 100 * (wins + (n - wins - losses) / 2) / n
    counts = [str(count) for count in (wins, losses, n - wins - losses, n)]
    known = "" if length is None else str(length)
    return [policy, f"{statistics.fmean(shares):.4f}", error, *counts, f"{discrete:.4f}", known, "", "", rater]


def _quoted(cell: str) -> str:
    safe = str(guarded(cell))
    return '"' + safe.replace('"', '""') + '"' if any(mark in safe for mark in ',"\n\r') else safe
