"""What other projects call the types of rows. Each name stands for a type of the setting `columns`, with these columns.

The names of Axolotl end in a function of its prompt strategies, after the template that it would use. Palate takes the chat template of the
model, so `chatml.intel` and `llama3.intel` are one type here.
"""

from __future__ import annotations

from collections.abc import Mapping

FurtherKinds = Mapping[str, Mapping[str, str]]
"""Values of a type's fields, by name."""

_TEMPLATES = ("chatml", "llama3")


def _under_templates(strategies: FurtherKinds) -> FurtherKinds:
    return {f"{template}.{name}": values for template in _TEMPLATES for name, values in strategies.items()}


_OPENAI = {"messages": "messages", "role": "role", "content": "content", "user": "user", "assistant": "assistant"}

RECOGNISED_KINDS: FurtherKinds = {
    "completion": {},
    "pretrain": {},
    "metharme": {"completion": "generation"},
    "user_defined.default": {},
    "chat_template.argilla": {},
    "chat_template.argilla_chat": {},
    **_under_templates({"argilla_chat": {}, "ultra": {}}),
}
"""Rows whose shape their columns say, and plain texts."""

ALPACA_KINDS: FurtherKinds = {
    "gpteacher": {"output": "response"},
    "context_qa": {"instruction": "article", "input": "question", "output": "answer"},
    "context_qa.load_v2": {"instruction": "context", "input": "question", "output": "answer"},
}
"""Rows with a text and what it is about, and the answer."""

SHAREGPT_KINDS: FurtherKinds = {
    "openai": _OPENAI,
    "chat_template": _OPENAI,
    "pygmalion": {"role": "role"},
}
"""Rows with messages."""

LLAMA_FACTORY_KINDS: FurtherKinds = {"chat_template.default": {"conversations": "messages"}}
"""Pairs of answers to messages."""

QUESTION_ANSWER_KINDS: FurtherKinds = {
    "jeopardy": {},
    "alpaca_chat.load_qa": {},
    "oasst": {"question": "INSTRUCTION", "answer": "RESPONSE"},
    "alpaca_chat.load_camel_ai": {"question": "message_1", "answer": "message_2"},
    "alpaca_w_system.load_open_orca": {"answer": "response", "system": "system_prompt"},
    "creative_acr.load_answer": {"question": "instruction", "answer": "revision"},
    "bradley_terry.chat_template": {"question": "input"},
    **_under_templates(
        {
            "argilla": {"question": "instruction", "answer": "completion", "chosen": "chosen_response", "rejected": "rejected_response"},
            "icr": {"question": "input", "answer": "completion"},
            "intel": {"answer": "completion"},
            "prompt_pairs": {"question": "prompt", "answer": "completion"},
        }
    ),
}
"""Rows with what the user says and its answer, or a better and a worse one."""
