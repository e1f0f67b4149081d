"""Stage `online`: train a policy on rewards of its own completions, from start to end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from palate.rewards.learned import required_report_card
from palate.rewards.model import ModelReward
from palate.runs.run import Run
from palate.stages.online.loop import Loop
from palate.stages.online.online_settings import OnlineSettings
from palate.training.fit import CHECKPOINT_SECONDS
from palate.training.guards import Watch
from palate.training.model_io import keep_model, trained


@dataclass(frozen=True)
class Online(OnlineSettings):
    """Tune a policy on rewards of its own completions, under a KL budget."""

    def run(self, run: Run) -> None:
        """Train the policy and save it as `model/`, and the last value model as `value/`."""
        report_cards = self._required_report_cards(run)
        loop = Loop(self, run)
        watch = Watch(self.guards)
        loop.restore()
        watch.recall(run.logged())
        saved = time.monotonic()
        with run.progress(self.iterations, "online", self._limits()) as advance:
            advance(loop.iteration)
            while loop.iteration < self.iterations and not loop.kl.is_spent and not loop.search.is_over:
                metrics = loop.iterate()
                watch.log(run, loop.iteration - 1, metrics)
                advance(1, f"score {metrics.get('online/score/mean', math.nan):+.2f}  kl {metrics['online/kl/mean']:.1f}")
                if (time.monotonic() - saved > CHECKPOINT_SECONDS or run.stop_requested) and watch.is_safe:
                    loop.save()
                    saved = time.monotonic()
                run.check_stop()
        best = loop.finish()
        keep_model(run, trained(run, loop.policy, self.adapters, loop.learner), self.adapters)
        loop.algorithm.save(run, loop.learner)
        ending = {"kl_coef": loop.kl.coef, "is_spent": loop.kl.is_spent, "iterations": loop.iteration, "last": loop.last_metrics}
        run.summary({"report_cards": report_cards, **ending, **best})

    def _limits(self) -> dict[str, float]:
        """Return the limit that the live view draws beside KL, by the metric's name."""
        nats = self.kl.control.limit_nats
        return {} if nats is None else {"online/kl/mean": nats}

    def _required_report_cards(self, run: Run) -> dict[str, dict[str, float]]:
        """Return the report cards of all reward models by part; a model without a card is accepted with a warning.

        Raises:
            TrainingError: a card does not meet `reward_requirements`.
        """
        requirements = self.reward_requirements
        cards = {}
        for name, part in self.reward_parts().items():
            for number, path in enumerate(part.model if isinstance(part, ModelReward) else ()):
                card = required_report_card(run, path, requirements.min_accuracy, requirements.min_spread)
                if card is not None:
                    cards[f"{name}.{number}" if number else name] = vars(card)
        return cards
