"""People inside the loop: every few iterations they compare the policy with its start, and their verdicts correct the gain's estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from palate.agreement.judged_sample import corrected_rate, gain_curve, prediction_weight
from palate.config.types import OUTSIDE_KEY, Amount, Count
from palate.core import ConfigError
from palate.data.exchange import Exchange
from palate.data.jsonl import read_rows
from palate.distributed.ranks import from_writer, ranks
from palate.raters.asked_pairs import AskedPairs, Verdicts, num_of_others, verdicts_of
from palate.raters.rating_project import ProjectUnavailable, RatingProject, rating_project
from palate.runs.run import Run
from palate.stages.online.rollouts import Rollouts
from palate.stages.online.start_pairs import StartPairs
from palate.training.keep import BestReward, Last
from palate.training.learner import Learner

CHECKS = "checks.jsonl"
"""Name of the file of what each check found."""

STOP_CHECK_SECONDS = 0.2
"""Seconds between two checks for Ctrl-C while waiting."""


@dataclass(frozen=True)
class PeopleInside:
    """People who compare the policy's answers with those of the start while it trains (docs/methods/people-in-the-loop.md).

    Attributes:
        url: the address of a rating server, or its database: a path, or postgresql+psycopg://user@host/name.
        project: name of the project there, which must exist, with the task compare.
        key_variable: environment variable with the API key of an owner; a database needs none.
        every: iterations between two checks.
        pairs: pairs that each check sends, at most. Half are where the reward rose most and a second model disagrees, half are random.
        patience: stop when the corrected gain has fallen, and its highest check is so many checks back. That check's weights are kept. none
            never stops, and keeps the last weights.
        wait: wait at each check until its pairs have their answers.
        poll_seconds: seconds between two looks while it waits.
        timeout_seconds: the longest that a request to the server takes, with what is tried again.
    """

    url: str = field(metadata=OUTSIDE_KEY)
    project: str
    key_variable: str | None = field(default=None, metadata=OUTSIDE_KEY)
    every: Count = 2
    pairs: Count = 32
    patience: Count | None = 2
    wait: bool = field(default=False, metadata=OUTSIDE_KEY)
    poll_seconds: Amount = field(default=10.0, metadata=OUTSIDE_KEY)
    timeout_seconds: Amount = field(default=10.0, metadata=OUTSIDE_KEY)

    def check(self, keep: Last | BestReward) -> None:
        """Raise ConfigError where the address or the key cannot be used, or other weights are to be kept. Nothing is asked."""
        if self.pairs < 2:
            raise ConfigError("held_out.people.pairs must be at least 2: half are chosen and half are drawn at random")
        if self.patience is not None and isinstance(keep, BestReward):
            raise ConfigError(
                "held_out.people.patience keeps the weights that people prefer, and keep: best_reward those with the highest reward. Set "
                "held_out.people.patience to none, or keep to last"
            )
        self.opened()

    def opened(self) -> RatingProject:
        """Return the project, of which nothing is asked yet. Raises ConfigError as `check`."""
        return rating_project(self.url, self.project, self.key_variable, self.timeout_seconds)


class PeopleChecks:
    """The checks of a run. Everything that they know is in the folder `people` of the run, so a resumed run goes on with it.

    The pairs of an iteration are written before they are sent, and read again when this iteration is repeated. A project does not add what
    it has, so what a killed run had sent is not sent twice. What a check found is written too, and a repeated check finds the same.
    """

    def __init__(self, settings: PeopleInside | None, run: Run, learner: Learner, pairs: StartPairs) -> None:
        """Look whether the project is there. Without settings there are no checks.

        Raises:
            ConfigError: it is not, or asks something else. A server that does not answer is tried again later.
        """
        self._settings, self._run, self._learner, self._pairs = settings, run, learner, pairs
        self._folder, self._weights = run.directory / "people", run.state / "people"
        self._rows: dict[int, Mapping[str, Any]] = {}
        self.last: Mapping[str, Any] = {}
        """What the last check found."""
        self._problem = ""
        self._has_said = False
        if settings is not None:
            from_writer(lambda: self._look(settings))

    @property
    def is_over(self) -> bool:
        """Whether the corrected gain has stopped rising."""
        return bool(self.last.get("is_over", False))

    def restore(self, iteration: int) -> None:
        """Take up what earlier processes found, up to an iteration that is not done yet."""
        path = self._folder / CHECKS
        rows = from_writer(lambda: [row for _, row in read_rows(path)] if path.is_file() else [])
        self._rows = {int(str(row["iteration"])): row for row in rows}
        self.last = max((row for number, row in self._rows.items() if number < iteration), key=lambda row: row["iteration"], default={})

    def after_scoring(self, iteration: int, rollouts: Rollouts) -> dict[str, float]:
        """Send pairs and take verdicts if a check is due, and return its metrics under their full names.

        All ranks call it together, before anything is learned from the rollouts. The first iteration has no check, because the policy is
        the start there.
        """
        settings = self._settings
        if settings is None or not iteration or iteration % settings.every:
            return {}
        if not from_writer(lambda: AskedPairs.path(self._folder, iteration).is_file()):
            batch = self._pairs.of(rollouts, iteration, settings.pairs)
            from_writer(lambda: batch.write(self._folder))
        if settings.patience is not None:
            self._learner.save(self._weights / str(iteration), {})
        row = self._checked(settings, iteration) if ranks().is_writer and iteration not in self._rows else None
        ranks().wait_for_writer()
        self.last = self._rows.get(iteration) or ranks().broadcast(row)
        return {str(name): float(value) for name, value in self.last["metrics"].items()}

    def finish(self) -> dict[str, object]:
        """Put back the weights of the curve's highest check if that is not the last one; return figures for the summary."""
        if not self.last:
            return {}
        best = self.last["best"]
        if self.chooses:
            self._learner.load(self._weights / str(best))
        figures = {name.removeprefix("people/"): value for name, value in self.last["metrics"].items()}
        return {"people": {**figures, "rates": self.last["rates"], "kept_iteration": best, "is_over": self.is_over}}

    @property
    def chooses(self) -> bool:
        """Whether people chose the weights that are kept, which are not the last ones."""
        return self._settings is not None and self._settings.patience is not None and self.last.get("best") is not None

    def _look(self, settings: PeopleInside) -> None:
        try:
            settings.opened().check()
        except ProjectUnavailable as error:
            self._run.say(f"people: {error}. The run goes on, and tries again at each check")

    def _checked(self, settings: PeopleInside, iteration: int) -> Mapping[str, Any]:
        """Send what is not sent, take the verdicts that are in, and record what follows. Only the writer does so."""
        batches = AskedPairs.read_all(self._folder, iteration)
        sent = {int(number) for number in self.last.get("sent", ())}
        target = settings.opened()
        project = self._exchanged(target, batches, sent)
        while settings.wait and (project is None or batches[-1].unsettled(project, verdicts_of(project))):
            self._pause(settings)
            project = self._exchanged(target, batches, sent)
        counts = {
            "people/sent/count": sum(len(batch.items()) for batch in batches if batch.iteration in sent),
            "people/unsent/count": sum(len(batch.items()) for batch in batches if batch.iteration not in sent),
        }
        if project is None:
            found = {"rates": [], "is_over": False, "best": None, "metrics": {}, **self.last}
        else:
            found = self._found(settings, batches, verdicts_of(project))
        row = {**found, "iteration": iteration, "metrics": {**found["metrics"], **counts}, "sent": sorted(sent)}
        with self._run.rows(f"{self._folder.name}/{CHECKS}") as rows:
            rows.append(row)
        return row

    def _exchanged(self, target: RatingProject, batches: Sequence[AskedPairs], sent: set[int]) -> Exchange | None:
        """Send the batches that are not among `sent`, and return the project as it was before; None where it cannot be read now."""
        project, problems = None, []
        try:
            project = target.read()
        except ProjectUnavailable as error:
            problems.append(f"there are no verdicts, and nothing is sent: {error}")
        for batch in batches:
            if project is not None and batch.iteration not in sent:
                try:
                    target.add(batch.items())
                    sent.add(batch.iteration)
                except ProjectUnavailable as error:
                    problems.append(f"the pairs of iteration {batch.iteration} are not sent: {error}")
        if problems and (text := "; ".join(problems)) != self._problem:
            self._problem = text
            self._run.warn(batches[-1].iteration, {"people": f"{text}. It is tried again"}, {})
        return project

    def _found(self, settings: PeopleInside, batches: Sequence[AskedPairs], verdicts: Verdicts) -> dict[str, Any]:
        """Return what the verdicts say: the rates, the curve through them, and whether it has stopped rising."""
        samples = [batch.sample(verdicts) for batch in batches]
        weight = prediction_weight(samples)
        rates = [(k, rate) for k, sample in enumerate(samples) if (rate := corrected_rate(sample, weight)) is not None]
        curve = gain_curve([batches[k].iteration for k, _ in rates], [rate for _, rate in rates])
        metrics = {
            "people/answered/count": sum(sample.num_asked_answered for sample in samples),
            "people/others/count": num_of_others(verdicts, batches),
            "people/prediction_weight/value": weight,
        }
        if rates:
            last, rate = rates[-1]
            metrics |= {
                "people/judged/iteration": batches[last].iteration,
                "people/win_rate/mean": rate.value,
                "people/win_rate/se": rate.se,
                "people/prediction/mean": float(samples[last].predicted.mean()),
            }
        if curve is not None:
            metrics |= {"people/fitted/mean": float(curve.values[-1]), "people/fall/mean": curve.fall, "people/fall/se": curve.fall_se}
        return {
            "metrics": metrics,
            "rates": [{"iteration": batches[k].iteration, **asdict(rate)} for k, rate in rates],
            "best": None if curve is None or curve.best == len(rates) - 1 else batches[rates[curve.best][0]].iteration,
            "is_over": curve is not None and settings.patience is not None and curve.is_over(settings.patience),
        }

    def _pause(self, settings: PeopleInside) -> None:
        """Wait for the next look at the project. Raises Interrupted where the user stops the run."""
        if not self._has_said:
            self._has_said = True
            self._run.say(f"people: waits for answers in project {settings.project!r}. Ctrl-C ends the waiting")
        after = time.monotonic() + settings.poll_seconds
        while (seconds := after - time.monotonic()) > 0:
            self._run.check_stop()
            time.sleep(min(seconds, STOP_CHECK_SECONDS))
