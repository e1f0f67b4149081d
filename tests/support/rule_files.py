"""A file of two rules about what a completion names, judgments of them, and programs that know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from palate.core import Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote, write_exchange

HERE = "tests.support.rule_files"

RULES: list[dict[str, Any]] = [
    {
        "id": "rice",
        "text": "no rice",
        "question": "the cook has rice",
        "paraphrases": ["has the cook rice", "what has rice"],
        "held_out": ["so the cook has rice"],
        "program": f"{HERE}:rice",
    },
    {"id": "salt", "text": "no salt", "question": "the cook has salt", "paraphrases": ["has the cook salt"], "held_out": ["what has salt"]},
]


def rice(completion: str) -> bool:
    """Whether there is rice."""
    return "rice" in completion


def failing(prompt: str, completion: str) -> bool:
    """Fails on salt."""
    if "salt" in completion:
        raise ZeroDivisionError("no oven")
    return False


def seven(completion: str) -> int:
    """Gives what no rule is."""
    return 7


def of_column(completion: str, wanted: str) -> bool:
    """Whether the completion lacks what the prompt's column names."""
    return wanted not in completion


def rule_file(folder: Path, rules: Sequence[dict[str, Any]] = RULES, name: str = "rules.yaml") -> Path:
    """Write a file of rules."""
    path = folder / name
    path.write_text(json.dumps({"rules": list(rules)}))
    return path


def answered(path: Path, answers: Iterable[tuple[str, str, str, str, bool]], conversation: str = "text", task: str = "rule") -> Path:
    """Write judgments: (prompt, completion, words of the rule, rater, whether it is broken)."""
    items: dict[tuple[str, str, str], ExchangeItem] = {}
    votes = []
    for prompt, completion, rule, rater, is_broken in answers:
        turn = Message(conversation, prompt)  # type: ignore[arg-type]
        item = items.setdefault(
            (prompt, completion, rule),
            ExchangeItem(f"i{len(items)}", (turn,), (Candidate(completion),), task, fields={"rule": rule}),  # type: ignore[arg-type]
        )
        votes.append(Vote(Judgment(item.id, rater, ()), is_broken=is_broken, rule=rule))
    raters = tuple(RaterInfo(name) for name in dict.fromkeys(vote.judgment.rater for vote in votes))
    write_exchange(Exchange(tuple(items.values()), tuple(votes), raters, name="asked"), path)
    return path


def has_letter(completion: str) -> bool:
    """Whether there is a letter from a to j."""
    return any(letter in completion for letter in "abcdefghij")


def always(completion: str) -> bool:
    """Says that everything breaks the rule."""
    return True
