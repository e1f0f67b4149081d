"""Printing runs in a terminal: a table of all, or the lineage of one."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from palate.core import RunError
from palate.runs.console import Console
from palate.runs.record import RunRecord, lineage, list_runs, old_runs, old_text
from palate.runs.retirement import is_retired

COLOURS = {"done": "green", "running": "yellow", "interrupted": "yellow", "failed": "red"}


def show_runs(root: Path) -> None:
    """Print a table of the runs below `root`, in the order in which they started.

    Raises:
        RunError: there are none, or an older Palate made all of them.
    """
    runs, old = list_runs(root), sorted(old_runs(root))
    if not runs:
        raise RunError(old_text(old[0]) if old else f"no runs in {root}. Give a folder of runs: palate runs DIR.")
    names = {record.key: record.name for _, record in runs}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "stage", "status", "seconds", "seed", "from"):
        is_name = title in {"run", "stage", "status"}  # people copy them
        table.add_column(title, justify="right" if title in {"seconds", "seed"} else "left", overflow="fold", no_wrap=is_name)
    for directory, record in runs:
        keys = dict.fromkeys(parent.key.split("/")[0] for parent in record.parents)
        origin = ", ".join(dict.fromkeys(names.get(key, _outside(record, key)) for key in keys))
        status = Text("retired", style="red") if is_retired(directory) else Text(record.status, style=COLOURS[record.status])
        name = directory.relative_to(root).as_posix()
        table.add_row(Text(name), Text(record.stage), status, f"{record.seconds:.1f}", str(record.seed), Text(origin))
    console = Console()
    console.print(table)
    if old:
        console.print(Text(f"{len(old)} more: {old_text(old[0])}", style="yellow"), soft_wrap=True)


def _outside(record: RunRecord, key: str) -> str:
    """The name of an input that none of the listed runs made."""
    return next(Path(parent.path).name for parent in record.parents if parent.key.split("/")[0] == key)


def show_lineage(directory: Path) -> None:
    """Print the run in `directory` and everything that it was made from, as a tree."""
    branches: list[Tree] = []
    for depth, field, path, record in lineage(directory):
        label = Text(f"{field}: " if field else "", style="dim")
        if record is None:
            label.append(str(path))
        else:
            label.append(f"{record.name}-{record.key}", style="bold")
            version = record.code.get("version")
            label.append(f"  {record.stage}, {record.status}, seed {record.seed}, {record.seconds:.1f} s, palate {version}")
        del branches[depth:]
        branches.append(branches[-1].add(label) if branches else Tree(label))
    Console().print(branches[0])
