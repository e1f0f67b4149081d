"""Stage `online`: train a policy on rewards of its own completions, from start to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palate.config.artifacts import models_at
from palate.core import Completion, Prompt, TrainingError
from palate.evaluation.tax import TaxMeter
from palate.rewards.learned import required_report_card
from palate.rewards.model import ModelReward
from palate.rewards.part import caveats_of
from palate.runs.run import Run
from palate.stages.online.loop import Loop
from palate.stages.online.online_settings import OnlineSettings
from palate.training.checkpoints import Checkpoints
from palate.training.examples import Examples
from palate.training.guards import GuardStopError, Watch
from palate.training.model_io import forget_model, has_model, keep_model, trained


@dataclass(frozen=True)
class Online(OnlineSettings):
    """Tune a policy on rewards of its completions, within a KL budget."""

    def run(self, run: Run) -> None:
        """Train the policy and save it as `model/`, and the last value model as `value/`.

        Raises:
            TrainingError: a guard stopped the run. Its best model is saved all the same.
        """
        report_cards = self._required_report_cards(run)
        loop = Loop(self, run)
        probes = self.held_out.tax
        tax = None if probes is None else TaxMeter(probes, run, loop.policy, self.tokens_per_microbatch, self.iterations, loop.gold)
        watch = Watch(self.guards)
        loop.restore()
        watch.recall(run.logged())
        try:
            if watch.stopped is not None:
                raise watch.stop(watch.stopped)
            forget_model(run)  # a run that a guard stopped left one
            self._train(run, loop, watch, tax)
        except GuardStopError as stop:
            raise TrainingError(f"{stop}. {self._stopped(run, loop, stop)}") from stop
        best = {**loop.finish(), **loop.people.finish()}
        lost = {} if tax is None else {"tax": tax.finish()}
        keep_model(run, trained(run, loop.policy, self.adapters, loop.learner), self.adapters)
        loop.algorithm.save(run, loop.learner)
        ending = {"kl_coef": loop.kl.coef, "is_spent": loop.kl.is_spent, "iterations": loop.iteration, "last": loop.last_metrics}
        run.summary({"report_cards": report_cards, **ending, **best, **lost, **caveats_of(self.rewards)})

    def _train(self, run: Run, loop: Loop, watch: Watch, tax: TaxMeter | None) -> None:
        """Iterate until the run is over. Raises GuardStopError."""
        checkpoints = Checkpoints(run, loop.save)
        words = "".join(f"{word} " for word in caveats_of(self.rewards))

        def drawn(prompts: Sequence[Prompt], seed: int) -> Sequence[Sequence[Completion]]:
            return loop.sampler.draw_apart(prompts, 1, seed).groups

        examples = Examples(run, drawn, loop.held_out_prompts or loop.prompts, self.iterations)
        with run.progress(self.iterations, "online", self._limits()) as advance:
            advance(loop.iteration)
            while loop.iteration < self.iterations and not loop.kl.is_spent and not loop.people.is_over and not loop.search.is_over:
                examples.before(loop.iteration)
                # Before the policy learns: these are the weights whose KL the iteration measures.
                lost = {} if tax is None else tax.look(loop.iteration)
                metrics = {**loop.iterate(), **lost}
                watch.log(run, loop.iteration - 1, metrics)
                if watch.is_safe:
                    loop.accept()
                advance(1, f"{words}score {metrics.get('online/score/mean', math.nan):+.2f}  kl {metrics['online/kl/mean']:.1f}")
                checkpoints.after_step()
            if run.keeps_state:
                loop.save()
            examples.write(loop.iteration)

    def _stopped(self, run: Run, loop: Loop, stop: GuardStopError) -> str:
        """Keep the best model of a run that a guard stopped and a checkpoint to go on from; return what the user can do."""
        if stop.can_continue and not has_model(run):
            loop.save()
        kept = "No weights were saved before that, so there is no model"
        if has_model(run):
            kept = f"{run.directory} holds the best model before that"
        elif (number := loop.best_so_far()) is not None:
            keep_model(run, trained(run, loop.policy, self.adapters, loop.learner), self.adapters)
            kept = f"{run.directory} holds the best model before that, as {number} iterations made it"
        loop.close()
        if not stop.can_continue:
            return f"{kept}. Lower optimizer.lr and look for broken rewards"
        setting = f"guards.{stop.guard}"
        return f"{kept}. To go on where it stopped, give the same command with {setting}.stop=none or {setting}=off"

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
            given = part.model if isinstance(part, ModelReward) else ()
            for number, path in enumerate(member for one in given for member in models_at(one)):
                card = required_report_card(run, path, requirements.min_accuracy, requirements.min_spread)
                if card is not None:
                    cards[f"{name}.{number}" if number else name] = vars(card)
        return cards
