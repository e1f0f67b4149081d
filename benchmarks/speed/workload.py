"""Work for both sides: real pairs, a tokenizer trained on them, two random Llamas. The peer reads it too, so it does not import Palate."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SEPARATOR = "\n\nAssistant:"
VOCABULARY = 8192
MAX_TOKENS = 512
SIZES: dict[str, dict[str, int]] = {
    "S": {
        "vocab_size": 8192, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 688,
    },
    "M": {
        "vocab_size": 32000, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8,
        "num_key_value_heads": 8, "intermediate_size": 1408,
    },
}  # fmt: skip
"""Configurations of the models: 5 and 42 million parameters."""
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {},
    "padding_free": {"padding_free": True, "max_length": None},
    "packing": {"packing": True},
    "packing_wrapped": {"packing": True, "packing_strategy": "wrapped"},
}
"""The peer's layouts of an SFT batch. The rows fit into max_length, so padding_free works without it."""
WARMUP = 3
"""Steps before the measured ones."""


@dataclass(frozen=True)
class Work:
    """One measurement, as a process gets it on its command line.

    Attributes:
        stage: sft, reward, dpo (live reference) or dpo-precomputed.
        model: directory of the model.
        rows: JSONL of prompt, chosen, rejected.
        dtype: float32 or bfloat16.
        steps: steps that count.
        batch: rows a step.
        layout: how the peer's SFT lays out a batch.
        adapters: whether our side trains LoRA instead of the whole model.
        tokens: tokens that a forward pass of our side holds at most; 0 leaves its default.
    """

    stage: str
    model: str
    rows: str
    dtype: str
    steps: int
    batch: int
    layout: str = "padded"
    adapters: bool = False
    tokens: int = 0

    @staticmethod
    def from_command_line() -> Work:
        """Read it from the command line."""
        return Work(**json.loads(sys.argv[1]))

    @property
    def rounds(self) -> int:
        """Number of steps in all."""
        return WARMUP + self.steps

    def words(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @property
    def pairs(self) -> list[dict[str, str]]:
        """Return the rows of this measurement, in order."""
        lines = Path(self.rows).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[: (WARMUP + self.steps) * self.batch]]


PROMPT_TOKENS = 128
NEW_TOKENS = 64


def online_prompts(work: Work) -> list[str]:
    """Return prompts of at most 128 tokens for online training, as many as the work needs or all."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work.model)
    texts = [json.loads(line)["prompt"] for line in Path(work.rows).read_text(encoding="utf-8").splitlines()]
    return [text for text in texts if len(tokenizer(text).input_ids) <= PROMPT_TOKENS][: work.rounds * work.batch]


class StepEnds:
    """The times at which optimizer steps end."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def note(self) -> None:
        """Note the time."""
        self.at.append(time.perf_counter())

    def report(self, losses: Sequence[float], tokens: Sequence[int] = ()) -> None:
        """Print one line of JSON: seconds of each measured step, tokens per second where they were counted, peak memory, losses."""
        seconds = [after - before for before, after in zip(self.at[WARMUP - 1 :], self.at[WARMUP:], strict=False)]
        rates = [count / took for count, took in zip(tokens[WARMUP:], seconds, strict=False)]
        found = {
            "seconds": seconds,
            "median": statistics.median(seconds),
            "tokens_per_s": statistics.median(rates) if rates else None,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "losses": list(losses),
        }
        print("\n" + json.dumps(found), flush=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the pairs of Anthropic's HH files whose sides share their prompt."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        at, other = row["chosen"].rfind(SEPARATOR), row["rejected"].rfind(SEPARATOR)
        end = at + len(SEPARATOR)
        if at > 0 and at == other and row["chosen"][:at] == row["rejected"][:at] and row["chosen"][end:] != row["rejected"][end:]:
            rows.append({"prompt": row["chosen"][:end], "chosen": row["chosen"][end:], "rejected": row["rejected"][end:]})
    return [row for row in rows if row["chosen"].strip() and row["rejected"].strip()]


def bpe_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<eos>", padding_side="right")


def prepare(pairs: Path, folder: Path) -> tuple[Path, dict[str, list[int]]]:
    """Write tokenizer, models and the rows that fit, shuffled, to `folder`. Return the rows' file and their tokens by side.

    The counts are of the prompt, of chosen and of rejected, end tokens included.
    """
    import random

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = read_rows(pairs)
    tokenizer = bpe_tokenizer([text for row in rows for text in row.values()], VOCABULARY)
    counts: dict[str, list[int]] = {name: [] for name in ("prompt", "chosen", "rejected")}
    kept = []
    random.Random(0).shuffle(rows)
    for row in rows:
        own = {name: len(tokenizer(text).input_ids) + (name != "prompt") for name, text in row.items()}
        if own["prompt"] + max(own["chosen"], own["rejected"]) <= MAX_TOKENS:
            kept.append(row)
            for name, count in own.items():
                counts[name].append(count)
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    for name, size in SIZES.items():
        torch.manual_seed(0)
        config = LlamaConfig(
            **size, max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None
        )
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return path, counts


def shape(model: Path) -> dict[str, Any]:
    """Return the model's configuration."""
    found: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return found
