"""People inside the loop: a run that trains asks them over HTTP on a real rating server, and stops where their verdicts say so."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from palate.config.types import fields_outside_key
from palate.core import ConfigError, Interrupted
from palate.data.exchange import ExchangeItem
from palate.data.jsonl import read_rows
from palate.raters.rating_project import ServerProject
from palate.ratings import Project
from palate.runs.run import Run
from palate.stages.online import Online
from palate.training import checkpoints
from palate.web.credentials import hashed
from tests.support.rating_server import RatingServer, open_rating_server
from tests.support.waiting import joined, wait_until
from tests.unit.raters.test_rating_project import KEY, judge, owner_key
from tests.unit.stages.online.toy import LETTERS, SLOW, alike, called_here, configured, summary, trained, weights

LONG: Mapping[str, Any] = called_here("long")
FEW: Mapping[str, Any] = {"iterations": 4, "optimizer": SLOW, "rewards": {"long": LONG}}
FAST: Mapping[str, Any] = {"lr": 0.01, "warmup": 0.0, "decay": "constant"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RatingServer]:
    with open_rating_server(tmp_path) as opened:
        monkeypatch.setenv(KEY, owner_key(opened))
        opened.ratings.add_project(Project("taste"), opened.clock())
        yield opened


def asking(data: Path, server: RatingServer, people: Mapping[str, Any] | None = None, **changed: Any) -> Online:
    settings = {"url": server.url, "project": "taste", "key_variable": KEY, "every": 1, "pairs": 8, "poll_seconds": 0.05, **(people or {})}
    return configured(data, **{**FEW, "held_out": {"people": settings}, **changed})


def batches(run: Run) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each file of pairs."""
    return {path.name: [row for _, row in read_rows(path)] for path in sorted((run.directory / "people").glob("pairs-*.jsonl"))}  # type: ignore[misc]


def checks(run: Run) -> list[Mapping[str, Any]]:
    return [row for _, row in read_rows(run.directory / "people" / "checks.jsonl")]  # type: ignore[misc]


def people_of(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name.startswith("people/")} for row in rows]


@contextmanager
def raters_at_work(server: RatingServer) -> Iterator[None]:
    """A rater who likes longer answers judges whatever comes, until the end of the block."""
    over = threading.Event()
    came = [0]  # whoever judged gets no item a second time, so another rater comes

    def work() -> None:
        wait_until(lambda: [came.append(judge(server.ratings, 50, f"rater {sum(map(bool, came))}")), over.is_set()][1])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        joined(thread)


def at_iteration(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], object]) -> None:
    """Act after the row of each iteration is logged."""
    log = Run.log

    def logged(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        act(step)

    monkeypatch.setattr(Run, "log", logged)


def test_pairs_go_out_blind_and_nobody_waits(data: Path, server: RatingServer, tmp_path: Path) -> None:
    run, rows = trained(asking(data, server, {"every": 2, "pairs": 4}, iterations=5), tmp_path / "run")
    assert [bool(row) for row in people_of(rows)] == [False, False, True, False, True]
    assert [row["people/sent/count"] for row in people_of(rows) if row] == [4, 8]
    held = server.ratings.as_exchange(server.ratings.projects()[0].id)
    assert [item.candidates[0].policy for item in held.items] == ["iteration 2"] * 4 + ["iteration 4"] * 4
    assert {item.candidates[1].policy for item in held.items} == {"start"}
    for pairs in batches(run).values():
        assert len(pairs) == 8
        words = [pair["choice"] for pair in pairs]
        asked = [word for word in words if word in {"targeted", "random"}]
        assert (words.count("targeted"), len(asked)) == (2, 4)
        open_ = len(pairs) - words.count("known") - 2
        assert {pair["probability"] for pair in pairs if pair["choice"] in {"random", "unasked"}} == {2 / open_}
        lowest = min(pair["gains"]["reward"] for pair in pairs if pair["choice"] == "targeted")
        assert all(pair["gains"]["reward"] <= lowest for pair in pairs if pair["choice"] in {"random", "unasked"})
    assert "win_rate" not in summary(run)["people"]


def test_the_policy_that_is_asked_about_is_the_one_that_learned_so_far(data: Path, server: RatingServer, tmp_path: Path) -> None:
    """The start's answers have nothing of what the policy learned, whatever is trained: all weights, or adapters on the start's."""
    for name, adapters in (("whole", None), ("lora", {"kind": "lora", "rank": 4})):
        changed = {"adapters": adapters, "iterations": 4, "optimizer": {**FAST, "lr": 0.01 if adapters is None else 0.05}}
        run, rows = trained(asking(data, server, {"every": 3, "pairs": 2}, **changed), tmp_path / name)
        (pairs,) = batches(run).values()
        gains = [pair["gains"]["reward"] for pair in pairs]
        assert sum(gains) / len(gains) == pytest.approx(rows[3]["score/mean"] - rows[0]["score/mean"], abs=0.35)
        assert sum(gains) / len(gains) > 0.3


def test_a_second_model_that_disagrees_makes_a_pair_suspect(data: Path, server: RatingServer, tmp_path: Path) -> None:
    """A part of the reward without weight is a second model: here it likes the letters that the reward, a length, does not see."""
    parts = {"long": LONG, "letters": {**LETTERS, "weight": 0.0}}
    run, _ = trained(asking(data, server, {"every": 3, "pairs": 4}, rewards=parts), tmp_path / "run")
    (pairs,) = batches(run).values()
    known = {pair["choice"] == "known" for pair in pairs}
    assert False in known

    def standard(name: str) -> list[float]:
        values = [pair["gains"][name] for pair in pairs]
        mean = sum(values) / len(values)
        spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        assert spread > 0, f"{name} says the same of all pairs"
        return [(value - mean) / spread for value in values]

    reward, second = standard("reward"), standard("second")
    open_pairs = [k for k, pair in enumerate(pairs) if pair["choice"] != "known"]
    targeted = {k for k in open_pairs if pairs[k]["choice"] == "targeted"}

    def most(suspicion: Sequence[float]) -> set[int]:
        return set(sorted(open_pairs, key=lambda k: -suspicion[k])[: len(targeted)])

    assert targeted == most([one - other for one, other in zip(reward, second, strict=True)])
    assert targeted != most(reward), "the reward alone would choose others"


def test_it_stops_where_people_see_no_gain_and_keeps_the_best_weights(data: Path, server: RatingServer, tmp_path: Path) -> None:
    """Raters like long answers, and this reward short ones: what is learned is worse and worse."""
    changed = {"rewards": {"short": {**LONG, "weight": -1.0}}, "iterations": 9, "optimizer": FAST}
    with raters_at_work(server):
        run, rows = trained(asking(data, server, {"wait": True}, **changed), tmp_path / "asked")
    said = summary(run)["people"]
    assert 3 <= len(rows) - 1 < 8
    assert (said["is_over"], said["kept_iteration"]) == (True, 1)
    assert "loss/mean" not in rows[-1]
    assert rows[-1]["people/fall/mean"] > rows[-1]["people/fall/se"]
    assert rows[-1]["people/win_rate/mean"] < 0.5
    assert [rate["iteration"] for rate in said["rates"]] == list(range(1, len(rows)))
    shorter, _ = trained(configured(data, **{**changed, "iterations": 1}), tmp_path / "shorter")
    assert alike(weights(run), weights(shorter))


def test_without_patience_it_goes_on(data: Path, server: RatingServer, tmp_path: Path) -> None:
    changed = {"rewards": {"short": {**LONG, "weight": -1.0}}, "iterations": 4, "optimizer": FAST}
    with raters_at_work(server):
        run, rows = trained(asking(data, server, {"wait": True, "patience": None}, **changed), tmp_path / "asked")
    assert len(rows) == 4
    assert rows[-1]["people/fall/mean"] > 0
    alone, _ = trained(configured(data, **changed), tmp_path / "alone")
    assert alike(weights(run), weights(alone))
    assert not summary(run)["people"]["is_over"]


def test_killed_between_sending_and_recording_nothing_is_sent_twice(
    data: Path, server: RatingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.ratings.add_project(Project("straight"), server.clock())
    _, rows = trained(asking(data, server, {"project": "straight"}, iterations=3), tmp_path / "straight")
    stage, add, adds = asking(data, server, iterations=3), ServerProject.add, []

    def deadly(project: ServerProject, items: Sequence[ExchangeItem]) -> None:
        add(project, items)
        adds.append(project)
        if len(adds) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
        patch.setattr(ServerProject, "add", deadly)
        with pytest.raises(Interrupted):
            trained(stage, tmp_path / "killed")
    project = server.ratings.projects()[0].id
    sent = [item.id for item in server.ratings.items(project)]
    (folder,) = (tmp_path / "killed").glob("*/people")
    assert [row["iteration"] for _, row in read_rows(folder / "checks.jsonl")] == [1]
    assert sorted(path.name for path in folder.glob("pairs-*")) == ["pairs-000001.jsonl", "pairs-000002.jsonl"]
    texts = (folder / "pairs-000002.jsonl").read_text()
    resumed, again = trained(stage, tmp_path / "killed")
    assert resumed.is_resumed
    assert again == rows
    assert (folder / "pairs-000002.jsonl").read_text() == texts
    held = [item.id for item in server.ratings.items(project)]
    assert held[: len(sent)] == sent
    assert len(set(held)) == len(held)
    straight = {(item.conversation, item.candidates) for item in server.ratings.items(server.ratings.projects()[1].id)}
    assert {(item.conversation, item.candidates) for item in server.ratings.items(project)} == straight


def test_a_repeated_check_finds_what_it_found(data: Path, server: RatingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts that come after a check, and before the resumed run repeats it, count from the next check on."""
    log, killed = Run.log, []

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        if step == 2:
            killed.extend(run.logged())
            raise KeyboardInterrupt

    stage = asking(data, server)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", deadly)  # without a checkpoint: the run begins again
        with pytest.raises(Interrupted):
            trained(stage, tmp_path)
    judge(server.ratings, 50)
    run, rows = trained(stage, tmp_path)
    assert run.logged()[:3] == killed
    assert rows[2]["people/answered/count"] == 0
    assert rows[3]["people/answered/count"] > 8
    assert [row["iteration"] for row in checks(run)] == [1, 2, 3]


def test_a_server_that_is_away_is_said_and_tried_again(
    data: Path, server: RatingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its key does not work from the start of iteration 1 to that of iteration 3, as when somebody signed out everywhere."""
    key = os.environ[KEY]
    digest, now = hashed(key, "key"), server.clock()
    account = server.ratings.session(digest, now).account.id  # type: ignore[union-attr]

    def act(step: int) -> None:
        if step == 0:
            server.ratings.end_session(digest)
        elif step == 2:
            server.ratings.start_session(account, digest, "x", now, now + 3600)

    at_iteration(monkeypatch, act)
    run, rows = trained(asking(data, server), tmp_path)
    counts = [(row["people/sent/count"], row["people/unsent/count"]) for row in people_of(rows) if row]
    total = sum(counts[-1])
    assert [sent for sent, _ in counts] == [0, 0, total]
    assert counts[-1] == (total, 0)
    warnings = [row["text"] for _, row in read_rows(run.directory / "warnings.jsonl") if row["guard"] == "people"]
    assert any("nothing is sent" in str(text) and "tried again" in str(text) for text in warnings)
    assert server.ratings.progress(server.ratings.projects()[0].id, server.clock()).items == total


def test_no_server_from_the_start_on_lets_the_run_go_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = {"url": "http://127.0.0.1:9", "project": "taste", "every": 2, "timeout_seconds": 0.2}
    run, rows = trained(configured(data, **FEW, held_out={"people": people}), tmp_path)
    assert len(rows) == 4
    assert "tries again at each check" in capsys.readouterr().err
    assert rows[2]["people/unsent/count"] > 0
    assert summary(run)["people"]["rates"] == []


def test_a_project_that_is_missing_is_refused_before_anything_is_trained(data: Path, server: RatingServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no project 'tastes'"):
        trained(asking(data, server, {"project": "tastes"}), tmp_path)
    assert list(tmp_path.glob("*/metrics.jsonl")) == []


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"pairs": 1}, "held_out.people.pairs must be at least 2"),
        ({"key_variable": "PALATE_NO_SUCH_VARIABLE"}, "PALATE_NO_SUCH_VARIABLE holds no key"),
        ({"url": "http://"}, "url must be http"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: Mapping[str, Any], text: str, data: Path) -> None:
    people = {"url": "http://127.0.0.1:9/", "project": "taste", **changed}
    with pytest.raises(ConfigError, match=text):
        configured(data, held_out={"people": people}).check()


def test_only_one_of_two_rules_chooses_the_weights(data: Path) -> None:
    prompts = str(data / "prompts.jsonl")
    people = {"url": "ratings.db", "project": "taste"}
    with pytest.raises(ConfigError, match="held_out.people.patience"):
        configured(data, keep="best_reward", held_out={"prompts": prompts, "people": people}).check()
    configured(data, keep="best_reward", held_out={"prompts": prompts, "people": {**people, "patience": None}}).check()


def test_where_the_server_is_and_whether_it_waits_is_not_part_of_the_key(data: Path) -> None:
    stage = configured(data, held_out={"people": {"url": "ratings.db", "project": "taste"}})
    outside = {name.removeprefix("held_out.people.") for name in fields_outside_key(stage)}
    assert {"url", "key_variable", "wait", "poll_seconds", "timeout_seconds"} <= outside
    assert not {"every", "pairs", "patience", "project"} & outside
