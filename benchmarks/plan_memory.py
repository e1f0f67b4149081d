"""Predicted and measured peak memory of stages: `python -m benchmarks.plan_memory`, or with `--device cuda` on a GPU.

Each case has models with random weights and a few steps on sequences of one length. It runs in a process of its own. On a CPU its largest
resident set is what was measured, and on a GPU the most that torch allocated there. The prediction is that of `palate plan`, which reads
config.json alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SIZES: Mapping[str, tuple[int, int, int, int, int, int, bool]] = {
    "34M": (512, 6, 8, 2, 1536, 32_000, True),
    "112M": (768, 12, 12, 4, 2048, 48_000, True),
    "191M": (896, 16, 14, 2, 2432, 32_000, False),
}
"""Width, layers, heads, key heads, inner width, vocabulary, tied embeddings."""

LENGTH = 256
"""Tokens of a sequence, and of its prompt half as many."""

STEPS, PER_STEP = 2, 2
"""Optimizer steps, and micro-batches of each."""

WORDS = ("the", "cook", "has", "rice", "and", "beans", "but", "no", "salt", "so", "what", "can", "we", "make", "for", "two", "guests")


class Case(NamedTuple):
    """A stage with its settings on a model."""

    stage: str
    size: str
    tokens: int
    settings: dict[str, Any]


LORA = {"adapters": {"kind": "lora", "rank": 16}}
CASES: Mapping[str, Case] = {
    "sft 34M": Case("sft", "34M", 1024, {}),
    "sft 112M": Case("sft", "112M", 512, {}),
    "sft 191M": Case("sft", "191M", 256, {}),
    "sft 112M, checkpoints": Case("sft", "112M", 1024, {"checkpoint_activations": True}),
    "sft 112M, LoRA": Case("sft", "112M", 512, dict(LORA)),
    "sft 34M, bfloat16": Case("sft", "34M", 1024, {"dtype": "bfloat16"}),
    "direct 34M": Case("direct", "34M", 1024, {}),
    "reward 112M": Case("reward", "112M", 512, {}),
    "ppo 34M": Case("online", "34M", 1280, {"reward": "reward"}),
    "grpo 34M": Case("online", "34M", 1280, {"reward": "reward", "preset": "deepseek-grpo"}),
    "sample 112M": Case("sample", "112M", 0, {}),
}


def text(words: int, start: int) -> str:
    """Return a text of so many tokens of the word tokenizer: words and the spaces between."""
    return " ".join(WORDS[(start + k) % len(WORDS)] for k in range((words + 1) // 2))


def settings_of(case: Case, folder: Path) -> dict[str, Any]:
    """Return the settings of the case's stage."""
    rows = PER_STEP * max(1, case.tokens // LENGTH)
    own: dict[str, Any] = {name: str(folder / value) if name == "reward" else value for name, value in case.settings.items()}
    own["model"] = str(folder / "model")
    if case.stage == "sft":
        return {**own, "data": str(folder / "sft.jsonl"), "demonstrations_per_step": rows, "limit": rows * STEPS, **_common(case)}
    if case.stage in ("direct", "reward"):
        rows = PER_STEP * max(1, case.tokens // (LENGTH + LENGTH // 2))
        held_out = {"held_out": str(folder / "held_out.jsonl")} if case.stage == "reward" else {}
        return {
            **own,
            **held_out,
            "preferences": str(folder / "pairs.jsonl"),
            "prompts_per_step": rows,
            "limit": rows * STEPS,
            **_common(case),
        }
    sampling = {"max_tokens": LENGTH // 2}
    if case.stage == "sample":
        return {**own, "prompts": str(folder / "prompts.jsonl"), "limit": 64, "samples_per_prompt": 2, "sampling": sampling}
    tree = LENGTH // 2 * 5
    prompts = PER_STEP * (case.tokens // tree)
    batch = {"prompts_per_iteration": prompts, "samples_per_prompt": 4, "minibatches": 1, "epochs_per_batch": 1, "iterations": STEPS}
    guards = {"reward_requirements": {"min_accuracy": 0.0}}
    return {**own, "prompts": str(folder / "prompts.jsonl"), "sampling": sampling, **batch, **guards, **_common(case)}


def _common(case: Case) -> dict[str, Any]:
    return {"tokens_per_microbatch": case.tokens}


def stage_of(case: Case, folder: Path) -> Any:
    """Return the case's stage."""
    from palate.config.read import read_config
    from palate.config.settings import Settings
    from palate.pipeline.table import STAGES

    return read_config(STAGES[case.stage].load(), Settings(settings_of(case, folder), {(): "benchmark"}))


def model_config(size: tuple[int, int, int, int, int, int, bool]) -> PretrainedConfig:
    """Return the configuration of a model of a size, as `SIZES` gives it."""
    from transformers import AutoConfig

    width, layers, heads, kv_heads, inner, vocabulary, is_tied = size
    config: PretrainedConfig = AutoConfig.for_model(
        "qwen2",
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=is_tied,
        max_position_embeddings=4096,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    return config


def make(case: Case, folder: Path) -> None:
    """Write the models and the data of a case."""
    from transformers import AutoModelForCausalLM

    from palate.models.load import as_policy, built
    from palate.models.scalar import scalar_from
    from palate.testing import word_tokenizer

    config = model_config(SIZES[case.size])
    policy = as_policy(built(AutoModelForCausalLM.from_config, config, 0), word_tokenizer())
    policy.save(folder / "model")
    if "reward" in case.settings:
        scalar_from(policy, ("score",), 0).save(folder / "reward")
    half = LENGTH // 2
    prompt, reply = half - 14, half - 3  # the template adds about so many
    rows: dict[str, list[dict[str, str]]] = {"sft": [], "pairs": [], "prompts": [], "held_out": []}
    for k in range(400):
        question = f"{k} {text(prompt - 2 * len(str(k)), k)}"
        pair = {"prompt": question, "chosen": text(reply, k + 1), "rejected": text(reply, k + 2)}
        rows["sft"].append({"prompt": question, "completion": text(reply, k + 1)})
        rows["prompts"].append({"prompt": question})
        rows["pairs" if k < 390 else "held_out"].append(pair)
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))


def predicted(case: Case, folder: Path, device: str) -> tuple[float, str]:
    """Return the bytes that `palate plan` predicts, and the phase that needs them; on a GPU without those of CUDA itself."""
    from palate.pipeline.estimates.model_origins import origin_at
    from palate.pipeline.estimates.role_memory import Machine
    from palate.pipeline.estimates.stage_memory import memory_of

    origins = {"model": origin_at(str(folder / "model"))}
    if "reward" in case.settings:
        origins["reward"] = origin_at(str(folder / "reward"))
    machine = Machine(is_gpu=device != "cpu", tokens=LENGTH)
    needed = memory_of(stage_of(case, folder), origins, machine)
    assert needed is not None
    print({phase: round(needed.total(phase) / 1e6) for phase in needed.phases}, file=sys.stderr)
    return needed.peak - (machine.process if machine.is_gpu else 0), needed.peak_phase


def run(case: Case, folder: Path, device: str) -> None:
    """Run the stage, so that its memory can be read afterwards."""
    import torch

    from palate.core.process import computing_on
    from palate.runs.record import RunPlan
    from palate.runs.run import open_run

    torch.set_num_threads(1)
    stage = stage_of(case, folder)
    opened = open_run(folder / "runs", RunPlan(case.stage, case.stage, seed=0))
    with opened.active(), computing_on(device):
        stage.run(opened)


def baseline() -> None:
    """Load what every stage loads."""
    from palate.pipeline.table import STAGES

    for name in ("sft", "online"):
        STAGES[name].load()


def own_process(words: Sequence[str]) -> str:
    """Run a part of this file in a process of its own, and return its last line."""
    command = [sys.executable, "-m", "benchmarks.plan_memory", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    return (done.stdout.splitlines() or [""])[-1]


def part(options: argparse.Namespace) -> int:
    """Do one part, and print how much memory it needed at most, in bytes."""
    case, folder = CASES[options.case or "sft 34M"], Path(options.folder or ".")
    parts: Mapping[str, Callable[[], object]] = {
        "make": lambda: make(case, folder),
        "run": lambda: run(case, folder, options.device),
        "baseline": baseline,
    }
    parts[options.part]()
    if options.part == "run" and options.device != "cpu":
        import torch

        print(torch.cuda.max_memory_allocated())
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return 0


def main() -> int:
    """Print a table of all cases, or of those named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_memory", description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    for name in ("part", "case", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return part(options)
    print(f"a process without a model: {int(own_process(['--part', 'baseline'])) / 1e6:.0f} MB\n")
    print("| case | predicted MB | measured MB | ratio | fullest while it |\n|---|---|---|---|---|")
    for name in options.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            words = ["--case", name, "--folder", folder]
            own_process(["--part", "make", *words])
            size, phase = predicted(case, Path(folder), options.device)
            measured = int(own_process(["--part", "run", "--device", options.device, *words]))
        print(f"| {name} | {size / 1e6:.0f} | {measured / 1e6:.0f} | {size / measured:.2f} | {phase}s |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
