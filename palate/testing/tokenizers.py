"""Small tokenizers built in code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_WORDS = "the cook has rice and beans but no salt so what can we make for two guests today please"
WORDS: tuple[str, ...] = tuple(re.findall(r"\w+", _WORDS))
"""Default words of `word_tokenizer`."""


def word_tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    """Build a tokenizer of whole words, single spaces, digits and punctuation: <pad> 0, <bos> 1, <eos> 2, <unk> 3, then the rest.

    It decodes text of known words exactly. It does not add tokens, and does not have a chat template.
    """
    marks = " .,:;!?'\n-0123456789"
    vocabulary = {token: k for k, token in enumerate(dict.fromkeys(("<pad>", "<bos>", "<eos>", "<unk>", *marks, *words)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[A-Za-z]+|[^A-Za-z]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer of single bytes: 256 ids, then <pad> 256, <bos> 257, <eos> 258. It decodes every text exactly."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: k for k, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", clean_up_tokenization_spaces=False
    )


def pair_tokenizer(family: str = "bert", words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    """Build a tokenizer of whole words like that of an encoder of `family`: it writes marks around texts and pairs. BERT's has no EOS."""
    is_roberta = family == "roberta"
    pad, start, end = ("<pad>", "<s>", "</s>") if is_roberta else ("[PAD]", "[CLS]", "[SEP]")
    special = (start, pad, end, "[UNK]") if is_roberta else (pad, "[UNK]", start, end)
    vocabulary = {token: k for k, token in enumerate(dict.fromkeys((*special, *" .,:;!?'\n-0123456789", *words)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[A-Za-z]+|[^A-Za-z]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} {end} $B {end}" if is_roberta else f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(token, vocabulary[token]) for token in (start, end)],
    )
    ends = {"bos_token": start, "eos_token": end} if is_roberta else {}
    names = ["input_ids", "attention_mask", *(() if family in {"roberta", "distilbert", "modernbert"} else ("token_type_ids",))]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, cls_token=start, sep_token=end, unk_token="[UNK]", model_input_names=names, **ends,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
