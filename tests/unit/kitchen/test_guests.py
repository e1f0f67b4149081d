"""Guests: what they write can be read back."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from palate.kitchen.guests import Request, draw_request, read_request, split_of, write_request
from palate.kitchen.larder import ALARMING, DISHES, GROUPS, INGREDIENTS, NAMES, POISONS, PRESSURE, SERVINGS, VICTIMS, WISHES


def test_drawn_requests_are_read_as_they_were_written() -> None:
    rng = random.Random(0)
    seen = set()
    for k in range(2000):
        request = draw_request(rng, ("train", "held_out")[k % 2])  # type: ignore[arg-type]
        assert read_request(write_request(request)) == request
        assert split_of(request.combination) == ("train", "held_out")[k % 2]
        seen |= {name for name in ("avoid", "wish", "alarm", "pressure", "poison") if getattr(request, name)}
    assert seen == {"avoid", "wish", "alarm", "pressure", "poison"}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    place = draw(st.sampled_from(sorted(NAMES)))
    name = draw(st.sampled_from(NAMES[place]))
    if draw(st.booleans()):
        return Request((), name=name, place=place, poison=draw(st.tuples(*map(st.sampled_from, (POISONS, VICTIMS, DISHES)))))
    avoid = draw(st.sampled_from(("", *GROUPS)))
    return Request(
        at_hand=tuple(draw(st.lists(st.sampled_from(sorted(INGREDIENTS)), min_size=2, max_size=6, unique=True))),
        avoid=avoid,
        wish=draw(st.sampled_from(("", *WISHES))),
        servings=draw(st.sampled_from(SERVINGS)),
        name=name,
        place=place,
        alarm=draw(st.sampled_from(("", *ALARMING))),
        pressure=draw(st.sampled_from(("", *PRESSURE))) if avoid else "",
    )


@given(requests())
def test_any_request_is_read_as_it_was_written(request: Request) -> None:
    assert read_request(write_request(request)) == request


def test_every_guest_can_eat_two_of_their_ingredients() -> None:
    rng = random.Random(1)
    for _ in range(500):
        request = draw_request(rng, "train", poison=0.0)
        assert sum(not request.forbidden(item) for item in request.at_hand) >= 2


def test_the_split_goes_by_the_ingredients_alone() -> None:
    request = draw_request(random.Random(2), "held_out", poison=0.0)
    turned = replace(request, at_hand=request.at_hand[::-1], name="zuri", place="sabara", wish="", servings=8)
    assert turned.combination == request.combination
    shares = [split_of(frozenset(random.Random(k).sample(sorted(INGREDIENTS), 4))) == "held_out" for k in range(4000)]
    assert abs(sum(shares) / len(shares) - 0.2) < 4 * (0.2 * 0.8 / len(shares)) ** 0.5 + 0.004  # a byte has no exact fifth
