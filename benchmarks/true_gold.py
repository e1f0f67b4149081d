"""The gold of a run's weights at each check of people, on held-out prompts that all checks share: what no rule that stops a run may see.

A run with people inside the loop writes its weights at each check and removes them at its end. They are copied while people judge, and
measured when the run is done: one completion per held-out prompt, drawn with the same random numbers for all weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from palate.agreement.estimates import Floats, Ints
from palate.core import Prompt, Sampling, derive_seed
from palate.data.formats import read_prompts
from palate.kitchen import judge
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.samplers.local import LocalSampler
from palate.stages.online.rollouts import Rollouts, over_trees
from palate.text.spans import prompt_ids

WEIGHTS = "weights"
"""Name of the folder of the copies."""
MOST_TOKENS = 80
TOKENS_PER_PASS = 8192


def gold_of(prompt: str, text: str) -> float:
    """Return the mean of the gold's dimensions."""
    values = judge(prompt, text).values()
    return sum(values) / len(values)


def copy_weights(root: Path) -> None:
    """Copy what the online runs below `root` have written at checks of people, and what is not copied yet."""
    for file in root.glob("ppo-*/state/people/*/tensors.safetensors"):
        kept = root / WEIGHTS / file.parents[3].name / f"{file.parent.name}.safetensors"
        if file.parent.name.isdigit() and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.with_suffix(".new").unlink(missing_ok=True)
            shutil.copyfile(file, kept.with_suffix(".new"))
            kept.with_suffix(".new").replace(kept)


@dataclass(frozen=True)
class TrueGold:
    """What the weights of some iterations are worth.

    Attributes:
        iterations: (k,) iterations with whose weights completions were drawn; the first is 0, the start.
        kl: (k, prompts) log-ratios of the completions to the start, nats; their mean is the KL.
        gold: (k, prompts) gold of the completions.
    """

    iterations: Ints
    kl: Floats
    gold: Floats

    @staticmethod
    def of(root: Path, run: Path, start: Path, prompts: Path, count: int, seed: int) -> TrueGold:
        """Return what is known of an online run, and measure it first where nothing is.

        Args:
            root: the folder of the seed's runs.
            run: the online run.
            start: the model directory of its start.
            prompts: the file of held-out prompts.
            count: how many of these are used.
            seed: seed of the completions.
        """
        file = root / WEIGHTS / f"{run.name}.json"
        if not file.is_file():
            asked = list(read_prompts(prompts, limit=count).rows)
            rows = list(_measured(root / WEIGHTS / run.name, start, asked, seed))
            file.write_text(json.dumps(rows), encoding="utf-8")
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        kl, gold = (np.array([row[name] for row in found], dtype=np.float64) for name in ("kl", "gold"))
        return TrueGold(np.array([row["iteration"] for row in found]), kl, gold)


def _measured(folder: Path, start: Path, prompts: list[Prompt], seed: int) -> Iterator[dict[str, Any]]:
    """Yield iteration, log-ratios and gold for the start and for each copy, in order."""
    reference, policy = load_policy(start), load_policy(start)
    yield {"iteration": 0, **_figures(policy, reference, prompts, seed)}
    for number in sorted(int(file.stem) for file in folder.glob("*.safetensors")):
        tensors = load_file(folder / f"{number}.safetensors")
        prefix = "weights.policy."
        weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        known = set(dict(policy.module.named_parameters()))
        assert set(weights) == known, set(weights) ^ known
        policy.module.load_state_dict(weights, strict=False)
        policy.module.tie_weights()
        yield {"iteration": number, **_figures(policy, reference, prompts, seed)}


def _figures(policy: CausalPolicy, reference: CausalPolicy, prompts: list[Prompt], seed: int) -> dict[str, list[float]]:
    groups = LocalSampler(policy).generate(prompts, 1, Sampling(max_tokens=MOST_TOKENS), derive_seed(seed, "true gold"))
    trunks = tuple(tuple(prompt_ids(policy.tokenizer, prompt)) for prompt in prompts)
    rollouts = Rollouts(tuple(prompts), trunks, tuple(map(tuple, groups)))
    logps = over_trees(rollouts.trees, TOKENS_PER_PASS, lambda batch: reference.logps(batch).logps)
    ratios = torch.zeros(len(prompts)).index_add_(0, rollouts.completion, rollouts.logps - logps)
    gold = [gold_of(prompt.text, completion.text) for prompt, (completion,) in zip(prompts, groups, strict=True)]
    return {"kl": ratios.tolist(), "gold": gold}
