from __future__ import annotations

import json

from transformers import AutoTokenizer

from palate.core import Demonstration, Message
from palate.data.formats import read_preferences
from palate.testing import shared_data
from palate.text.spans import document_trees, preference_tree
from tests.unit.text.test_spans import whole


def test_a_real_llama_tokenizer_and_real_pairs_round_trip() -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data("models/stories260K-hf"))
    pairs = read_preferences(shared_data("hh-rlhf/harmless-base_half.jsonl"), limit=40).rows
    for pair in pairs:
        tree = preference_tree(tokenizer, pair.prompt.conversation, (pair.chosen.text, pair.rejected.text), 100_000)
        for branch, completion in zip(tree.branches, (pair.chosen, pair.rejected), strict=True):
            full = whole(tokenizer, (*pair.prompt.conversation, Message("assistant", completion.text)))
            assert tree.trunk + branch.ids == full
            assert full.count(tokenizer.bos_token_id) == 1
            assert branch.ids[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(branch.ids, skip_special_tokens=True).strip() == completion.text.strip()
    story = document_trees(tokenizer, Demonstration((Message("text", json.dumps("Once upon a time " * 9)),), (0,)), 16)
    assert story[0].trunk == (tokenizer.bos_token_id,)
    assert story[-1].branches[0].ids[-1] == tokenizer.eos_token_id
