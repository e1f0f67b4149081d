"""Alpha and kappas: published values, statsmodels, undefined cases, and intervals that mean what they say."""

import itertools

import numpy as np
import pytest
from statsmodels.stats import inter_rater

from palate.agreement import Votes, cohen_kappa, fleiss_kappa, krippendorff_alpha, pair_kappas, raw_agreement
from palate.testing import shared_data
from palate.testing.synthetic_votes import llmfao, mt_bench


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts_of(table: list[list[int | None]]) -> np.ndarray:
    """(items, answers) of a table raters by items with holes."""
    answers = sorted({a for row in table for a in row if a is not None})
    return np.array([[sum(row[k] == a for row in table) for a in answers] for k in range(len(table[0]))], dtype=float)


@pytest.mark.parametrize("name", ["4x12", "3x15"])
def test_alpha_is_the_published_one(oracle, name) -> None:
    case = oracle("krippendorff_alpha_nominal")
    table = case["inputs"][{"4x12": "krippendorff_4x12", "3x15": "wikipedia_3x15"}[name]]
    counts = counts_of(table)
    assert krippendorff_alpha(counts, rng()).value == pytest.approx(case["expected"][f"alpha_{name}"], rel=1e-9)
    assert counts[counts.sum(1) > 1].sum() == case["expected"][f"pairable_{name}"]


@pytest.mark.parametrize(("level", "published"), [("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_answers_with_an_order(oracle, level, published) -> None:
    # Krippendorff 2011 gives 0.815 and 0.849 for the same 4 x 12 table.
    counts = counts_of(oracle("krippendorff_alpha_nominal")["inputs"]["krippendorff_4x12"])
    assert krippendorff_alpha(counts, rng(), level).value == pytest.approx(published, abs=5e-4)


def by_hand(counts: np.ndarray, differences: np.ndarray) -> float:
    """Alpha by going through all pairs of votes, as the definition does."""
    observed = expected = total = 0.0
    rows = [[a for a, n in enumerate(row) for _ in range(int(n))] for row in counts if row.sum() > 1]
    everything = list(itertools.chain(*rows))
    for row in rows:
        observed += sum(differences[a, b] for a, b in itertools.permutations(row, 2)) / (len(row) - 1)
        total += len(row)
    expected = sum(differences[a, b] for a, b in itertools.permutations(everything, 2)) / (total - 1)
    return 1 - observed / expected


def test_alpha_of_numbers_equals_the_definition() -> None:
    counts = rng(3).integers(0, 4, (30, 4)).astype(float)
    values = np.array([0.0, 1.0, 5.0, 6.5])
    expected = by_hand(counts, (values[:, None] - values[None, :]) ** 2)
    assert krippendorff_alpha(counts, rng(), "interval", values).value == pytest.approx(expected, rel=1e-12)


def test_agreement_is_the_mean_over_items_of_agreeing_pairs() -> None:
    counts = np.array([[2, 0, 0], [1, 1, 0], [4, 1, 0], [1, 0, 0]], dtype=float)
    assert raw_agreement(counts, rng()).value == pytest.approx((1 + 0 + 0.6) / 3)
    assert raw_agreement(counts, rng()).n == 3
    many = rng(8).multinomial(3, [0.6, 0.1, 0.3], size=400).astype(float)
    shares = (many * (many - 1)).sum(1) / 6
    found = raw_agreement(many, rng(), resamples=4000)
    assert found.se == pytest.approx(shares.std() / 20, rel=0.05)
    assert found.low == pytest.approx(found.value - 1.96 * found.se, abs=0.004)


def test_the_interval_is_that_of_resampled_items() -> None:
    counts = rng(1).multinomial(4, [0.5, 0.2, 0.3], size=200).astype(float)
    slow = [krippendorff_alpha(counts[rng(k).integers(0, 200, 200)], rng(), resamples=2).value for k in range(300)]
    fast = krippendorff_alpha(counts, rng(), resamples=3000)
    assert fast.se == pytest.approx(np.std(slow), rel=0.15)
    assert fast.low < fast.value < fast.high


def test_resampled_items_bring_their_own_ordinal_differences() -> None:
    counts = rng(1).multinomial(2, [0.2] * 5, size=8).astype(float)
    draws = rng(2).integers(0, 8, (5000, 8))
    slow = [krippendorff_alpha(counts[drawn], rng(), "ordinal", resamples=2).value for drawn in draws]
    fast = krippendorff_alpha(counts, rng(), "ordinal", resamples=20_000)
    assert fast.se == pytest.approx(np.nanstd(slow), rel=0.03)  # with the differences of all items it would be 7 % less


def test_many_answers_are_not_mixed_up() -> None:
    counts = rng(5).multinomial(3, np.full(60, 1 / 60), size=40).astype(float)
    counts[:10] = 0
    counts[np.arange(10), np.arange(45, 55)] = 3
    assert krippendorff_alpha(counts, rng()).value == pytest.approx(by_hand(counts, 1 - np.eye(60)), rel=1e-12)


def test_one_answer_alone_leaves_chance_undefined_and_nothing_crashes() -> None:
    same = np.array([[3.0, 0.0], [2.0, 0.0]])
    assert np.isnan(krippendorff_alpha(same, rng()).value)
    assert np.isnan(fleiss_kappa(same))
    assert np.isnan(cohen_kappa(np.array([[5.0, 0.0], [0.0, 0.0]])))
    nobody = np.array([[1.0, 0.0]])
    assert np.isnan(krippendorff_alpha(nobody, rng()).value)
    assert np.isnan(raw_agreement(nobody, rng()).value)
    assert np.isnan(fleiss_kappa(nobody))


def test_kappas_of_the_oracle(oracle) -> None:
    case = oracle("cohen_kappa")
    three = np.array(case["inputs"]["confusion_3x3"])
    assert cohen_kappa(np.array(case["inputs"]["confusion_2x2"])) == pytest.approx(case["expected"]["kappa_2x2"])
    assert cohen_kappa(three) == pytest.approx(case["expected"]["kappa_3x3"])
    assert cohen_kappa(three, "linear") == pytest.approx(case["expected"]["kappa_3x3_linear"])
    assert cohen_kappa(three, "quadratic") == pytest.approx(case["expected"]["kappa_3x3_quadratic"])
    case = oracle("fleiss_kappa")
    assert fleiss_kappa(np.array(case["inputs"]["counts"], dtype=float)) == pytest.approx(case["expected"]["kappa"])


def test_kappas_equal_those_of_statsmodels() -> None:
    for seed in range(5):
        table = rng(seed).integers(1, 30, (4, 4))
        for ours, theirs in (("none", None), ("linear", "linear"), ("quadratic", "quadratic")):
            expected = inter_rater.cohens_kappa(table, wt=theirs, return_results=False)
            assert cohen_kappa(table, ours) == pytest.approx(expected, rel=1e-12)
        counts = rng(seed).multinomial(6, [0.4, 0.4, 0.2], size=50)
        assert fleiss_kappa(counts.astype(float)) == pytest.approx(inter_rater.fleiss_kappa(counts), rel=1e-12)


def test_kappas_of_pairs_equal_those_of_each_table() -> None:
    answers = rng(2).integers(0, 3, (4, 60))
    seen = rng(3).random((4, 60)) < 0.7
    votes = Votes.of((str(i), f"r{r}", int(answers[r, i])) for r in range(4) for i in range(60) if seen[r, i])
    found = pair_kappas(votes)
    assert len(found.one) == 6
    assert list(found.items) == sorted(found.items, reverse=True)
    for one, other, items, same, kappa in zip(found.one, found.other, found.items, found.agreement, found.kappa, strict=True):
        a, b = (int(votes.raters[k][1:]) for k in (one, other))
        both = seen[a] & seen[b]
        table = np.zeros((3, 3))
        np.add.at(table, (answers[a, both], answers[b, both]), 1)
        assert (items, same) == (both.sum(), pytest.approx((answers[a] == answers[b])[both].mean()))
        assert kappa == pytest.approx(inter_rater.cohens_kappa(table, return_results=False))
    assert found.mean() == pytest.approx((found.kappa * found.items).sum() / found.items.sum())


def test_fleiss_kappa_of_items_with_unlike_numbers_of_votes() -> None:
    """Items weigh alike in what is observed, votes in what chance gives; an item with one vote says nothing."""
    counts = np.array([[2, 0], [1, 1], [1, 4], [0, 1]], dtype=float)
    observed, first = (1 + 0 + 12 / 20) / 3, 4 / 9
    chance = first**2 + (1 - first) ** 2
    assert fleiss_kappa(counts) == pytest.approx((observed - chance) / (1 - chance))


def test_pairs_of_raters_without_a_kappa_are_left_out_of_the_mean() -> None:
    rows = [("a", "x", 0), ("a", "y", 0), ("b", "x", 0), ("b", "y", 0)]  # x and y say one thing throughout: undefined
    rows += [
        (f"c{k}", who, answer) for k, answers in enumerate([(0, 0), (2, 2), (0, 2)]) for who, answer in zip("uv", answers, strict=True)
    ]
    found = pair_kappas(Votes.of(rows))
    assert np.isnan(found.kappa).sum() == 1
    assert found.mean() == pytest.approx(float(found.kappa[~np.isnan(found.kappa)][0]))


def test_alpha_of_real_votes() -> None:
    for read, expected, folder in ((llmfao, 0.291, "llmfao"), (mt_bench, 0.485, "mt_bench_human")):
        table = read(shared_data(folder).parent)
        found = krippendorff_alpha(table.votes, rng())
        assert found.value == pytest.approx(expected, abs=5e-4)
        assert found.low < expected < found.high
