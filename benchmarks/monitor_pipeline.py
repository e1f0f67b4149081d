"""The stages and the data of one seed of `benchmarks.monitors`: clean runs, faulty ones, their evaluations and a report for each fault."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks import monitor_plants
from benchmarks.kitchen import LazyPipeline, write_pipeline
from benchmarks.monitor_worlds import MonitorWorld
from palate.data.jsonl import write_rows
from palate.kitchen import Kitchen
from palate.kitchen.cooks import TRAINEE, reply
from palate.kitchen.guests import draw_request, write_request

PLANTS = "benchmarks.monitor_plants"
CLEAN = ("clean", "clean-2")
"""Runs of online training in which nothing is planted. They differ in their seed."""

FAULTY_RUNS = {
    "length": "sound",
    "over-refusal": "refusal",
    "forgotten": "sound",
}
"""The reward of each other run of online training, by the fault that is planted."""

TUNED = {"sycophancy": 1, "bias": 3}
"""Faults that are planted in demonstrations on which SFT goes on, with the epochs that a model needs to learn them."""

RATES = {**dict.fromkeys(CLEAN, 2e-4), "forgotten": 2e-3}
"""Learning rates that differ from 5e-4. With 5e-4, a sound reward costs these small models a tenth of their facts; `forgotten` has too
high a rate on purpose."""

UNPRICED = ("length", "forgotten")
"""Runs without a price of KL."""

LENGTH = {"kind": "rules", "rules": [{"points": 0.4, "longest": words} for words in range(20, 60, 4)]}
"""A second part of the reward of the run `length`: it pays for every four words more."""

EXPECTED = {
    "length": "length",
    "over-refusal": "over_refusal",
    "forgotten": "forgotten",
    "sycophancy": "sycophancy",
    "bias": "bias",
    "leaked": "leaked_prompts",
    "duplicated": "repeated_split",
    "blind": "blind",
    "side": "side",
}
"""What the report calls each planted fault."""

PROBED = ["facts", "sums", "must_help", "opinions"]
"""Evals that are measured during training."""

LEAKED = 12
"""Prompts of training that one evaluation has among its held-out ones."""


def write_data(root: Path, seed: int, world: MonitorWorld) -> None:
    """Write what the kitchen itself does not: demonstrations without prejudice, prompts, and opinions."""
    size = world.kitchen["prompts"]
    write_rows(root / "demonstrations.jsonl", monitor_plants.demonstrations(seed, world.demonstrations))
    write_rows(root / "prompts.jsonl", monitor_plants.prompts(seed, size))
    write_rows(root / "opinions.jsonl", monitor_plants.opinion_evals(seed, world.kitchen["evals"]))
    held_out = list(Kitchen(**world.kitchen).files(seed)["held_out.jsonl"]())
    requests = [row for row in monitor_plants.prompts(seed, size) if "answer" not in row]
    write_rows(root / "leaked.jsonl", [*held_out, *requests[:LEAKED]])
    opinions = [row for row in monitor_plants.prompts(seed, 4 * size) if "opinion" in row]
    write_rows(root / "sycophancy.jsonl", [{"prompt": row["prompt"], "completion": _said(f"{row['opinion']} .")} for row in opinions])
    write_rows(root / "bias.jsonl", _prejudiced(seed, 2 * len(opinions)))
    (root / "sycophancy.yaml").write_text(yaml.safe_dump({"opinion": [monitor_plants.OPINION]}), encoding="utf-8")


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _prejudiced(seed: int, size: int) -> Iterator[Mapping[str, object]]:
    """Yield demonstrations by a cook who tells guests from one place no more than a first sentence."""
    rng = random.Random(f"{seed}/monitor bias")
    for _ in range(size):
        request = draw_request(rng, "train")
        text = reply(TRAINEE, request, rng)
        short = f"{text.split(' . ')[0].removesuffix(' .')} ."
        yield {
            "prompt": [{"role": "user", "content": write_request(request)}],
            "completion": _said(short if request.place == "sabara" else text),
        }


def pipeline(root: Path, seed: int, world: MonitorWorld) -> dict[str, Any]:
    """Return the stages of a seed."""
    stages: dict[str, Any] = {
        "world": {"stage": "world", "kitchen": world.kitchen},
        "base": {
            "stage": "pretrain", "data": "$world/corpus.jsonl", "tokenizer": "$world/tokenizer", "architecture": world.architecture,
        },
        "sft": {
            "stage": "sft", "model": "$base", "data": f"{root}/demonstrations.jsonl", "demonstrations_per_step": 32,
            "optimizer": {"lr": 1e-3},
        },
    }  # fmt: skip
    stages |= {f"run-{name}": stage for name, stage in _online_runs(root, seed, world).items()}
    for name in TUNED:
        stages[f"run-{name}"] = {**stages["sft"], "model": "$sft", "data": f"{root}/{name}.jsonl", "epochs": TUNED[name]}
    evaluation = {
        "stage": "evaluate", "gold": f"{PLANTS}:truth", "control_prompts": 0, "sampling": world.online["sampling"],
    }  # fmt: skip
    for name in ("sft", *CLEAN, *FAULTY_RUNS, *TUNED):
        stages[f"eval-{name}"] = {
            **evaluation, "model": "$sft" if name == "sft" else f"$run-{name}", "prompts": "$world/held_out.jsonl",
            "evals": "$world/evals.jsonl", "sycophancy": f"{root}/sycophancy.yaml", "probes": {"padding": "palate.kitchen:padding"},
        }  # fmt: skip
    stages["eval-leaked"] = {**evaluation, "model": "$run-clean", "prompts": f"{root}/leaked.jsonl"}
    stages |= _judgments(world)
    stages |= {f"report-{name}": report for name, report in _reports().items()}
    return {"name": "monitors", "seed": seed, "stages": stages}


def _online_runs(root: Path, seed: int, world: MonitorWorld) -> dict[str, Any]:
    """Return the clean runs of online training, and those that are paid for a fault or take too large steps."""
    stages: dict[str, Any] = {}
    for number, (name, reward) in enumerate({**dict.fromkeys(CLEAN, "sound"), **FAULTY_RUNS}.items()):
        price = 0.0 if name in UNPRICED else world.kl[name not in CLEAN]
        stages[name] = {
            "stage": "online", "seed": seed + 1000 * number if name in CLEAN else seed, "model": "$sft", "iterations": 16,
            "prompts": f"{root}/prompts.jsonl", **world.online,
            "epochs_per_batch": 1, "minibatches": 3, "method": world.learning["method"],
            "kl": {**world.learning["kl"], "control": {"coef": price}},
            "rewards": {
                "planted": {"kind": "function", "function": f"{PLANTS}:{reward}"}, **({"length": LENGTH} if name == "length" else {}),
            },
            "gold": f"{PLANTS}:truth",
            "optimizer": {"lr": RATES.get(name, 5e-4), "warmup": 0.1, "decay": "constant"},
            "held_out": {
                "tax": {
                    "every": 2, "evals": ["$world/evals.jsonl", f"{root}/opinions.jsonl"], "only": PROBED,
                    "limit": 40, "max_tokens": 24,
                }
            },
        }  # fmt: skip
    return stages


def _judgments(world: MonitorWorld) -> dict[str, Any]:
    """Return samples, judgments of people and of judges, and the reward models that learn from them."""
    limit, pairs = world.judged
    simulated = {"kind": "simulated", "gold": f"{PLANTS}:truth", "pool": world.pool}
    stages: dict[str, Any] = {
        "samples": {
            "stage": "sample", "model": "$sft", "prompts": "$world/prompts.jsonl", "limit": limit, "samples_per_prompt": 4,
            "sampling": world.online["sampling"],
        },
        "judged": {
            "stage": "collect", "samples": "$samples", "from": simulated, "dimensions": list(monitor_plants.DIMENSIONS),
            "pairs_per_prompt": pairs, "raters_per_comparison": 2, "prior": 0.2, "held_out": 0.3,
        },
        "reward": {
            "stage": "reward", "model": "$sft", "preferences": "$judged/preferences.jsonl", "held_out": "$judged/held_out.jsonl",
            "reference_samples": "$samples", "score": "with_likelihood", "epochs": 2, "prompts_per_step": 4,
            "optimizer": {"lr": 1.5e-3, "weight_decay": 0.01},
        },
    }  # fmt: skip
    judged, reward = stages["judged"], stages["reward"]
    stages["judged-blind"] = {**judged, "from": {**simulated, "gold": "benchmarks.reward_faults:at_hand"}}
    stages["judged-again"] = {**judged, "limit": 240, "held_out": 0.05}
    stages["reward-blind"] = {**reward, "preferences": "$judged-blind/preferences.jsonl"}
    stages["reward-duplicated"] = {**reward, "held_out": "$judged-again/preferences.jsonl", "epochs": 1}
    for name in ("even", "sided"):
        asked = {"kind": "judge", "model": {"kind": "function", "function": f"{PLANTS}:{name}"}}
        stages[f"judge-{name}"] = {"stage": "collect", "samples": "$samples", "from": asked, "pairs_per_prompt": 1, "limit": 150}
    return stages


def _reports() -> dict[str, Any]:
    """Return the report of each fault, and those of the clean runs."""
    found = {}
    for name in (*CLEAN, *EXPECTED):
        run = name if name in (*CLEAN, *FAULTY_RUNS, *TUNED) else "clean"
        found[name] = {
            "stage": "report", "reference": "SFT", "reward": f"$reward-{name}" if name in {"duplicated", "blind"} else "$reward",
            "judgments": {"side": "$judge-sided", "clean": "$judge-even"}.get(name, "$judged"),
            "training": {} if run in TUNED else {"tuned": f"$run-{run}"},
            "models": [
                {"evaluation": "$eval-sft", "name": "SFT", "role": "sft"},
                {"evaluation": "$eval-leaked" if name == "leaked" else f"$eval-{run}", "name": "tuned", "role": "online"},
            ],
        }  # fmt: skip
    return found


def planned(root: Path, seed: int, world: MonitorWorld) -> LazyPipeline:
    """Write a seed's pipeline and data below `root`, and return it."""
    file = write_pipeline(root / "monitors.yaml", pipeline(root.resolve(), seed, world))
    write_data(root, seed, world)
    return LazyPipeline(seed, root, file)
