"""Guards: they read a stage's metrics while it trains, warn, and stop the run. A loop uses `Watch`."""

from palate.training.guards.catalogue import TABLE, Guard, guards_page
from palate.training.guards.chance import FALSE_ALARMS
from palate.training.guards.limits import Guards, Limit
from palate.training.guards.readings import repeated_share, repetition
from palate.training.guards.watch import Alarm, GuardStopError, Watch

__all__ = [
    "FALSE_ALARMS",
    "TABLE",
    "Alarm",
    "Guard",
    "GuardStopError",
    "Guards",
    "Limit",
    "Watch",
    "guards_page",
    "repeated_share",
    "repetition",
]
