"""What a process exempts from collections of garbage is looked at again when it asks."""

from __future__ import annotations

import subprocess
import sys

from tests.support.waiting import LIMIT_SECONDS

PROGRAM = """
import gc, weakref
from palate.core.process import exempt_from_collection

class Ring:
    def __init__(self):
        self.own = self

ring = Ring()
kept = weakref.ref(ring)
exempt_from_collection()
del ring
gc.collect()
print(kept() is None)
exempt_from_collection()
print(kept() is None)
"""


def test_what_was_exempt_can_go_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS)
    assert done.stdout.split() == ["False", "True"]
