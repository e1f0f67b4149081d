"""The time of an online step, by a small discrete-event simulation: sample, score, learn, and give the sampler the new weights."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal

from palate.pipeline.estimates.decoding import Decoder, DecodingShares, LengthDistribution, draw_seconds, ends
from palate.pipeline.estimates.gpus import GPU

if TYPE_CHECKING:
    from palate.models.shapes import ModelShape

Schedule = Literal["synchronous", "one step ahead", "streaming"]

STEPS = 5
"""Steps that are simulated; the first one fills the pipeline and does not count."""


@dataclass(frozen=True)
class Workload:
    """What a step does.

    Attributes:
        prompts: prompts of a step.
        samples: completions per prompt.
        prompt: tokens of a prompt.
        lengths: tokens of completions.
        minibatches: optimizer steps of a step.
        epochs: how often each completion is learned from.
        scored: forward passes over the completions before learning, such as those of the reference.
        learned: models that learn: 1, or 2 with a value model.
        recomputes: whether activations are computed twice.
    """

    prompts: int
    samples: int
    prompt: int
    lengths: LengthDistribution
    minibatches: int = 1
    epochs: int = 1
    scored: int = 1
    learned: int = 1
    recomputes: bool = True

    @property
    def completions(self) -> int:
        """Return the completions of a step."""
        return self.prompts * self.samples


@dataclass(frozen=True)
class Reached:
    """What the parts reach of what a GPU could.

    Attributes:
        learning: share of the peak of products while learning.
        scoring: share of the peak in a forward pass.
        colocated: what remains of these shares where the same cards also sample, and move weights in and out.
        decoding: what decoding reaches.
        network: bytes per second between cards, for new weights.
        pause: seconds between steps for everything else.
    """

    learning: float = 0.35
    scoring: float = 0.35
    colocated: float = 1.0
    decoding: DecodingShares = field(default_factory=DecodingShares)
    network: float = 25e9
    pause: float = 2.0


@dataclass(frozen=True)
class Cards:
    """Who works where.

    Attributes:
        gpu: the kind of card.
        sampling: cards that sample.
        learning: cards that score and learn; the same ones where `is_colocated`.
        is_colocated: whether all cards do both, in turn.
        per_replica: cards of a replica that samples.
        per_sequence: cards that share a sequence while learning.
        rows: completions that a replica draws at once.
    """

    gpu: GPU
    sampling: int
    learning: int
    is_colocated: bool = True
    per_replica: int = 1
    per_sequence: int = 1
    rows: int = 256


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step, and of its parts if each were alone."""

    step: float
    sample: float
    score: float
    learn: float
    sync: float


@dataclass(frozen=True)
class Simulation:
    """Steps of a model on some cards."""

    shape: ModelShape
    cards: Cards
    work: Workload
    reached: Reached = field(default_factory=Reached)

    def forward_seconds(self, tokens: float, length: float, cards: float, share: float) -> float:
        """Return the seconds of a forward pass over tokens of sequences of this length."""
        shape = self.shape
        per_token = 2 * shape.parameters + 2 * shape.layers * shape.heads * shape.head_dim * length
        kept = self.reached.colocated if self.cards.is_colocated else 1.0
        return tokens * per_token / (cards * self.cards.gpu.flops * share * kept)

    def score_seconds(self, lengths: Sequence[int]) -> float:
        """Return the seconds of the passes before learning."""
        tokens = sum(lengths) + len(lengths) * self.work.prompt
        return self.work.scored * self.forward_seconds(tokens, tokens / len(lengths), self.cards.learning, self.reached.scoring)

    def learn_seconds(self, lengths: Sequence[int]) -> float:
        """Return the seconds of learning from completions. The group of cards with the most tokens decides each optimizer step."""
        work, groups = self.work, max(1, self.cards.learning // self.cards.per_sequence)
        passes = (4 if work.recomputes else 3) * work.epochs * work.learned
        size = -(-work.completions // work.minibatches)
        total = 0.0
        for start in range(0, len(lengths), size):
            part = sorted((length + work.prompt for length in lengths[start : start + size]), reverse=True)
            loads = [0] * groups
            for length in part:  # the longest first, each to the group with the least
                least = loads.index(min(loads))
                loads[least] += length
            share = self.reached.learning
            total += passes * self.forward_seconds(max(loads), sum(part) / len(part), self.cards.per_sequence, share)
        return total

    def sync_seconds(self) -> float:
        """Return the seconds until the sampler has the new weights."""
        return 2 * self.shape.parameters / self.reached.network

    def parts(self, seed: int = 0) -> StepTime:
        """Return the parts of a synchronous step."""
        lengths = self.work.lengths.draw(self.work.completions, random.Random(seed))
        drawn = draw_seconds(lengths, self._decoder(), self._replicas, self.work.prompt)
        scored, learned, synced = self.score_seconds(lengths), self.learn_seconds(lengths), self.sync_seconds()
        return StepTime(drawn + scored + learned + synced + self.reached.pause, drawn, scored, learned, synced)

    def step(self, schedule: Schedule, *, staleness: float = 1.0, pieces: int = 1) -> StepTime:
        """Return the mean step of a schedule, after its first one.

        Args:
            schedule: `synchronous` does the parts in turn; `one step ahead` samples a whole batch while the batch before is learned;
                `streaming` keeps the sampler busy, and the learner takes completions in the order in which they end.
            staleness: in streaming, how many batches the sampler may be ahead.
            pieces: in streaming, into how many parts the learner cuts a batch.
        """
        alone = [self.parts(seed) for seed in range(STEPS)]
        means = [sum(values) / STEPS for values in zip(*((p.step, p.sample, p.score, p.learn, p.sync) for p in alone), strict=True)]
        if schedule == "synchronous":
            return StepTime(*means)
        if schedule == "one step ahead":
            steps = [max(p.sample, p.score + p.learn) + p.sync + self.reached.pause for p in alone]
            return StepTime(sum(steps) / STEPS, *means[1:])
        return StepTime(self._streaming(staleness, pieces), *means[1:])

    def _streaming(self, staleness: float, pieces: int) -> float:
        """Return the mean step where the sampler never stops and the learner takes what has ended.

        The sampler waits only where it would be more than `1 + staleness` batches ahead of what is learned.
        """
        work = self.work
        lengths = work.lengths.draw(work.completions * (STEPS + 2), random.Random(0))
        ended = ends(lengths, self._decoder(), self._replicas, work.prompt)
        size = -(-work.completions // pieces)
        ahead = max(1, round(pieces * (1 + staleness)))
        drawn, before = [0.0], 0.0
        learned = [0.0]
        for number in range(1, STEPS * pieces + 1):
            piece = list(islice(ended, size))
            took, before = piece[-1][0] - before, piece[-1][0]
            drawn.append(max(drawn[-1] + took, learned[number - ahead] if number >= ahead else 0.0))
            own = [lengths[k] for _, k in piece]
            end = max(learned[-1], drawn[-1]) + self.score_seconds(own) + self.learn_seconds(own)
            learned.append(end + (self.sync_seconds() + self.reached.pause if number % pieces == 0 else 0.0))
        return (learned[-1] - learned[pieces]) / (STEPS - 1)

    @property
    def _replicas(self) -> int:
        return max(1, self.cards.sampling // self.cards.per_replica)

    def _decoder(self) -> Decoder:
        return Decoder.of(self.shape, self.cards.gpu, self.cards.per_replica, self.cards.rows, self.reached.decoding)
