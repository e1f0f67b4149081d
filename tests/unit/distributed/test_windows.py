"""Which ranks share weights, and the words that say so."""

from __future__ import annotations

import pytest

from palate.core import ConfigError, RunError
from palate.core.process import Shard
from palate.distributed.windows import members_of, windows


@pytest.mark.parametrize(
    ("machines", "most", "members"),
    [
        ("aaaa", None, [range(4)] * 4),
        ("aabb", None, [range(2)] * 2 + [range(2, 4)] * 2),
        ("aabbb", None, [range(2)] * 2 + [range(2, 5)] * 3),
        ("aaaa", 2, [range(2)] * 2 + [range(2, 4)] * 2),
        ("aaaaa", 2, [range(2)] * 2 + [range(2, 4)] * 2 + [range(4, 5)]),
        ("aabb", 1, [range(1), range(1, 2), range(2, 3), range(3, 4)]),
    ],
)
def test_neighbours_on_one_machine_share(machines: str, most: int | None, members: list[range]) -> None:
    assert [members_of(machines, rank, most) for rank in range(len(machines))] == members


def test_ranks_on_several_machines_do_not_share() -> None:
    for rank in range(4):  # also those whose own group is on one machine, so that all ranks stop
        with pytest.raises(RunError, match=r"ranks 2 to 3 are to share weights, and lie on several machines.*leave out :2"):
            members_of("aaab", rank, 2)


def test_one_process_holds_whole_weights() -> None:
    assert windows() is None


@pytest.mark.parametrize(("text", "shard"), [("none", Shard()), ("all", Shard("all")), ("frozen:4", Shard("frozen", 4))])
def test_words_say_what_is_shared_out(text: str, shard: Shard) -> None:
    assert Shard.read(text) == shard


@pytest.mark.parametrize("text", ["", "some", "all:", "all:0", "all:-2", "all:two", "none:2", "all:2:3"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="use none, frozen or all"):
        Shard.read(text)


def test_a_model_is_shared_out_by_whether_it_learns() -> None:
    taken = {kind: [Shard.read(kind).takes(learns=learns) for learns in (False, True)] for kind in ("none", "frozen", "all")}
    assert taken == {"none": [False, False], "frozen": [True, False], "all": [True, True]}
