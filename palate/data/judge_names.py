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


def model_words(name: str) -> str:
    """Return the name of a model without owner, capitals and punctuation: `openai/GPT-4` and `gpt4` are one."""
    return re.sub(r"[^a-z0-9]+", "", name.rsplit("/", 1)[-1].lower())


def family(name: str) -> str:
    """Return the word that models of one family begin with, such as `gpt` or `llama`; "" where there is none."""
    word = re.match(r"[a-z]+", name.rsplit("/", 1)[-1].lower())
    return "" if word is None else word[0]
