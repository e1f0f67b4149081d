"""The guards: what each reads, what it says, and what helps. One row a guard; docs/metrics.md holds the same rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from palate.training.guards.limits import Guards, Limit, Watched
from palate.training.guards.readings import AgainstStart, Now, Parting, Reading

FIGURE = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True)
class Guard:
    """A row of the table.

    Attributes:
        name: the field of `Guards` that holds its limits.
        reading: the number that is compared.
        side: on which side of a limit it is beyond it.
        healthy: where it usually lies, in words.
        message: what is said, with `{value}` in it.
        remedy: what helps.
    """

    name: str
    reading: Reading
    side: Literal["above", "below"]
    healthy: str
    message: str
    remedy: str

    def is_beyond(self, value: float, limit: float | None) -> bool:
        """Whether `value` is beyond `limit`; never where there is no limit."""
        return limit is not None and (value > limit if self.side == "above" else value < limit)

    def limits(self, guards: Guards) -> Limit | None:
        """Its limits; None where it is off."""
        given: Watched = vars(guards)[self.name]
        return given if isinstance(given, Limit) else None


TABLE = (
    Guard(
        "kl",
        Now("kl/mean"),
        "above",
        "below 10 for completions of some dozen tokens; longer ones have more",
        "the policy is {value:.1f} nats a completion from the reference",
        "raise kl.control.coef, use kl.control: adaptive_kl, lower optimizer.lr, or stop at an earlier step",
    ),
    Guard(
        "entropy",
        AgainstStart("entropy/mean"),
        "below",
        "0.5 to 1.2 times the first rounds'",
        "the policy's entropy has fallen to {value:.2f} of what it was: completions become alike",
        "raise kl.control.coef, lower optimizer.lr, or make fewer passes",
    ),
    Guard(
        "entropy_rise",
        AgainstStart("entropy/mean"),
        "above",
        "0.5 to 1.2 times the first rounds'",
        "the policy's entropy has risen to {value:.2f} of what it was: completions turn into noise",
        "lower optimizer.lr or an entropy bonus; read some completions",
    ),
    Guard(
        "length",
        AgainstStart("length/mean"),
        "above",
        "0.8 to 1.4 times the first rounds'",
        "completions are {value:.2f} times as long as in the first rounds",
        "see longer_wins in the reward run's summary: the reward model may like length; raise kl.control.coef, or price length",
    ),
    Guard(
        "length_fall",
        AgainstStart("length/mean"),
        "below",
        "0.8 to 1.4 times the first rounds'",
        "completions are only {value:.2f} times as long as in the first rounds",
        "read some: the policy may give up; raise kl.control.coef, and look at shaping.missing_eos",
    ),
    Guard(
        "ended",
        Now("eos/share"),
        "below",
        "above 0.9",
        "only {value:.0%} of the completions end by themselves",
        "raise sampling.max_tokens, lower the reward of shaping.missing_eos, and see that demonstrations end with the end token",
    ),
    Guard(
        "repetition",
        Now("repetition/mean"),
        "above",
        "below 0.2 in prose; what the starting model has in formal text",
        "{value:.0%} of a completion's 4-grams are repeats: completions run in circles",
        "raise kl.control.coef, lower optimizer.lr; read some completions",
    ),
    Guard(
        "clip",
        Now("clip_fraction/mean"),
        "above",
        "below 0.2",
        "the clip holds {value:.0%} of the tokens",
        "lower optimizer.lr, or make fewer passes or minibatches",
    ),
    Guard(
        "ratio",
        Now("ratio/mean", target=1.0),
        "above",
        "below 0.05",
        "the mean ratio is {value:.2f} away from 1: a round's completions no longer stand for the policy",
        "lower optimizer.lr, or make fewer passes",
    ),
    Guard(
        "step_kl",
        Now("approx_kl/mean"),
        "above",
        "below 0.02",
        "the policy moves {value:.2f} nats a token within a round",
        "lower optimizer.lr, or make fewer passes or minibatches",
    ),
    Guard(
        "value",
        Now("value_explained/share"),
        "below",
        "climbs from about 0",
        "the value model explains {value:.0%} of the returns' variance: worse than a constant",
        "raise optimizer.lr or method.value_coef, or use method.advantage: leave_one_out, which needs no value model",
    ),
    Guard(
        "value_error",
        AgainstStart("value_error/mean"),
        "above",
        "below 1.5 times the first rounds'",
        "the value model's error is {value:.1f} times that of the first rounds",
        "lower optimizer.lr; look whether rewards leap",
    ),
    Guard(
        "flat_groups",
        Now("flat_groups/share"),
        "above",
        "below 0.5",
        "{value:.0%} of the prompts got the same reward for all their completions: nothing can be learned from them",
        "use harder or easier prompts, more samples_per_prompt, a higher temperature, or a finer reward",
    ),
    Guard(
        "spread",
        Now("score/sd"),
        "below",
        "above 0.2",
        "scores differ by only {value:.3f}: the reward model sees no difference between completions",
        "look at the entropy and at completions; stop here, or judge new comparisons",
    ),
    Guard(
        "gold",
        Parting("score/mean", "gold/mean"),
        "above",
        "below 3",
        "gold has fallen {value:.1f} standard errors below its best while the score rose: over-optimisation",
        "stop at an earlier step, raise kl.control.coef, or use an ensemble of reward models",
    ),
    Guard(
        "held_out",
        Parting("score/mean", "held_out_score/mean"),
        "above",
        "below 3",
        "a held-out reward model's score has fallen {value:.1f} standard errors below its best while the score rose: over-optimisation",
        "stop at an earlier step, raise kl.control.coef, or use an ensemble of reward models",
    ),
)


def guards_page() -> list[str]:
    """The lines of the table in docs/metrics.md, header first."""
    lines = ["| guard | reads | healthy | warns | says | what to do |", "|---|---|---|---|---|---|"]
    for guard in TABLE:
        limit = guard.limits(Guards())
        reads = ", ".join(f"`online/{name}`" for name in guard.reading.metrics)
        warns = "never" if limit is None or limit.warn is None else f"{guard.side} {limit.warn:g}, {limit.patience} rounds in a row"
        says = FIGURE.sub("...", guard.message)
        lines.append(f"| {' | '.join((f'`{guard.name}`', reads, guard.healthy, warns, says, guard.remedy))} |")
    return lines
