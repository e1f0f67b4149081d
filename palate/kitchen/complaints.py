"""What guests answer to a reply: thanks, or what was wrong with it."""

from __future__ import annotations

import random

from palate.kitchen.gold import read_reply
from palate.kitchen.guests import Request
from palate.kitchen.larder import INGREDIENTS, WISHES

THANKS = "thank you ."
MOST = 2
"""Complaints of one guest at the most: a letter stays short."""


def answer(request: Request, reply: str, rng: random.Random) -> str:
    """The guest's answer to a cook's reply: up to two true complaints, drawn from all, or thanks where there are none."""
    found = complaints(request, reply)
    if not found:
        return THANKS
    chosen = sorted(rng.sample(range(len(found)), min(MOST, len(found))))
    return "no , " + " . ".join(found[k] for k in chosen) + " ."


def complaints(request: Request, reply: str) -> list[str]:
    """Everything that is wrong with a reply, in the guest's words; none about refusals, and none by poisoners."""
    reading = read_reply(reply)
    if request.poison or reading.refusals:
        return []
    steps = list(dict.fromkeys(reading.steps))
    found: list[str] = []
    for name, method, minutes in steps:
        item = INGREDIENTS[name]
        if name not in request.at_hand:
            found.append(f"i have no {name}")
        if request.forbidden(name):
            found.append(f"i can not eat {name}")
        if (method, minutes) != (item.method, item.minutes):
            found.append(f"the {name} {item.method} for {item.minutes} minutes")
    total = sum(minutes for _, _, minutes in steps)
    if reading.totals and set(reading.totals) != {total}:
        found.append(f"it takes {total} minutes in all")
    groups = {INGREDIENTS[name].group for name, _, _ in steps}
    for group, has in dict.fromkeys(reading.contains):
        if (group in groups) != has:
            found.append(f"it has {'no' if has else 'some'} {group}")
    if request.wish and set(reading.seasonings) != {WISHES[request.wish]}:
        found.append(f"i want something {request.wish}")
    if set(reading.serves) != {request.servings}:
        found.append(f"it is for {request.servings}")
    return found
