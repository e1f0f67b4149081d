"""Guards: what they read, when they speak, that they stop a run before its last good checkpoint is replaced, and how they are set."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from palate.config.read import dump_config, read_config
from palate.config.settings import Settings
from palate.core import ConfigError, Interrupted, TrainingError
from palate.data.jsonl import read_rows
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.training.guards import TABLE, Guards, Limit, Watch, guards_page, repeated_share, repetition
from palate.training.guards.readings import AgainstStart, Divergence, LostGrades, Now, RiseSinceStart
from tests.support.repository import ROOT

ROUNDS = 28
Series = Callable[[int], float]

# Shapes and sizes as the kitchen's PPO has them with a KL penalty, and without one. x goes from 0 to 1.
HEALTHY: Mapping[str, Series] = {
    "score/mean": lambda k: -0.1 + 1.15 * (1 - math.exp(-k / 5)),
    "score/sd": lambda k: 1.05 * math.exp(-k / 25),
    "kl/mean": lambda k: 2.6 * (1 - math.exp(-k / 8)),
    "entropy/mean": lambda k: 0.33 + 0.12 * math.exp(-k / 5),
    "length/mean": lambda k: 28 + 7 * (1 - math.exp(-k / 6)),
    "length/se": lambda k: 0.8,
    "eos/share": lambda k: 1.0 - 0.01 * (k % 3),
    "repetition/mean": lambda k: 0.06,
    "refusals/share": lambda k: 0.08 + 0.03 * (k % 4),
    "refusals/se": lambda k: 0.03,
    "tax/sums_change/mean": lambda k: -0.04,
    "tax/sums_change/se": lambda k: 0.02,
    "clip_fraction/mean": lambda k: 0.02 / (1 + k),
    "ratio/mean": lambda k: 1 + 0.01 * (-1) ** k,
    "approx_kl/mean": lambda k: 0.02 if k % 5 == 1 else 0.001,
    "value_explained/share": lambda k: -0.1 if k in (3, 5, 6) else 0.8 * (1 - math.exp(-k / 8)),
    "value_error/mean": lambda k: 0.3 * math.exp(-k / 8),
    "missing_eos_excess/mean": lambda k: -1.5,
    "flat_groups/share": lambda k: 0.1,
    "gold/mean": lambda k: 0.54 + 0.18 * (1 - math.exp(-k / 3)) - 0.0006 * k,
    "gold/se": lambda k: 0.014,
}
UNLEASHED: Mapping[str, Series] = {
    **HEALTHY,
    "score/mean": lambda k: -0.1 + 2.1 * (1 - math.exp(-k / 14)),
    "kl/mean": lambda k: 44 * (k / 27) ** 2.2,
    "length/mean": lambda k: 28 + max(0, k - 12) * 1.6,
    "gold/mean": lambda k: 0.54 + 0.18 * (1 - math.exp(-k / 3)) - max(0, k - 10) * 0.013,
}


def rows(series: Mapping[str, Series], seed: int = 0) -> list[dict[str, float]]:
    """The series with noise of the size that iterations of 192 completions have, named as they are logged."""
    rng = random.Random(seed)
    noise = {"gold/mean": 0.012, "kl/mean": 0.25, "score/mean": 0.05}
    return [{_logged(name): make(k) + rng.gauss(0, noise.get(name, 0)) for name, make in series.items()} for k in range(ROUNDS)]


def _logged(name: str) -> str:
    return name if name.startswith("tax/") else f"online/{name}"


def spoken(watch: Watch, told: list[dict[str, float]]) -> list[tuple[int, str, str]]:
    """(step, guard, action) of everything the guards say."""
    return [(alarm.step, alarm.guard, alarm.action) for k, row in enumerate(told) for alarm in watch.look(k, row)]


def constant(metric: str, *values: float) -> list[dict[str, float]]:
    """Rows of one metric."""
    return [{f"online/{metric}": value} for value in values]


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_hears_nothing(seed: int) -> None:
    watch = Watch(Guards())
    assert spoken(watch, rows(HEALTHY, seed)) == []
    assert watch.active == ()
    assert watch.is_safe


@pytest.mark.parametrize("seed", range(5))
def test_a_run_without_a_price_of_kl_is_warned_of_and_goes_on(seed: int) -> None:
    watch = Watch(Guards())
    said = spoken(watch, rows(UNLEASHED, seed))
    assert {(guard, action) for _, guard, action in said} == {("gold", "warn"), ("kl", "warn"), ("length", "warn")}
    assert len(said) == 3  # once each
    assert min(step for step, guard, _ in said if guard == "gold") in range(13, 22)
    assert {alarm.guard for alarm in watch.active} == {"gold", "kl", "length"}
    assert watch.is_safe  # no limit stops the run: checkpoints go on


BROKEN: Mapping[str, Series] = {
    "kl": lambda k: 2 if k < 10 else 2000,
    "entropy": lambda k: 0.4 if k < 10 else 0.04,
    "entropy_rise": lambda k: 0.4 if k < 10 else 4.0,
    "length": lambda k: 30 if k < 10 else 80,
    "length_fall": lambda k: 30 if k < 10 else 2,
    "eos": lambda k: 1.0 if k < 10 else 0.0,
    "repetition": lambda k: 0.06 if k < 10 else 0.9,
    "refusals": lambda k: 0.1 if k < 10 else 0.4,
    "tax": lambda k: -0.04 if k < 10 else -0.2,
    "clip": lambda k: 0.01 if k < 10 else 0.5,
    "ratio": lambda k: 1.0 if k < 10 else 0.6,
    "step_kl": lambda k: 0.001 if k < 10 else 0.5,
    "value": lambda k: 0.5 if k < 10 else -0.5,
    "value_error": lambda k: 0.3 if k < 10 else 3.0,
    "missing_eos": lambda k: -1.5 if k < 10 else 0.5,
    "flat_groups": lambda k: 0.1 if k < 10 else 0.95,
    "spread": lambda k: 0.5 if k < 10 else 0.01,
    "gold": lambda k: 0.7 if k < 10 else 0.5,
    "held_out": lambda k: 0.7 if k < 10 else 0.5,
}


@pytest.mark.parametrize("name", [guard.name for guard in TABLE])
def test_every_guard_speaks_of_what_it_is_for_and_of_nothing_else(name: str) -> None:
    guard = next(guard for guard in TABLE if guard.name == name)
    is_parting = isinstance(guard.reading, Divergence)
    watched = guard.reading.truth if isinstance(guard.reading, Divergence) else guard.reading.metrics[0].replace("NAME", "sums")
    error = {watched.replace("/mean", "/se"): lambda k: 0.01} if is_parting else {}
    series = {**HEALTHY, watched: BROKEN[name], **error}
    watch = Watch(Guards())
    alarms = [alarm for k, row in enumerate(rows(series)) for alarm in watch.look(k, row)]
    assert [alarm.guard for alarm in alarms] == [name]
    assert "{" not in alarms[0].text
    assert guard.remedy in alarms[0].text


def test_patience_counts_rounds_in_a_row_and_a_warning_ends_when_the_reading_is_back() -> None:
    watch = Watch(Guards(kl=Limit(warn=10, patience=2)))
    assert spoken(watch, constant("kl/mean", 11, 1, 11, 12, 13, 1, 11, 11)) == [(3, "kl", "warn"), (7, "kl", "warn")]
    assert [alarm.value for alarm in watch.active] == [11]
    watch.look(8, constant("kl/mean", 1)[0])
    assert watch.active == ()


def test_at_the_limit_is_not_beyond_it() -> None:
    watch = Watch(Guards(kl=Limit(warn=10), eos=Limit(warn=0.5)))
    assert spoken(watch, [{"online/kl/mean": 10.0, "online/eos/share": 0.5}]) == []
    assert spoken(watch, [{"online/kl/mean": 10.1, "online/eos/share": 0.49}]) == [(0, "kl", "warn"), (0, "eos", "warn")]


def test_a_guard_that_is_off_or_has_no_metric_says_nothing() -> None:
    assert spoken(Watch(Guards(kl="off")), constant("kl/mean", 1e6, 1e6, 1e6)) == []
    assert spoken(Watch(Guards()), constant("loss/mean", 1e6, 1e6, 1e6)) == []


def test_readings() -> None:
    history = [{"a/mean": value} for value in (2.0, 4.0, 6.0, 8.0)]
    assert Now("a/mean")(history) == 8
    assert Now("a/mean", target=10)(history) == 2
    assert Now("b/mean")(history) is None
    assert AgainstStart("a/mean")(history) == 2
    assert AgainstStart("a/mean")(history[:3]) is None
    assert AgainstStart("a/mean")([*history, {"b/mean": 1.0}]) is None
    assert AgainstStart("a/mean")([{"a/mean": 0.0}] * 4) is None


def test_a_rise_is_counted_from_the_mean_of_the_first_iterations() -> None:
    rise = RiseSinceStart("a/share", "a/se")
    history = [{"a/share": value} for value in (0.0, 0.1, 0.2, 0.6)]
    assert rise(history) == pytest.approx(0.5)
    assert rise(history[:3]) is None
    assert rise([*history, {"b/share": 1.0}]) is None
    assert rise([{"a/share": 0.0}] * 4) == 0


def test_lost_grades_are_those_of_the_worst_eval_beyond_its_error() -> None:
    row = {"tax/sums_change/mean": -0.2, "tax/sums_change/se": 0.05, "tax/facts_change/mean": -0.3, "tax/facts_change/se": 0.12}
    assert LostGrades()([row]) == pytest.approx(0.2)
    assert LostGrades().worst([row]) == "sums"
    assert LostGrades().worst([{"score/mean": 1.0}]) == ""
    (alarm,) = Watch(Guards()).look(4, row)
    assert alarm.text.startswith("the eval sums has lost 0.20 of its mean grade")
    assert LostGrades()([{"tax/text_nll_change/mean": -1.0, "tax/text_nll_change/se": 0.1}]) is None  # a loss that falls is good
    assert LostGrades()([{"tax/sums_change/mean": 0.0, "tax/sums/mean": 0.9}]) is None  # no answer changed: the error is not known
    assert LostGrades()([{"tax/sums_change/mean": 0.2, "tax/sums_change/se": 0.05}]) == 0
    assert LostGrades()([row, {"score/mean": 1.0}]) is None  # this iteration measured nothing


def test_parting_is_the_fall_of_the_truth_in_standard_errors_while_the_proxy_does_not_fall() -> None:
    def row(proxy: float, truth: float) -> dict[str, float]:
        return {"score/mean": proxy, "gold/mean": truth, "gold/se": 0.02}

    parting = Divergence("score/mean", "gold/mean", window=2)
    best, rest = [row(1, 0.7), row(1, 0.7)], [row(2, 0.6), row(2, 0.6)]
    # A mean of two iterations has the error 0.02 / sqrt(2); the difference of two such means 0.02. 5 of these are beyond chance.
    assert parting([*best, *rest]) == pytest.approx(0.1 / 0.02)
    assert parting([row(0, 0.2), *best, row(1, 0.68), *rest]) == pytest.approx(0.1 / 0.02)
    assert parting([*best, row(0.5, 0.6), row(0.5, 0.6)]) == 0  # both fell
    assert parting([*rest[::-1], *best]) == 0  # the truth rose
    assert parting([*best, rest[0]]) is None
    assert parting([*best, *rest, {"score/mean": 1.0}]) is None


def test_a_number_that_is_not_finite_stops_the_run_and_names_itself() -> None:
    (alarm,) = Watch(Guards()).look(3, {"online/kl/mean": 1.0, "online/advantage/sd": math.nan})
    assert (alarm.guard, alarm.action) == ("finite", "stop")
    assert "advantage/sd is nan" in alarm.text


def train(run: Run, guards: Guards, told: list[dict[str, float]], kill_at: int | None = None) -> None:
    """What a loop does: each iteration is watched, and a checkpoint is written where the run is safe."""
    checkpoint = run.state / "iteration"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    watch = Watch(guards)
    run.rewind(step)
    watch.recall(run.logged())
    for k in range(step, len(told)):
        watch.log(run, k, told[k])
        if watch.is_safe and k % 3 == 2:
            checkpoint.write_text(str(k + 1))
        if k == kill_at:
            raise Interrupted("killed")


def test_a_stop_leaves_the_last_checkpoint_before_the_trouble(tmp_path: Path) -> None:
    run = open_run(tmp_path, RunPlan("ppo", "online"))
    told = constant("kl/mean", *([2.0] * 8), *([60.0] * 8))
    with pytest.raises(TrainingError, match=r"iteration 11: the guard 'kl' stopped the run: .* 60\.0 nats"), run.active():
        train(run, Guards(kl=Limit(warn=20, stop=50, patience=4)), told)
    assert (run.state / "iteration").read_text() == "6"  # iteration 8 is due for one, and beyond the limit
    assert len(run.logged()) == 12  # the iteration that stopped it is on record


@pytest.mark.parametrize("kill_at", range(12, 24))
def test_warnings_are_rows_and_lines_and_a_resumed_run_has_the_same(
    kill_at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = rows(UNLEASHED)
    straight, cut = (open_run(tmp_path, RunPlan(name, "online")) for name in ("straight", "cut"))
    with straight.active():
        train(straight, Guards(), told)
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[1] for line in lines) == ["gold", "kl", "length"]
    with pytest.raises(Interrupted), cut.active():
        train(cut, Guards(), told, kill_at=kill_at)
    again = open_run(tmp_path, RunPlan("cut", "online"))
    with again.active():
        train(again, Guards(), told)
    for name in ("metrics.jsonl", "warnings.jsonl"):
        assert (again.directory / name).read_bytes() == (straight.directory / name).read_bytes()
    said = [row for _, row in read_rows(again.directory / "warnings.jsonl")]
    assert {row["guard"] for row in said} == {"gold", "kl", "length"}


@dataclass(frozen=True)
class Stage:
    """A stage with guards."""

    guards: Guards = field(default_factory=Guards)


def read(text: str) -> Guards:
    return read_config(Stage, Settings(yaml.safe_load(text))).guards


def test_guards_are_set_one_by_one() -> None:
    found = read("guards: {kl: {stop: 50}, entropy: off, value: 'off'}")
    assert found.kl == Limit(warn=20, stop=50, patience=2)
    assert (found.entropy, found.value) == ("off", "off")
    assert found.length == Guards().length
    assert read_config(Stage, Settings({"guards": dump_config(found)})).guards == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("guards: {kll: off}", "Did you mean 'kl'"),
        ("guards: {kl: {stop: x}}", "guards.kl.stop"),
        ("guards: {kl: {patience: 0}}", "patience must be at least 1"),
        ("guards: {kl: on}", "guards.kl"),
    ],
)
def test_wrong_settings_are_refused_in_words(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(text)


def test_every_guard_has_a_row_a_setting_and_a_line_in_the_page() -> None:
    assert [guard.name for guard in TABLE] == [item.name for item in fields(Guards)]
    assert "\n".join(guards_page()) in (ROOT / "docs" / "metrics.md").read_text()


def test_no_default_stops_a_run() -> None:
    assert {item.name for item in fields(Guards) if getattr(Guards(), item.name).stop is not None} == set()


@pytest.mark.parametrize(
    ("ids", "n", "share"),
    [
        ([], 4, 0), ([1, 2, 3], 4, 0), ([1, 2, 3, 4], 4, 0), ([1, 2, 3, 4, 5, 6], 4, 0),
        ([7] * 10, 4, 6 / 7), ([1, 2] * 5, 2, 7 / 9), ([1, 2, 3, 4, 9, 1, 2, 3, 4], 4, 1 / 6),
    ],
)  # fmt: skip
def test_repeated_share(ids: list[int], n: int, share: float) -> None:
    assert repeated_share(ids, n) == pytest.approx(share)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
def test_repeated_share_is_what_counting_finds(ids: list[int], n: int) -> None:
    grams = [tuple(ids[k : k + n]) for k in range(len(ids) - n + 1)]
    repeats = sum(gram in grams[:k] for k, gram in enumerate(grams))
    assert repeated_share(ids, n) == pytest.approx(repeats / len(grams) if grams else 0)


def test_repetition_is_a_mean_over_completions() -> None:
    assert repetition([[7] * 10, list(range(10)), []]) == pytest.approx(6 / 7 / 3)
