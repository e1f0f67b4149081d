"""Packing: what stands where, what attends to what, and how micro-batches are cut."""

import random
import time

import numpy as np
import pytest
import torch

from palate.core import DataError
from palate.testing import random_trees
from palate.text.attention_plan import AttentionPlan, round_up
from palate.text.pack import Branch, PackedBatch, Segment, Tree, cut_by_tokens, pack

A = Tree((10, 11), (Branch((12, 13, 14), (True, False, True)), Branch((15,), (True,))))
B = Tree((20,), (Branch((21, 22), (True, True)),))


def test_fields_of_two_trees() -> None:
    batch = pack([A, B])
    assert batch.input_ids.tolist() == [10, 11, 12, 13, 14, 15, 20, 21, 22]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 0, 1, 2]
    assert batch.segments == (Segment(0, 2, 0, 0), Segment(2, 5, 0, 2), Segment(5, 6, 0, 2), Segment(6, 7, 6, 6), Segment(7, 9, 6, 7))
    assert batch.targets.tolist() == [12, 13, 14, 15, 21, 22]
    assert batch.sources.tolist() == [1, 2, 3, 1, 6, 7]
    assert batch.learned.tolist() == [True, False, True, True, True, True]
    assert batch.branch.tolist() == [0, 0, 0, 1, 2, 2]
    assert batch.last.tolist() == [4, 5, 8]
    assert batch.tree.tolist() == [0, 0, 1]
    assert batch.trees == (A, B)


def _expected_sight(batch: PackedBatch) -> set[tuple[int, int]]:
    """(query, key) pairs of tokens, from the segments: itself and what came before it in its segment, and the trunk."""
    pairs = set()
    for start, end, trunk_start, trunk_end in batch.segments:
        for query in range(start, end):
            pairs |= {(query, key) for key in (*range(trunk_start, trunk_end), *range(start, query + 1))}
    return pairs


def _planned_sight(plan: AttentionPlan) -> list[tuple[int, int]]:
    """(query, key) pairs of real tokens that the plan's blocks let through, as often as they do."""
    pairs = []
    for block in plan.blocks:
        queries, keys = (slice(at, at + block.rows * n) for at, n in ((block.query_offset, block.queries), (block.key_offset, block.keys)))
        shape_q, shape_k = (block.rows, block.queries), (block.rows, block.keys)
        tokens_q, tokens_k = plan.query_tokens[queries].reshape(shape_q), plan.key_tokens[keys].reshape(shape_k)
        real_q = ~plan.query_padding[queries].reshape(shape_q)
        seen = (block.mask[:, 0] == 0).expand(block.rows, -1, -1).numpy()
        for row, i, j in zip(*np.nonzero(seen), strict=True):
            if real_q[row, i]:
                pairs.append((int(tokens_q[row, i]), int(tokens_k[row, j])))  # a padded key, if seen, would come twice
    return pairs


@pytest.mark.parametrize("seed", range(6))
def test_plan_lets_through_exactly_trunk_and_past(seed: int) -> None:
    rng = random.Random(seed)
    shapes = [(rng.randint(1, 30), [rng.randint(1, 40) for _ in range(rng.randint(1, 5))]) for _ in range(rng.randint(1, 12))]
    batch = pack(random_trees(shapes, 50, seed))
    expected = _expected_sight(batch)
    for plan in (batch.layout, batch.layout.coarse()):
        planned = _planned_sight(plan)
        # A tree with one branch is planned as one sequence: then a branch token sees the same, by another row.
        assert len(planned) == len(set(planned))
        assert set(planned) == expected


def test_little_is_padding() -> None:
    rng = random.Random(0)
    shapes = [(rng.randint(20, 50), [rng.randint(10, 60) for _ in range(rng.choice((1, 2, 8)))]) for _ in range(80)]
    batch = pack(random_trees(shapes, 50))
    needed = sum((end - start) * (end - start + trunk_end - trunk_start) for start, end, trunk_start, trunk_end in batch.segments)
    lonely = sum(len(t.trunk) * len(t.branches[0].ids) for t in batch.trees if len(t.branches) == 1)  # one sequence instead of two segments
    assert batch.layout.area <= 1.25 * (needed + lonely)


def test_coarse_plans_have_few_shapes() -> None:
    """Over fifty batches of other lengths: what a bfloat16 step would pay anew for each."""
    plain, coarse = set(), set()
    for seed in range(50):
        rng = random.Random(seed)
        layout = pack(random_trees([(rng.randint(1, 250), [rng.randint(1, 250)] * 2) for _ in range(8)], 50, seed)).layout
        for shapes, plan in ((plain, layout), (coarse, layout.coarse())):
            shapes |= {(block.rows, block.queries, block.keys) for block in plan.blocks}
    assert len(coarse) < len(plain) / 3


def test_rounding_up_costs_little_and_leaves_few_lengths() -> None:
    for parts in (4, 16):
        lengths = {n: round_up(n, parts) for n in range(1, 5000)}
        assert all(n <= up < n + max(16, n / parts) for n, up in lengths.items())
        assert len({up for n, up in lengths.items() if 1024 < n <= 2048}) == parts


def test_packing_is_fast() -> None:
    trees = random_trees([(25, [35])] * 256, 300)
    took = []
    for _ in range(8):
        start = time.process_time()
        pack(trees)
        took.append(time.process_time() - start)
    assert min(took) < 0.05  # 3 ms on an idle machine


@pytest.mark.parametrize(
    "make", [lambda: pack([]), lambda: Tree((), A.branches), lambda: Tree((1,), ()), lambda: Branch((), ()), lambda: Branch((1,), ())]
)
def test_empty_parts_are_refused(make) -> None:
    with pytest.raises(DataError):
        make()


def test_microbatches_cover_all_within_the_budget() -> None:
    rng = random.Random(3)
    trees = random_trees([(rng.randint(1, 20), [rng.randint(1, 30), 2]) for _ in range(60)], 50)
    parts = cut_by_tokens(trees, 100)
    assert sorted(k for part in parts for k in part) == list(range(60))
    assert all(sum(trees[k].tokens for k in part) <= 100 for part in parts)
    sizes = [trees[k].tokens for part in parts for k in part]
    assert sizes == sorted(sizes, reverse=True)
    assert len(parts) < 60


def test_a_tree_over_the_budget_stands_alone() -> None:
    trees = random_trees([(2, [2]), (50, [50]), (3, [1])], 50)
    assert cut_by_tokens(trees, 10) == [[1], [0, 2]]
    assert cut_by_tokens(trees, 1) == [[1], [0], [2]]


def test_dtypes() -> None:
    batch = pack([A])
    assert {x.dtype for x in (batch.input_ids, batch.position_ids, batch.sources, batch.targets, batch.branch, batch.last, batch.tree)} == {
        torch.long
    }
    assert batch.learned.dtype == torch.bool
