"""Preferences as trees: one branch a completion, and evidence from several questions added up."""

import math

import pytest

from palate.core import Completion, Message, Preference, Prompt
from palate.testing import word_tokenizer
from palate.text.pack import Branch, Tree
from palate.training.comparisons import BranchPair, JudgedPrompt, judged_prompts, overall, pair_batches


def judged(*pairs: tuple[int, int, float, float], branches: int = 3) -> JudgedPrompt:
    """A prompt with pairs (chosen, rejected, probability, weight), each about a question of its own."""
    tree = Tree((5,), tuple(Branch((k + 6,), (True,)) for k in range(branches)))
    made = tuple(BranchPair(chosen, rejected, p, 0.0, weight, f"q{k}") for k, (chosen, rejected, p, weight) in enumerate(pairs))
    return JudgedPrompt(tree, made, ())


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def concluded(one: JudgedPrompt) -> dict[tuple[int, int], float]:
    (found,) = overall([one])
    assert all(pair.dimension == "overall" for pair in found.pairs)
    return {(pair.chosen, pair.rejected): pair.probability for pair in found.pairs}


def test_one_answer_stays_as_it_is() -> None:
    assert concluded(judged((0, 1, 0.75, 1.0))) == {(0, 1): pytest.approx(0.75)}
    assert concluded(judged((2, 0, 0.9, 1.0))) == {(2, 0): pytest.approx(0.9)}


def test_logits_of_several_answers_add_up_whichever_side_was_chosen() -> None:
    agreeing = concluded(judged((0, 1, 0.75, 1.0), (0, 1, 0.75, 1.0)))
    assert agreeing == {(0, 1): pytest.approx(0.9)}  # odds 3 times odds 3
    split = concluded(judged((0, 1, 0.75, 1.0), (1, 0, 0.9, 1.0)))
    assert split == {(1, 0): pytest.approx(0.75)}  # odds 9 over odds 3
    assert logit(0.75) * 2 == pytest.approx(logit(0.9))


def test_an_answer_below_one_half_speaks_for_the_other_side() -> None:
    assert concluded(judged((0, 1, 0.25, 1.0))) == {(1, 0): pytest.approx(0.75)}


def test_weights_multiply_the_evidence() -> None:
    found = concluded(judged((0, 1, 0.75, 2.0), (1, 0, 0.75, 1.0)))
    assert found == {(0, 1): pytest.approx(0.75)}
    (one,) = overall([judged((0, 1, 0.75, 2.0), (1, 0, 0.75, 1.0))])
    assert one.pairs[0].weight == 2.0


def test_pairs_whose_evidence_cancels_out_are_left_out() -> None:
    kept = concluded(judged((0, 1, 0.8, 1.0), (1, 0, 0.8, 1.0), (1, 2, 0.6, 1.0), (0, 2, 0.5, 1.0)))
    assert kept == {(1, 2): pytest.approx(0.6)}
    assert overall([judged((0, 1, 0.8, 1.0), (1, 0, 0.8, 1.0)), judged((0, 1, 0.5, 1.0))]) == []


def test_certainty_stays_finite() -> None:
    (found,) = concluded(judged((0, 1, 1.0, 1.0), (0, 1, 1.0, 1.0))).values()
    assert 0.999999 < found <= 1.0


def preference(question: str, chosen: str, rejected: str, dimension: str = "overall") -> Preference:
    prompt = Prompt(question, (Message("text", question),))
    return Preference(prompt, Completion(chosen), Completion(rejected), 0.75, dimension=dimension)


def test_completions_of_a_prompt_are_branches_of_one_tree() -> None:
    given = [
        preference("the cook", " has rice", " has beans"),
        preference("the guests", " make salt", " today"),
        preference("the cook", " today", " has rice", "honest"),
    ]
    found, reasons = judged_prompts(given, word_tokenizer(), 100)
    assert reasons == []
    assert [len(one.tree.branches) for one in found] == [3, 2]
    assert [(pair.chosen, pair.rejected, pair.dimension) for pair in found[0].pairs] == [(0, 1, "overall"), (2, 0, "honest")]
    assert [one.preferences for one in found] == [(given[0], given[2]), (given[1],)]


def test_prompts_that_do_not_fit_are_counted_by_preference() -> None:
    given = [preference("the cook", " has rice", " has beans"), preference("the cook and the guests", " today", " no"),
             preference("the cook and the guests", " please", " no")]  # fmt: skip
    found, reasons = judged_prompts(given, word_tokenizer(), 9)
    assert len(found) == 1
    assert len(reasons) == 2
    assert all(reason.startswith("too long") for reason in reasons)


def test_pairs_whose_sides_are_the_same_tokens_are_left_out_and_counted() -> None:
    """Words that the tokenizer does not know are all one token."""
    given = [preference("the cook", " xylophone", " zeppelin"), preference("the cook", " rice", " salt")]
    (found,), reasons = judged_prompts([*given, preference("two guests", " xylophone", " zeppelin")], word_tokenizer(), 100)
    assert found.preferences == (given[1],)
    assert len(found.pairs) == 1
    assert reasons == ["both sides are the same tokens"] * 2


@pytest.mark.parametrize("tokens", [1, 12, 1000])
def test_micro_batches_point_at_the_right_branches(tokens: int) -> None:
    given = [
        preference("the cook", " has rice", " has beans and salt", "honest"),
        preference("the guests", " make salt", " today"),
        preference("the cook", " today", " has rice"),
        preference("two guests", " please", " no"),
    ]
    tokenizer = word_tokenizer()
    found, _ = judged_prompts(given, tokenizer, 100)
    parts = list(pair_batches(found, ("overall", "honest"), tokens)([0, 2, 1]))
    assert len(parts) == {1: 3, 12: 3, 1000: 1}[tokens] or tokens == 12
    assert sorted(index for part in parts for index in part.indices) == [0, 1, 2]
    seen = set()
    for part in parts:
        branches = [branch for tree in part.trees.trees for branch in tree.branches]
        for chosen, rejected, head in zip(part.chosen.tolist(), part.rejected.tolist(), part.dimension.tolist(), strict=True):
            texts = [tokenizer.decode(branches[side].ids, skip_special_tokens=True) for side in (chosen, rejected)]
            seen.add((texts[0], texts[1], ("overall", "honest")[head]))
        assert part.probability.tolist() == [0.75] * len(part.chosen)
        assert part.weight.tolist() == [1.0] * len(part.chosen)
    assert seen == {(one.chosen.text, one.rejected.text, one.dimension) for one in given}
