"""What `palate plan` prints: a table of memory per stage, what to change where it is short, and what was assumed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from palate.pipeline.estimates.memory_parts import StageMemory, gigabytes
from palate.pipeline.estimates.pipeline_memory import PlannedMemory
from palate.pipeline.estimates.role_memory import Machine
from palate.runs.console import Console

COLUMNS = ("weights", "float32 weights", "gradients", "moments", "activations", "head", "cache")
"""Kinds with a column of their own; all others are added up."""

WIDTH = 120
"""Columns of the terminal that the widest table needs."""

TIGHT = 0.9
"""Share of a device's memory above which a stage is called tight, because the estimate may be that far off."""

STYLES = {"does not fit": "bold red", "tight": "bold yellow", "fits": "bold green"}

PHASES = {"load": "loads", "sample": "samples", "score": "scores", "learn": "learns", "write": "writes"}


def verdict(peak: float, memory: float) -> str:
    """Return whether these bytes fit a device, in words."""
    return "does not fit" if peak > memory else "tight" if peak > TIGHT * memory else "fits"


def show_memory(planned: Sequence[PlannedMemory], machine: Machine, memory: float | None, notes: Sequence[str]) -> int:
    """Print the table of every stage, and return the exit status: 1 where a stage does not fit."""
    console = Console(highlight=False, soft_wrap=True, width=WIDTH)
    console.print(Text(_where(machine, memory), style="bold"))
    for item in planned:
        if item.memory is None:
            console.print(Text(f"\n{item.name} ({item.kind}): no model"))
            continue
        console.print()
        console.print(_headline(item, item.memory, memory))
        console.print(roles_table(item.memory))
        console.print(Text(f"  {phases_text(item.memory)}", style="dim"))
        if item.memory.host > 0:
            console.print(Text(f"  memory of the machine beside the GPUs: {gigabytes(item.memory.host)} GB", style="dim"))
        if item.advice is not None:
            console.print(Text(f"  {item.advice.text(memory or 0.0)}", style="yellow"))
    console.print()
    for line in (*notes, *_assumptions(machine)):
        console.print(Text(f"- {line}", style="dim"))
    return int(any(item.memory is not None and memory is not None and item.memory.peak > memory for item in planned))


def _where(machine: Machine, memory: float | None) -> str:
    device = "GPU" if machine.is_gpu else "CPU"
    of = "" if memory is None else f" with {gigabytes(memory)} GB"
    return f"One {device}{of}" if machine.ranks == 1 else f"{machine.ranks} {device}s{of} each; figures are those of one"


def _headline(item: PlannedMemory, needed: StageMemory, memory: float | None) -> Text:
    model = next(iter(item.origins.values())).shape
    text = Text(f"{item.name} ({item.kind}, {model.name}, {model.parameters / 1e9:.2f} billion parameters): ")
    text.append(f"{gigabytes(needed.peak)} GB", style="bold")
    text.append(f" while it {PHASES[needed.peak_phase]}")
    if memory is not None:
        word = verdict(needed.peak, memory)
        text.append(f", {word}", style=STYLES[word])
        text.append(f" ({needed.peak / memory:.0%})")
    return text


def roles_table(needed: StageMemory) -> Table:
    """Return the fullest phase by role and kind."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    roles = needed.by_role()
    used = [kind for kind in COLUMNS if any(kind in kinds for kinds in roles.values())]
    for title in ("  GB", *used, "other", "together"):
        table.add_column(title, justify="left" if title == "  GB" else "right", no_wrap=True)
    for role, kinds in roles.items():
        others = sum(size for kind, size in kinds.items() if kind not in COLUMNS)
        cells = [gigabytes(kinds[kind]) if kind in kinds else "" for kind in used]
        table.add_row(f"  {role}", *cells, gigabytes(others) if others else "", gigabytes(sum(kinds.values())))
    return table


def phases_text(needed: StageMemory) -> str:
    """Return the bytes of every phase."""
    return ", ".join(f"{phase} {gigabytes(needed.total(phase))}" for phase in needed.phases)


def _assumptions(machine: Machine) -> list[str]:
    device = "a GPU" if machine.is_gpu else "a CPU"
    return [
        f"Sequences of up to {machine.tokens:,} tokens where no setting says it (--tokens); half of one is its prompt.",
        f"{gigabytes(machine.process)} GB for a process on {device} before any model is there.",
        "A step has several micro-batches. Functions, judges and servers that score need no memory here.",
        "docs/memory.md has the formulas, and how far they were off where they were measured.",
    ]
