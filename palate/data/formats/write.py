"""Make rows for files, in TRL's shapes: the inverse of the readers. Write them with `palate.data.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from palate.core import Completion, Conversation, DataError, Demonstration, Message, Preference, Prompt, UnpairedPreference
from palate.data.conversations import is_plain, is_transcript
from palate.data.formats.chats import answering_turns
from palate.data.formats.fields import fields_column
from palate.data.formats.sampled import sampled_column, token_note
from palate.data.formats.standard_rows import is_spelled_turns

Row = dict[str, object]


def demonstration_row(demonstration: Demonstration) -> Row:
    """A row with `text`, `prompt` and `completion`, or `messages` (and `learned` if not every answer is learned), without the source.

    Raises:
        DataError: a learned message of plain text is not the last one, or a learned turn is not an answer.
    """
    turns, learned = demonstration.conversation, demonstration.learned
    if demonstration.sampled is not None:
        row = completion_row(Prompt("", turns[:-1]), demonstration.sampled)
        return {name: value for name, value in row.items() if name != "id"}
    answers = answering_turns(turns)
    if turns[0].role != "text" and set(learned) <= set(answers) and learned:
        every = {} if tuple(sorted(learned)) == answers else {"learned": sorted(learned)}
        return {"messages": turns_of(turns), **every, **tools_of(turns)}
    if turns[0].role != "text" or learned != (len(turns) - 1,):
        raise DataError(
            f"no shape can hold the demonstration with roles {[turn.role for turn in turns]}, learned {learned}. Learn only answers."
        )
    if len(turns) == 1:
        return {"text": turns[0].text}
    return {"prompt": _plain(_joined(turns[:-1])), "completion": _plain(turns[-1].text)}


def prompt_row(prompt: Prompt) -> Row:
    """A row with `id`, `prompt` and the user's columns under `fields`, without the source."""
    return {"id": prompt.id, "prompt": messages(prompt), **_further(prompt)}


def completion_row(prompt: Prompt, completion: Completion) -> Row:
    """A row with `id`, `prompt`, `completion`, what is known of its tokens, and the user's columns under `fields`."""
    answered = {"prompt": messages(prompt), "completion": answer(prompt, completion)}
    return {"id": prompt.id, **answered, **sampled_column(completion=completion), **_further(prompt)}


def sample_row(prompt: Prompt, completions: Sequence[Completion], scores: Sequence[float] | None = None) -> Row:
    """A row of `samples.jsonl`: the prompt with its completions and what is known of their tokens, and their scores if there are any."""
    digests = {completion.tokenizer for completion in completions if completion.ids and completion.tokenizer}
    if len(digests) > 1:
        raise DataError(f"the completions of {prompt.id} have token ids of {len(digests)} tokenizers. Write them in rows of their own")
    entries = []
    for k, completion in enumerate(completions):
        size = {"tokens": len(completion.ids)} if completion.ids else {}
        names = {"tool_fields": completion.tool_fields, "policy": completion.policy}
        score = {} if scores is None else {"score": scores[k]}
        own = {name: value for name, value in names.items() if value}
        entries.append({"text": completion.text, **own, **score, **size, **token_note(completion)})
    tokenizer = {"tokenizer": digests.pop()} if digests else {}
    return {"id": prompt.id, "prompt": messages(prompt), "completions": entries, **tokenizer, **_further(prompt)}


def preference_row(preference: Preference) -> Row:
    """A row with `id`, `prompt`, `chosen`, `rejected`, the preference's numbers, and the user's columns under `fields`.

    Of the completions it holds the texts, the calls, and what is known of their tokens.
    """
    judgments: Row = {"judgments": list(preference.judgments)} if preference.judgments else {}
    if preference.votes:
        judgments |= {"votes": [vote for _, vote in preference.votes], "raters": [rater for rater, _ in preference.votes]}
    return {
        "id": preference.prompt.id,
        "prompt": messages(preference.prompt),
        "chosen": answer(preference.prompt, preference.chosen),
        "rejected": answer(preference.prompt, preference.rejected),
        "probability": preference.probability,
        "margin": preference.margin,
        "weight": preference.weight,
        "dimension": preference.dimension,
        **judgments,
        **sampled_column(chosen=preference.chosen, rejected=preference.rejected),
        **_further(preference.prompt),
    }


def unpaired_row(preference: UnpairedPreference) -> Row:
    """A row with `id`, `prompt`, `completion`, `label`, `weight`, and the user's columns under `fields`."""
    prompt = preference.prompt
    return {
        "id": preference.id,
        "prompt": messages(prompt),
        "completion": answer(prompt, preference.completion),
        "label": preference.desirable,
        "weight": preference.weight,
        **sampled_column(completion=preference.completion),
        **_further(prompt),
    }


def _further(prompt: Prompt) -> Row:
    """The columns of a prompt beside `id` and `prompt`: its tools and the user's columns, each apart."""
    return {**tools_of(prompt.conversation), **fields_column(prompt.fields, prompt.conversation)}


def messages(prompt: Prompt) -> list[dict[str, Any]] | str:
    """A prompt as files hold it: chat messages, or a string for plain text."""
    return _plain(_joined(prompt.conversation)) if is_plain(prompt.conversation) else turns_of(prompt.conversation)


def answer(prompt: Prompt, completion: Completion) -> list[dict[str, Any]] | str:
    """A completion as files hold it: an assistant turn, or a string after a prompt of plain text. Only text and calls are kept."""
    if is_plain(prompt.conversation):
        return _plain(completion.text)
    return turns_of((Message("assistant", completion.text, completion.tool_fields),))


def _plain(text: str) -> list[dict[str, Any]] | str:
    """Plain text as files hold it: a string, or a message of the role `text` if a reader would take the string for turns."""
    return turns_of((Message("text", text),)) if is_transcript(text) or is_spelled_turns(text) else text


def _joined(conversation: Conversation) -> str:
    return "".join(turn.text for turn in conversation)


def turns_of(conversation: Conversation) -> list[dict[str, Any]]:
    """Turns as {role, content} with their calls and call ids. The conversation's tools go into a column (`tools_of`)."""
    return [{"role": turn.role, "content": turn.text, **_fields_of(turn, tools=False)} for turn in conversation]


def tools_of(conversation: Conversation) -> Row:
    """The column `tools`, if the conversation has tools."""
    return _fields_of(conversation[0], tools=True)


def _fields_of(turn: Message, *, tools: bool) -> Row:
    fields: Row = json.loads(turn.tool_fields) if turn.tool_fields else {}
    return {name: value for name, value in fields.items() if (name == "tools") == tools}
