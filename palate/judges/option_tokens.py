"""The log-probabilities of options among the likeliest first tokens that a server reports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def option_logps(options: Sequence[str], first_tokens: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    """Return the log-probability in nats of each option: that of the tokens which begin it and no other option, summed.

    A token counts with or without space before it, because servers differ in that. An option of which no token is reported has -inf.

    Args:
        options: the options.
        first_tokens: (text, log-probability) of the likeliest first tokens.
    """
    logps: list[list[float]] = [[] for _ in options]
    for token, logp in first_tokens:
        word = token.strip()
        exact = [k for k, option in enumerate(options) if option == word]
        begun = exact or [k for k, option in enumerate(options) if word and option.startswith(word)]
        if len(begun) == 1:
            logps[begun[0]].append(logp)
    return tuple(log_sum(each) for each in logps)


def log_sum(logps: Sequence[float]) -> float:
    """Return log sum exp of log-probabilities; -inf for none."""
    top = max(logps, default=-math.inf)
    return top if math.isinf(top) else top + math.log(math.fsum(math.exp(logp - top) for logp in logps))


def same_first_token(options: Sequence[str]) -> tuple[str, str] | None:
    """Return two options that can begin with the same token because they begin with the same character; None where there are none."""
    for one, other in itertools.combinations(options, 2):
        if one.strip()[:1] == other.strip()[:1]:
            return one, other
    return None
