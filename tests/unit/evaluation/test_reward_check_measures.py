"""What `palate reward-check` measures, on pairs whose figures are known, and against statsmodels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import spearmanr

from palate.agreement.estimates import Estimate
from palate.core import Completion, ConfigError, Message, Preference, Prompt
from palate.data.formats import CompletionGroup
from palate.evaluation.length_floor import clustered_difference, gain_over_length, rule_agreement
from palate.evaluation.reward_check.accuracy import by_gap, by_rater, by_source, figures_of
from palate.evaluation.reward_check.doubts import ensemble_disagreement, novelty, rank_correlation
from palate.evaluation.reward_check.length_effect import length_effect
from palate.evaluation.reward_check.prompt_clusters import OTHER, cluster_prompts
from palate.evaluation.reward_check.score_book import BookEntry, ScoreBook, ScoredPairs, column_of, whole_pairs

ONES = np.ones(1)


def preference(number: int, votes: tuple[tuple[str, float], ...] = (), **fields: object) -> Preference:
    prompt = Prompt(str(number), (Message("user", f"question {number}"),), fields)
    return Preference(prompt, Completion("yes"), Completion("no"), votes=votes)


def scored(difference: list[float], tokens: list[tuple[int, int]] | None = None, votes: list[tuple[tuple[str, float], ...]] | None = None,
           prompts: list[int] | None = None, fields: list[dict[str, object]] | None = None) -> ScoredPairs:  # fmt: skip
    count = len(difference)
    given = votes or [()] * count
    preferences = [preference(k, given[k], **(fields[k] if fields else {})) for k in range(count)]
    observed = [np.mean([vote for _, vote in each]) if each else 1.0 for each in given]
    scores = np.stack([np.array(difference), np.zeros(count)], axis=1)
    lengths = np.array(tokens or [(3, 3)] * count, dtype=np.float64)
    return ScoredPairs(
        tuple(preferences), scores, np.array([difference]), np.array(observed), lengths, np.array(prompts or range(count), dtype=np.int64)
    )


def test_accuracy_stands_beside_its_floors_its_majority_and_its_ceiling() -> None:
    votes = [(("anna", 1.0), ("ben", 1.0)), (("anna", 1.0), ("ben", 0.0)), (("anna", 0.0), ("ben", 0.0)), (("anna", 1.0),)]
    pairs = scored([2.0, 1.0, 1.0, -1.0], [(5, 2), (2, 5), (2, 2), (4, 1)], votes)
    found = figures_of(pairs)
    assert found.accuracy.value == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert found.longer.value == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    assert found.shorter.value == pytest.approx(1 - found.longer.value)
    assert found.floor == found.longer
    assert found.over_length.value == pytest.approx(found.accuracy.value - found.longer.value)
    assert found.majority == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    agreed = 2 / 3  # of the three pairs with two votes
    assert found.ceiling == pytest.approx(1 - (1 - (2 * agreed - 1) ** 0.5) / 2)
    raters = {one.name: (one.pairs, one.accuracy.value) for one in by_rater(pairs)}
    assert raters == {"anna": (4, 0.5), "ben": (3, pytest.approx(1 / 3))}
    assert figures_of(scored([1.0, 1.0])).ceiling is None
    tied = figures_of(scored([1.0, 1.0], votes=[(("anna", 1.0), ("ben", 1.0)), (("anna", 0.5), ("ben", 0.5))])).ceiling
    assert tied == 0.75, "half of the votes are ties, which every model gets half right"


def test_the_rule_by_writer_is_a_floor_where_writers_are_known() -> None:
    fields: list[dict[str, object]] = [{"chosen_model": "big", "rejected_model": "small"}] * 3 + [
        {"chosen_model": "small", "rejected_model": "big"},
        {},
    ]
    found = figures_of(scored([1.0] * 5, fields=fields)).writer
    assert found is not None
    assert (found.value, found.n) == (0.75, 4)
    assert figures_of(scored([1.0])).writer is None


def test_the_interval_counts_prompts_and_not_pairs() -> None:
    right = [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    alone, together = figures_of(scored(right)).accuracy, figures_of(scored(right, prompts=[0, 0, 0, 0, 1, 1, 1, 1])).accuracy
    assert (alone.n, together.n) == (8, 2)
    assert together.high - together.low > alone.high - alone.low


def test_sources_are_a_column_that_is_usual_or_named() -> None:
    pairs = scored([1.0, -1.0], fields=[{"subset": "a", "team": "x"}, {"subset": "b"}])
    assert [(one.name, one.accuracy.value) for one in by_source(pairs)] == [("a", 1.0), ("b", 0.0)]
    assert [one.name for one in by_source(pairs, "team")] == ["not given", "x"]
    assert by_source(scored([1.0])) == ()


def test_gaps_are_quarters_of_the_pairs() -> None:
    found = by_gap(scored([0.1, -0.2, 0.3, -0.4, 0.5, 0.6, 0.7, 0.8]))
    assert [one.pairs for one in found] == [2, 2, 2, 2]
    assert [one.accuracy.value for one in found] == [0.5, 0.5, 1.0, 1.0]
    assert by_gap(scored([1.0, 1.0])) == ()


def test_the_effect_of_length_is_that_of_least_squares_with_clustered_errors() -> None:
    rng = np.random.default_rng(0)
    count = 200
    tokens = rng.integers(1, 40, (count, 2))
    prompts = rng.integers(0, 60, count)
    difference = 0.8 + 0.05 * (tokens[:, 0] - tokens[:, 1]) + rng.normal(size=count)
    pairs = scored(list(difference), [tuple(each) for each in tokens], prompts=list(prompts))
    found = length_effect(pairs)
    assert found is not None
    x = (tokens[:, 0] - tokens[:, 1]).astype(float)
    x, y = x / np.sqrt((x**2).mean()), difference / np.sqrt((difference**2).mean())
    groups = np.unique(prompts, return_inverse=True)[1]
    fitted = sm.OLS(y, sm.add_constant(x)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    n, g = count, len(np.unique(prompts))
    assert found.effect.value == pytest.approx(fitted.params[1])
    assert found.effect.se == pytest.approx(fitted.bse[1] * np.sqrt(g / (g - 1)), rel=1e-6)
    assert (found.prefers, found.effect.n, found.is_fault) == ("longer", g, False)
    assert n == len(pairs)


def test_a_score_that_is_the_length_is_a_fault_and_a_sound_one_is_not() -> None:
    rng = np.random.default_rng(1)
    tokens = [(int(a), int(b)) for a, b in rng.integers(1, 40, (120, 2)) if a != b]
    by_length = length_effect(scored([float(b - a) for a, b in tokens], tokens))
    assert by_length is not None
    assert (by_length.prefers, by_length.is_fault, by_length.follows.value) == ("shorter", True, 1.0)
    assert by_length.against is not None
    assert by_length.against.value == 0.0
    sound = length_effect(scored([1.0 + 0.01 * (a - b) for a, b in tokens], tokens))
    assert sound is not None
    assert (sound.effect.low > 0, sound.is_fault) == (True, False), "length moves the score, and does not decide"
    wrong = length_effect(scored([-1.0 + 0.01 * (a - b) for a, b in tokens], tokens))
    assert wrong is not None
    assert not wrong.is_fault, "it is wrong at every length"
    assert length_effect(scored([1.0, 2.0])) is None


def test_the_gain_over_the_length_rule_is_paired_and_its_error_is_clustered() -> None:
    rng = np.random.default_rng(2)
    right, rule = rng.integers(0, 2, 60).astype(float), rng.integers(0, 2, 60).astype(float)
    lengths = np.where(rule[:, None] == 1, [[2.0, 1.0]], [[1.0, 2.0]])
    agreement, name = rule_agreement(lengths, np.ones(60))
    found = gain_over_length(right, lengths, np.ones(60), np.arange(60))
    difference = right - agreement
    assert name == ("longer" if rule.mean() >= 0.5 else "shorter")
    assert (found.value, found.se) == (pytest.approx(difference.mean()), pytest.approx(difference.std(ddof=1) / 60**0.5))
    twice = gain_over_length(np.repeat(right, 2), np.repeat(lengths, 2, axis=0), np.ones(120), np.repeat(np.arange(60), 2))
    assert (twice.value, twice.se, twice.n) == (pytest.approx(found.value), pytest.approx(found.se), 60)


def test_where_all_differences_are_alike_the_interval_is_that_of_the_accuracy() -> None:
    found = gain_over_length(np.ones(40), np.full((40, 2), 3.0), np.ones(40), np.arange(40))
    assert found.value == 0.5
    assert 0.35 < found.low < 0.5
    assert np.isnan(clustered_difference(np.ones(3), np.zeros(3, dtype=np.int64)).low)


def test_prompts_are_grouped_by_their_words_the_same_way_each_time() -> None:
    rng = np.random.default_rng(0)
    words = {"cook": ("soup", "bread", "butter"), "code": ("python", "loop", "function")}
    texts = [
        f"{' '.join(rng.choice(words[kind], 2))} case{chr(97 + k % 26)}{chr(97 + k // 26)} please help" for k in range(80) for kind in words
    ]
    found, again = cluster_prompts(texts), cluster_prompts(texts)
    assert found is not None
    assert again is not None
    assert (found.number == again.number).all()
    groups = [{("soup" in text or "bread" in text or "butter" in text) for text, k in zip(texts, found.number, strict=True) if k == number}
              for number in set(found.number)]  # fmt: skip
    assert all(len(kinds) == 1 for kinds in groups), "no group mixes cooking with code"
    assert all(set(name.split(", ")) & {*words["cook"], *words["code"]} for name in found.names)
    assert cluster_prompts(texts[:10]) is None
    other = cluster_prompts([*texts, *("? ?" for _ in range(5))])
    assert other is not None
    assert other.names[other.number[-1]] == OTHER


def test_disagreement_is_among_the_members_probabilities() -> None:
    count = 30
    first = np.where(np.arange(count) < 10, 3.0, 0.5)
    second = np.where(np.arange(count) < 10, 3.0, -2.0)
    pairs = replace(scored(list(np.where(np.arange(count) < 10, 1.0, -1.0))), logits=np.stack([first, second]))
    found = ensemble_disagreement(pairs)
    assert found is not None
    assert (found.agreed.value, found.disputed.value, found.warns) == (0.0, 1.0, True)
    assert ensemble_disagreement(scored([1.0] * count)) is None


def test_disagreement_goes_with_errors_by_ranks() -> None:
    count = 40
    spread = np.random.default_rng(0).random(count)
    wrong = (np.random.default_rng(1).random(count) < spread).astype(float)
    logits = np.stack([np.zeros(count), np.log((0.5 + spread / 3) / (0.5 - spread / 3))])
    found = ensemble_disagreement(replace(scored(list(1 - 2 * wrong)), logits=logits))
    assert found is not None
    assert found.correlation == pytest.approx(spearmanr(spread, wrong).statistic)
    assert rank_correlation(np.array([1.0, 2.0, 2.0, 5.0]), np.array([3.0, 1.0, 1.0, 0.0])) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4.0)))


class Book(ScoreBook):
    """Scores that are known beforehand: by text, the members' scores."""

    def __init__(self, members: dict[str, tuple[float, ...]]) -> None:
        self._members = members

    def add(self, asked: Iterable[tuple[Prompt, Completion]], label: str) -> None:
        assert label == "new completions"
        self.added = [completion.text for _, completion in asked]

    def of(self, prompt: Prompt, completion: Completion) -> BookEntry:
        scores = np.array(self._members[completion.text])[:, None]
        return BookEntry(scores.mean(0), scores, scores, "" if np.isfinite(scores).all() else "too long")


def two_members(count: int) -> ScoredPairs:
    pairs = scored([1.0] * count)
    return replace(pairs, logits=np.stack([pairs.difference] * 2))


def test_new_completions_are_strange_where_members_differ_more_than_on_held_out_ones() -> None:
    pairs = two_members(30)
    known = {"yes": (0.0, 2.0), "no": (0.0, 4.0), "odd": (0.0, 6.0), "lost": (0.0, np.nan)}
    group = [CompletionGroup(Prompt(str(k), (Message("user", f"new {k}"),)), (Completion("odd"), Completion("no"))) for k in range(20)]
    found = novelty(Book(known), pairs, group)
    assert found is not None
    assert (found.new, found.usual, found.completions) == ((3 + 2) / 2, (1 + 2) / 2, 40)
    assert (found.beyond.value, found.beyond.n, found.is_warning) == (0.5, 20, True)
    alike = novelty(Book(known), pairs, [replace(one, completions=(Completion("yes"), Completion("lost"))) for one in group])
    assert alike is not None
    assert (alike.beyond.value, alike.completions, alike.is_warning) == (0.0, 20, False)
    assert novelty(Book(known), scored([1.0] * 30), group) is None, "one model does not disagree"
    assert novelty(Book(known), pairs, []) is None


def test_a_dimension_is_judged_by_its_head_or_named_as_missing() -> None:
    heads = ("taste", "kind")
    assert column_of("kind", heads, combined=False) == 1
    assert column_of("kind", heads, combined=True) is None
    assert column_of("overall", heads, combined=False) is None
    assert column_of("honest", ("one",), combined=False) is None, "a model with one score has nothing else to say"
    with pytest.raises(ConfigError, match="the pairs judge 'kindly'.*Did you mean 'kind'"):
        column_of("kindly", heads, combined=False)


def test_pairs_as_a_whole_are_those_that_the_dimensions_do_not_cancel() -> None:
    one = preference(0)
    turned = replace(one, chosen=one.rejected, rejected=one.chosen)
    assert whole_pairs([replace(one, dimension="a"), replace(turned, dimension="b")]) == []
    (found,) = whole_pairs([replace(one, dimension="a"), replace(turned, dimension="b"), replace(turned, dimension="c")])
    assert (found.chosen.text, found.dimension, found.probability) == ("no", "overall", 1.0)


def test_estimates_have_the_interval_of_normal_errors() -> None:
    found = clustered_difference(np.array([0.0, 1.0, 0.0, 1.0]), np.arange(4))
    assert isinstance(found, Estimate)
    assert (found.value, found.se) == (0.5, pytest.approx(np.std([0, 1, 0, 1], ddof=1) / 2))
