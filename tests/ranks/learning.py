"""What a rank does in the test of the learner: it learns alone and with the others.

Batches are uneven, one weight gets a gradient only now and then and one never, and the learner that
works with the others is replaced by a new one that goes on from its checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from palate.core.process import place
from palate.distributed.group import joined_group
from palate.distributed.ranks import ALONE, working_together
from palate.objectives.reduce import Sums
from palate.training import sliced_weights
from palate.training.learner import Learner
from palate.training.optimizer import AdamW

STEPS = 6
OPTIMIZER = AdamW(lr=1e-2, weight_decay=0.5, max_grad_norm=0.5)


class Small(nn.Module):
    """A module with matrices, a vector, a weight that rows use now and then, and one that none uses."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(5, 7, generator=generator))
        self.shift = nn.Parameter(torch.randn(7, generator=generator))
        self.seldom = nn.Parameter(torch.randn(3, 3, generator=generator))
        self.never = nn.Parameter(torch.randn(4, 2, generator=generator))
        self.last = nn.Parameter(torch.randn(7, 1, generator=generator))


def loss(module: Small, rows: Tensor) -> Sums:
    """The squares of what the module gives for rows (n, 5); a single row also uses the seldom weight."""
    given = torch.tanh(rows @ module.first + module.shift) @ module.last
    total = (given - 1).square().sum()
    if len(rows) == 1:
        total = total + module.seldom.square().sum()
    count = torch.tensor(float(len(rows)))
    source = "few" if len(rows) == 3 else "many"
    by_source = {source: Sums(total.detach(), count, {})}
    return Sums(total, count, {"row_max": (rows.max(), torch.tensor(len(rows)))}, by_source)


def batches(step: int) -> list[Tensor]:
    """The micro-batches of a step: their number is no multiple of the ranks', and in some steps there is a single row."""
    generator = torch.Generator().manual_seed(100 + step)
    sizes = (4, 3, 2, 2, 1) if step % 3 == 1 else (4, 3) if step % 3 else (3,)
    return [torch.randn(size, 5, generator=generator) for size in sizes]


def learned(folder: Path) -> tuple[Small, list[dict[str, float]]]:
    """The module after all steps, with a checkpoint in the middle, and the metrics."""
    module = Small()
    learner = Learner({"small": module}, OPTIMIZER, STEPS)
    metrics = []
    for step in range(STEPS):
        if step == STEPS // 2:
            learner.save(folder / "checkpoint", {"step": step})
            module = Small()
            learner = Learner({"small": module}, OPTIMIZER, STEPS)
            assert learner.load(folder / "checkpoint") == {"step": step, "steps_done": step}
        metrics.append(learner.step(batches(step), lambda rows, module=module: loss(module, rows)))  # type: ignore[misc]
    learner.release()
    return module, metrics


def compared(root: Path) -> int:
    """Learns alone and with the others, and writes how far apart the two end."""
    sliced_weights.BUCKET = 40  # several buckets
    folder = root / str(place().rank)
    with joined_group():
        together, figures = learned(folder / "together")
        with working_together(ALONE):
            alone, expected = learned(folder / "alone")
    apart = {name: float((p - dict(alone.named_parameters())[name]).abs().max()) for name, p in together.named_parameters()}
    metrics = max(abs(a[name] - b[name]) for a, b in zip(expected, figures, strict=True) for name in a)
    sources = [sorted(name for name in row if "_of_" in name) for row in figures]
    moved = {name: float((p - dict(Small().named_parameters())[name]).abs().max()) for name, p in together.named_parameters()}
    checkpoints = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.safetensors"))
    found = {"apart": apart, "metrics": metrics, "moved": moved, "checkpoints": checkpoints, "sources": sources}
    (folder / "figures.json").write_text(json.dumps(found))
    return 0
