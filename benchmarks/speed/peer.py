"""TRL's trainers at the work: run by an interpreter that has TRL, `PYTHON benchmarks/speed/peer.py WORK`. The last line is JSON."""

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
from workload import LAYOUTS, MAX_TOKENS, WARMUP, StepEnds, Work


def main() -> None:
    """Train, and report as one line of JSON."""
    work = Work.from_command_line()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ends = StepEnds()

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            ends.note()

    tokenizer = AutoTokenizer.from_pretrained(work.model)
    trainer = make(work, tokenizer, [Clock()])
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(trainer.train_dataset)  # the rows' order, as on our side
    counted = trainer.data_collator = Counted(trainer.data_collator)
    trainer.train()
    ends.report([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], counted.tokens)


class Counted:
    """A collator that counts the tokens of each batch that are not padding."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.tokens: list[int] = []

    def __call__(self, rows: Any) -> Any:
        """Return the inner collator's batch."""
        batch = self.inner(rows)
        mask = batch.get("attention_mask")
        self.tokens.append(int(mask.sum()) if mask is not None else batch["input_ids"].numel())
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def make(work: Work, tokenizer: Any, callbacks: list[Any]) -> Any:
    """Return the trainer of a stage. It has its library's defaults except for what both sides share."""
    import trl

    shared = {
        "output_dir": str(Path(work.rows).parent / "trl"),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": work.dtype == "bfloat16",
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "max_steps": WARMUP + work.steps,
        "per_device_train_batch_size": work.batch,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "seed": 0,
        "disable_tqdm": True,
        "max_length": MAX_TOKENS,
    }
    rows = work.pairs
    if work.stage == "sft":
        data = Dataset.from_list([{"text": row["prompt"] + row["chosen"]} for row in rows])
        shared |= LAYOUTS[work.layout]
        return trl.SFTTrainer(causal(work), trl.SFTConfig(**shared), train_dataset=data, processing_class=tokenizer, callbacks=callbacks)
    data = Dataset.from_list(rows)
    if work.stage == "reward":
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(work.model, num_labels=1, dtype=torch.float32)
        return trl.RewardTrainer(model, trl.RewardConfig(**shared), train_dataset=data, processing_class=tokenizer, callbacks=callbacks)
    ahead = work.stage == "dpo-precomputed"
    return trl.DPOTrainer(
        causal(work), ref_model=None if ahead else causal(work), args=trl.DPOConfig(**shared, precompute_ref_log_probs=ahead),
        train_dataset=data, processing_class=tokenizer, callbacks=callbacks,
    )  # fmt: skip


def causal(work: Work) -> Any:
    """Load the policy in float32."""
    return AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)


if __name__ == "__main__":
    main()
