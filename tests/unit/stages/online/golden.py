"""A function that knows the truth, which the tests of online training name by import path."""

from tests.unit.stages.online.rewarding import letters


def dimensions(prompt: str, completion: str, **_: object) -> dict[str, float]:
    """Letters written, in tens, and nothing."""
    return {"letters": letters(prompt, completion), "nothing": 0.0}
