"""Whether a gain on a rubric is real: the judge that was trained against, beside judges that were not and a verdict without the rubric.

A policy that is trained on a rubric can learn to please its judge: it repeats the criteria's words, or claims what it does not do. Another
judge, or a judge who does not see the rubric, is pleased less. Every comparison is paired by prompt, and nothing is said that the intervals
do not support.

A prompt has all its completions: its score is the mean over those of one side, and each prompt counts once. So completions of one prompt,
which are alike, are one unit of every error, and a prompt with many of them weighs no more than one with a single one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.agreement.estimates import known
from palate.core import DataError
from palate.evaluation.intervals import Estimate, mean, wilson

TAIL = 0.025
"""Probability beyond each end of an interval."""


@dataclass(frozen=True)
class JudgedGain:
    """One prompt, as judges see its completions before and after training.

    Attributes:
        before: the rubric's score of each completion before, by judge; None where there is none.
        after: the same of each completion after; there may be more or fewer.
        verdicts: how likely the completion after is the better one of each pair for a judge who does not see the rubric, by judge; None
            where the judge abstained.
    """

    before: Mapping[str, Sequence[float | None]]
    after: Mapping[str, Sequence[float | None]]
    verdicts: Mapping[str, Sequence[float | None]]

    def gains(self, judges: Sequence[str]) -> dict[str, float] | None:
        """Return the gain that each judge sees in the means over completions that all of them scored; None where a side has none."""
        sides = []
        for side in (self.before, self.after):
            scored = [scores for scores in zip(*(side[name] for name in judges), strict=True) if None not in scores]
            if not scored:
                return None
            sides.append([statistics.fmean(_known(column)) for column in zip(*scored, strict=True)])
        return {name: after - before for name, before, after in zip(judges, *sides, strict=True)}

    def means(self, judge: str) -> tuple[float, float] | None:
        """Return the mean scores before and after by one judge; None where a side has no score."""
        sides = _known(self.before[judge]), _known(self.after[judge])
        return (statistics.fmean(sides[0]), statistics.fmean(sides[1])) if all(sides) else None

    @property
    def verdict(self) -> float | None:
        """The mean over judges of their mean verdict; None where all of them abstained on everything."""
        cast = [statistics.fmean(votes) for each in self.verdicts.values() if (votes := _known(each))]
        return statistics.fmean(cast) if cast else None


@dataclass(frozen=True)
class SeenGain:
    """Mean scores before and after of one judge, and the gain paired by prompt.

    `missing` counts prompts without a score on one side, and `unscored` completions without a score.
    """

    before: float
    after: float
    gain: Estimate
    missing: int
    unscored: int


@dataclass(frozen=True)
class RubricGains:
    """What all judges see.

    Attributes:
        judge: what the judge sees that was trained against.
        panel: what each held-out judge sees.
        panel_mean: the gain that the panel sees, as the mean of its judges, on completions that all judges scored.
        panel_spread: the standard deviation of the gains among the panel's judges; None with fewer than two.
        excess: the judge's gain less that of the panel, paired by prompt.
        verdict: how often a completion after is the better one without the rubric: the mean over the judges who gave a verdict.
        abstentions: verdicts that are missing.
    """

    judge: SeenGain
    panel: Mapping[str, SeenGain]
    panel_mean: Estimate
    panel_spread: float | None
    excess: Estimate
    verdict: Estimate | None
    abstentions: int

    @staticmethod
    def of(prompts: Sequence[JudgedGain], judge: str, panel: Sequence[str]) -> RubricGains:
        """Compare the gains.

        Args:
            prompts: a row per prompt.
            judge: the judge that was trained against.
            panel: the others; at least one.

        Raises:
            DataError: there is no prompt that all of them scored, before and after.
        """
        found = [own for prompt in prompts if (own := prompt.gains((judge, *panel))) is not None]
        if not found:
            raise DataError("no prompt has a score by every judge, before and after, so nothing can be compared")
        common = [(own[judge], statistics.fmean(own[name] for name in panel)) for own in found]
        seen = {name: _seen(prompts, name) for name in panel}
        cast = _known(prompt.verdict for prompt in prompts)
        pairs = sum(any(vote is not None for vote in votes) for prompt in prompts for votes in zip(*prompt.verdicts.values(), strict=True))
        gains = [gain.gain.value for gain in seen.values()]
        return RubricGains(
            judge=_seen(prompts, judge),
            panel=seen,
            panel_mean=_gain([others for _, others in common]),
            panel_spread=statistics.stdev(gains) if len(gains) > 1 else None,
            excess=_gain([own - others for own, others in common], widest=2.0),
            verdict=_win_rate(cast, pairs) if cast else None,
            abstentions=sum(vote is None for prompt in prompts for votes in prompt.verdicts.values() for vote in votes),
        )

    @property
    def is_confined_to_judge(self) -> bool:
        """Whether the judge's score rises, the panel's does not, and the difference is beyond chance."""
        return self.judge.gain.low > 0 and self.excess.low > 0 and not self.panel_mean.low > 0

    @property
    def is_against_verdict(self) -> bool:
        """Whether the judge's score rises while judges without the rubric prefer what was there before, beyond chance."""
        return self.judge.gain.low > 0 and self.verdict is not None and self.verdict.high < 0.5

    @property
    def findings(self) -> tuple[str, ...]:
        """What this says, in sentences."""
        judge, n = self.judge.gain, self.judge.gain.n
        if not judge.low > 0:
            return (f"The rubric's score does not rise beyond chance: {_signed(judge)} on {n} prompts. There is no gain to check.",)
        sentences = [f"The rubric's score rises by {_signed(judge)} on {n} prompts.", self._panel_sentence()]
        if self.verdict is not None:
            sentences.append(self._verdict_sentence(self.verdict))
        if self.is_confined_to_judge or self.is_against_verdict:
            sentences.append(
                "This looks like rubric hacking. Read the completions with the largest gains, and change the criteria or the judge before "
                "you train on"
            )
        return tuple(sentences)

    def _panel_sentence(self) -> str:
        panel = f"The held-out panel sees {_signed(self.panel_mean)}"
        if self.is_confined_to_judge:
            return f"{panel}: it does not confirm the gain, and sees {_signed(self.excess)} less than the judge."
        if self.excess.low > 0:
            return f"{panel}: it confirms a part of the gain, and sees {_signed(self.excess)} less than the judge."
        if self.panel_mean.low > 0:
            return f"{panel}: it confirms the gain."
        return f"{panel}: these prompts do not tell whether it sees the gain. Check more prompts."

    def _verdict_sentence(self, verdict: Estimate) -> str:
        wins = f"Without the rubric the later completion is better in {verdict.value:.0%} [{verdict.low:.0%}, {verdict.high:.0%}]"
        if verdict.high < 0.5:
            return f"{wins}: judges prefer what was there before."
        if verdict.low > 0.5:
            return f"{wins}: judges prefer it."
        return f"{wins}: this does not tell which is better."

    def summary(self) -> dict[str, Any]:
        """Return the figures for `summary.json`; what is not known is null."""
        return {
            "judge": _seen_row(self.judge),
            "panel": {name: _seen_row(seen) for name, seen in self.panel.items()},
            "panel_mean": _row(self.panel_mean),
            "panel_spread": self.panel_spread,
            "excess": _row(self.excess),
            "verdict": None if self.verdict is None else _row(self.verdict),
            "abstentions": self.abstentions,
            "is_confined_to_judge": self.is_confined_to_judge,
            "is_against_verdict": self.is_against_verdict,
            "findings": list(self.findings),
        }


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _seen(prompts: Sequence[JudgedGain], judge: str) -> SeenGain:
    pairs = [means for prompt in prompts if (means := prompt.means(judge)) is not None]
    before, after = (statistics.fmean(column) for column in zip(*pairs, strict=True))
    unscored = sum(score is None for prompt in prompts for side in (prompt.before, prompt.after) for score in side[judge])
    return SeenGain(before, after, _gain([later - earlier for earlier, later in pairs]), len(prompts) - len(pairs), unscored)


def _win_rate(values: Sequence[float], pairs: int) -> Estimate:
    """Return the mean over prompts of their mean verdict (0 to 1) on `pairs` pairs in all.

    The interval is Wilson's for as many independent verdicts as have the error of the prompts' means, between the prompts and the pairs.
    """
    centre, n = statistics.fmean(values), len(values)
    error = statistics.stdev(values) / math.sqrt(n) if n > 1 else 0.0
    worth = min(max(centre * (1 - centre) / error**2, n), max(pairs, n)) if error else n
    return Estimate(centre, error, *wilson(centre * worth, worth), n)


def _gain(values: Sequence[float], widest: float = 1.0) -> Estimate:
    """Return the mean gain. Gains of scores from 0 to 1 lie within +- `widest`, which bounds the mean where all of them are equal.

    With n equal gains, the share of prompts with another gain is at most 1 - 0.025^(1/n) at 95 %, and those could gain -1 or 1.
    """
    estimate = mean(values)
    if np.isfinite(estimate.se):
        return estimate
    others = 1 - TAIL ** (1 / estimate.n)
    low, high = (estimate.value + others * (end - estimate.value) for end in (-widest, widest))
    return Estimate(estimate.value, estimate.se, low, high, estimate.n)


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _row(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "se": known(estimate.se), "low": known(estimate.low), "high": known(estimate.high), "n": estimate.n}


def _seen_row(seen: SeenGain) -> dict[str, Any]:
    return {"before": seen.before, "after": seen.after, "gain": _row(seen.gain), "missing": seen.missing, "unscored": seen.unscored}
