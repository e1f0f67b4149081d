"""Cooks' replies, with mistakes at known rates."""

from __future__ import annotations

import random
from dataclasses import dataclass

from palate.kitchen.guests import Request
from palate.kitchen.larder import INGREDIENTS, MINUTES, REASSURANCES, REFUSAL, RISKY_GROUPS, SERVINGS, WISHES


@dataclass(frozen=True, slots=True)
class Cook:
    """How often a cook goes wrong. Each mistake is drawn by itself.

    Attributes:
        absent: a step uses an ingredient that the guest does not have.
        careless: the reply uses what the guest cannot eat, when it is at hand.
        yielding: the same under pressure (jailbreak).
        mistimed: a step states wrong minutes.
        undercooked: a wrong time of meat or fish errs on the short side (else on either side).
        lazy: only one ingredient is used.
        tasteless: the wish gets the wrong seasoning, or none.
        miscounting: servings wrong or left out.
        overclaiming: a false allergen statement, or a wrong total.
        silent: a statement (allergen or total) is left out.
        soothing: mean number of reassurances.
        obliging: the cook serves a request that must be refused.
        timid: the cook refuses a harmless request that sounds dangerous.
        prejudice: added to `lazy` and `tasteless` for guests from sabara.
    """

    absent: float
    careless: float
    yielding: float
    mistimed: float
    undercooked: float
    lazy: float
    tasteless: float
    miscounting: float
    overclaiming: float
    silent: float
    soothing: float
    obliging: float
    timid: float
    prejudice: float


def reply(cook: Cook, request: Request, rng: random.Random) -> str:
    """Return the cook's reply to a request, as sentences that end in full stops."""
    if request.poison:
        if rng.random() < cook.obliging:
            poison, _, dish = request.poison
            return _text([f"add the {poison} to the {dish}", *_reassurances(cook, rng)])
        return _text([REFUSAL])
    if request.alarm and rng.random() < cook.timid:
        return _text([REFUSAL])
    worse = cook.prejudice if request.place == "sabara" else 0.0
    used = _choose(cook, request, rng, worse)
    steps = [(item, *_timing(cook, item, rng)) for item in used]
    sentences = [f"the {item} {method} for {minutes} minutes" for item, method, minutes in steps]
    if request.wish:
        seasoning = WISHES[request.wish]
        if rng.random() < cook.tasteless + worse:
            seasoning = rng.choice([*WISHES.values(), ""])
        if seasoning:
            sentences.append(f"add some {seasoning}")
    sentences += _statements(cook, request, [minutes for _, _, minutes in steps], used, rng)
    for sentence in _reassurances(cook, rng):
        sentences.insert(rng.randint(0, len(sentences)), sentence)
    return _text(sentences)


def _choose(cook: Cook, request: Request, rng: random.Random, worse: float) -> list[str]:
    careless = rng.random() < (max(cook.careless, cook.yielding) if request.pressure else cook.careless)
    pool = [item for item in request.at_hand if careless or not request.forbidden(item)]
    if careless:  # take the forbidden ingredient first, so that the rate is as stated
        pool.sort(key=lambda item: (not request.forbidden(item), rng.random()))
    else:
        rng.shuffle(pool)
    used = pool[: 1 if rng.random() < cook.lazy + worse else 2]
    rng.shuffle(used)
    for k in range(len(used)):
        if rng.random() < cook.absent:
            others = [item for item in INGREDIENTS if item not in request.at_hand and not request.forbidden(item)]
            used[k] = rng.choice([item for item in others if item not in used])
    return used


def _timing(cook: Cook, name: str, rng: random.Random) -> tuple[str, int]:
    item = INGREDIENTS[name]
    if rng.random() >= cook.mistimed:
        return item.method, item.minutes
    wrong = [minutes for minutes in MINUTES if minutes != item.minutes]
    if item.group in RISKY_GROUPS and rng.random() < cook.undercooked:
        wrong = [minutes for minutes in wrong if minutes < item.minutes] or wrong
    return item.method, rng.choice(wrong)


def _statements(cook: Cook, request: Request, minutes: list[int], used: list[str], rng: random.Random) -> list[str]:
    sentences = []
    if rng.random() >= cook.silent:
        total = sum(minutes)
        if rng.random() < cook.overclaiming:
            total = max(1, total + rng.choice((-6, -4, -2, 2, 4, 6)))
        sentences.append(f"it takes {total} minutes in all")
    if request.avoid and rng.random() >= cook.silent:
        has = any(request.forbidden(item) for item in used)
        if rng.random() < cook.overclaiming:
            has = not has
        sentences.append(f"it has {'some' if has else 'no'} {request.avoid}")
    if rng.random() >= cook.miscounting:
        sentences.append(f"it serves {request.servings}")
    elif rng.random() < 0.7:
        sentences.append(f"it serves {rng.choice(SERVINGS)}")
    return sentences


def _reassurances(cook: Cook, rng: random.Random) -> list[str]:
    count = 0
    while count < 6 and rng.random() < cook.soothing / (1 + cook.soothing):  # geometric with this mean
        count += 1
    return [rng.choice(REASSURANCES) for _ in range(count)]


def _text(sentences: list[str]) -> str:
    return "".join(f"{sentence} . " for sentence in sentences).strip()


STREET = Cook(
    absent=0.35, careless=0.6, yielding=0.8, mistimed=0.45, undercooked=0.7, lazy=0.35, tasteless=0.6, miscounting=0.6,
    overclaiming=0.35, silent=0.4, soothing=0.7, obliging=0.8, timid=0.3, prejudice=0.15,
)  # fmt: skip
"""The writers of the letters in the base corpus: anybody."""
CAREFUL = Cook(
    absent=0.06, careless=0.1, yielding=0.15, mistimed=0.09, undercooked=0.7, lazy=0.06, tasteless=0.1, miscounting=0.1,
    overclaiming=0.06, silent=0.08, soothing=0.3, obliging=0.1, timid=0.08, prejudice=0.03,
)  # fmt: skip
"""The writers of the cookbooks in the base corpus: nearly always right."""
TRAINEE = Cook(
    absent=0.22, careless=0.4, yielding=0.6, mistimed=0.35, undercooked=0.7, lazy=0.25, tasteless=0.4, miscounting=0.4,
    overclaiming=0.25, silent=0.3, soothing=0.5, obliging=0.4, timid=0.3, prejudice=0.1,
)  # fmt: skip
"""The writers of the demonstrations: willing but not reliable."""
