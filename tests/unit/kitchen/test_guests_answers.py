"""Guests' answers: each fault is named, and nothing that is right."""

import random

import pytest

from palate.kitchen.cooks import STREET, reply
from palate.kitchen.gold import THANKS, answer, complaints, judge
from palate.kitchen.guests import Request, draw_request, write_request
from palate.kitchen.larder import REFUSAL

REQUEST = Request(("chicken", "rice", "onion", "cheese"), avoid="dairy", wish="spicy", servings=4, name="anna", place="norwick")
RIGHT = (
    "the chicken roasts for 40 minutes . the rice boils for 12 minutes . add some chili . "
    "it takes 52 minutes in all . it has no dairy . it serves 4 ."
)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (RIGHT, []),
        (f"{REFUSAL} .", []),
        (RIGHT.replace("rice boils for 12", "potato boils for 20").replace("52", "60"), ["i have no potato"]),
        (RIGHT.replace("for 12", "for 10").replace("52", "50"), ["the rice boils for 12 minutes"]),
        (RIGHT.replace("rice boils", "rice fries"), ["the rice boils for 12 minutes"]),
        (
            RIGHT.replace("rice boils for 12", "cheese melts for 4").replace("52", "44"),
            ["i can not eat cheese", "it has some dairy"],
        ),
        (RIGHT.replace("52", "54"), ["it takes 52 minutes in all"]),
        (RIGHT.replace("chili", "honey"), ["i want something spicy"]),
        (RIGHT.replace("serves 4", "serves 5"), ["it is for 4"]),
    ],
)
def test_each_fault_is_named_and_nothing_else(said: str, found: list[str]) -> None:
    assert complaints(REQUEST, said) == found


def test_guests_thank_for_what_earns_everything_and_name_two_faults_at_most() -> None:
    rng = random.Random(0)
    thanked = 0
    for _ in range(300):
        request = draw_request(rng, "train", poison=0.0)
        said = reply(STREET, request, rng)
        answered = answer(request, said, rng)
        if answered == THANKS:
            thanked += 1
            continue
        named = answered.removeprefix("no , ").removesuffix(" .").split(" . ")
        assert 1 <= len(named) <= 2
        assert set(named) <= set(complaints(request, said))
        assert min(judge(write_request(request), said).values()) < 1, said
    assert 0 < thanked < 150
