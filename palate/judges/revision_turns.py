"""How a request for a critique or a revision is written for a model: as turns of a chat, or as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from palate.core import ConfigError, Conversation, Message
from palate.text.template import Unusable

TEXT = "{text}"
REQUEST = "{request}"


@dataclass(frozen=True, slots=True)
class RevisionStep:
    """A request for a critique or a revision, and what was written; "" where the model is to write it."""

    kind: Literal["critique", "revision"]
    request: str
    text: str


@dataclass(frozen=True, slots=True)
class RevisionDialogue:
    """A conversation with its answer, and what was asked and written about the answer so far.

    Attributes:
        prompt: the conversation that the answer continues.
        completion: the answer.
        steps: the requests in order. Only the last one may wait for its text.
    """

    prompt: Conversation
    completion: str
    steps: tuple[RevisionStep, ...]


@dataclass(frozen=True)
class ChatTurns:
    """The model's own chat template: each request is a turn of the user, each critique and revision one of the assistant."""

    kind: Literal["chat"] = "chat"

    def written(self, examples: Sequence[RevisionDialogue], asked: RevisionDialogue) -> Conversation:
        """Return what the model continues: the examples, and the dialogue whose last step it is to write.

        A system text stays the first turn. A prompt of plain text has no chat, so it stands as it is, which a template refuses.
        """
        system = asked.prompt[:1] if asked.prompt[0].role == "system" else ()
        before = [turn for example in examples for turn in _turns(example)]
        return (*system, *before, *_turns(asked)[len(system) :])

    def ended(self, text: str, *, is_cut: bool) -> tuple[str, bool]:
        """Return what counts of a text that the model wrote, and whether that is cut: all of it."""
        return text.strip(), is_cut


def _turns(dialogue: RevisionDialogue) -> list[Message]:
    turns = [*dialogue.prompt, Message("assistant", dialogue.completion)]
    for step in dialogue.steps:
        turns += [Message("user", step.request), *([Message("assistant", step.text)] if step.text else [])]
    return turns


@dataclass(frozen=True)
class TextTurns:
    """Plain text, for models that continue texts. Each setting is the text of one turn, in which `{text}` stands for what it says.

    The defaults are those of Bai et al. 2022 (arXiv:2212.08073). A model writes up to one of `ends`, or to its end token.

    Attributes:
        system: a system text.
        user: a turn of the user.
        assistant: a turn of the assistant.
        critique: a request for a critique, `{request}`, and the critique.
        revision: a request for a revision, `{request}`, and the revision.
        ends: texts that begin the next turn: what a model writes from there on is left out.
    """

    kind: Literal["text"] = "text"
    system: str = "{text}"
    user: str = "\n\nHuman: {text}"
    assistant: str = "\n\nAssistant: {text}"
    critique: str = "\n\nCritiqueRequest: {request}\n\nCritique: {text}"
    revision: str = "\n\nRevisionRequest: {request}\n\nRevision: {text}"
    ends: tuple[str, ...] = ("\n\nHuman:", "\n\nAssistant:", "\n\nCritiqueRequest:", "\n\nRevisionRequest:")

    def __post_init__(self) -> None:
        """Check that every turn says where its text stands."""
        for name in ("system", "user", "assistant", "critique", "revision"):
            if vars(self)[name].count(TEXT) != 1:
                raise ConfigError(f"turns.{name} must have {TEXT} once, where what the turn says stands, got {vars(self)[name]!r}")

    def written(self, examples: Sequence[RevisionDialogue], asked: RevisionDialogue) -> Conversation:
        """Return the text that the model continues: the examples, and the dialogue whose last step it is to write.

        Raises:
            Unusable: the prompt has a turn that is not of the system, the user or the assistant, such as a tool's.
        """
        whole = "".join(self._text(dialogue) for dialogue in (*examples, asked))
        return (Message("text", whole.strip()),)

    def ended(self, text: str, *, is_cut: bool) -> tuple[str, bool]:
        """Return what counts of a text that the model wrote, which is all before the next turn, and whether that is cut."""
        found = [at for end in self.ends if (at := text.find(end)) >= 0]
        return text[: min(found, default=len(text))].strip(), is_cut and not found

    def _text(self, dialogue: RevisionDialogue) -> str:
        """The dialogue; up to where the text of its last step stands, if that is empty."""
        patterns = {"system": self.system, "user": self.user, "assistant": self.assistant, "text": TEXT}
        foreign = [turn.role for turn in dialogue.prompt if turn.role not in patterns]
        if foreign:
            raise Unusable(f"the constitution's turns have no text for a role: {foreign[0]}")
        parts = [_filled(patterns[turn.role], "", turn.text) for turn in dialogue.prompt]
        is_plain = dialogue.prompt[-1].role == "text"
        parts.append(dialogue.completion if is_plain else _filled(self.assistant, "", dialogue.completion))
        for step in dialogue.steps:
            pattern = self.critique if step.kind == "critique" else self.revision
            parts.append(_filled(pattern if step.text else pattern.partition(TEXT)[0], step.request, step.text))
        return "".join(parts)


def _filled(pattern: str, request: str, text: str) -> str:
    """The pattern with both texts in their places, whatever stands in them."""
    return TEXT.join(part.replace(REQUEST, request) for part in pattern.split(TEXT)).replace(TEXT, text, 1)


RevisionTurns = ChatTurns | TextTurns
