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

FIELDS = ("prompt", "first", "second", "completions", "completion", "label", "labels", "principle", "options", "low", "high")
NEEDED = {"pairwise": ("prompt", "first", "second"), "pointwise": ("prompt", "completion"), "ranking": ("prompt", "completions")}
LEAST_RANKED = 3
"""Fewest completions of a ranking; two are a pair."""

VERSION_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What a judge reads beside prompts and completions, as in a file of instructions.

    Texts may hold {prompt}, {first} and {second} or {completion} or {completions}, {principle}, {options}, {labels}, {low} and {high}.

    Attributes:
        id: the name, as raters' names have it.
        scale: pairwise compares two completions, ranking orders three or more, pointwise gives a mark to one.
        dimension: the dimension that it is about; none is for any dimension, as where a principle says what counts.
        system: the system's turn; none has no such turn.
        user: the user's turn: the conversation, the completions, and what to judge.
        answer: the end of that turn where the judge answers at once.
        reason: the end of that turn where the judge reasons first.
        verdict: the user's next turn, which asks for the verdict after the reasons, where the probabilities of the options are read. Of a
            ranking these are the probabilities of being the best, so it is also the end of the turn where the judge answers at once.
        options: the words that a verdict may be: for pairs the first, the second and perhaps a tie; marks from the lowest to the highest;
            for a ranking the labels of the completions, in the order shown, for as many as may be ranked.
        each: how a completion stands in the {completions} of a ranking, with {label} and {completion}.
    """

    id: str
    scale: Literal["pairwise", "pointwise", "ranking"]
    dimension: str | None = None
    system: str | None = None
    user: str
    answer: str
    reason: str
    verdict: str
    options: tuple[str, ...]
    each: str | None = None

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
        self._check_ranking()

    def _check_marks(self) -> None:
        marks = [float(option) if re.fullmatch(r"-?\d+(\.\d+)?", option) else None for option in self.options]
        if len(marks) < 2 or any(mark is None for mark in marks) or marks != sorted(marks, key=lambda mark: mark or 0.0):
            raise ConfigError(
                f"instructions {self.id}: options must be marks from the lowest to the highest, got {', '.join(self.options)}"
            )

    def _check_ranking(self) -> None:
        if (self.each is None) == (self.scale == "ranking"):
            remedy = "give it, with {label} and {completion}" if self.each is None else "leave it out"
            raise ConfigError(f"instructions {self.id}: each is how one completion of a ranking stands among the others; {remedy}")
        if self.each is None:
            return
        if "{label}" not in self.each or "{completion}" not in self.each:
            raise ConfigError(f"instructions {self.id}: each must hold {{label}} and {{completion}}")
        labels = {option.lower() for option in self.options if re.fullmatch(r"\w+", option)}
        if len(labels) < max(len(self.options), LEAST_RANKED):
            raise ConfigError(
                f"instructions {self.id}: options of a ranking are labels, {LEAST_RANKED} or more different words, "
                f"got {', '.join(map(repr, self.options))}"
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
        endings = (self.reason, self.verdict) if reasons_first else (self._ending(mode),)
        texts = [mode, self.scale, self.system, self.user, *endings, *self.options, *(() if self.each is None else (self.each,))]
        return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()[:VERSION_DIGITS]

    def _ending(self, mode: str) -> str:
        """Return the end of the user's turn where the judge answers at once."""
        return self.verdict if self.scale == "ranking" and mode == "options" else self.answer

    def question(
        self, prompt: Prompt, completions: Sequence[Completion], principle: str, *, reasons_first: bool, mode: str = "written"
    ) -> Conversation:
        """Return what the judge reads of completions, in the order shown. A field in their text stays as it is.

        Args:
            prompt: what they answer.
            completions: one, two, or those of a ranking.
            principle: the text of the principle; "" without one.
            reasons_first: whether the judge reasons first.
            mode: the kind of verdict.
        """
        values = self._values(principle, len(completions)) | {"prompt": spoken(prompt.conversation)}
        if self.each is not None:
            labelled = zip(self.labels(len(completions)), completions, strict=True)
            parts = [filled(self.each, {"label": label, "completion": shown(each)}).rstrip() for label, each in labelled]
            values["completions"] = "\n\n".join(parts)
        else:
            names = ("first", "second") if self.scale == "pairwise" else ("completion",)
            values |= {name: shown(completion) for name, completion in zip(names, completions, strict=True)}
        ending = self.reason if reasons_first else self._ending(mode)
        system = () if self.system is None else (Message("system", filled(self.system, values)),)
        return (*system, Message("user", f"{filled(self.user, values).rstrip()}\n\n{filled(ending, values).strip()}"))

    def verdict_question(self, asked: Conversation, reasons: str, principle: str, count: int) -> Conversation:
        """Return the conversation that asks for the verdict after the judge's reasons about `count` completions."""
        return (*asked, Message("assistant", reasons), Message("user", filled(self.verdict, self._values(principle, count)).strip()))

    def labels(self, count: int) -> tuple[str, ...]:
        """Return the options of a question about `count` completions: of a ranking the labels of these, else all."""
        return self.options[:count] if self.scale == "ranking" else self.options

    def _values(self, principle: str, count: int) -> dict[str, str]:
        labels = self.labels(count)
        options = f"{', '.join(labels[:-1])} or {labels[-1]}"
        return {"principle": principle, "options": options, "labels": ", ".join(labels), "low": labels[0], "high": labels[-1]}


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
