"""What `palate plan --model` prints: memory by role, the parts of a step, its time under several layouts, and what was assumed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from palate.cli.plan_page import WIDTH, phases_text, roles_table, verdict
from palate.pipeline.estimates.cluster_plan import SPREAD, OnlineRequest, layout_choices, memory_choices, what_to_change
from palate.pipeline.estimates.memory_parts import GB, gigabytes
from palate.pipeline.estimates.step_time import Reached
from palate.runs.console import Console


def show_cluster(request: OnlineRequest, gpu: str) -> int:
    """Print the plan, and return the exit status: 1 where no way to train fits."""
    console, reached = Console(highlight=False, soft_wrap=True, width=WIDTH), Reached()
    shape = request.shape
    console.print(
        Text(f"GRPO of {shape.name} ({shape.parameters / 1e9:.2f} billion parameters) on {request.gpus} x {gpu}", style="bold"),
    )
    choices = memory_choices(request)
    for choice in choices:
        needed = f"{gigabytes(choice.memory.peak)} GB of {gigabytes(request.memory)} GB per card"
        text = f"\n{choice.words}: {needed}, {verdict(choice.memory.peak, request.memory)}"
        console.print(Text(text, style="bold"))
        console.print(roles_table(choice.memory))
        console.print(Text(f"  {phases_text(choice.memory)}", style="dim"))
    layouts = layout_choices(request, reached)
    console.print(Text("\nSeconds of a step", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("  layout", "cards", "sample", "score", "learn", "sync", "step"):
        table.add_column(title, justify="left" if title == "  layout" else "right", no_wrap=True)
    for layout in layouts:
        cards = str(layout.sampling) if layout is layouts[0] else f"{layout.sampling} + {layout.learning}"
        time = layout.time
        table.add_row(f"  {layout.words}", cards, *(f"{x:.1f}" for x in (time.sample, time.score, time.learn, time.sync, time.step)))
    console.print(table)
    console.print()
    for line in what_to_change(layouts):
        console.print(Text(line))
    console.print()
    for line in _assumed(request, reached):
        console.print(Text(f"- {line}", style="dim"))
    return int(all(choice.memory.peak > request.memory for choice in choices))


def _assumed(request: OnlineRequest, reached: Reached) -> list[str]:
    work, gpu, decoding = request.workload(), request.gpu, reached.decoding
    return [
        f"{work.prompts} prompts with {work.samples} completions each; prompts of {work.prompt:,} tokens, completions of "
        f"{work.lengths.mean:,.0f} on average (log-normal, {SPREAD}) and {work.lengths.longest:,} at most (--tokens has both together).",
        f"Each card: {gpu.flops / 1e12:,.0f} TFLOP/s in bfloat16, {gpu.bandwidth / 1e12:.2f} TB/s, {gpu.memory / GB:.0f} GB.",
        f"Learning reaches {reached.learning:.0%} of the peak, a forward pass {reached.scoring:.0%}. Decoding reaches "
        f"{decoding.bandwidth:.0%} of the bandwidth, and {1000 * decoding.overhead:.0f} ms of a step are overhead.",
        f"Weights reach the sampler at {reached.network / GB:.0f} GB/s; {reached.pause:.0f} s of a step are for everything else.",
        "The sampler is an engine like vLLM. The parts in the table are those of each group of cards alone.",
        "Rewards are functions and take no time. Memory is for Palate's own sampler on the cards that learn.",
        "docs/memory.md says which published figures this model reproduces, and how well.",
    ]
