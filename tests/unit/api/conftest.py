"""What the tests of the Python API share."""

from pathlib import Path

import pytest

from palate.models.causal import CausalPolicy
from palate.testing import tiny_policy, word_tokenizer


@pytest.fixture(scope="session")
def base() -> CausalPolicy:
    """A base model that knows nothing."""
    return tiny_policy("qwen3", word_tokenizer())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs; the current folder is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "runs"
