"""Online training of a model on a number of GPUs: memory by role, and the time of a step under several layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.models.adapters import LoRA
from palate.models.shapes import ModelShape
from palate.pipeline.estimates.decoding import LengthDistribution
from palate.pipeline.estimates.gpus import GPU
from palate.pipeline.estimates.memory_parts import StageMemory
from palate.pipeline.estimates.role_memory import Machine, ModelOrigin
from palate.pipeline.estimates.stage_memory import memory_of
from palate.pipeline.estimates.step_time import Cards, Reached, Schedule, Simulation, StepTime, Workload
from palate.stages.online import Online

SPREAD = 0.6
"""Standard deviation of the logarithm of a completion's length that is assumed."""


@dataclass(frozen=True)
class OnlineRequest:
    """What is planned.

    Attributes:
        shape: the policy.
        gpus: number of cards.
        gpu: the kind of card.
        memory: bytes of a card.
        prompts: prompts of a step.
        samples: completions per prompt.
        tokens: tokens of the longest prompt and completion; the mean completion has a quarter of them.
    """

    shape: ModelShape
    gpus: int
    gpu: GPU
    memory: float
    prompts: int = 128
    samples: int = 8
    tokens: int = 2048

    def workload(self) -> Workload:
        """Return the work of a step."""
        longest = self.tokens - self.tokens // 2
        lengths = LengthDistribution(longest / 2, SPREAD, longest)
        return Workload(self.prompts, self.samples, self.tokens // 4, lengths, minibatches=4, recomputes=False)


@dataclass(frozen=True)
class MemoryChoice:
    """A way to train, and the memory that it needs per card."""

    words: str
    memory: StageMemory


@dataclass(frozen=True)
class LayoutChoice:
    """A way to use the cards, and the time of a step."""

    words: str
    sampling: int
    learning: int
    time: StepTime


def memory_choices(request: OnlineRequest) -> tuple[MemoryChoice, ...]:
    """Return the memory of GRPO with all weights and with an adapter, with functions as rewards."""
    completion = request.tokens - request.tokens // 2
    values = {
        "preset": "deepseek-grpo",
        "model": "model",
        "prompts": "prompts",
        "rewards": {"checked": {"kind": "function", "function": "rewards:checked"}},
        "prompts_per_iteration": request.prompts,
        "samples_per_prompt": request.samples,
        "sampling": {"max_tokens": completion},
        "dtype": "bfloat16",
        "tokens_per_microbatch": max(request.tokens, 4096),
    }
    stage = read_config(Online, Settings(values, {(): "palate plan"}))
    origins = {"model": ModelOrigin(request.shape, "model", "model")}
    machine = Machine(is_gpu=True, ranks=request.gpus, tokens=request.tokens)
    choices = []
    for words, adapters in (("all weights", None), (f"adapters: lora (rank {LoRA().rank})", LoRA())):
        memory = memory_of(replace(stage, adapters=adapters), origins, machine)
        assert memory is not None
        choices.append(MemoryChoice(words, memory))
    return tuple(choices)


def layout_choices(request: OnlineRequest, reached: Reached) -> tuple[LayoutChoice, ...]:
    """Return the time of a step on cards that do everything in turn, and on two groups of cards, each with its best share."""
    work = request.workload()
    both = Cards(request.gpu, request.gpus, request.gpus)
    together = Simulation(request.shape, both, work, reached).step("synchronous")
    choices = [LayoutChoice("colocated, synchronous", request.gpus, request.gpus, together)]
    schedules: Sequence[Schedule] = ("synchronous", "one step ahead", "streaming") if request.gpus > 1 else ()
    for schedule in schedules:
        tried = []
        for sampling in range(1, request.gpus):
            cards = Cards(request.gpu, sampling, request.gpus - sampling, is_colocated=False)
            time = Simulation(request.shape, cards, work, reached).step(schedule, pieces=4)
            tried.append(LayoutChoice(f"split, {schedule}", sampling, request.gpus - sampling, time))
        choices.append(min(tried, key=lambda choice: choice.time.step))
    return tuple(choices)


def what_to_change(layouts: Sequence[LayoutChoice]) -> list[str]:
    """Return what makes a step shorter, in sentences."""
    together = layouts[0].time
    parts = {"sampling": together.sample, "scoring": together.score, "learning": together.learn}
    most = max(parts, key=lambda name: parts[name])
    helps = {
        "sampling": "shorten sampling.max_tokens, or let the sampler work while the policy learns",
        "scoring": "drop passes that are not needed: a reference with kl.control.coef 0, or a value model with another advantage",
        "learning": "use fewer epochs_per_batch, or fewer samples_per_prompt",
    }
    lines = [f"On shared cards {most} takes {parts[most] / together.step:.0%} of a step: {helps[most]}."]
    best = min(layouts, key=lambda choice: choice.time.step)
    if best is not layouts[0]:
        gain = together.step / best.time.step
        how = best.words.removeprefix("split, ")
        lines.append(f"{best.sampling} cards that sample and {best.learning} that learn, {how}: {gain:.2f} times as fast.")
    return lines
