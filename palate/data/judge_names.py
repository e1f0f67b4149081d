"""Names of judges as raters: `model/instructions@version`, with `#principle` where a principle was drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<model>.+)/(?P<instructions>[^/@#]+)@(?P<version>[^/@#]+)(?:#(?P<principle>.+))?")


@dataclass(frozen=True, slots=True)
class JudgeName:
    """The parts of a judge's name. Another version of its instructions is another judge."""

    model: str
    instructions: str
    version: str
    principle: str = ""

    @property
    def without_principle(self) -> str:
        """The judge who draws principles, of whom each principle is one rater."""
        return f"{self.model}/{self.instructions}@{self.version}"


def judge_name(rater: str) -> JudgeName | None:
    """Return the parts of a rater's name; None where it is not a judge's."""
    found = _NAME.fullmatch(rater)
    return None if found is None else JudgeName(found["model"], found["instructions"], found["version"], found["principle"] or "")


def judge_of(rater: str) -> str:
    """Return the judge that a rater belongs to: its name without the principle. Any other rater is its own."""
    name = judge_name(rater)
    return rater if name is None else name.without_principle


UNCALIBRATED = "uncalibrated"
"""What a judge is called, wherever one of its figures appears, that was not measured on people's labels."""


UNKNOWN_CALIBRATION = "calibration not known"
"""The same where no run says whether it was measured, as in a file of judgments or a database."""


def titled(judge: str, *, is_calibrated: bool | None) -> str:
    """Return a judge's name as pages, logs and sentences have it: with what is known about its report card.

    Args:
        judge: its name.
        is_calibrated: whether its answers went through its report card; None where nobody knows, as in a file of judgments.
    """
    if is_calibrated:
        return judge
    return f"{judge} ({UNKNOWN_CALIBRATION if is_calibrated is None else UNCALIBRATED})"


def figure_name(name: str, *, is_calibrated: bool) -> str:
    """Return the name of a judge's figure as metrics and columns have it: `honest`, or `honest_uncalibrated`."""
    return name if is_calibrated else f"{name}_{UNCALIBRATED}"


def model_words(name: str) -> str:
    """Return the name of a model without owner, capitals and punctuation: `openai/GPT-4` and `gpt4` are one."""
    return re.sub(r"[^a-z0-9]+", "", name.rsplit("/", 1)[-1].lower())


def family(name: str) -> str:
    """Return the word that models of one family begin with, such as `gpt` or `llama`; "" where there is none."""
    word = re.match(r"[a-z]+", name.rsplit("/", 1)[-1].lower())
    return "" if word is None else word[0]
