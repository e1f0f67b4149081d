"""A learner whose weights are sliced over ranks ends where one with whole weights ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ranks.forked import forked
from tests.ranks.learning import compared

RANKS = 3


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found."""
    folder = tmp_path_factory.mktemp("learning")
    ended = forked(RANKS, compared, (folder,), folder)
    assert ended.codes == [0] * RANKS, ended.stderr
    return [json.loads((folder / str(rank) / "figures.json").read_text()) for rank in range(RANKS)]


def test_weights_and_metrics_are_those_of_one_rank(figures: list[dict[str, Any]]) -> None:
    both = ["loss_of_few/mean", "loss_of_many/mean"]
    for rank in figures:
        assert max(rank["apart"].values()) < 1e-6
        assert rank["metrics"] < 1e-5
        assert rank["sources"] == 2 * [["loss_of_few/mean"], both, both]


def test_a_weight_without_a_gradient_stays(figures: list[dict[str, Any]]) -> None:
    for rank in figures:
        assert rank["moved"]["never"] == 0
        assert rank["moved"]["seldom"] > 1e-3


def test_the_writer_alone_writes_a_checkpoint(figures: list[dict[str, Any]]) -> None:
    written = [rank["checkpoints"] for rank in figures]
    own = ["alone/checkpoint/tensors.safetensors"]
    assert written == [[*own, "together/checkpoint/tensors.safetensors"], own, own]
