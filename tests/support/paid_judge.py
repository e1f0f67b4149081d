"""A judge behind a real server that counts what it answered and charged, with faults on purpose."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palate.data.jsonl import write_rows
from palate.testing.chat_answers import asked_pair, chat_answer

PRICE_IN, PRICE_OUT = 2.0, 8.0
"""Money per million tokens."""

FAULTS = {"busy": 0.1, "broken": 0.1, "half": 0.02, "cut": 0.05}
"""Shares of requests that are refused with 429 or 500, break off in the middle of the answer, or are answered with a cut reply."""


@dataclass
class PaidJudge:
    """Answers written verdicts: the answer with the larger number is better.

    Attributes:
        answered: answers that were sent whole or in part, by question.
        broken_off: answers that broke off, which are charged all the same.
        refused: requests that were refused, by status.
        bill: what the server charged for them, in money.
        tokens: tokens of these answers.
    """

    answered: Counter[str] = field(default_factory=Counter)
    broken_off: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    bill: float = 0.0
    tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tries: Counter[str] = field(default_factory=Counter)

    def __call__(self, body: Mapping[str, Any]) -> tuple[int, object] | tuple[int, object, Mapping[str, str]]:
        """Answer a request."""
        question = hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=8).hexdigest()
        with self._lock:
            self._tries[question] += 1
            tries = self._tries[question]
        fault = drawn_fault(question, tries)
        if fault in ("busy", "broken"):
            status = 429 if fault == "busy" else 500
            with self._lock:
                self.refused[status] += 1
            return status, {"error": fault}, {"Retry-After": "0"}
        first, second = asked_pair(body)
        text = f"One says more.\nVerdict: {'A' if int(first.split()[-1]) > int(second.split()[-1]) else 'B'}"
        usage = len(json.dumps(body["messages"])) // 4, 9
        is_cut = drawn_fault(question, 0) == "cut"
        answer = chat_answer(text[:-3] if is_cut else text, finish="length" if is_cut else "stop", usage=usage)
        with self._lock:
            self.answered[question] += 1
            self.tokens += sum(usage)
            self.broken_off += fault == "half"
            self.bill += (usage[0] * PRICE_IN + usage[1] * PRICE_OUT) / 1e6
        if fault == "half":
            content = json.dumps(answer).encode()
            return 200, content[:40], {"Content-Length": str(len(content))}
        return 200, answer

    @property
    def paid_twice(self) -> int:
        """Whole answers beyond the first of each question."""
        return sum(self.answered.values()) - self.broken_off - len(self.answered)


def drawn_fault(question: str, tries: int) -> str:
    """The fault of an attempt, the same in every run; "" for none. From the fourth attempt on there is none, so every question ends."""
    draw = int.from_bytes(hashlib.blake2b(f"{question}/{tries}".encode(), digest_size=4).digest()) / 2**32
    if tries > 3:
        return ""
    for name, share in FAULTS.items():
        if draw < share:
            return name
        draw -= share
    return ""


def write_pairs(folder: Path, count: int) -> None:
    """Write a samples.jsonl with two completions of each prompt."""
    rows = [
        {
            "id": f"p{k}",
            "prompt": [{"role": "user", "content": f"question {k}: {'say more ' * (k % 5)}"}],
            "completions": [{"text": f"answer {k} {(k * 7 + j * 3) % 11}", "stop": "eos", "tokens": 3} for j in range(2)],
        }
        for k in range(count)
    ]
    write_rows(folder / "samples.jsonl", rows)
