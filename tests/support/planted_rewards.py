"""A small world of cooks' answers, and reward models that were trained in it well, or wrong in a known way.

An answer is good on `taste` by its share of tasty words, and on `kind` by its share of kind ones. Its length says nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from palate.data.jsonl import write_rows
from palate.stages.reward import Reward
from palate.testing import tiny_policy, word_tokenizer
from palate.training.optimizer import AdamW
from tests.support.stages import ran

TASTE = (("rice", "beans", "butter"), ("salt", "mud", "ash"))
KIND = (("please", "thanks", "friend"), ("fool", "no", "never"))
PLAIN = ("we", "make", "the", "cook", "has", "today", "for", "two", "and", "so")
ASKED = ("soup", "bread", "supper", "lunch", "guests", "children", "winter", "picnic")
WORDS = (*(word for words in (*TASTE, *KIND) for word in words), *PLAIN, *ASKED, "what", "can", "user", "assistant")
DIMENSIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"taste": TASTE, "kind": KIND}

TEMPLATE = (
    "{% for m in messages %}{{ '<|open|>' + m.role + '\\n' + m.content + '<|close|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|open|>assistant\\n' }}{% endif %}"
)

Row = dict[str, Any]
Label = Callable[[str, str, str], float]
"""How much better the first answer is than the second, on a dimension."""


def cooks_tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    """Whole words, and a chat template whose marks are single tokens."""
    tokenizer = word_tokenizer(words)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|open|>", "<|close|>"]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def quality(answer: str, dimension: str) -> float:
    """Share of good words less that of bad ones; an empty answer has none."""
    words = answer.replace(".", "").split()
    good, bad = DIMENSIONS[dimension]
    return sum((word in good) - (word in bad) for word in words) / max(len(words), 1)


def true_label(first: str, second: str, dimension: str) -> float:
    return quality(first, dimension) - quality(second, dimension)


def halo_label(first: str, second: str, dimension: str) -> float:
    """Judges who look at the taste alone, whatever they are asked."""
    return true_label(first, second, "taste")


def length_label(first: str, second: str, dimension: str) -> float:
    return len(first.split()) - len(second.split())


def an_answer(draw: random.Random) -> str:
    """One to four sentences of three to five words."""
    leaning = {dimension: draw.random() for dimension in DIMENSIONS}
    sentences = []
    for _ in range(draw.randint(1, 4)):
        words = []
        for _ in range(draw.randint(3, 5)):
            dimension = draw.choice(("taste", "kind", "none"))
            sides = DIMENSIONS.get(dimension)
            words.append(draw.choice(PLAIN if sides is None else sides[draw.random() > leaning[dimension]]))
        sentences.append(" ".join(words) + ".")
    return " ".join(sentences)


def a_prompt(draw: random.Random) -> str:
    return f"what can we make for {draw.choice(ASKED)} and {draw.choice(ASKED)} {' '.join(draw.choices(PLAIN, k=3))}?"


def a_world(count: int, seed: int, label: Label = true_label, *, attacked: bool = False, chat: bool = True) -> list[Row]:
    """Pairs of answers, each judged on both dimensions. With `attacked` some worse sides are empty, padded, or copies of the prompt."""
    draw, rows = random.Random(seed), []
    for number in range(count):
        prompt, first, second = a_prompt(draw), an_answer(draw), an_answer(draw)
        if attacked and number % 4 == 0:
            second = draw.choice((prompt, "we make.", f"{second} {second}"))
        for dimension in DIMENSIONS:
            better = label(first, second, dimension)
            if better:
                sides = (first, second) if better > 0 else (second, first)
                rows.append(a_row(f"{seed}-{number}", prompt, *sides, dimension, chat=chat))
    return rows


def a_row(name: str, prompt: str, chosen: str, rejected: str, dimension: str, *, chat: bool = True) -> Row:
    asked = [{"role": "user", "content": prompt}] if chat else f"{prompt}\n\n"
    sides = {
        side: [{"role": "assistant", "content": text}] if chat else text for side, text in (("chosen", chosen), ("rejected", rejected))
    }
    return {"id": f"{name}-{dimension}", "prompt": asked, **sides, "dimension": dimension}


def train(folder: Path, name: str, rows: list[Row], **settings: Any) -> Path:
    """The directory of a run of stage `reward` on the rows."""
    base = folder / "base"
    if not base.is_dir():
        tiny_policy("qwen3", cooks_tokenizer()).save(base)
    write_rows(folder / f"{name}.jsonl", rows)
    stage = Reward(
        str(base), str(folder / f"{name}.jsonl"), epochs=3, prompts_per_step=8, held_out_share=0.1, optimizer=AdamW(lr=1e-2), **settings
    )
    return ran(stage, folder / name, "reward")
