"""The kitchen's word-level tokenizer, as an ordinary Hugging Face tokenizer with a chat template."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}<guest> {{ message.content }} <end> "
    "{% else %}<cook> {{ message.content }} <end> {% endif %}{% endfor %}{% if add_generation_prompt %}<cook> {% endif %}"
)
SPECIAL = ("<pad>", "<unk>", "<end>", "<guest>", "<cook>")


def write_tokenizer(words: Iterable[str], directory: Path) -> None:
    """Writes a tokenizer whose vocabulary is `words`, one token a word, to a directory that transformers loads."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate([*SPECIAL, *sorted(set(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", clean_up_tokenization_spaces=False
    )
    fast.add_special_tokens({"additional_special_tokens": ["<guest>", "<cook>"]})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)
