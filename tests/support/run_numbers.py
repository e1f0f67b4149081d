"""The numbers that a run wrote, to compare two runs of one pipeline."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

Numbers = dict[str, float]


def numbers(directory: Path) -> Numbers:
    """All numbers that a run wrote, by file and place; of weights, every value."""
    found: Numbers = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.suffix == ".safetensors":
            for key, tensor in load_file(path).items():
                found |= {f"{name} {key} {at}": value for at, value in enumerate(tensor.flatten().tolist())}
        elif path.suffix == ".jsonl":
            for at, line in enumerate(path.read_text().splitlines()):
                flatten(json.loads(line), f"{name} {at}", found)
        elif path.name == "summary.json":
            flatten(json.loads(path.read_text()), name, found)
    return found


def flatten(value: object, at: str, found: Numbers) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            flatten(inner, f"{at}.{key}", found)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            flatten(inner, f"{at}.{place}", found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found[at] = float(value)
