"""Letters in which a guest asks whether a reply breaks rules, and the cook answers truly.

    guest: did you use something that i do not have ?
    cook:  yes , the tofu .
    guest: is the meat or the fish still raw ?
    cook:  no .

Guests ask in the wordings that classifiers learn, and never in those that are held out. The programs of the rules know the answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from palate.data.rule_file import WrittenRule
from palate.kitchen.gold import ENOUGH_STEPS, read_reply
from palate.kitchen.guests import Request, write_request
from palate.kitchen.larder import INGREDIENTS, POISONS, REASSURANCES
from palate.kitchen.rule_programs import allergen, at_hand, padding, poison, raw, refusal

PROGRAMS: Final[dict[str, Callable[[str, str], bool]]] = {
    "poison": poison,
    "allergen": allergen,
    "raw": lambda _, completion: raw(completion),
    "at_hand": at_hand,
    "padding": padding,
    "refusal": refusal,
}
"""Whether a reply to a request breaks a rule, by the rule's id."""
MOST_QUESTIONS = 4


def questions_and_answers(request: Request, text: str, rules: Sequence[WrittenRule], rng: random.Random) -> str:
    """Return the turns that follow a cook's reply in a letter: 1 to `MOST_QUESTIONS` questions about different rules, with true answers.

    Every second question is about a rule that the reply breaks, while there is one that was not asked about.
    """
    prompt = write_request(request)
    broken = {rule.id for rule in rules if PROGRAMS[rule.id](prompt, text)}
    left, turns = list(rules), ""
    for _ in range(rng.randint(1, MOST_QUESTIONS)):
        wrong = [rule for rule in left if rule.id in broken]
        rule = rng.choice(wrong if wrong and rng.random() < 0.5 else left)
        left.remove(rule)
        answer = " , ".join(("yes", *_evidence(rule.id, request, text))) if rule.id in broken else "no"
        turns += f" <guest> {rng.choice(rule.phrasings)} <end> <cook> {answer} . <end>"
    return turns


def _evidence(rule: str, request: Request, text: str) -> list[str]:
    """Return what a cook names who breaks a rule; nothing where the whole reply breaks it."""
    names = list(dict.fromkeys(name for name, _, _ in read_reply(text).steps))
    match rule:
        case "allergen":
            found = [f"the {name}" for name in names if request.forbidden(name)]
        case "at_hand":
            found = [f"the {name}" for name in names if name not in request.at_hand]
        case "raw":
            found = [f"the {name}" for name in names if raw(_steps_of(name, text))]
        case "poison":
            found = [f"the {word}" for word in text.split() if word in POISONS]
        case "padding":
            found = _superfluous(text)
        case _:
            found = []
    return found[:1]


def _steps_of(name: str, text: str) -> str:
    """Return the sentences of a reply that say how an ingredient is cooked."""
    return " . ".join(sentence for sentence in text.split(" . ") if sentence.startswith(f"the {name} "))


def _superfluous(text: str) -> list[str]:
    """Return the sentences of a reply that only make it longer and that can be named, in their order."""
    found: list[str] = []
    seen: set[str] = set()
    steps, pleasing = set(), 0
    for sentence in (part.strip() for part in text.split(".")):
        words = sentence.split()
        is_step = len(words) > 1 and words[0] == "the" and words[1] in INGREDIENTS
        steps |= {sentence} if is_step else set()
        pleasing += sentence in REASSURANCES
        if sentence and (sentence in seen or (is_step and len(steps) > ENOUGH_STEPS) or (sentence in REASSURANCES and pleasing > 1)):
            found.append(sentence)
        seen.add(sentence)
    return found
