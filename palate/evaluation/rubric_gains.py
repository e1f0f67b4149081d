"""Whether a gain on a rubric is real: the judge that was trained against, beside judges that were not and a verdict without the rubric.

A policy that is trained on a rubric can learn to please its judge: it repeats the criteria's words, or claims what it does not do. Another
judge, or a judge who does not see the rubric, is pleased less. Every comparison is paired by prompt, and nothing is said that the intervals
do not support.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.agreement.estimates import known
from palate.core import DataError
from palate.evaluation.intervals import Estimate, mean, share

TAIL = 0.025
"""Probability beyond each end of an interval."""


@dataclass(frozen=True)
class JudgedGain:
    """One prompt, as judges see the completions before and after training.

    Attributes:
        before: the rubric's score of the completion before, by judge; None where there is none.
        after: the same after.
        verdicts: how likely the completion after is the better one for a judge who does not see the rubric, by judge; None where the
            judge abstained.
    """

    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    verdicts: Mapping[str, float | None]

    def gain(self, judge: str) -> float | None:
        """Return the gain that a judge sees; None where one of the scores is missing."""
        before, after = self.before.get(judge), self.after.get(judge)
        return None if before is None or after is None else after - before


@dataclass(frozen=True)
class SeenGain:
    """Scores before and after of one judge, and the gain paired by prompt. `missing` counts prompts without one of the scores."""

    before: float
    after: float
    gain: Estimate
    missing: int


@dataclass(frozen=True)
class RubricGains:
    """What all judges see.

    Attributes:
        judge: what the judge sees that was trained against.
        panel: what each held-out judge sees.
        panel_mean: the gain that the panel sees, as the mean of its judges, on prompts that all of them scored.
        panel_spread: the standard deviation of the gains among the panel's judges; None with fewer than two.
        excess: the judge's gain less that of the panel, paired by prompt.
        verdict: how often the completion after is the better one without the rubric: the mean over the judges who gave a verdict.
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
        common = [
            (own, statistics.fmean(others))
            for prompt in prompts
            if (own := prompt.gain(judge)) is not None and len(others := _known(prompt.gain(name) for name in panel)) == len(panel)
        ]
        if not common:
            raise DataError("no prompt has a score by every judge, before and after, so nothing can be compared")
        seen = {name: _seen(prompts, name) for name in panel}
        cast = [votes for prompt in prompts if (votes := _known(prompt.verdicts.values()))]
        gains = [gain.gain.value for gain in seen.values()]
        return RubricGains(
            judge=_seen(prompts, judge),
            panel=seen,
            panel_mean=_gain([others for _, others in common]),
            panel_spread=statistics.stdev(gains) if len(gains) > 1 else None,
            excess=_gain([own - others for own, others in common], widest=2.0),
            verdict=share(sum(map(statistics.fmean, cast)), len(cast)) if cast else None,
            abstentions=sum(vote is None for prompt in prompts for vote in prompt.verdicts.values()),
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
    pairs = [(prompt.before[judge], prompt.after[judge]) for prompt in prompts if prompt.gain(judge) is not None]
    before, after = (statistics.fmean(_known(column)) for column in zip(*pairs, strict=True))
    gains = [gain for prompt in prompts if (gain := prompt.gain(judge)) is not None]
    return SeenGain(before, after, _gain(gains), len(prompts) - len(pairs))


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
    return {"before": seen.before, "after": seen.after, "gain": _row(seen.gain), "missing": seen.missing}
