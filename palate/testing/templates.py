"""Tokenizers of bytes with small chat templates, one for each way in which real templates differ."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedTokenizerFast

from palate.testing.tokenizers import byte_tokenizer

_LAST_ASKED = (
    "{% set last = namespace(at=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set last.at = loop.index0 %}{% endif %}"
    "{% endfor %}"
)
_CLOSED = (
    "{% for m in messages %}{{ '<|open|>' + m.role + '\\n' + m.content + '<|close|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|open|>assistant\\n' }}{% endif %}"
)

TEMPLATES: Mapping[str, str | None] = {
    # A token closes every turn; it is not the EOS of the tokenizer.
    "closed": _CLOSED,
    # EOS closes answers and nothing closes other turns; BOS opens the conversation.
    "eos": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
        "{% else %}{{ '[' + m.content + ']' }}{% endif %}{% endfor %}"
    ),
    # No token closes a turn, the marker of the next turn does (GLM).
    "endless": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    # A token closes a turn, and EOS the whole conversation (Phi 3).
    "two ends": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|close|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    # The last answer is closed by EOS, answers before it by another token (gpt-oss).
    "other last end": (
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
        "{{ eos_token if loop.last and m.role == 'assistant' else '<|close|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
    # Thoughts stay only in answers behind the last question (Qwen 3).
    "forgetful": _LAST_ASKED
    + (
        "{% for m in messages %}{{ '<|open|>' + m.role + '\\n' }}"
        "{{ m.content.split('</think>')[-1].strip() if m.role == 'assistant' and loop.index0 < last.at else m.content }}"
        "{{ '<|close|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|open|>assistant\\n' }}{% endif %}"
    ),
    # Thoughts are written nowhere (DeepSeek R1).
    "thoughtless": _CLOSED.replace("m.content", "m.content.split('</think>')[-1].strip()"),
    # Thoughts have a field of their own.
    "reasoning": _CLOSED.replace("m.content", "('<think>' + m.reasoning_content + '</think>' if m.reasoning_content else '') + m.content"),
    # Contents are lists of parts; a text is left out (SmolVLM).
    "parts": (
        "{% for m in messages %}{{ m.role | capitalize + ': ' }}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
        "{% endfor %}{{ '<|close|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
    ),
    # The day of the run stands in every conversation (Llama 3.2).
    "dated": "{{ '<|open|>system\\n' + strftime_now('%d %b %Y') + '<|close|>\\n' }}" + _CLOSED,
    # The generation prompt opens a block of thoughts, which answers need not have.
    "think": _CLOSED.replace("<|open|>assistant\\n' }}", "<|open|>assistant\\n<think>\\n' }}"),
    "none": None,
}
"""Chat templates by what is particular about them. The markers are special tokens of `chat_tokenizer`."""


def chat_tokenizer(name: str = "closed") -> PreTrainedTokenizerFast:
    """Build a tokenizer of single bytes with one of the `TEMPLATES`, its markers as special tokens, and <think> as an ordinary one."""
    tokenizer = byte_tokenizer()
    markers = ["<|open|>", "<|close|>", *(f"<|{role}|>" for role in ("system", "user", "assistant", "tool"))]
    tokenizer.add_special_tokens({"additional_special_tokens": markers})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer
