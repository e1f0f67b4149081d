"""What the models learned and did not learn, in plain sentences, for reports without gold. Its own interval decides each sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import errors, number, percent, sentence, signed
from palate.evaluation.report.records import LengthRow, RewardModelCard, Takeaways, WinRates
from palate.evaluation.report.takeaways import beats_length_rule, reward_floor
from palate.evaluation.report.training_records import TrainingRun
from palate.evaluation.report.trajectory import reward_trend


def learned_and_not(
    reward: RewardModelCard | None,
    wins: WinRates | None,
    training: Sequence[TrainingRun],
    lengths: Sequence[LengthRow],
    names: Mapping[str, str],
) -> Takeaways:
    """Sort what was measured into learned and not learned."""
    lines: list[tuple[bool, str]] = []
    is_better = beats_length_rule(reward)
    if reward is not None:
        overall = reward.rows[0]
        floor = reward_floor(overall)
        rule = "" if floor is None else f"; the rule \u201c{floor[0]}\u201d is right on {percent(floor[1], 1)}"
        verdict = {
            True: " The reward model is better than the rule.",
            False: " The reward model is not measurably better than the rule.",
            None: "",
        }[is_better]
        right = f"the reward model is right on {_interval(overall.accuracy)} of {overall.accuracy.n} held-out pairs{rule}."
        lines.append((is_better is True or (is_better is None and overall.accuracy.low > 0.5), right + verdict))
    for win in wins.rows if wins is not None else ():
        e = win.estimate
        text = f"{names[win.variant]} is scored above {names[win.opponent]} on {_interval(e)} of {e.n} prompts."
        doubt = " The scores are those of a reward model that is not measurably better than a length rule." if is_better is False else ""
        lines.append((e.low > 0.5 and is_better is not False, text + doubt))
    for run in training:
        gain, count = reward_trend(run), len(run.points)
        word = "rose" if gain.low > 0 else "fell" if gain.high < 0 else "did not measurably change"
        ends = f"{signed(gain.value)}, {errors(gain)}"
        text = f"{run.name}: the reward {word} between the first and the last quarter of {count} iterations ({ends})"
        lines.append((gain.low > 0, f"{text}, at a KL of {number(run.points[-1].kl, 1)} nats."))
    lines += [
        (False, f"only {_interval(row.eos_share)} of the completions of {names[row.variant]} end by themselves; the rest are cut.")
        for row in lengths
        if row.eos_share.high < 0.5
    ]
    learned = tuple(sentence(text) for is_learned, text in lines if is_learned)
    return Takeaways(learned, tuple(sentence(text) for is_learned, text in lines if not is_learned))


def _interval(e: Estimate) -> str:
    return f"{percent(e.value, 1)} (95 %: {percent(e.low, 1)} to {percent(e.high, 1)})"
