"""Learning is equal: SFT, reward and DPO follow a plain padded PyTorch loop, step by step, on the same rows.

The loop below is what one would write by hand with transformers: right-padded rows, the model's own forward with a mask, means over
tokens or pairs, torch's AdamW. It shares with Palate the tiny model, the rows' order, and nothing else.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from palate.cli import main
from palate.core import derive_seed
from palate.models import cpu
from palate.models.scalar import scalar_from
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training.fit import Epochs

STEPS, ROWS, PER_STEP = 50, 80, 8
LR, WARMUP = 3e-3, 0.1


def phrase(seed: int, count: int) -> str:
    return " ".join(WORDS[(seed * 7 + k * k + 3 * k) % len(WORDS)] for k in range(count))


PAIRS = [
    {"prompt": phrase(k, 2 + k % 7), "chosen": " " + phrase(k + 3, 2 + k % 5), "rejected": " " + phrase(k + 11, 3 + k % 4)}
    for k in range(ROWS)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_policy("qwen3").save(folder)
    return folder


@pytest.fixture(scope="module")
def plain_loop(base: Path) -> Callable[[str], list[float]]:
    """`plain_loop(stage)` are the losses of the plain loop, computed once for each stage."""
    return cache(lambda stage: plain(stage, base))


def palates_losses(stage: str, base: Path, folder: Path) -> list[float]:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    own = {
        "sft": ["--data", str(data), "--demonstrations_per_step", str(PER_STEP)],
        "direct": ["--preferences", str(data), "--prompts_per_step", str(PER_STEP), "--objective.beta", "0.2"],
        "reward": ["--preferences", str(data), "--held_out", str(folder / "held.jsonl"), "--prompts_per_step", str(PER_STEP)],
    }
    (folder / "held.jsonl").write_text(json.dumps({**PAIRS[0], "prompt": "please"}) + "\n")
    learning = ["--epochs", str(STEPS * PER_STEP / ROWS), "--optimizer.lr", str(LR), "--optimizer.warmup", str(WARMUP)]
    small = ["--tokens_per_microbatch", "100"]  # several micro-batches a step
    assert main([stage, "--model", str(base), *own[stage], *learning, *small, "--out", str(folder / "run")]) == 0
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [row[f"{stage}/loss/mean"] for row in rows]


def padded(chosen: list[int], side: str) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and completion mask of one side of rows, padded on the right."""
    tokenizer = word_tokenizer()
    prompts = [tokenizer(PAIRS[k]["prompt"]).input_ids for k in chosen]
    wholes = [[*tokenizer(PAIRS[k]["prompt"] + PAIRS[k][side]).input_ids, tokenizer.eos_token_id] for k in chosen]
    width = max(map(len, wholes))
    ids = torch.tensor([whole + [tokenizer.pad_token_id] * (width - len(whole)) for whole in wholes])
    real = torch.tensor([[1] * len(whole) + [0] * (width - len(whole)) for whole in wholes])
    column = torch.arange(width)
    return ids, real, (column >= torch.tensor([[len(p)] for p in prompts])) & real.bool()


def completion_logps(model: PreTrainedModel, chosen: list[int], side: str) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities of completions and their numbers of tokens."""
    ids, real, completion = padded(chosen, side)
    logps = torch.log_softmax(model(input_ids=ids, attention_mask=real).logits[:, :-1], -1).gather(2, ids[:, 1:, None])[..., 0]
    return (logps * completion[:, 1:]).sum(1), completion.sum(1)


def sft_loss(model: PreTrainedModel, chosen: list[int]) -> Tensor:
    logps, tokens = completion_logps(model, chosen, "chosen")
    return -logps.sum() / tokens.sum()


def reward_loss(model: PreTrainedModel, chosen: list[int]) -> Tensor:
    scores = []
    for side in ("chosen", "rejected"):
        ids, real, _ = padded(chosen, side)
        states = model.base_model(input_ids=ids, attention_mask=real)[0]
        scores.append(model.score(states[torch.arange(len(chosen)), real.sum(1) - 1])[:, 0])
    return -logsigmoid(scores[0] - scores[1]).mean()


def dpo_loss(model: PreTrainedModel, reference: PreTrainedModel, chosen: list[int]) -> Tensor:
    with torch.no_grad():
        then = [completion_logps(reference, chosen, side)[0] for side in ("chosen", "rejected")]
    now = [completion_logps(model, chosen, side)[0] for side in ("chosen", "rejected")]
    return -logsigmoid(0.2 * ((now[0] - then[0]) - (now[1] - then[1]))).mean()


def plain_losses(model: PreTrainedModel, loss: Callable[[list[int]], Tensor], stage: str) -> list[float]:
    order = Epochs(ROWS, PER_STEP, STEPS * PER_STEP / ROWS, derive_seed(0, stage, "order"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    rise = WARMUP * STEPS
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) / rise if k + 1 <= rise else (STEPS - k) / (STEPS - rise))
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        mean = loss(order.indices(step))
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(mean.detach()))
    return losses


def plain(stage: str, base: Path) -> list[float]:
    if stage == "reward":
        start = scalar_from(base, ("overall",), seed=derive_seed(0, "heads"))
        model = AutoModelForSequenceClassification.from_config(start.module.config, attn_implementation="eager")
        model.load_state_dict(start.module.state_dict())
        return plain_losses(model, lambda chosen: reward_loss(model, chosen), stage)
    model, reference = (AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager") for _ in range(2))
    if stage == "sft":
        return plain_losses(model, lambda chosen: sft_loss(model, chosen), stage)
    return plain_losses(model, lambda chosen: dpo_loss(model, reference, chosen), stage)


@pytest.mark.parametrize("by_convolution", [False, True])
@pytest.mark.parametrize("stage", ["sft", "reward", "direct"])
def test_losses_follow_a_plain_padded_loop(
    stage: str,
    by_convolution: bool,
    base: Path,
    plain_loop: Callable[[str], list[float]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = plain_loop(stage)
    if by_convolution:  # whatever the processor and the number of threads: every product, with tokens rounded up
        monkeypatch.setattr(cpu, "convolves", lambda: True)
        monkeypatch.setattr(cpu, "WORTH", 0)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    ours = palates_losses(stage, base, tmp_path)
    assert len(ours) == STEPS
    assert theirs[-1] < 0.8 * theirs[0]  # there was something to learn
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-3
