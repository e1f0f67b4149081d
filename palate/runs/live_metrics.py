"""The metrics that live views show: which have a chart on the page of `palate watch`, and which a line in the terminal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiveMetric:
    """A metric that has a chart of its own on the page.

    Attributes:
        metric: the metric without the stage in front of it.
        title: what it is, in a few words.
        unit: its unit.
        error: the metric with its standard error; "" where there is none.
        line: its name in the terminal; "" leaves it out there.
        form: the format of its number in the terminal.
    """

    metric: str
    title: str
    unit: str = ""
    error: str = ""
    line: str = ""
    form: str = ""

    def panel(self) -> dict[str, str]:
        """Return what the page draws its chart from."""
        return {"metric": self.metric, "title": self.title, "unit": self.unit, "error": self.error}


LIVE_METRICS = (
    LiveMetric("reward/mean", "Reward", "score units", "reward/se"),
    LiveMetric("score/mean", "Score of the reward model", "score units", "score/se", line="score", form="+.2f"),
    LiveMetric("win_rate/mean", "Wins over the start", "share", line="wins over start", form=".3f"),
    LiveMetric("held_out_score/mean", "Held-out score", "score units", "held_out_score/se", line="held-out score", form="+.2f"),
    LiveMetric("held_out_reward/mean", "Reward on held-out prompts", "score units"),
    LiveMetric("gold/mean", "Gold: the truth", "0 to 1", "gold/se", line="gold", form=".3f"),
    LiveMetric("kl/mean", "KL to the reference", "nats per completion", line="KL, nats", form=".2f"),
    LiveMetric("loss/mean", "Loss"),
    LiveMetric("held_out_loss/mean", "Held-out loss"),
    LiveMetric("accuracy/mean", "Accuracy", "share"),
    LiveMetric("margin/mean", "Margin", "logits"),
    LiveMetric("chosen_logp/mean", "Log-probability of chosen", "nats"),
    LiveMetric("rejected_logp/mean", "Log-probability of rejected", "nats"),
    LiveMetric("length/mean", "Length", "tokens", line="length, tokens", form=".1f"),
    LiveMetric("entropy/mean", "Entropy", "nats", line="entropy, nats", form=".3f"),
    LiveMetric("eos/share", "Completions that end", "share", line="EOS", form=".0%"),
    LiveMetric("gradient/norm", "Gradient before clipping"),
)
"""The charts that are always open and the lines of the terminal, in their order. Every other metric has a small chart below."""
