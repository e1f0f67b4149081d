"""Where freed memory goes, and what is kept for products to come."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # names of glibc's mallopt(3)

_KEPT_PRODUCTS = 48


@functools.cache
def keep_few_products() -> None:
    """OneDNN and torch keep code for the bfloat16 products of the last 48 shapes each; once a process, before its first one.

    By default they keep 1,024 of some half a megabyte: with other lengths every step, a run grew by 15 MB a step. A step of a
    few layers meets fewer shapes than 48 between the first layer and the next. What the environment says already stays.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_KEPT_PRODUCTS))


@functools.cache
def keep_freed_memory() -> bool:
    """True when large freed blocks now stay with the process (glibc); once a process, for the whole process.

    By default glibc hands each large tensor back to the kernel when it is freed and asks again for the next one, and the page
    faults of that cost more than the arithmetic on it: a training step is about twice as fast without.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 64 << 20))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
