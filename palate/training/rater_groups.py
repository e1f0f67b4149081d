"""Groups of raters: a head per dimension and group, so that a reward model knows whose taste a score is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from palate.agreement.shares import smoothed_share
from palate.config.types import Input
from palate.core import ConfigError, DataError, Preference
from palate.data import cells
from palate.data.cells import InvalidRow
from palate.data.containers import read_container

WITHOUT_GROUP = "a vote of a rater without a group"


@dataclass(frozen=True, kw_only=True)
class RaterGroups:
    """Learn a head per dimension and group of raters, named `DIMENSION@GROUP`.

    The label of a pair is the share of the group's votes, and it weighs as much as the group has votes on it. So the sigmoid of a
    difference of two scores estimates the share of the group that prefers the one completion.

    Attributes:
        file: a table of raters with the columns `rater` and `group`.
        prior: votes added to each group's votes on a pair, half to each side: 0 takes the share as it is.
    """

    file: Input
    prior: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.prior < math.inf:
            raise ConfigError(f"groups.prior is a number of votes, 0 or more, got {self.prior}")

    def read(self) -> dict[str, str]:
        """Return the group of each rater.

        Raises:
            DataError: the file cannot be read, a row has no rater or group, a group has a character that names of heads cannot have, or a
                rater is in two groups.
        """
        group_of: dict[str, str] = {}
        for entry in read_container(self.file):
            try:
                if entry.fault:
                    raise InvalidRow(entry.fault)
                rater, group = (cells.name(cells.present(entry.row, field), field).strip() for field in ("rater", "group"))
            except InvalidRow as error:
                raise DataError(f"{entry.source}: {error.reason}. Give each row a `rater` and a `group`") from error
            if set("@/=") & set(group) or any(letter.isspace() for letter in group):
                raise DataError(f"{entry.source}: the group {group!r} becomes part of a head's name. Write it without spaces, @, / and =")
            if group_of.setdefault(rater, group) != group:
                raise DataError(f"{entry.source}: rater {rater} is in the groups {group_of[rater]} and {group}. Give each rater one group")
        if not group_of:
            raise DataError(f"{self.file} names no rater. Give it rows with a `rater` and a `group`")
        return group_of


def head_of_group(dimension: str, group: str) -> str:
    """Return the name of the head of a group of raters."""
    return f"{dimension}@{group}"


def by_group(preferences: Sequence[Preference], groups: Mapping[str, str], prior: float) -> tuple[list[Preference], list[str]]:
    """Return a preference per pair, dimension and group that voted on it, in the order of the pairs; and the reasons of what is left out.

    Its probability is the smoothed share of the group's votes for `chosen`, which may lie below one half. Its weight is that of the pair
    times the number of the group's votes. Reasons count votes, and pairs without any vote.

    Args:
        preferences: conclusions with their votes.
        groups: the group of each rater.
        prior: votes added to the group's, half to each side.
    """
    found, reasons = list[Preference](), list[str]()
    for preference in preferences:
        votes: dict[str, list[tuple[str, float]]] = {}
        for rater, vote in preference.votes:
            if rater in groups:
                votes.setdefault(groups[rater], []).append((rater, vote))
            else:
                reasons.append(WITHOUT_GROUP)
        if not preference.votes:
            reasons.append("a pair without votes")
        found += [_of_group(preference, group, votes[group], prior) for group in sorted(votes)]
    return found, reasons


def _of_group(preference: Preference, group: str, votes: Sequence[tuple[str, float]], prior: float) -> Preference:
    share = smoothed_share([vote for _, vote in votes], prior)
    name, weight = head_of_group(preference.dimension, group), preference.weight * len(votes)
    return replace(preference, dimension=name, probability=share, weight=weight, votes=tuple(votes))


def require_votes(path: str, grouped: Sequence[Preference], groups: Mapping[str, str]) -> None:
    """Check that every group voted. Raises DataError, which names those that did not."""
    voted = {groups[rater] for preference in grouped for rater, _ in preference.votes}
    if silent := [group for group in dict.fromkeys(groups.values()) if group not in voted]:
        raise DataError(
            f"{path}: no vote is by a rater of the group {', '.join(silent)}. Rows need `votes` and `raters` with names as in groups.file"
        )
