"""The curves of a live page: which metrics have a chart of their own, and points that stay few however long a run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_POINTS = 400
"""A curve that comes to twice as many points averages each two neighbours."""


@dataclass(frozen=True)
class LivePanel:
    """A chart of the page.

    Attributes:
        metric: the metric without the stage in front of it.
        title: what it is, in a few words.
        unit: its unit.
        error: the metric with its standard error; "" where there is none.
    """

    metric: str
    title: str
    unit: str = ""
    error: str = ""


PANELS = (
    LivePanel("reward/mean", "Reward", "score units", "reward/se"),
    LivePanel("score/mean", "Score of the reward model", "score units", "score/se"),
    LivePanel("win_rate/mean", "Wins over the start", "share"),
    LivePanel("held_out_score/mean", "Held-out score", "score units", "held_out_score/se"),
    LivePanel("held_out_reward/mean", "Reward on held-out prompts", "score units"),
    LivePanel("gold/mean", "Gold: the truth", "0 to 1", "gold/se"),
    LivePanel("kl/mean", "KL to the reference", "nats per completion"),
    LivePanel("loss/mean", "Loss"),
    LivePanel("held_out_loss/mean", "Held-out loss"),
    LivePanel("accuracy/mean", "Accuracy", "share"),
    LivePanel("margin/mean", "Margin", "logits"),
    LivePanel("chosen_logp/mean", "Log-probability of chosen", "nats"),
    LivePanel("rejected_logp/mean", "Log-probability of rejected", "nats"),
    LivePanel("length/mean", "Length", "tokens"),
    LivePanel("entropy/mean", "Entropy", "nats"),
    LivePanel("eos/share", "Completions that end", "share"),
    LivePanel("gradient/norm", "Gradient before clipping"),
)
"""The charts that are always open, in their order. Every other metric has a small one below."""

_BY_METRIC: Mapping[str, LivePanel] = {panel.metric: panel for panel in PANELS}


def panel_of(name: str) -> LivePanel | None:
    """Return the chart of a metric with its full name, such as `online/kl/mean`; None where it is one of the small ones."""
    return _BY_METRIC.get(name.partition("/")[2])


@dataclass
class LiveCurve:
    """A metric by step: at most `2 * MOST_POINTS` points, each the mean over `width` rows."""

    width: int = 1
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    last: float = 0.0
    _open: int = 0
    """Rows in the last point."""

    def add(self, step: float, value: float) -> None:
        """Add a row."""
        self.last = value
        if 0 < self._open < self.width:
            self._open += 1
            self.steps[-1] += (step - self.steps[-1]) / self._open
            self.values[-1] += (value - self.values[-1]) / self._open
            return
        if len(self.steps) == 2 * MOST_POINTS:
            self.steps, self.values = _halved(self.steps), _halved(self.values)
            self.width *= 2
        self.steps.append(step)
        self.values.append(value)
        self._open = 1

    def plain(self) -> dict[str, object]:
        """Return the points as JSON values, with as many digits as a chart shows."""
        return {"x": [_short(step) for step in self.steps], "y": [_short(value) for value in self.values], "last": self.last}


def _halved(values: list[float]) -> list[float]:
    return [(first + second) / 2 for first, second in zip(values[::2], values[1::2], strict=True)]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
