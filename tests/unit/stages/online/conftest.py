"""What the tests of online training share."""

import json
from pathlib import Path

import pytest

from palate.testing import tiny_policy, word_tokenizer


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that knows nothing, and prompts."""
    folder = tmp_path_factory.mktemp("data")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    prompts = [{"prompt": f"the cook has {what} and {other}"} for what in ("rice", "beans", "salt") for other in ("rice", "beans", "salt")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": "for two guests today please"}) + "\n" for _ in range(8)))
    return folder
