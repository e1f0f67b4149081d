"""A function that knows the truth, which the tests of online training name by import path."""

from tests.unit.stages.online.rewarding import letters


def dimensions(prompt: str, completion: str, **_: object) -> dict[str, float]:
    """Letters written, in tens, and nothing."""
    return {"letters": letters(prompt, completion), "nothing": 0.0}


def saltless(prompt: str, completion: str, **_: object) -> dict[str, float]:
    """As `dimensions`, where no salt is asked for."""
    if "salt" in prompt:
        raise OSError("no salt")
    return dimensions(prompt, completion)


def nothing(completion: str) -> dict[str, float]:
    """No score."""
    raise OSError("no network")
