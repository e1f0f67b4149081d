"""The guards, one row each: what it reads, what it says, and what to do. docs/metrics.md has the same rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from palate.training.guards.chance import FALSE_ALARMS, RATED
from palate.training.guards.limits import Guards, Limit, Watched
from palate.training.guards.readings import AgainstStart, Divergence, History, LostGrades, Now, Reading, RiseSinceStart

FIGURE = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True)
class Guard:
    """A row of the table.

    Attributes:
        name: the field of `Guards` that holds its limits.
        reading: the number that is compared.
        side: whether a reading is beyond a limit above it or below it.
        healthy: where the reading usually lies, in words.
        message: what the guard says, with `{value}` for the reading and `{eval}` for the eval that it is about.
        remedy: what the user can do.
    """

    name: str
    reading: Reading
    side: Literal["above", "below"]
    healthy: str
    message: str
    remedy: str

    @property
    def has_rate(self) -> bool:
        """Whether its warnings are among those that at most 5 % of runs without a change get."""
        return self.name in RATED

    def is_beyond(self, value: float, limit: float | None) -> bool:
        """Return whether `value` is beyond `limit`; False without a limit."""
        return limit is not None and (value > limit if self.side == "above" else value < limit)

    def text(self, value: float, history: History) -> str:
        """Return what is wrong by a reading of the metrics so far, and what to do."""
        name = self.reading.worst(history) if isinstance(self.reading, LostGrades) else ""
        return f"{self.message.format(value=value, eval=name)}; {self.remedy}"

    def limits(self, guards: Guards) -> Limit | None:
        """Return its limits, or None where it is off."""
        setting: Watched = vars(guards)[self.name]
        return setting if isinstance(setting, Limit) else None


TABLE = (
    Guard(
        "kl",
        Now("kl/mean"),
        "above",
        "below 10 for completions of a few dozen tokens; longer ones have more",
        "the policy is {value:.1f} nats per completion from the reference",
        "raise kl.control.coef, use kl.control: adaptive_kl, lower optimizer.lr, or stop at an earlier iteration",
    ),
    Guard(
        "entropy",
        AgainstStart("entropy/mean"),
        "below",
        "0.5 to 1.2 times that of the first iterations",
        "the policy's entropy has fallen to {value:.2f} of its initial value: completions become alike",
        "raise kl.control.coef, lower optimizer.lr, or lower epochs_per_batch",
    ),
    Guard(
        "entropy_rise",
        AgainstStart("entropy/mean"),
        "above",
        "0.5 to 1.2 times that of the first iterations",
        "the policy's entropy has risen to {value:.2f} of its initial value: completions turn into noise",
        "lower optimizer.lr or the entropy bonus; read some completions",
    ),
    Guard(
        "length",
        AgainstStart("length/mean", "length/se"),
        "above",
        "0.8 to 1.3 times that of the first iterations",
        "completions are {value:.2f} times as long as in the first iterations",
        "check longer_wins in the reward run's summary; raise kl.control.coef, or add a length penalty",
    ),
    Guard(
        "length_fall",
        AgainstStart("length/mean", "length/se"),
        "below",
        "0.8 to 1.4 times that of the first iterations",
        "completions are only {value:.2f} times as long as in the first iterations",
        "read some completions, as the policy may stop too early; raise kl.control.coef, and check shaping.missing_eos",
    ),
    Guard(
        "eos",
        Now("eos/share"),
        "below",
        "above 0.9",
        "only {value:.0%} of the completions end by themselves",
        "raise sampling.max_tokens, lower shaping.missing_eos_reward, and check that demonstrations end with the end token",
    ),
    Guard(
        "repetition",
        Now("repetition/mean"),
        "above",
        "below 0.2 in prose; what the starting model has in formal text",
        "{value:.0%} of a completion's 4-grams are repeats: completions loop",
        "raise kl.control.coef, lower optimizer.lr, and read some completions",
    ),
    Guard(
        "refusals",
        RiseSinceStart("refusals/share", "refusals/se"),
        "above",
        "within 0.1 of that of the first iterations, unless many prompts must be refused",
        "the share of completions that refuse has risen by {value:.2f} since the first iterations",
        "read some refusals; check whether raters or judges prefer them, and measure over-refusal with evals of kind comply",
    ),
    Guard(
        "tax",
        LostGrades(),
        "above",
        "0: no loss beyond chance",
        "the eval {eval} has lost {value:.2f} of its mean grade since the start: the policy forgets a skill",
        "look at tax/ in metrics.jsonl; learn texts beside the rewards (pretraining), raise kl.control.coef, or average with the start",
    ),
    Guard(
        "clip",
        Now("clip_fraction/mean"),
        "above",
        "below 0.2",
        "{value:.0%} of the tokens are clipped",
        "lower optimizer.lr, or lower epochs_per_batch or minibatches",
    ),
    Guard(
        "ratio",
        Now("ratio/mean", target=1.0),
        "above",
        "below 0.05",
        "the mean ratio is {value:.2f} away from 1: an iteration's completions no longer represent the policy",
        "lower optimizer.lr, or lower epochs_per_batch",
    ),
    Guard(
        "step_kl",
        Now("approx_kl/mean"),
        "above",
        "below 0.02",
        "the policy moves {value:.2f} nats per token within an iteration",
        "lower optimizer.lr, or lower epochs_per_batch or minibatches",
    ),
    Guard(
        "value",
        Now("value_explained/share"),
        "below",
        "rises from about 0",
        "the value model explains {value:.0%} of the returns' variance: worse than a constant",
        "raise optimizer.lr or method.value_coef, or use method.advantage: leave_one_out, which needs no value model",
    ),
    Guard(
        "value_error",
        AgainstStart("value_error/mean"),
        "above",
        "below 1.5 times that of the first iterations",
        "the value model's error is {value:.1f} times that of the first iterations",
        "lower optimizer.lr, and check whether rewards jump",
    ),
    Guard(
        "missing_eos",
        Now("missing_eos_excess/mean"),
        "above",
        "below 0",
        "shaping.missing_eos.reward is {value:.2f} above the mean score of completions that end, so not ending would be paid better: "
        "completions without an end token get the lowest score of the iteration instead",
        "lower shaping.missing_eos.reward below the scores, or use shaping.missing_eos: subtract",
    ),
    Guard(
        "flat_groups",
        Now("flat_groups/share"),
        "above",
        "below 0.5",
        "{value:.0%} of the prompts got the same reward for all their completions: the policy cannot learn from them",
        "use harder or easier prompts, more samples_per_prompt, a higher temperature, or a finer reward",
    ),
    Guard(
        "spread",
        Now("score/sd"),
        "below",
        "above 0.2",
        "scores differ by only {value:.3f}: the reward model hardly tells completions apart",
        "check the entropy and read some completions; stop here, or judge new comparisons",
    ),
    Guard(
        "gold",
        Divergence("score/mean", "gold/mean"),
        "above",
        "0: no fall beyond chance",
        "gold has fallen {value:.1f} standard errors below its best while the score rose: over-optimisation",
        "stop at an earlier iteration, raise kl.control.coef, or use an ensemble of reward models",
    ),
    Guard(
        "held_out",
        Divergence("score/mean", "held_out_score/mean"),
        "above",
        "0: no fall beyond chance",
        "a held-out reward model's score has fallen {value:.1f} standard errors below its best while the score rose: over-optimisation",
        "stop at an earlier iteration, raise kl.control.coef, or use an ensemble of reward models",
    ),
)


def guards_page() -> list[str]:
    """Return the lines of the table in docs/metrics.md, header first."""
    lines = ["| guard | reads | healthy | warns | false alarms | says | what to do |", "|---|---|---|---|---|---|---|"]
    for guard in TABLE:
        limit = guard.limits(Guards())
        reads = ", ".join(f"`{name}`" if name.startswith("tax/") else f"`online/{name}`" for name in guard.reading.metrics)
        warns = "never" if limit is None or limit.warn is None else f"{guard.side} {limit.warn:g}{_in_a_row(limit.patience)}"
        alarms = f"{100 * FALSE_ALARMS:g} % of runs, {len(RATED)} guards together" if guard.has_rate else "no rate: a fixed limit"
        says = FIGURE.sub("...", guard.message)
        lines.append(f"| {' | '.join((f'`{guard.name}`', reads, guard.healthy, warns, alarms, says, guard.remedy))} |")
    return lines


def _in_a_row(patience: int) -> str:
    return f", {patience} iterations in a row" if patience > 1 else ""
