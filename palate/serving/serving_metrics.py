"""What the server measures of itself, as text that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from palate.samplers.draw_requests import SamplerLoad

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the histograms' buckets."""


@dataclass
class SecondsHistogram:
    """Durations by upper end of their bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[sum(seconds > end for end in SECONDS)] += 1
        self.total += seconds

    def lines(self, name: str) -> list[str]:
        """Return the histogram's lines."""
        ends = [*map(str, SECONDS), "+Inf"]
        upto = [sum(self.counts[: k + 1]) for k in range(len(ends))]
        buckets = [f'{name}_bucket{{le="{end}"}} {count}' for end, count in zip(ends, upto, strict=True)]
        return [*buckets, f"{name}_sum {self.total:.6f}", f"{name}_count {upto[-1]}"]


@dataclass
class ServingMetrics:
    """Counts since the server started.

    Attributes:
        requests: by route and status.
        refusals: texts that broke a rule, by side.
        feedback: by metric.
        first_token: seconds from a request to its first text, of streams.
        answered: seconds from a request to its whole answer.
        left: requests whose client went away.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first_token: SecondsHistogram = field(default_factory=SecondsHistogram)
    answered: SecondsHistogram = field(default_factory=SecondsHistogram)
    left: int = 0

    def text(self, load: SamplerLoad) -> str:
        """Return all figures, with what the sampler has to do now."""
        requests = [
            f'palate_requests_total{{route="{route}",status="{status}"}} {n}' for (route, status), n in sorted(self.requests.items())
        ]
        feedback = [f'palate_feedback_total{{metric="{_label(name)}"}} {n}' for name, n in sorted(self.feedback.items())]
        refused = [f'palate_refused_total{{side="{side}"}} {n}' for side, n in sorted(self.refused.items())]
        parts = (
            _block("palate_requests_total", "counter", "requests by route and status", requests),
            _block("palate_clients_left_total", "counter", "requests whose client went away", [f"palate_clients_left_total {self.left}"]),
            _block("palate_feedback_total", "counter", "stored feedback by metric", feedback),
            _block("palate_refused_total", "counter", "answers that are a refusal, by the side of the rule", refused),
            _block("palate_active_samples", "gauge", "samples that are decoded now", [f"palate_active_samples {load.active}"]),
            _block("palate_waiting_samples", "gauge", "samples that wait for a row", [f"palate_waiting_samples {load.waiting}"]),
            _block("palate_prompt_tokens_total", "counter", "tokens read", [f"palate_prompt_tokens_total {load.prompt_tokens}"]),
            _block("palate_drawn_tokens_total", "counter", "tokens drawn", [f"palate_drawn_tokens_total {load.drawn_tokens}"]),
            _block(
                "palate_first_token_seconds", "histogram", "time to the first text", self.first_token.lines("palate_first_token_seconds")
            ),
            _block("palate_answer_seconds", "histogram", "time to the whole answer", self.answered.lines("palate_answer_seconds")),
        )
        return "".join(parts)


def _block(name: str, kind: str, words: str, lines: Sequence[str]) -> str:
    return "\n".join([f"# HELP {name} {words}", f"# TYPE {name} {kind}", *lines, ""])


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
