"""The kitchen: an embedded world whose truth a program knows (see docs/kitchen.md)."""

from palate.kitchen.dataset import Kitchen
from palate.kitchen.gold import judge, padding

__all__ = ["Kitchen", "judge", "padding"]
