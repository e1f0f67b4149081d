"""What the columns of a file hold: recognised by their names, or as the setting `columns` says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, cast, get_args

from palate.config.own_members import kind_names, of_further_kind
from palate.config.settings import nearest
from palate.config.types import kind_of
from palate.core import ConfigError
from palate.data.cells import Columns, InvalidRow
from palate.data.formats.column_names import SIDES, check_no_question
from palate.data.formats.columns_by_function import ColumnsByFunction
from palate.data.formats.further_kinds import (
    ALPACA_KINDS,
    LLAMA_FACTORY_KINDS,
    QUESTION_ANSWER_KINDS,
    RECOGNISED_KINDS,
    SHAREGPT_KINDS,
    FurtherKinds,
)
from palate.data.formats.standard_rows import (
    SYSTEM_COLUMNS,
    TURN_COLUMNS,
    StandardRow,
    answer_turn,
    earlier_turns,
    is_answer,
    renamed,
    retagged,
    user_turn,
    with_turns,
    without,
)


@dataclass(frozen=True)
class Recognised:
    """Recognise the shape of each row by its columns. Name a column where a file calls it otherwise.

    An empty text says that no column of the file holds it.

    Attributes:
        prompt: the column with the prompt.
        system: the column with the system text, the first turn of the conversation.
        completion: the column with the answer to learn.
        chosen: the column with the better completion.
        rejected: the column with the worse completion.
        label: the column that says whether the completion is desirable.
        messages: the column with the whole conversation.
        text: the column with a plain text.
    """

    FURTHER_KINDS: ClassVar[FurtherKinds] = RECOGNISED_KINDS

    kind: Literal["recognised"] = "recognised"
    prompt: str = "prompt"
    system: str = "system"
    completion: str = "completion"
    chosen: str = "chosen"
    rejected: str = "rejected"
    label: str = "label"
    messages: str = "messages"
    text: str = "text"

    def standard(self, row: Columns) -> StandardRow:
        """The row under the names of the shapes. Raises InvalidRow if it is not clear which column is the prompt."""
        named = renamed(row, names_of(self))
        turns = with_turns(named.row)
        made = StandardRow(turns) if self.prompt == "" else _recognised(turns)
        return StandardRow(made.row, {*named.read, *made.read}, {*named.hidden, *made.hidden})


@dataclass(frozen=True)
class Alpaca:
    """Rows with an instruction, an input where there is one, and the output.

    Attributes:
        instruction: the column with what the user asks.
        input: the column with a text that the instruction is about; it follows after a blank line.
        output: the column with the answer.
        system: the column with the system text.
        history: the column with earlier turns: a list of pairs of what the user and the assistant said.
    """

    FURTHER_KINDS: ClassVar[FurtherKinds] = ALPACA_KINDS

    kind: Literal["alpaca"] = "alpaca"
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    system: str = "system"
    history: str = "history"

    def standard(self, row: Columns) -> StandardRow:
        """The row as `prompt` and `completion`, in messages; without an output only the prompt."""
        row, hidden = _with_system(row, self.system)
        read = (self.instruction, self.input, self.output, self.history)
        made: dict[str, object] = without(row, (*read, *TURN_COLUMNS))
        made["prompt"] = _asked(row, self.instruction, self.input, self.history)
        if is_answer(row.get(self.output)):
            made["completion"] = answer_turn(row[self.output], self.output)
        return StandardRow(made, {*read, self.system}, {*hidden, *TURN_COLUMNS})


@dataclass(frozen=True)
class ShareGPT:
    """Rows with a list of messages.

    Attributes:
        messages: the column with the messages.
        role: the field of a message that says who speaks.
        content: the field of a message with the text.
        user: what the file calls the user.
        assistant: what the file calls the assistant.
        system: the column with the system text.
    """

    FURTHER_KINDS: ClassVar[FurtherKinds] = SHAREGPT_KINDS

    kind: Literal["sharegpt"] = "sharegpt"
    messages: str = "conversations"
    role: str = "from"
    content: str = "value"
    user: str = "human"
    assistant: str = "gpt"
    system: str = "system"

    def standard(self, row: Columns) -> StandardRow:
        """The row as `messages`."""
        row, hidden = _with_system(row, self.system)
        tags, roles = {"role": self.role, "content": self.content}, {self.user: "user", self.assistant: "assistant"}
        made = without(row, (self.messages, *TURN_COLUMNS))
        if row.get(self.messages) is not None:
            made["messages"] = retagged(row[self.messages], self.messages, tags, roles)
        return StandardRow(made, {self.messages, self.system}, {*hidden, *TURN_COLUMNS})


@dataclass(frozen=True)
class LLaMAFactoryPreference:
    """Pairs of LLaMA-Factory: a better and a worse answer to an instruction, or to a conversation.

    Attributes:
        instruction: the column with what the user asks.
        input: the column with a text that the instruction is about; it follows after a blank line.
        conversations: the column with the messages, where there is no instruction.
        chosen: the column with the better answer: a text or a message.
        rejected: the column with the worse answer.
        system: the column with the system text.
        history: the column with earlier turns: a list of pairs of what the user and the assistant said.
    """

    FURTHER_KINDS: ClassVar[FurtherKinds] = LLAMA_FACTORY_KINDS

    kind: Literal["llama_factory"] = "llama_factory"
    instruction: str = "instruction"
    input: str = "input"
    conversations: str = "conversations"
    chosen: str = "chosen"
    rejected: str = "rejected"
    system: str = "system"
    history: str = "history"

    def standard(self, row: Columns) -> StandardRow:
        """The row as `prompt`, `chosen` and `rejected`, in messages."""
        row, hidden = _with_system(row, self.system)
        read = (self.instruction, self.input, self.conversations, self.history, self.chosen, self.rejected)
        made = without(row, (*read, *TURN_COLUMNS))
        if row.get(self.instruction) is not None:
            made["prompt"] = _asked(row, self.instruction, self.input, self.history)
        elif row.get(self.conversations) is not None:
            made["prompt"] = with_turns({"prompt": row[self.conversations]})["prompt"]
        else:
            raise InvalidRow(f"no `{self.instruction}` and no `{self.conversations}`")
        made |= {
            side: answer_turn(row[column], column)
            for side, column in zip(SIDES, (self.chosen, self.rejected), strict=True)
            if row.get(column) is not None
        }
        return StandardRow(made, {*read, self.system}, {*hidden, *TURN_COLUMNS})


@dataclass(frozen=True)
class QuestionAnswer:
    """Rows with a question and its answer, or with a better and a worse one.

    Attributes:
        question: the column with what the user asks.
        answer: the column with the answer. It stays a field of the prompt too, for functions that grade.
        chosen: the column with the better answer.
        rejected: the column with the worse answer.
        system: the column with the system text.
    """

    FURTHER_KINDS: ClassVar[FurtherKinds] = QUESTION_ANSWER_KINDS

    kind: Literal["question_answer"] = "question_answer"
    question: str = "question"
    answer: str = "answer"
    chosen: str = "chosen"
    rejected: str = "rejected"
    system: str = "system"

    def standard(self, row: Columns) -> StandardRow:
        """The row as `prompt` with `completion`, or with `chosen` and `rejected`, in messages."""
        row, hidden = _with_system(row, self.system)
        made = without(row, (self.question, self.chosen, self.rejected, *TURN_COLUMNS))
        made["prompt"] = [user_turn(row.get(self.question), self.question)]
        for name, column in zip(SIDES, (self.chosen, self.rejected), strict=True):
            if row.get(column) is not None:
                made[name] = answer_turn(row[column], column)
        if is_answer(row.get(self.answer)):
            made["completion"] = answer_turn(row[self.answer], self.answer)
        return StandardRow(made, {self.question, self.answer, self.chosen, self.rejected, self.system}, {*hidden, *TURN_COLUMNS})


ColumnTypes = Recognised | Alpaca | ShareGPT | LLaMAFactoryPreference | QuestionAnswer | ColumnsByFunction
"""What the setting `columns` may be."""

RECOGNISED = Recognised()


def type_named(name: str) -> ColumnTypes:
    """Return what the columns hold by the name of a type: a kind of `columns`, or a name of another project for one.

    Raises:
        ConfigError: there is no such type.
    """
    members = [member for member in get_args(ColumnTypes) if member is not ColumnsByFunction]
    values = of_further_kind(members, {"kind": name})
    for member in members:
        if kind_of(member) == values["kind"]:
            return cast("ColumnTypes", member(**values))
    raise ConfigError(f"there is no type {name!r} of rows. {nearest(name, kind_names(members))}")


def standard_row(row: Columns, columns: ColumnTypes = RECOGNISED) -> StandardRow:
    """The row under the names of the shapes, without columns that hold null. A column for the system text counts even then.

    Raises:
        InvalidRow: a text or an answer is missing or of another type, or it is not clear which column is the prompt.
    """
    system = {columns.system, *SYSTEM_COLUMNS}
    present = {name: "" if value is None else value for name, value in row.items() if value is not None or name in system}
    return columns.standard(present)


@cache
def names_of(columns: ColumnTypes) -> Mapping[str, str]:
    """What a type calls each thing, and the file's column for it."""
    return {item.name: getattr(columns, item.name) for item in fields(cast("Any", columns)) if item.name != "kind"}


def named_columns(columns: ColumnTypes) -> list[str]:
    """The columns that the settings name in place of a type's own names."""
    if isinstance(columns, ColumnsByFunction):
        return []
    no_columns = ("role", "content", "user", "assistant") if isinstance(columns, ShareGPT) else ()
    usual = [names_of(type(columns)()), *columns.FURTHER_KINDS.values()]
    named = {name: column for name, column in names_of(columns).items() if column and name not in no_columns}
    return [column for name, column in named.items() if column not in [names.get(name) for names in usual]]


def _with_system(row: Columns, system: str) -> tuple[Columns, Collection[str]]:
    """The row with the column `system` under that name, and the columns that this hides."""
    named = renamed(row, {"system": system})
    return named.row, named.hidden


def _asked(row: Columns, instruction: str, further: str, history: str) -> list[dict[str, object]]:
    return [*earlier_turns(row.get(history), history), user_turn(row.get(instruction), instruction, row.get(further), further)]


def _recognised(row: Columns) -> StandardRow:
    """The row, which stays as it is if it has one of Palate's shapes already."""
    has_sides, names = row.keys() >= set(SIDES), row.keys()
    if "prompt" in names or "completion" in names or "completions" in names or "response1" in names:
        return StandardRow(row)
    if has_sides and "instruction" in names:
        return LLaMAFactoryPreference().standard(row)
    if "question" in names and (has_sides or ("answer" in names and not {"messages", "conversations"} & names)):
        return QuestionAnswer().standard(row) if not _are_wholes(row) else StandardRow(row)
    if {"instruction", "output", "generator"} <= names and isinstance(row["generator"], str):
        return _of_alpaca_eval(row)
    if "instruction" in names and "output" in names and not {"messages", "conversations"} & names:
        return Alpaca().standard(row)
    if has_sides and ("conversations" in names or "messages" in names) and not _are_wholes(row):
        return LLaMAFactoryPreference(conversations="conversations" if "conversations" in names else "messages").standard(row)
    if has_sides:
        check_no_question(row)
    return StandardRow(row)


def _of_alpaca_eval(row: Columns) -> StandardRow:
    """An output in the shape of AlpacaEval as a sample of the policy that generated it."""
    read = ("instruction", "input", "output", "generator")
    made = without(row, (*read, *TURN_COLUMNS))
    made["prompt"] = _asked(row, "instruction", "input", "")
    made["completions"] = [{"text": row["output"], "policy": row["generator"]}]
    return StandardRow(made, set(read), set(TURN_COLUMNS))


def _are_wholes(row: Columns) -> bool:
    """Whether the sides are whole conversations, which begin with their prompt."""
    return all(isinstance(row.get(side), list) and len(cast("list[object]", row[side])) > 1 for side in SIDES)
