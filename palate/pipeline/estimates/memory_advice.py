"""What to change in a stage that does not fit: fewer tokens, checkpoints, offload, adapters, 4 bits, more ranks, shared-out weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from palate.core.process import ALL, WHOLE, Shard
from palate.models.adapters import LoRA
from palate.pipeline.estimates.memory_parts import gigabytes
from palate.pipeline.estimates.role_memory import Machine, Origins
from palate.pipeline.estimates.stage_memory import memory_of
from palate.pipeline.table import Stage

SMALLEST = 512
"""The fewest tokens per micro-batch that are proposed; with fewer, products are slow."""

RANKS = (2, 4, 8, 16, 32, 64)
"""Numbers of ranks that are proposed."""

ADAPTER = LoRA()
"""The adapter that is proposed."""


@dataclass(frozen=True)
class Advice:
    """Changes with which a stage fits.

    Attributes:
        changes: settings as they are written, such as `tokens_per_microbatch=1024`.
        peak: bytes that the stage then needs; those of the last try where nothing fits.
        fits: whether that is enough.
    """

    changes: tuple[str, ...]
    peak: float
    fits: bool

    def text(self, memory: float) -> str:
        """Return what to change to fit `memory` bytes, in a sentence."""
        changes = " and ".join(self.changes)
        if self.fits:
            return f"change: {changes}; it then needs {gigabytes(self.peak)} GB"
        if not self.changes:
            return f"no setting makes it fit: use a smaller model, or a device with more than {gigabytes(memory)} GB"
        return f"no setting makes it fit: with {changes} it still needs {gigabytes(self.peak)} GB. Use a smaller model or a larger device"


def advice_for(stage: Stage, origins: Origins, machine: Machine, memory: float) -> Advice:
    """Return the first changes with which the stage fits `memory` bytes, or the smallest that was found."""
    smallest: Advice | None = None
    for changes, changed, other in _tries(stage, machine):
        needed = memory_of(changed, origins, other)
        if needed is None:
            continue
        words = changes if other.shard == machine.shard else (*changes, f"shard={other.shard.kind}")
        words = words if other.ranks == machine.ranks else (*words, f"--launch torchrun:{other.ranks}")
        if needed.peak <= memory:
            return Advice(words, needed.peak, fits=True)
        if smallest is None or needed.peak < smallest.peak:
            smallest = Advice(words, needed.peak, fits=False)
    return smallest or Advice((), 0.0, fits=False)


def _tries(stage: Stage, machine: Machine) -> Iterator[tuple[tuple[str, ...], Stage, Machine]]:
    """Yield changes, the changed stage and what it then runs on, in the order in which they should be tried."""
    has = {item.name: vars(stage)[item.name] for item in fields(cast("Any", stage))}
    yield from ((words, changed, machine) for words, changed in _fewer_tokens((), stage, has))
    so_far: tuple[str, ...] = ()
    if has.get("checkpoint_activations") is False:
        so_far, stage = (*so_far, "checkpoint_activations=true"), _changed(stage, "checkpoint_activations", value=True)
        yield so_far, stage, machine
        yield from ((words, changed, machine) for words, changed in _fewer_tokens(so_far, stage, has))
    full, whole = plain = so_far, stage
    may_share = machine.is_gpu and machine.shard.kind == WHOLE and not has.get("offload")
    if has.get("offload") is False and may_share:
        full, whole = (*so_far, "offload=true"), _changed(stage, "offload", value=True)
        yield full, whole, machine
        yield from ((words, changed, machine) for words, changed in _fewer_tokens(full, whole, has))
    if "adapters" in has and has["adapters"] is None and has.get("reference_update") is None:
        so_far, stage = (*so_far, f"adapters=lora (rank {ADAPTER.rank})"), _changed(stage, "adapters", value=ADAPTER)
        yield so_far, stage, machine
        yield from ((words, changed, machine) for words, changed in _fewer_tokens(so_far, stage, has))
        so_far, stage = (*so_far, "adapters.base_dtype=nf4"), _changed(stage, "adapters", value=replace(ADAPTER, base_dtype="nf4"))
        yield so_far, stage, machine
        yield from ((words, changed, machine) for words, changed in _fewer_tokens(so_far, stage, has))
    for more in RANKS if machine.is_gpu else ():  # ranks on CPUs share the memory of their machine
        if more > machine.ranks:
            other = replace(machine, ranks=more)
            yield full, whole, other
            yield from ((words, changed, other) for words, changed in _fewer_tokens(full, whole, has))
    for more in RANKS if may_share and has.get("reference_update") is None else ():
        if more >= machine.ranks:
            other = replace(machine, ranks=more, shard=Shard(ALL))
            yield plain[0], plain[1], other
            yield from ((words, changed, other) for words, changed in _fewer_tokens(*plain, has))


def _fewer_tokens(so_far: tuple[str, ...], stage: Stage, has: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Stage]]:
    """Yield the stage with half as many tokens per micro-batch, and half of that, as long as products stay fast."""
    tokens = has.get("tokens_per_microbatch", 0) // 2
    while tokens >= SMALLEST:
        yield (f"tokens_per_microbatch={tokens}", *so_far), _changed(stage, "tokens_per_microbatch", value=tokens)
        tokens //= 2


def _changed(stage: Stage, name: str, *, value: object) -> Stage:
    return cast("Stage", replace(cast("Any", stage), **{name: value}))
