"""The kitchen: an embedded world whose truth a program knows (see docs/kitchen.md)."""

from palate.kitchen.gold import judge, padding
from palate.kitchen.world import Kitchen

__all__ = ["Kitchen", "judge", "padding"]
