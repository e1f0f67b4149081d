"""Letters in which a guest asks one question about a reply, answers it truly, and the cook mends what the guest complains of.

    guest: is it safe ? no , i can not eat butter .
    cook:  (the same reply, with another ingredient in place of the butter)

The program that writes them knows the truth (see `palate.kitchen.gold`): every complaint is true, and what nobody complained of stays.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from palate.kitchen.cooks import Cook, reply
from palate.kitchen.gold import MAX_COMPLAINTS, Reading, read_reply
from palate.kitchen.guests import Request
from palate.kitchen.larder import INGREDIENTS, REFUSAL, RISKY_GROUPS, WISHES

QUESTIONS: Final = {"helpful": "is it what i want ?", "honest": "is it true ?", "harmless": "is it safe ?"}
"""What a guest asks about a reply, by the dimension that the question is about."""
CONTENT: Final = "yes , thank you ."
FAULTLESS: Final = Cook(
    absent=0, careless=0, yielding=0, mistimed=0, undercooked=0, lazy=0, tasteless=0, miscounting=0,
    overclaiming=0, silent=0, soothing=0, obliging=0, timid=0, prejudice=0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a reply: what a guest says of it, and what mends it.

    `mend` is what is to be done with the ingredient, seasoning or group called `subject`, or with the whole reply.
    """

    complaint: str
    mend: Literal["replace", "retime", "total", "contains", "season", "serve", "refuse", "answer"]
    subject: str = ""


def critique_and_revision(request: Request, text: str, rng: random.Random) -> str:
    """Return the turns that follow a cook's reply in a letter: a guest's question with its true answer, and the mended reply.

    A guest without complaint thanks, and nothing is mended. A guest names at most `MAX_COMPLAINTS` complaints, and only those are mended.
    """
    dimension = rng.choice(tuple(QUESTIONS))
    wrong = faults(request, text, dimension)
    if not wrong:
        return f" <guest> {QUESTIONS[dimension]} {CONTENT} <end>"
    chosen = [wrong[k] for k in sorted(rng.sample(range(len(wrong)), min(MAX_COMPLAINTS, len(wrong))))]
    complaints = " . ".join(fault.complaint for fault in chosen)
    return f" <guest> {QUESTIONS[dimension]} no , {complaints} . <end> <cook> {mended(request, text, chosen, rng)} <end>"


def faults(request: Request, text: str, dimension: str) -> list[Fault]:
    """Return what is wrong with a reply on one dimension, in the order of the reply."""
    reading = read_reply(text)
    if request.poison:
        is_wrong = dimension == "harmless" and not reading.refusals
        return [Fault(f"nobody can eat {request.poison[0]}", "refuse")] if is_wrong else []
    if reading.refusals:
        return [Fault("i only want to eat", "answer")] if dimension == "harmless" else []
    steps = list(dict.fromkeys(reading.steps))
    match dimension:
        case "helpful":
            return _unhelpful(request, reading)
        case "honest":
            return _untrue(request, reading, steps)
        case _:
            return _unsafe(request, steps)


Steps = Sequence[tuple[str, str, int]]


def _unsafe(request: Request, steps: Steps) -> list[Fault]:
    wrong = []
    for name, _, minutes in steps:
        item = INGREDIENTS[name]
        if request.forbidden(name):
            wrong.append(Fault(f"i can not eat {name}", "replace", name))
        elif item.group in RISKY_GROUPS and minutes < item.minutes:
            wrong.append(Fault(f"the {name} {item.method} for {item.minutes} minutes", "retime", name))
    return wrong


def _untrue(request: Request, reading: Reading, steps: Steps) -> list[Fault]:
    wrong = []
    for name, method, minutes in steps:
        item = INGREDIENTS[name]
        if name not in request.at_hand:
            wrong.append(Fault(f"i have no {name}", "replace", name))
        elif (method, minutes) != (item.method, item.minutes):
            wrong.append(Fault(f"the {name} {item.method} for {item.minutes} minutes", "retime", name))
    total = sum(minutes for _, _, minutes in steps)
    if reading.totals and set(reading.totals) != {total}:
        wrong.append(Fault(f"it takes {total} minutes in all", "total"))
    groups = {INGREDIENTS[name].group for name, _, _ in steps}
    for group, has in dict.fromkeys(reading.contains):
        if (group in groups) != has:
            wrong.append(Fault(f"it has {'no' if has else 'some'} {group}", "contains", group))
    return wrong


def _unhelpful(request: Request, reading: Reading) -> list[Fault]:
    wrong = []
    if request.wish and set(reading.seasonings) != {WISHES[request.wish]}:
        wrong.append(Fault(f"i want something {request.wish}", "season", WISHES[request.wish]))
    if set(reading.serves) != {request.servings}:
        wrong.append(Fault(f"it is for {request.servings}", "serve"))
    return wrong


def mended(request: Request, text: str, wrong: Sequence[Fault], rng: random.Random) -> str:
    """Return the reply without those faults. What follows from a step that changed (total, allergens) is said anew and truly."""
    subjects: dict[str, set[str]] = {}
    for fault in wrong:
        subjects.setdefault(fault.mend, set()).add(fault.subject)
    if "refuse" in subjects:
        return f"{REFUSAL} ."
    if "answer" in subjects:
        return reply(FAULTLESS, request, rng)
    before = [part.strip() for part in text.split(".") if part.strip()]
    sentences = _with_other_steps(request, before, subjects, rng)
    is_changed = sentences != before
    steps = read_reply(_joined(sentences)).steps
    total, groups = sum(minutes for _, _, minutes in steps), {INGREDIENTS[name].group for name, _, _ in steps}
    for at, sentence in enumerate(sentences):
        match sentence.split():
            case ["it", "takes", _, "minutes", "in", "all"] if is_changed or "total" in subjects:
                sentences[at] = f"it takes {total} minutes in all"
            case ["it", "has", _, group] if is_changed or group in subjects.get("contains", ()):
                sentences[at] = f"it has {'some' if group in groups else 'no'} {group}"
    for seasoning in subjects.get("season", ()):
        sentences = _with_one(sentences, "add some", seasoning, after="the")
    if "serve" in subjects:
        sentences = _with_one(sentences, "it serves", str(request.servings), after="it")
    return _joined(sentences)


def _with_other_steps(request: Request, sentences: Sequence[str], subjects: Mapping[str, set[str]], rng: random.Random) -> list[str]:
    """The sentences with other ingredients in place of those to replace, and with the right time where it was wrong."""
    used = {name: sentence for sentence in sentences if (name := _ingredient(sentence))}
    spare = [name for name in request.at_hand if not request.forbidden(name) and name not in used]
    rng.shuffle(spare)
    changed = []
    for sentence in sentences:
        name = _ingredient(sentence)
        if name in subjects.get("replace", ()):
            changed += [_step(spare.pop())] if spare else []
        else:
            changed.append(_step(name) if name in subjects.get("retime", ()) else sentence)
    return changed


def _ingredient(sentence: str) -> str:
    """The ingredient of a step; "" for another sentence."""
    first, name, *_ = sentence.split()
    return name if first == "the" else ""


def _step(name: str) -> str:
    return f"the {name} {INGREDIENTS[name].method} for {INGREDIENTS[name].minutes} minutes"


def _with_one(sentences: Sequence[str], start: str, word: str, after: str) -> list[str]:
    """The sentences with one of `start` and `word`: in place of the first that starts so, else behind the last that begins with `after`."""
    places = [at for at, sentence in enumerate(sentences) if sentence.startswith(start)]
    kept = [sentence for sentence in sentences if not sentence.startswith(start)]
    behind = max((at for at, sentence in enumerate(kept) if sentence.split()[0] == after), default=len(kept) - 1) + 1
    at = places[0] if places else behind
    return [*kept[:at], f"{start} {word}", *kept[at:]]


def _joined(sentences: Sequence[str]) -> str:
    return "".join(f"{sentence} . " for sentence in sentences).strip()
