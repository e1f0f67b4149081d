"""Instructions for judges: files with the texts that a judge reads, and the names under which Palate ships some."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from palate.config.read import read_config
from palate.config.settings import nearest, read_yaml
from palate.config.types import InputMark
from palate.core import Completion, ConfigError, Conversation, Message, Prompt

FOLDER = Path(__file__).parent / "instructions"
"""Where the shipped instructions lie."""

SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""Their names."""

InstructionsInput = Annotated[str, InputMark(names=SHIPPED)]
"""The name of instructions that Palate ships, or the path of a file, whose content is part of the run's key."""

CUT = " [the answer was cut off here]"
"""Text after a completion that did not end by itself, because it must not look finished."""

FIELDS = ("prompt", "first", "second", "completion", "principle", "options", "low", "high")
NEEDED = {"pairwise": ("prompt", "first", "second"), "pointwise": ("prompt", "completion")}
VERSION_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What a judge reads beside prompts and completions, as in a file of instructions.

    Texts may hold {prompt}, {first} and {second} or {completion}, {principle}, {options}, {low} and {high}.

    Attributes:
        id: the name, as raters' names have it.
        scale: pairwise compares two completions, pointwise gives a mark to one.
        dimension: the dimension that it is about; none is for any dimension, as where a principle says what counts.
        system: the system's turn; none has no such turn.
        user: the user's turn: the conversation, the completions, and what to judge.
        answer: the end of that turn where the judge answers at once.
        reason: the end of that turn where the judge reasons first.
        verdict: the user's next turn, which asks for the verdict after the reasons, where the probabilities of the options are read.
        options: the words that a verdict may be: for pairs the first, the second and perhaps a tie; marks from the lowest to the highest.
    """

    id: str
    scale: Literal["pairwise", "pointwise"]
    dimension: str | None = None
    system: str | None = None
    user: str
    answer: str
    reason: str
    verdict: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the texts and the options."""
        if not re.fullmatch(r"[\w.-]+", self.id):
            raise ConfigError(f"instructions: id must be a word, got {self.id!r}; it is part of raters' names")
        missing = [f"{{{name}}}" for name in NEEDED[self.scale] if f"{{{name}}}" not in f"{self.system or ''}{self.user}"]
        if missing:
            raise ConfigError(f"instructions {self.id}: user lacks {' and '.join(missing)}: the judge would not see what to judge")
        if len(set(self.options)) < len(self.options) or not all(option.strip() for option in self.options):
            raise ConfigError(f"instructions {self.id}: options must be different words, got {', '.join(map(repr, self.options))}")
        if self.scale == "pairwise" and len(self.options) not in (2, 3):
            raise ConfigError(
                f"instructions {self.id}: options of a pair are the words for the first, the second and perhaps a tie, "
                f"got {len(self.options)}"
            )
        if self.scale == "pointwise":
            self._check_marks()

    def _check_marks(self) -> None:
        marks = [float(option) if re.fullmatch(r"-?\d+(\.\d+)?", option) else None for option in self.options]
        if len(marks) < 2 or any(mark is None for mark in marks) or marks != sorted(marks, key=lambda mark: mark or 0.0):
            raise ConfigError(
                f"instructions {self.id}: options must be marks from the lowest to the highest, got {', '.join(self.options)}"
            )

    @property
    def marks(self) -> tuple[float, ...]:
        """The marks of a pointwise scale, lowest first."""
        return tuple(map(float, self.options))

    @property
    def takes_principle(self) -> bool:
        """Whether the texts have a place for a principle."""
        return any("{principle}" in text for text in (self.system or "", self.user, self.answer, self.reason, self.verdict))

    def version(self, mode: str, *, reasons_first: bool) -> str:
        """Return eight hex digits of the digest of the texts and options that are used, and of how the verdict is read."""
        endings = (self.reason, self.verdict) if reasons_first else (self.answer,)
        texts = [mode, self.scale, self.system, self.user, *endings, *self.options]
        return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()[:VERSION_DIGITS]

    def question(self, prompt: Prompt, completions: Sequence[Completion], principle: str, *, reasons_first: bool) -> Conversation:
        """Return what the judge reads of completions, in the order shown. A field in their text stays as it is."""
        values = self._values(principle) | {"prompt": spoken(prompt.conversation)}
        names = ("first", "second") if self.scale == "pairwise" else ("completion",)
        values |= {name: shown(completion) for name, completion in zip(names, completions, strict=True)}
        ending = self.reason if reasons_first else self.answer
        system = () if self.system is None else (Message("system", filled(self.system, values)),)
        return (*system, Message("user", f"{filled(self.user, values).rstrip()}\n\n{filled(ending, values).strip()}"))

    def verdict_question(self, asked: Conversation, reasons: str, principle: str) -> Conversation:
        """Return the conversation that asks for the verdict after the judge's reasons."""
        return (*asked, Message("assistant", reasons), Message("user", filled(self.verdict, self._values(principle)).strip()))

    def _values(self, principle: str) -> dict[str, str]:
        *most, last = self.options
        return {"principle": principle, "options": f"{', '.join(most)} or {last}", "low": self.options[0], "high": self.options[-1]}


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with each {field} replaced, in one pass."""
    return re.sub(r"\{(" + "|".join(FIELDS) + r")\}", lambda match: values.get(match[1], match[0]), text)


def spoken(conversation: Conversation) -> str:
    """Return a conversation as a judge reads it: each turn with who speaks; plain text as it stands."""
    return "\n\n".join(turn.text if turn.role == "text" else f"{turn.role}: {turn.text}" for turn in conversation)


def shown(completion: Completion) -> str:
    """Return a completion as a judge reads it: its text, the tools that it calls, and a note where it was cut."""
    calls = f"\n{completion.tool_fields}" if completion.tool_fields else ""
    return completion.text + calls + (CUT if completion.is_cut else "")


def load_instructions(name: str) -> Instructions:
    """Return the shipped instructions of that name, or those in a file.

    Raises:
        ConfigError: there are none of that name, or the file's content is not instructions.
    """
    if name in SHIPPED:
        return read_config(Instructions, read_yaml(FOLDER / f"{name}.yaml"))
    path = Path(name).expanduser()
    if not path.is_file():
        raise ConfigError(f"there are no instructions {name!r}. {nearest(name, SHIPPED)} A file of your own needs its path")
    return read_config(Instructions, read_yaml(path))
