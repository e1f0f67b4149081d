"""The guards that test a change: few of many runs in which nothing changes get a warning, and a change that is shown gets one."""

import math
from statistics import NormalDist

import pytest

from benchmarks.still_runs import AT_ANY_CHANGE, still_run, warned
from palate.agreement.estimates import wilson
from palate.training.guards import FALSE_ALARMS, TABLE, Guards
from palate.training.guards.chance import RATED, critical
from palate.training.guards.readings import AgainstStart, Divergence, LostGrades, RiseSinceStart


def test_at_most_the_stated_share_of_runs_without_a_change_are_warned_of() -> None:
    runs = 100
    alarms = sum(bool(warned(AT_ANY_CHANGE, still_run(seed, 30, 12))) for seed in range(runs))
    assert wilson(alarms, runs)[0] <= FALSE_ALARMS
    assert alarms > 0  # so the limits above do let chance through, and the rate alone holds it back


def test_all_looks_comparisons_and_guards_share_one_rate() -> None:
    chance = NormalDist().cdf
    looks = sum(chance(-critical(look)) for look in range(1, 2_000))
    assert looks * len(RATED) == pytest.approx(FALSE_ALARMS, rel=1e-3)
    assert looks * len(RATED) < FALSE_ALARMS
    assert 5 * chance(-critical(3, 5)) == pytest.approx(chance(-critical(3)))


def test_a_guard_has_the_rate_where_its_reading_has_an_error() -> None:
    assert tuple(guard.name for guard in TABLE if guard.has_rate) == RATED
    for guard in TABLE:
        assert guard.has_rate == any(name.endswith("/se") for name in guard.reading.metrics)


def after(look: int, start: dict[str, float], last: dict[str, float]) -> list[dict[str, float]]:
    """Three first iterations, and as many others as make the last one a guard's look with this number."""
    return [start] * (2 + look) + [last]


@pytest.mark.parametrize("look", [1, 2, 9])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_metric_changes_where_it_is_beyond_the_pooled_error_of_the_look(look: int, sign: int) -> None:
    start = {"a/mean": 10.0, "a/se": 0.3}
    # The pooled variance is that of four iterations; the last mean and that of the first three both have an error.
    least = critical(look) * math.sqrt((3 * 0.3**2 + 0.5**2) / 4 * (4 / 3))
    for times, seen in ((0.99, False), (1.01, True)):
        last = {"a/mean": 10.0 + sign * times * least, "a/se": 0.5}
        history = after(look, start, last)
        assert AgainstStart("a/mean", "a/se")(history) == pytest.approx(last["a/mean"] / 10 if seen else 1.0)
        assert RiseSinceStart("a/mean", "a/se")(history) == pytest.approx(last["a/mean"] - 10 if seen else 0.0)
        assert AgainstStart("a/mean")(history) == pytest.approx(last["a/mean"] / 10)  # without an error, the limit alone decides


def test_iterations_without_an_error_leave_it_to_the_others_or_to_the_limit() -> None:
    share = RiseSinceStart("a/share", "a/se")
    assert share(after(1, {"a/share": 0.0}, {"a/share": 0.1, "a/se": 0.06})) == 0.0
    assert share(after(1, {"a/share": 0.0}, {"a/share": 0.3, "a/se": 0.06})) == pytest.approx(0.3)
    assert share(after(1, {"a/share": 0.0}, {"a/share": 0.1})) == pytest.approx(0.1)


@pytest.mark.parametrize("look", [1, 3])
@pytest.mark.parametrize("evals", [1, 4])
def test_a_loss_is_shown_beyond_the_error_of_all_evals_and_measurements(look: int, evals: int) -> None:
    still = {f"tax/e{k}_change/{part}": value for k in range(evals) for part, value in (("mean", 0.0), ("se", 0.02))}
    least = critical(look, evals) * 0.02
    for times, reading in ((0.99, 0.0), (1.01, 1.01 * least)):
        history = [{"score/mean": 1.0}, *[still] * (look - 1), {"score/mean": 1.0}, {**still, "tax/e0_change/mean": -times * least}]
        assert LostGrades()(history) == pytest.approx(reading)


@pytest.mark.parametrize("windows", [1, 2, 12])
def test_a_fall_is_shown_beyond_the_error_of_all_windows_at_all_looks(windows: int) -> None:
    error = 0.02
    for times, reading in ((0.99, 0.0), (1.01, 1.01 * critical(windows, windows))):
        fall = times * critical(windows, windows) * error
        rows = [{"score/mean": 1.0, "gold/mean": 1.0 - (k > windows) * fall, "gold/se": error} for k in range(windows + 3)]
        assert Divergence("score/mean", "gold/mean", window=2)(rows) == pytest.approx(reading)


def test_a_real_change_is_warned_of_at_the_default_limits() -> None:
    rows = list(still_run(0, 24, 12))
    for row in rows[8:]:
        row["online/length/mean"] *= 2.2
        row["online/refusals/share"] += 0.6
        row["online/gold/mean"] -= 1.5
        row |= {"tax/facts_change/mean": -0.3, "tax/facts_change/se": 0.06}
    assert warned(Guards(), rows) == {"length", "refusals", "gold", "tax"}
