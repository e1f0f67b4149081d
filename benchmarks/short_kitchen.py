"""The kitchen's first stages with fewer judged prompts, for measurements that compare ways to train or use reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KITCHEN = Path(__file__).resolve().parents[1] / "configs" / "kitchen.yaml"
TEXTS = 24_000
"""Documents of the base corpus, as in the demo."""
PROMPTS = 500
"""Prompts that are sampled and judged, in place of 2,000."""


def short_kitchen(prompts: int = PROMPTS, texts: int = TEXTS) -> dict[str, Any]:
    """Return the stages of configs/kitchen.yaml with fewer prompts, of which a fifth test, and `texts` documents.

    Scores read the last token, and PPO learns no texts: plain settings, so that a measurement shows what it adds to them.
    """
    stages: dict[str, Any] = yaml.safe_load(KITCHEN.read_text(encoding="utf-8"))["stages"]
    stages["world"] = {**stages["world"], "kitchen": {"texts": texts}}
    stages["samples"] = {**stages["samples"], "limit": prompts}
    stages["judged"] = {**stages["judged"], "held_out": 0.2}
    stages["reward"] = {**stages["reward"], "score": "last_token"}
    plain = {"kl": {"control": {"coef": 0.1}}, "pretraining": None, "optimizer": {**stages["ppo"]["optimizer"], "lr": 4e-4}}
    stages["ppo"] = {**stages["ppo"], **plain}
    return stages


SOUND_PROMPTS = 700
"""Prompts that are judged by raters without planted tastes; 140 of them test."""


def sound_kitchen(texts: int = TEXTS) -> dict[str, Any]:
    """Return the stages up to a sound reward model.

    Its raters like neither length nor phrases, which the demo's raters do, and its scores also read the likelihood of the completion.
    """
    stages = first_stages("judged", "reward", prompts=SOUND_PROMPTS, texts=texts)
    raters = stages["judged"]["from"]
    unbiased = {**raters["pool"], "length_bias": 0.0, "phrase_bias": 0.0}
    stages["judged"] = {**stages["judged"], "from": {**raters, "pool": unbiased}}
    stages["reward"] = {**stages["reward"], "score": "with_likelihood", "epochs": 2}
    return stages


def first_stages(*names: str, prompts: int = PROMPTS, texts: int = TEXTS) -> dict[str, Any]:
    """Return the stages up to the samples of SFT, and the named ones."""
    stages = short_kitchen(prompts, texts)
    return {name: stages[name] for name in ("world", "base", "sft", "samples", *names)}
