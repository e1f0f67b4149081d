"""Models share equal frozen weights, and changing one model does not change the others."""

from pathlib import Path

import torch

from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.models.shared_weights import share_frozen
from palate.testing import random_trees, tiny_policy
from palate.text.pack import pack

BATCH = pack(random_trees([(5, [3, 1, 12]), (1, [2, 2])], 43, seed=5))


def test_equal_frozen_weights_become_one_and_a_merge_leaves_the_other_model_alone(tmp_path: Path) -> None:
    tiny_policy().save(tmp_path / "base")
    base = str(tmp_path / "base")
    policy = load_policy(base).with_adapter(LoRA(rank=4), base, seed=1)
    value = scalar_from(base, ("value",), seed=0).with_adapter(LoRA(rank=2), base, seed=2)
    with torch.no_grad():
        logps, values = policy.logps(BATCH).logps, value.values(BATCH)
    backbone = sum(p.numel() for p in load_policy(base).module.base_model.parameters())
    assert share_frozen(policy.module, value.module) == 4 * backbone
    assert share_frozen(policy.module, value.module) == 0  # they are one already
    with torch.no_grad():
        assert torch.equal(policy.logps(BATCH).logps, logps)
        assert torch.equal(value.values(BATCH), values)
        for p in value.parameters():
            if p.requires_grad:
                p.add_(0.1)
        changed = value.values(BATCH)
        torch.testing.assert_close(value.merged().values(BATCH), changed, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(changed, values)
        assert torch.equal(policy.logps(BATCH).logps, logps)


def test_weights_that_differ_learn_or_have_another_type_stay_apart(tmp_path: Path) -> None:
    tiny_policy().save(tmp_path / "base")
    base = str(tmp_path / "base")
    frozen, other, learning, narrow = (load_policy(base).module for _ in range(4))
    for module in (frozen, other, narrow):
        module.requires_grad_(requires_grad=False)
    narrow.to(torch.bfloat16)
    with torch.no_grad():
        for p in other.parameters():
            p.view(-1)[-1] += 1
    assert share_frozen(frozen, other, learning, narrow) == 0
