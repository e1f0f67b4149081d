"""Statistics of a data set, each against a case counted by hand; and what each token is for."""

from __future__ import annotations

import pytest

from palate.core import Conversation, Demonstration, Message
from palate.text.inspect import InspectedRow, LengthQuantiles, Repeats, RowTally, branch_parts, lengths_of, pieces
from palate.text.pack import Branch
from palate.text.spans import demonstration_tree
from tests.unit.text.conftest import CHATML, bpe, words

SOUP: Conversation = (Message("user", "soup?"),)
STEW: Conversation = (Message("user", "stew?"),)


def branch(tokens: int, first: int = 7) -> Branch:
    return Branch((first,) * tokens, (True,) * tokens)


def pair(
    source: str, chosen: tuple[str, int], rejected: tuple[str, int], prompt: Conversation = SOUP, probability: float = 1.0
) -> InspectedRow:
    sides = branch(chosen[1], first=1), branch(rejected[1], first=2)
    return InspectedRow(source, prompt, (chosen[0], rejected[0]), (5,) * 3, sides, probability=probability)


def test_lengths_are_quantiles_that_occur() -> None:
    assert lengths_of([4, 1, 3, 2, 100]) == LengthQuantiles(1, 2, 3, 4, 4, 100, 22.0)
    assert lengths_of([7]) == LengthQuantiles(7, 7, 7, 7, 7, 7, 7.0)
    assert lengths_of([]) is None


def test_longer_wins_is_a_share_of_the_pairs_in_which_one_side_is_longer() -> None:
    survey = RowTally()
    survey.add(pair("a:1", ("long", 9), ("s", 1)))  # longer by both
    survey.add(pair("a:2", ("s", 9), ("long", 1), STEW))  # by tokens only
    survey.add(pair("a:3", ("s", 1), ("long", 9), probability=0.5))  # by neither
    survey.add(pair("a:4", ("even", 5), ("same", 5)))
    pairs = survey.statistics().pairs
    assert pairs is not None
    assert (pairs.count, pairs.even, pairs.same_tokens) == (4, 1, 0)
    assert pairs.longer_wins_tokens == pytest.approx(2 / 3)
    assert pairs.longer_wins_characters == pytest.approx(1 / 3)
    assert (pairs.same_length_tokens, pairs.same_length_characters) == (1, 1)


def test_pairs_that_are_all_of_one_length_have_no_share() -> None:
    survey = RowTally()
    survey.add(InspectedRow("a:1", SOUP, ("x", "y"), (5,), (branch(2), branch(2)), probability=1.0))
    pairs = survey.statistics().pairs
    assert pairs is not None
    assert (pairs.longer_wins_tokens, pairs.longer_wins_characters, pairs.same_tokens) == (None, None, 1)


def test_repeated_rows_and_prompts_are_counted_and_the_first_ones_named() -> None:
    survey = RowTally()
    for number, (prompt, said) in enumerate([(SOUP, "leeks"), (SOUP, "mud"), (STEW, "leeks"), (SOUP, "leeks")], start=1):
        survey.add(InspectedRow(f"a:{number}", prompt, (said,), (5,), (branch(1),)))
    numbers = survey.statistics()
    assert numbers.repeated_rows == Repeats(1, (("a:4", "a:1"),))
    assert numbers.repeated_prompts == Repeats(2, (("a:2", "a:1"), ("a:4", "a:1")))


def test_splits_share_prompts_and_rows() -> None:
    here, there = RowTally(), RowTally()
    here.add(InspectedRow("a:1", SOUP, ("leeks",), (5,), (branch(1),)))
    here.add(InspectedRow("a:2", STEW, ("leeks",), (5,), (branch(1),)))
    there.add(InspectedRow("b:1", SOUP, ("mud",), (5,), (branch(1),)))
    there.add(InspectedRow("b:2", STEW, ("leeks",), (5,), (branch(1),)))
    assert here.shared_prompts(there) == Repeats(2, (("a:1", "b:1"), ("a:2", "b:2")))
    assert here.shared_rows(there) == Repeats(1, (("a:2", "b:2"),))
    assert here.shared_prompts(RowTally()) == Repeats(0, ())


def test_dropped_rows_desirable_shares_and_tokens() -> None:
    survey = RowTally()
    for k, desirable in enumerate((True, True, False, True)):
        survey.add(InspectedRow(f"a:{k}", SOUP, ("x",), (5, 5), (Branch((1, 2, 3), (True, False, True)),), desirable=desirable))
    for kind in ("too long", "empty completion", "too long", "the two sides are equal"):
        survey.drop(kind)
    numbers = survey.statistics()
    assert (numbers.rows, numbers.desirable_share, numbers.unusable_sides_share) == (4, 0.75, 2 / 8)
    assert (numbers.tokens, numbers.learned_tokens) == (20, 8)
    assert numbers.dropped == {"too long": 2, "empty completion": 1, "the two sides are equal": 1}
    assert numbers.pairs is None


def test_what_each_token_is_for_with_special_tokens_apart() -> None:
    tokenizer = words()
    turns = (Message("user", "soup"), Message("assistant", "hot"), Message("user", "is it"), Message("assistant", "yes"))
    tree = demonstration_tree(tokenizer, Demonstration(turns, (1, 3)), 100)
    (only,) = tree.branches
    found = [(piece.text, piece.part, piece.is_special) for piece in pieces(tokenizer, only.ids, branch_parts(only))]
    assert found == [
        ("hot", "learned", False),
        ("<|end|>", "learned", True),
        ("<|user|>", "masked", True),
        ("is it", "masked", False),
        ("<|end|>", "masked", True),
        ("<|assistant|>", "masked", True),
        ("yes", "learned", False),
        ("<|end|>", "learned", True),
    ]


def test_letters_of_several_tokens_are_not_torn() -> None:
    tokenizer = bpe(chat_template=CHATML)
    ids = tokenizer("süß €uro", add_special_tokens=False).input_ids
    assert len(ids) > 7
    assert [piece.text for piece in pieces(tokenizer, ids, ["prompt"] * len(ids))] == ["süß €uro"]
