"""Chat servers that grade criteria: what a question holds, and answers by a rule that the test knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from palate.testing.chat_answers import chat_answer
from palate.testing.completions_server import Answer

Grade = Callable[[str, str], bool | None]
"""Whether a completion meets the criterion with this text; None where the judge writes prose."""


def asked_about(body: Mapping[str, Any]) -> tuple[str, str]:
    """The completion in a question about criteria, and what follows it."""
    parts = body["messages"][-1]["content"].split("=====\n")
    return parts[3].removesuffix("\n"), parts[4]


def one_by_one(grade: Grade) -> Answer:
    """Answers a question per criterion."""

    def answer(body: Mapping[str, Any]) -> tuple[int, object]:
        completion, rest = asked_about(body)
        criterion = rest.split("The statement: ")[1].split("\n\n")[0]
        met = grade(criterion, completion)
        return 200, chat_answer("That depends." if met is None else f"met: {'yes' if met else 'no'}")

    return answer


def together(grade: Grade) -> Answer:
    """Answers about all criteria in one reply; a criterion that it does not grade has no line."""

    def answer(body: Mapping[str, Any]) -> tuple[int, object]:
        completion, rest = asked_about(body)
        listed = rest.split("after its id:\n")[1].split("\n\n")[0]
        lines = []
        for identity, _, criterion in (line.partition(": ") for line in listed.splitlines()):
            met = grade(criterion, completion)
            lines += [] if met is None else [f"{identity}: {'yes' if met else 'no'}"]
        return 200, chat_answer("\n".join(lines))

    return answer
