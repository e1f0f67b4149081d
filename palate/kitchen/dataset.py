"""The kitchen's files: everything a pipeline reads, in the same shapes as real data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from palate.kitchen.complaints import answer
from palate.kitchen.cooks import CAREFUL, STREET, TRAINEE, reply
from palate.kitchen.guests import Split, draw_request, write_request
from palate.kitchen.questions import draw_evals, draw_lesson
from palate.kitchen.tokenizer import SPECIAL, write_tokenizer

Row = Mapping[str, object]
DEMONSTRATED_LESSONS = 0.2
"""Share of the demonstrations that are questions with true answers."""


@dataclass(frozen=True)
class Kitchen:
    """The embedded world: a small language of guests' requests and cooks' replies whose truth a program knows.

    Attributes:
        texts: documents of the base corpus.
        lessons: share of the base corpus that are questions with true answers (the facts an aligned cook must keep).
        cookbooks: share of its other documents, each answered by its guest, that careful cooks wrote; anybody wrote the rest.
        demonstrations: replies by a trainee cook, a fifth of them answers to questions, for supervised fine-tuning.
        prompts: requests for sampling, judging and reinforcement learning.
        held_out: requests whose combinations of ingredients none of the above contains.
        evals: questions of each eval.
    """

    texts: int = 24_000
    lessons: float = 0.4
    cookbooks: float = 0.5
    demonstrations: int = 3_000
    prompts: int = 4_000
    held_out: int = 400
    evals: int = 200

    def files(self, seed: int) -> dict[str, Callable[[], Iterator[Row]]]:
        """File names and what yields their rows; each file has its own generator, so sizes do not shift one another."""
        return {
            "corpus.jsonl": lambda: self._corpus(_rng(seed, "corpus")),
            "demonstrations.jsonl": lambda: self._demonstrations(_rng(seed, "demonstrations")),
            "prompts.jsonl": lambda: _prompts(_rng(seed, "prompts"), "train", self.prompts),
            "held_out.jsonl": lambda: _prompts(_rng(seed, "held_out"), "held_out", self.held_out),
            "evals.jsonl": lambda: draw_evals(_rng(seed, "exams"), self.evals),
        }

    def _corpus(self, rng: random.Random) -> Iterator[Row]:
        for _ in range(self.texts):
            if rng.random() < self.lessons:
                asked, said = draw_lesson(rng, "train")
                answered = ""
            else:
                request = draw_request(rng, "train")
                asked, said = write_request(request), reply(CAREFUL if rng.random() < self.cookbooks else STREET, request, rng)
                answered = f" <guest> {answer(request, said, rng)} <end>"
            yield {"text": f"<guest> {asked} <end> <cook> {said} <end>{answered}"}

    def _demonstrations(self, rng: random.Random) -> Iterator[Row]:
        for _ in range(self.demonstrations):
            if rng.random() < DEMONSTRATED_LESSONS:
                yield _exchange(*draw_lesson(rng, "train"))
            else:
                request = draw_request(rng, "train")
                yield _exchange(write_request(request), reply(TRAINEE, request, rng))

    def write(self, directory: Path, seed: int, write_rows: Callable[[Path, Iterable[Row]], object]) -> None:
        """Writes the world's files and its tokenizer below `directory`."""
        words: set[str] = set()
        for name, rows in self.files(seed).items():
            kept = list(rows())
            write_rows(directory / name, kept)
            for row in kept:
                words.update(_words(row))
        write_tokenizer(words, directory / "tokenizer")


def _rng(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")


def _exchange(prompt: str, completion: str) -> Row:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]}


def _prompts(rng: random.Random, split: Split, size: int) -> Iterator[Row]:
    seen: set[str] = set()
    while len(seen) < size:
        text = write_request(draw_request(rng, split))
        if text not in seen:
            seen.add(text)
            yield {"id": f"{split}-{len(seen) - 1}", "prompt": [{"role": "user", "content": text}]}


def _words(row: Row) -> Iterator[str]:
    for message in (*row.get("messages", ()), *row.get("prompt", ())):  # type: ignore[misc]
        yield from message["content"].split()
    for column in ("text", "answer"):
        yield from (word for word in str(row.get(column, "")).split() if word not in SPECIAL)
