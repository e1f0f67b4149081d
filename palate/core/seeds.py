"""Seeds derived from a run's seed and what they are for, so that no generator's state has to be saved."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """A seed in [0, 2**63) for one purpose (say "sample", step): the same for the same words, unrelated for others."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *purpose))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
