"""TRL's online trainers at the work: `PYTHON benchmarks/speed/peer_online.py WORK`. It prints one line of JSON last.

ppo needs TRL 1.10, which has that trainer: the folder that the variable TRL_PPO names stands before the interpreter's own packages.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from workload import NEW_TOKENS, StepEnds, Work, online_prompts

WORK = Work.from_command_line()
ENDS = StepEnds()


class Clock(TrainerCallback):  # type: ignore[misc]
    """A callback that notes when a step ends."""

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Note the time."""
        ENDS.note()


def main() -> None:
    """Train, and report as one line of JSON."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tokenizer = AutoTokenizer.from_pretrained(WORK.model)
    trainer = ppo(tokenizer) if WORK.stage == "ppo" else groups(tokenizer)
    trainer.train()
    ENDS.report([])


def shared() -> dict[str, Any]:
    """Return the settings that all trainers share."""
    return {
        "output_dir": str(Path(WORK.rows).parent / "trl"), "use_cpu": True, "bf16": WORK.dtype == "bfloat16",
        "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none", "learning_rate": 1e-4, "seed": 0, "disable_tqdm": True,
    }  # fmt: skip


def groups(tokenizer: Any) -> Any:
    """Return GRPO or RLOO with their defaults: 8 prompts with 4 completions each per step."""
    import trl

    trainer, config = (trl.RLOOTrainer, trl.RLOOConfig) if WORK.stage == "rloo" else (trl.GRPOTrainer, trl.GRPOConfig)
    data = Dataset.from_list([{"prompt": text} for text in online_prompts(WORK)])
    args = config(
        **shared(),
        max_steps=WORK.rounds,
        per_device_train_batch_size=32,
        num_generations=4,
        max_completion_length=NEW_TOKENS,
        logging_steps=1,
    )

    def nearness(completions: list[str], **_: object) -> list[float]:
        return [-abs(len(text) - 100) / 100 for text in completions]

    return trainer(causal(), reward_funcs=nearness, args=args, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])


def ppo(tokenizer: Any) -> Any:
    """Return PPO with 32 episodes per update, 4 epochs and its own value model."""
    sys.path.insert(0, os.environ["TRL_PPO"])
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    data = Dataset.from_list([{"input_ids": tokenizer(text).input_ids} for text in online_prompts(WORK)])
    args = PPOConfig(
        **shared(), per_device_train_batch_size=8, gradient_accumulation_steps=4, num_mini_batches=1, num_ppo_epochs=4,
        total_episodes=32 * WORK.rounds, response_length=NEW_TOKENS, num_sample_generations=0, local_rollout_forward_batch_size=32,
        missing_eos_penalty=None, temperature=1.0, logging_steps=1,
    )  # fmt: skip
    return PPOTrainer(
        args=args, processing_class=tokenizer, model=causal(), ref_model=causal(), reward_model=scalar(), value_model=scalar(),
        train_dataset=data, callbacks=[Clock()],
    )  # fmt: skip


def causal() -> Any:
    """Load the policy in float32."""
    return AutoModelForCausalLM.from_pretrained(WORK.model, dtype=torch.float32)


def scalar() -> Any:
    """Load a reward or value model."""
    torch.manual_seed(1)
    return AutoModelForSequenceClassification.from_pretrained(WORK.model, num_labels=1, dtype=torch.float32)


if __name__ == "__main__":
    main()
