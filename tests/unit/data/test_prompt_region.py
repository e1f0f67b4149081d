"""A region of prompts is left out whole, or but for a share that the seed draws."""

from __future__ import annotations

import pytest

from palate.core import Completion, ConfigError, Message, Preference, Prompt
from palate.data.prompt_region import PromptRegion


def judged(text: str, k: int) -> Preference:
    return Preference(Prompt(f"p{k}", (Message("user", text),)), Completion("yes"), Completion("no"))


ROWS = [judged(text, k) for k, text in enumerate(["put salt in"] + ["i have rice"] + [f"put {k} in" for k in range(9)] + ["put salt in"])]


def test_a_region_is_left_out_with_every_row_of_its_prompts() -> None:
    rest, count = PromptRegion(r"^put \w+ in").removed_from(ROWS, seed=1)
    assert [one.prompt.text for one in rest] == ["i have rice"]
    assert count == 11


def test_a_share_of_its_prompts_stays_drawn_by_the_seed() -> None:
    region = PromptRegion("put", keep=0.3)
    drawn = [tuple(dict.fromkeys(one.prompt.text for one in region.removed_from(ROWS, seed)[0])) for seed in range(4)]
    assert [len(texts) for texts in drawn] == [4] * 4, "three of ten prompts, and the one outside"
    assert len(set(drawn)) > 1
    assert drawn[0] == tuple(dict.fromkeys(one.prompt.text for one in region.removed_from(ROWS, 0)[0]))


def test_a_pattern_that_finds_nothing_or_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="finds no prompt"):
        PromptRegion("poison").removed_from(ROWS, seed=1)
    with pytest.raises(ConfigError, match="not a regular expression"):
        PromptRegion("put (")
