"""Real tokenizers built in code: word-level, byte-level BPE with merges across boundaries, Llama-like with BOS."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHAT = "{% for m in messages %}<|{{m.role}}|> {{m.content}} <|end|> {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
"""Word-level: every role marker and <|end|> are tokens."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

THINK = CHATML.replace("assistant\\n' }}{% endif %}", "assistant\\n<think>\\n' }}{% endif %}")
"""ChatML whose generation prompt opens a <think> block that a plain answer does not have."""

LLAMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{% if loop.index0 % 2 %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)

GLM = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""A turn is closed by the next role's marker only."""

QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The last answer is written in another way than answers before it."""

TRIMMING = CHATML.replace("m.content", "(m.content | trim)")
"""ChatML that drops white space around every turn, as Llama 3's template does."""

REWRITING = "{% for m in messages %}{{ loop.revindex }}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
"""Earlier turns change when a turn is added: no prompt is a prefix of anything."""

LINES = [
    "Human: hello there, what shall we cook today?",
    "Assistant: hello, a soup with leeks and potatoes is good today.",
    "hello hello cooking cookies help helping yellow fellow",
    "the quick brown fox jumps over the lazy dog; 0 1 2 3 4 5 6 7 8 9 [INST] [/INST] user assistant system",
] * 4


def bpe(*, chat_template: str | None, bos: bool = False, pad_is_eos: bool = False, eos: str = "</s>") -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on a few lines; any text survives the round trip."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # merges across any boundary
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token=eos if pad_is_eos else "<pad>", chat_template=chat_template
    )
    fast.add_tokens(["<think>", "</think>"])
    return fast


def words(*, chat_template: str | None = CHAT) -> PreTrainedTokenizerFast:
    """A word-level tokenizer; words it does not know are <unk>."""
    special = ["<unk>", "<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    known = ["is", "it", "good", "bad", "yes", "no", "soup", "stew", "hot", "cold", "what", "very", "the"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(special + known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|system|>"]})
    fast.chat_template = chat_template
    return fast


TOKENIZERS = {
    "words": lambda: words(),
    "chatml": lambda: bpe(chat_template=CHATML, eos="<|im_end|>"),
    "chatml, eos is another token": lambda: bpe(chat_template=CHATML),
    "pad is eos": lambda: bpe(chat_template=CHATML, pad_is_eos=True, eos="<|im_end|>"),
    "think": lambda: bpe(chat_template=THINK),
    "qwen3": lambda: bpe(chat_template=QWEN3),
    "llama": lambda: bpe(chat_template=LLAMA, bos=True),
    "glm": lambda: bpe(chat_template=GLM),
    "no template": lambda: bpe(chat_template=None),
    "no template, bos": lambda: bpe(chat_template=None, bos=True, pad_is_eos=True),
}


@pytest.fixture(scope="session", params=TOKENIZERS)
def any_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Each of the tokenizers in turn."""
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="session")
def word_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level with role markers."""
    return words()
