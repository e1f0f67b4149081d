"""The kitchen's first stages in a fifth of the time, for measurements that compare ways to use one reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KITCHEN = Path(__file__).resolve().parents[1] / "configs" / "kitchen.yaml"
TEXTS = 4_000
"""Documents of the base corpus, in place of 24,000."""
PROMPTS = 500
"""Prompts that are sampled and judged, in place of 2,000."""


def short_kitchen(prompts: int = PROMPTS) -> dict[str, Any]:
    """Return the stages of configs/kitchen.yaml with fewer texts and prompts; a fifth of the judgments test. The rest is the demo's."""
    stages: dict[str, Any] = yaml.safe_load(KITCHEN.read_text(encoding="utf-8"))["stages"]
    stages["world"] = {**stages["world"], "kitchen": {"texts": TEXTS}}
    stages["samples"] = {**stages["samples"], "limit": prompts}
    stages["judged"] = {**stages["judged"], "held_out": 0.2}
    return stages


def first_stages(*names: str, prompts: int = PROMPTS) -> dict[str, Any]:
    """Return the stages up to the samples of SFT, and the named ones."""
    stages = short_kitchen(prompts)
    return {name: stages[name] for name in ("world", "base", "sft", "samples", *names)}
