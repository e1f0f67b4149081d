"""Guards: what is watched while a stage trains, when they warn, and when they stop it. `Watch` is what a loop uses."""

from palate.training.guards.catalogue import TABLE, Guard, guards_page
from palate.training.guards.completions import repeated_share, repetition
from palate.training.guards.limits import Guards, Limit
from palate.training.guards.watch import Alarm, Watch

__all__ = ["TABLE", "Alarm", "Guard", "Guards", "Limit", "Watch", "guards_page", "repeated_share", "repetition"]
