"""How long it takes to draw completions: replicas of a model that decode many rows at once, completion by completion."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palate.pipeline.estimates.gpus import GPU

if TYPE_CHECKING:
    from palate.models.shapes import ModelShape


@dataclass(frozen=True)
class LengthDistribution:
    """Tokens of completions: log-normal, cut at the longest.

    Attributes:
        mean: mean before the cut.
        spread: standard deviation of the logarithm; 0 makes all alike.
        longest: the most tokens of a completion.
    """

    mean: float
    spread: float
    longest: int

    def draw(self, count: int, rng: random.Random) -> list[int]:
        """Return the lengths of some completions."""
        centre = math.log(self.mean) - self.spread**2 / 2
        return [max(1, min(self.longest, round(rng.lognormvariate(centre, self.spread)))) for _ in range(count)]


@dataclass(frozen=True)
class Decoder:
    """One replica: seconds of a decoding step, in which every row gets a token.

    `fixed + rows * per_row + context * per_token`, where `context` are the cached tokens of all rows.

    Attributes:
        fixed: reading the weights, and what a step costs whatever it does.
        per_row: products of a row.
        per_token: reading a cached token.
        rows: rows at once, at most.
    """

    fixed: float
    per_row: float
    per_token: float
    rows: int

    @staticmethod
    def of(shape: ModelShape, gpu: GPU, cards: int, rows: int, shares: DecodingShares) -> Decoder:
        """Return a replica on `cards` cards that decodes in bfloat16."""
        bandwidth, flops = cards * gpu.bandwidth * shares.bandwidth, cards * gpu.flops * shares.flops
        cached = 4 * shape.layers * shape.kv_heads * shape.head_dim
        return Decoder(2 * shape.parameters / bandwidth + shares.overhead, 2 * shape.parameters / flops, cached / bandwidth, rows)


@dataclass(frozen=True)
class DecodingShares:
    """What decoding reaches.

    Attributes:
        bandwidth: share of the memory bandwidth.
        flops: share of the peak of products.
        overhead: seconds of a step beside both, such as launching kernels and exchanging between cards.
    """

    bandwidth: float = 0.7
    flops: float = 0.5
    overhead: float = 0.004


class Replica:
    """The rows that a replica decodes now. Time moves from one end of a completion to the next."""

    def __init__(self, decoder: Decoder, prompt: int) -> None:
        self._decoder = decoder
        self._prompt = prompt
        self._ends: list[tuple[int, int]] = []
        """The step at which each row ends, and its number; a heap."""
        self._context = 0.0
        self._steps = 0
        self.clock = 0.0

    @property
    def free(self) -> int:
        """Return how many rows can be added."""
        return self._decoder.rows - len(self._ends)

    @property
    def is_idle(self) -> bool:
        """Return whether there is no row."""
        return not self._ends

    def add(self, number: int, length: int) -> None:
        """Add a row that draws `length` tokens."""
        heapq.heappush(self._ends, (self._steps + length, number))
        self._context += self._prompt

    def next_end(self) -> float:
        """Return the time at which the next row ends."""
        steps = self._ends[0][0] - self._steps
        rows, one = len(self._ends), self._decoder
        return self.clock + steps * (one.fixed + rows * one.per_row + one.per_token * (self._context + rows * steps / 2))

    def advance(self, lengths: Sequence[int]) -> int:
        """Go to the next end, and return the number of the row that ended."""
        self.clock = self.next_end()
        end, number = heapq.heappop(self._ends)
        self._context += (len(self._ends) + 1) * (end - self._steps) - lengths[number] - self._prompt
        self._steps = end
        return number


def ends(lengths: Sequence[int], decoder: Decoder, replicas: int, prompt: int) -> Iterator[tuple[float, int]]:
    """Yield the time at which each completion ends and its number, in order of time. A replica takes a new row when one ends."""
    waiting = iter(range(len(lengths)))
    all_replicas = [Replica(decoder, prompt) for _ in range(replicas)]
    for _ in range(min(decoder.rows, -(-len(lengths) // replicas))):
        for replica in all_replicas:
            number = next(waiting, None)
            if number is not None:
                replica.add(number, lengths[number])
    events = [(replica.next_end(), k) for k, replica in enumerate(all_replicas) if not replica.is_idle]
    heapq.heapify(events)
    while events:
        time, k = heapq.heappop(events)
        replica = all_replicas[k]
        yield time, replica.advance(lengths)
        number = next(waiting, None)
        if number is not None:
            replica.add(number, lengths[number])
        if not replica.is_idle:
            heapq.heappush(events, (replica.next_end(), k))


def draw_seconds(lengths: Sequence[int], decoder: Decoder, replicas: int, prompt: int) -> float:
    """Return the time at which the last completion ends."""
    return max(time for time, _ in ends(lengths, decoder, replicas, prompt))
