"""Memory of PPO's four roles with LoRA on a bfloat16 base and on a 4-bit one (QLoRA): `python -m benchmarks.quantised`.

Policy, reference, reward model and value model share one base. The model is a Qwen3 of 105 million random weights, stored in bfloat16. Each
row is a process of its own. It prints the peak of resident memory while the models are loaded, while the policy learns, and of the whole
run, which ends with a merged model in float32 and a check of it. The first row is a process that has only imported Palate.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.models.adapters import LoRA
from palate.models.load import as_policy, built
from palate.models.scalar import scalar_from
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.online import Online
from palate.stages.online.loop import Loop
from palate.testing import word_tokenizer
from palate.testing.tokenizers import WORDS

SIZE: dict[str, Any] = {
    "vocab_size": 8192, "hidden_size": 768, "num_hidden_layers": 14, "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64,
    "intermediate_size": 2048, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "LoRA, bfloat16 base": {},
    "QLoRA, 4-bit base": {"base_dtype": "nf4"},
}


def main() -> None:
    """Print a table, or measure one row of it in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantised", description=__doc__)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the model is, for a row")
    parser.add_argument("--row", choices=KINDS, help="measure this row alone")
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measured(options.row, options.folder, options.iterations)))
        return
    print("| base | loading, MB | learning, MB | whole run, MB | CPU seconds per iteration |\n|---|---|---|---|---|")
    print(f"| none: Palate imported | {peak():.0f} | | | |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, "-c", f"import benchmarks.quantised as q, pathlib; q.prepare(pathlib.Path({name!r}))"], check=True)
        for kind in KINDS:
            words = ["-m", "benchmarks.quantised", "--row", kind, "--folder", name, "--iterations", str(options.iterations)]
            done = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            print(f"| {kind} | {row['loading']:.0f} | {row['learning']:.0f} | {row['whole']:.0f} | {row['seconds']:.1f} |", flush=True)


def prepare(folder: Path) -> None:
    """Write the model in bfloat16, an adapter that makes it a reward model, and prompts."""
    tokenizer = word_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    policy = as_policy(built(Qwen3ForCausalLM, Qwen3Config(**SIZE, **ends), seed=0).to(torch.bfloat16), tokenizer)
    policy.save(folder / "model")
    base = str(folder / "model")
    scalar_from(base, ("overall",), seed=1).with_adapter(LoRA(), base, seed=2).save(folder / "reward")
    texts = [" ".join(WORDS[(7 * k + j * j) % len(WORDS)] for j in range(16)) for k in range(64)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))


def measured(kind: str, folder: Path, iterations: int) -> dict[str, float]:
    """Train, and return peaks of resident memory in MB, and the CPU seconds of an iteration after the first."""
    found: dict[str, float] = {}
    ends: list[float] = []
    build, iterate, finish = Loop.__init__, Loop.iterate, Loop.finish

    def loaded(self: Loop, *given: Any) -> None:
        build(self, *given)
        found["loading"] = peak()
        forget_peak()

    def timed(self: Loop) -> dict[str, float]:
        metrics = iterate(self)
        ends.append(time.process_time())  # other processes of a busy machine do not count
        return metrics

    def finished(self: Loop) -> dict[str, float]:
        found["learning"] = peak()
        return finish(self)

    Loop.__init__, Loop.iterate, Loop.finish = loaded, timed, finished  # type: ignore[method-assign, assignment]
    values = {
        "preset": "n-plus", "model": str(folder / "model"), "reward": str(folder / "reward"), "prompts": str(folder / "prompts.jsonl"),
        "iterations": iterations, "prompts_per_iteration": 4, "samples_per_prompt": 1, "epochs_per_batch": 1, "minibatches": 1,
        "sampling": {"max_tokens": 16, "temperature": 1.0}, "dtype": "bfloat16", "tokens_per_microbatch": 512,
        "adapters": KINDS[kind], "shaping": {"missing_eos": "keep"},
    }  # fmt: skip
    stage = read_config(Online, Settings(values, {(): "benchmark"}))
    stage.check()
    with tempfile.TemporaryDirectory() as name:
        run = open_run(Path(name), RunPlan("online", "online"))
        with run.active():
            stage.run(run)
    seconds = (ends[-1] - ends[0]) / max(1, len(ends) - 1)
    return {**found, "whole": max(*found.values(), peak()), "seconds": seconds}


def peak() -> float:
    """Return the peak of this process's resident memory since `forget_peak`, in MB. Linux tells."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Return freed memory to the system, so that it does not count, and begin a new peak."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
