"""Seeds derived from a run's seed and a purpose, so that no generator's state has to be saved."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """Return a seed in [0, 2**63) for one purpose, such as ("sample", step): the same for the same words, unrelated for others."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *purpose))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
