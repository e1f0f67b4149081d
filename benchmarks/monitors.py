"""Whether Palate names faults that were planted in the kitchen: `python -m benchmarks.monitors --seeds 151 152`.

Each seed has a small world with a base, an SFT model and a sound reward model. One run of online training is clean. Each of the others is
paid for a fault beside the truth. Other faults are in the data: prompts of training among the held-out ones, held-out judgments among those
of training, judges who do not see harm, and a judge with a taste for a side. There is a report for each fault, and one without any.
Everything that counts as a detection is read from what Palate wrote: `warnings.jsonl` of the runs, and the faults in the `summary.json` of
the reports.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import monitor_plants
from benchmarks.kitchen import LazyPipeline, seed_root, seeds_parser, write_pipeline
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.intervals import wilson
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

GENTLE = {"kl": {"control": {"coef": 0.1}}, "optimizer": {"lr": 2e-4, "warmup": 0.1, "decay": "constant"}}
"""Settings of a sound run. With those of the others, a sound reward costs these small models a tenth of their facts."""

SETTINGS_OF_RUNS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(CLEAN, GENTLE),
    "length": {"kl": {"control": {"coef": 0.0}}},
    "forgotten": {"kl": {"control": {"coef": 0.0}}, "optimizer": {"lr": 2e-3, "warmup": 0.1, "decay": "constant"}},
}
"""Other settings of some runs. `forgotten` has no price of KL, and a rate that is too high."""

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

WINDOW = 3
"""Iterations of which the mean gold is taken."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "development": {
        "world": {"texts": 9_000, "lessons": 0.5, "prompts": 800, "held_out": 120, "evals": 60},
        "architecture": {"hidden_size": 80, "intermediate_size": 240},
        "demonstrations": 1_600,
        "pool": {"raters": 12, "sharpness": 14, "length_bias": 0.0, "phrase_bias": 0.0},
        "online": {"prompts_per_iteration": 20, "samples_per_prompt": 4, "sampling": {"max_tokens": 72}},
    },
    "test": {
        "world": {"texts": 10_000, "lessons": 0.4, "cookbooks": 0.6, "prompts": 900, "held_out": 140, "evals": 60},
        "architecture": {"hidden_size": 64, "intermediate_size": 192},
        "demonstrations": 1_600,
        "pool": {"raters": 8, "sharpness": 11, "length_bias": 0.0, "phrase_bias": 0.0, "side_bias": 0.3},
        "online": {"prompts_per_iteration": 24, "samples_per_prompt": 4, "sampling": {"max_tokens": 64}},
    },
}
"""The worlds on which limits were chosen, and those on which they are reported."""

FIRST_TEST_SEED = 150
PROBED = ["facts", "sums", "must_help", "opinions"]
"""Evals that are measured during training."""

LEAKED = 12
"""Prompts of training that one evaluation has among its held-out ones."""


def settings_of(seed: int) -> Mapping[str, Any]:
    """Return the settings of a seed's world."""
    return SETTINGS["test" if seed >= FIRST_TEST_SEED else "development"]


def write_data(root: Path, seed: int) -> None:
    """Write what the kitchen itself does not: demonstrations without prejudice, prompts, and opinions."""
    own = settings_of(seed)
    write_rows(root / "demonstrations.jsonl", monitor_plants.demonstrations(seed, own["demonstrations"]))
    write_rows(root / "prompts.jsonl", monitor_plants.prompts(seed, own["world"]["prompts"]))
    write_rows(root / "opinions.jsonl", monitor_plants.opinion_evals(seed, own["world"]["evals"]))
    held_out = list(Kitchen(**own["world"]).files(seed)["held_out.jsonl"]())
    requests = [row for row in monitor_plants.prompts(seed, own["world"]["prompts"]) if "answer" not in row]
    write_rows(root / "leaked.jsonl", [*held_out, *requests[:LEAKED]])
    opinions = [row for row in monitor_plants.prompts(seed, 4 * own["world"]["prompts"]) if "opinion" in row]
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


def pipeline(root: Path, seed: int) -> dict[str, Any]:
    """Return the stages of a seed."""
    own, adamw = settings_of(seed), {"weight_decay": 0.01}
    sampling = own["online"]["sampling"]
    stages: dict[str, Any] = {
        "world": {"stage": "world", "kitchen": own["world"]},
        "base": {
            "stage": "pretrain", "data": "$world/corpus.jsonl", "tokenizer": "$world/tokenizer", "architecture": own["architecture"],
        },
        "sft": {
            "stage": "sft", "model": "$base", "data": f"{root}/demonstrations.jsonl", "demonstrations_per_step": 32,
            "optimizer": {"lr": 1e-3},
        },
    }  # fmt: skip
    for number, (name, reward) in enumerate({**dict.fromkeys(CLEAN, "sound"), **FAULTY_RUNS}.items()):
        stages[f"run-{name}"] = {
            "stage": "online", "seed": seed + 1000 * number if name in CLEAN else seed, "model": "$sft", "iterations": 16,
            "prompts": f"{root}/prompts.jsonl", **own["online"],
            "epochs_per_batch": 1, "minibatches": 3, "method": {"advantage": "leave_one_out"}, "kl": {"control": {"coef": 0.05}},
            "rewards": {
                "planted": {"kind": "function", "function": f"{PLANTS}:{reward}"}, **({"length": LENGTH} if name == "length" else {}),
            },
            "gold": f"{PLANTS}:truth",
            "optimizer": {"lr": 5e-4, "warmup": 0.1, "decay": "constant"},
            "held_out": {
                "tax": {
                    "every": 2, "evals": ["$world/evals.jsonl", f"{root}/opinions.jsonl"], "only": PROBED,
                    "limit": 40, "max_tokens": 24,
                }
            },
            **SETTINGS_OF_RUNS.get(name, {}),
        }  # fmt: skip
    for name in TUNED:
        stages[f"run-{name}"] = {**stages["sft"], "model": "$sft", "data": f"{root}/{name}.jsonl", "epochs": TUNED[name]}
    for name in ("sft", *CLEAN, *FAULTY_RUNS, *TUNED):
        stages[f"eval-{name}"] = {
            "stage": "evaluate", "model": "$sft" if name == "sft" else f"$run-{name}", "prompts": "$world/held_out.jsonl",
            "evals": "$world/evals.jsonl", "sycophancy": f"{root}/sycophancy.yaml", "gold": f"{PLANTS}:truth", "control_prompts": 0,
            "probes": {"padding": "palate.kitchen:padding"}, "sampling": sampling,
        }  # fmt: skip
    simulated = {"kind": "simulated", "gold": f"{PLANTS}:truth", "pool": own["pool"]}
    stages["samples"] = {
        "stage": "sample", "model": "$sft", "prompts": "$world/prompts.jsonl", "limit": 300, "samples_per_prompt": 4, "sampling": sampling,
    }  # fmt: skip
    stages["judged"] = {
        "stage": "collect", "samples": "$samples", "from": simulated, "dimensions": list(monitor_plants.DIMENSIONS),
        "pairs_per_prompt": 6, "raters_per_comparison": 2, "prior": 0.2, "held_out": 0.3,
    }  # fmt: skip
    stages["judged-blind"] = {**stages["judged"], "from": {**simulated, "gold": "benchmarks.reward_faults:at_hand"}}
    stages["reward"] = {
        "stage": "reward", "model": "$sft", "preferences": "$judged/preferences.jsonl", "held_out": "$judged/held_out.jsonl",
        "reference_samples": "$samples", "score": "with_likelihood", "epochs": 2, "prompts_per_step": 4,
        "optimizer": {"lr": 1.5e-3, **adamw},
    }  # fmt: skip
    stages["reward-blind"] = {**stages["reward"], "preferences": "$judged-blind/preferences.jsonl"}
    stages["judged-again"] = {**stages["judged"], "limit": 240, "held_out": 0.05}
    stages["reward-duplicated"] = {**stages["reward"], "held_out": "$judged-again/preferences.jsonl", "epochs": 1}
    for name in ("even", "sided"):
        asked = {"kind": "judge", "model": {"kind": "function", "function": f"{PLANTS}:{name}"}}
        stages[f"judge-{name}"] = {"stage": "collect", "samples": "$samples", "from": asked, "pairs_per_prompt": 1, "limit": 150}
    stages["eval-leaked"] = {
        "stage": "evaluate", "model": "$run-clean", "prompts": f"{root}/leaked.jsonl", "gold": f"{PLANTS}:truth", "control_prompts": 0,
        "sampling": sampling,
    }  # fmt: skip
    stages |= {f"report-{name}": report for name, report in reports().items()}
    return {"name": "monitors", "seed": seed, "stages": stages}


def reports() -> dict[str, Any]:
    """Return the report of each fault, and that without any."""
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


def planned(root: Path, seed: int) -> LazyPipeline:
    """Write a seed's pipeline and data below `root`, and return it."""
    file = write_pipeline(root / "monitors.yaml", pipeline(root.resolve(), seed))
    write_data(root, seed)
    return LazyPipeline(seed, root, file)


@dataclass(frozen=True)
class Outcome:
    """What Palate said about one planted fault on one seed.

    Attributes:
        named: faults that the report names.
        warned: the first iteration at which each guard warned. Users have no gold, so its guard is left out.
        fell: the iteration at which gold was best before it measurably fell; None where it did not fall, or nothing was trained.
    """

    named: tuple[str, ...]
    warned: Mapping[str, int]
    fell: int | None

    @property
    def first(self) -> int | None:
        """The iteration of the first warning."""
        return min(self.warned.values(), default=None)


def outcome(stages: LazyPipeline, name: str) -> Outcome:
    """Run what a fault needs, and read its report, and the warnings and the gold of its run of training."""
    summary = json.loads((stages.run(f"report-{name}") / "summary.json").read_text(encoding="utf-8"))
    named = tuple(dict.fromkeys(one["fault"] for one in summary["faults"]["found"]))
    if name not in (*FAULTY_RUNS, *CLEAN):
        return Outcome(named, {}, None)
    run, warned = stages.run(f"run-{name}"), dict[str, int]()
    file = run / "warnings.jsonl"
    for _, row in read_rows(file) if file.is_file() else ():
        if row["guard"] != "gold":
            warned.setdefault(str(row["guard"]), int(str(row["step"])))
    rows: list[Any] = [row for _, row in read_rows(run / "metrics.jsonl")]
    return Outcome(named, warned, gold_peak([row["online/gold/mean"] for row in rows], [row["online/gold/se"] for row in rows]))


def gold_peak(gold: Sequence[float], errors: Sequence[float]) -> int | None:
    """Return the iteration at which gold was best, if it later fell by 3 standard errors; else None.

    Means of three iterations are compared, and the last iteration of the best three counts.
    """
    means = np.convolve(gold, np.full(WINDOW, 1 / WINDOW), "valid")
    variances = np.convolve(np.square(errors), np.full(WINDOW, 1 / WINDOW**2), "valid")
    for last in range(WINDOW, len(means)):
        best = int(np.argmax(means[: last - WINDOW + 1]))
        if means[best] - means[last] > 3 * math.sqrt(variances[best] + variances[last]):
            return best + WINDOW - 1
    return None


def share_text(count: int, n: int) -> str:
    """Return "3 of 4 [0.30, 0.95]", with Wilson's interval."""
    low, high = wilson(count, n)
    return f"{count} of {n} [{low:.2f}, {high:.2f}]"


def table(outcomes: Sequence[Mapping[str, Outcome]]) -> str:
    """Return two Markdown tables: a row per planted fault, and the false alarms of clean runs and reports."""
    columns = (
        "planted",
        "named by the report",
        "other faults named",
        "a guard warned",
        "guards",
        "first warning",
        "gold fell after",
        "lead",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, fault in EXPECTED.items():
        own = [one[name] for one in outcomes]
        right = sum(fault in one.named for one in own)
        others = dict(Counter(other for one in own for other in one.named if other != fault))
        cells = [name, share_text(right, len(own)), _counts(others)]
        if name in FAULTY_RUNS:
            warned = sum(one.first is not None for one in own)
            leads = [str(one.fell - one.first) if one.fell is not None and one.first is not None else "-" for one in own]
            cells += [
                share_text(warned, len(own)),
                _counts(Counter(guard for one in own for guard in one.warned)),
                ", ".join("-" if one.first is None else str(one.first) for one in own),
                ", ".join("-" if one.fell is None else str(one.fell) for one in own),
                ", ".join(leads),
            ]
        lines.append(f"| {' | '.join((*cells, *[''] * (len(columns) - len(cells))))} |")
    clean = [one[name] for one in outcomes for name in CLEAN]
    lines += ["", "| clean | with an alarm | alarms |", "|---|---|---|"]
    for title, alarms in (("reports", [one.named for one in clean]), ("runs", [tuple(one.warned) for one in clean])):
        counts = _counts(Counter(name for own in alarms for name in own))
        lines.append(f"| {title} | {share_text(sum(map(bool, alarms)), len(alarms))} | {counts} |")
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = seeds_parser("benchmarks.monitors", __doc__, [150, 151, 152])
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        stages = planned(seed_root(options, seed), seed)
        found.append({name: outcome(stages, name) for name in (*CLEAN, *EXPECTED)})
        sys.stdout.write(f"seed {seed}\n{json.dumps({name: asdict(one) for name, one in found[-1].items()})}\n")
    sys.stdout.write(f"{table(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
