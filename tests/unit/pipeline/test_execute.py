"""Running a pipeline: skipped, resumed, refused, failed, one stage only, afresh."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from palate.config.functions import load_function
from palate.config.types import FunctionInput, RuleFileInput
from palate.core import ConfigError, Interrupted, RunError, TrainingError
from palate.core.process import device_name
from palate.data.rule_file import RuleFile
from palate.pipeline.execute import StageOutcome, forget, plan_lines, refuse_old_runs, run_pipeline
from palate.pipeline.plan import Planned, plan_pipeline, read_pipeline
from palate.pipeline.table import StageEntry
from palate.runs.digests import DigestCache
from palate.runs.lock import locked
from palate.runs.record import input_key, read_record
from palate.runs.run import Run
from tests.support.toys import TOYS, Count

TEXT = """\
stages:
  first: {stage: count, data: w.txt, trip: trip.txt}
  second: {stage: count, data: $first/out.txt}
  both: {stage: join, parts: [$first/out.txt, $second/out.txt]}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(TEXT)
    Path("w.txt").write_text("one two\nthree\nfour five six")


def planned(*words: str) -> tuple[Planned, ...]:
    return plan_pipeline(read_pipeline(Path("p.yaml"), words), Path("runs"), TOYS)


def run(*words: str, only: str | None = None) -> tuple[tuple[StageOutcome, ...], list[str]]:
    lines: list[str] = []
    return run_pipeline(planned(*words), lines.append, only), lines


def status(item: Planned) -> str:
    record = read_record(item.directory)
    assert record is not None
    return record.status


def test_stages_run_in_order_and_a_second_time_everything_is_skipped() -> None:
    outcomes, lines = run()
    assert [outcome.how for outcome in outcomes] == ["done", "done", "done"]
    assert (outcomes[2].directory / "out.txt").read_text() == "one two\nthree\nfour five sixone two\nthree\nfour five six"
    assert [line.split()[:2] for line in lines[:3]] == [["first", "done"], ["second", "done"], ["both", "done"]]
    assert str(outcomes[0].directory) in lines[0]
    assert lines[-1].startswith("total")
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    again, _ = run()
    assert [outcome.how for outcome in again] == ["skipped"] * 3
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before


@pytest.mark.parametrize(
    ("way", "error", "left"),
    [
        ("train", TrainingError, "failed"),
        ("crash", ZeroDivisionError, "failed"),
        ("full", RunError, "failed"),
        ("once", Interrupted, "interrupted"),
        ("twice", Interrupted, "interrupted"),
    ],
)
def test_a_stage_that_is_cut_off_is_resumed_and_ends_like_one_that_was_not(way: str, error: type[BaseException], left: str) -> None:
    Path("trip.txt").write_text(way)
    with pytest.raises(error):
        run()
    assert status(planned()[0]) == left
    assert [line.split()[1] for line in plan_lines(planned())] == ["resume", "run", "run"]
    Path("trip.txt").unlink()
    outcomes, _ = run()
    assert [outcome.how for outcome in outcomes] == ["resumed", "done", "done"]
    assert json.loads((outcomes[0].directory / "summary.json").read_text()) == {"lines": 3, "first": 2}
    steps = [json.loads(line)["step"] for line in (outcomes[0].directory / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]


def test_a_device_that_is_not_there_is_told_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="both: device 'quantum' is unknown: use auto, cpu, cuda"):
        run("both.device=quantum")
    assert not Path("runs").exists()


def test_a_full_device_is_one_message_and_the_run_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Count.run

    def full(stage: Count, run: Run) -> None:
        assert device_name() == "cpu"
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 1.00 MiB free.")

    monkeypatch.setattr(Count, "run", full)
    with pytest.raises(TrainingError, match=r"the memory of cpu is full \(CUDA out of memory\)\. Give a smaller tokens_per_microbatch"):
        run("device=cpu")
    record = read_record(planned()[0].directory)
    assert record is not None
    assert (record.status, record.device) == ("failed", "cpu")
    monkeypatch.setattr(Count, "run", work)
    assert [outcome.how for outcome in run()[0]] == ["resumed", "done", "done"]


def test_what_resumes_writes_the_same_bytes_as_what_runs_through() -> None:
    Path("trip.txt").write_text("once")
    with pytest.raises(Interrupted):
        run()
    Path("trip.txt").unlink()
    outcomes, _ = run()
    resumed = {path.name: path.read_bytes() for path in outcomes[0].directory.glob("*") if path.name in {"metrics.jsonl", "out.txt"}}
    forget(planned(), ["first"])
    outcomes, _ = run()
    assert len(resumed) == 2
    assert {name: (outcomes[0].directory / name).read_bytes() for name in resumed} == resumed


def test_a_stage_expected_to_be_refused_is_done_when_it_is_and_fails_when_not() -> None:
    Path("trip.txt").write_text("train")
    outcomes, _ = run("first.expect=refused", only="first")
    assert outcomes[0].how == "refused"
    assert json.loads((outcomes[0].directory / "summary.json").read_text()) == {"refused": "the loss is no number"}
    assert status(planned("first.expect=refused")[0]) == "done"
    Path("trip.txt").unlink()
    forget(planned("first.expect=refused"), ["first"])
    with pytest.raises(TrainingError, match="expected to be refused"):
        run("first.expect=refused")
    assert status(planned("first.expect=refused")[0]) == "failed"


def test_other_errors_are_no_refusals() -> None:
    Path("trip.txt").write_text("full")
    with pytest.raises(RunError):
        run("first.expect=refused")


def test_a_missing_output_of_an_earlier_stage_is_told_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"second needs .*ouut\.txt, which first did not write. Did you mean 'out\.txt'?"):
        run("second.data=$first/ouut.txt")


def test_only_runs_one_stage_and_needs_the_others_done() -> None:
    with pytest.raises(ConfigError, match="--only second needs first, which is not done"):
        run(only="second")
    with pytest.raises(ConfigError, match="no such stage. Did you mean 'first'?"):
        run(only="frist")
    assert not Path("runs").exists()
    run(only="first")
    outcomes, _ = run(only="second")
    assert [outcome.name for outcome in outcomes] == ["second"]
    assert not planned()[2].directory.exists()


def test_fresh_forgets_a_stage_and_what_is_built_on_it() -> None:
    run()
    first, second, both = planned()
    assert forget(planned(), ["second"]) == [second.directory, both.directory]
    assert first.directory.exists()
    assert not second.directory.exists()
    with pytest.raises(ConfigError, match="--fresh secnd"):
        forget(planned(), ["secnd"])


def test_a_run_made_by_other_code_is_skipped_with_a_remark() -> None:
    run()
    path = planned()[0].directory / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "code": {**record["code"], "source": "000000000000"}}))
    _, lines = run()
    assert ["other code" in line for line in lines[:3]] == [True, False, False]


def test_ctrl_c_too_late_for_a_stage_stops_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.runs.run import Run

    Path("trip.txt").write_text("once")
    monkeypatch.setattr(Run, "check_stop", lambda self: None)
    with pytest.raises(Interrupted, match="stopped after first, which is done"):
        run()
    assert status(planned()[0]) == "done"
    assert not planned()[1].directory.exists()


def test_fresh_deletes_neither_another_run_nor_one_at_work() -> None:
    run()
    first, *_ = planned()
    record = first.directory / "run.json"
    kept = record.read_text()
    record.write_text(kept.replace(first.plan.key, "0123456789ab"))
    with pytest.raises(RunError, match=r"holds another run \(0123456789ab\); it is not deleted"):
        forget(planned(), ["first"])
    record.write_text(kept)
    with locked(first.directory), pytest.raises(RunError, match="another process is working in"):
        forget(planned(), ["first"])
    assert record.is_file()


def make_old(directory: Path) -> None:
    """Turns a run into what Palate wrote before records had a format."""
    record = json.loads((directory / "run.json").read_text())
    del record["format"]
    (directory / "run.json").write_text(json.dumps(record))


def test_runs_of_an_older_version_are_refused_until_fresh_replaces_them() -> None:
    run()
    first, second, both = planned()
    make_old(first.directory)
    remedy = "was made by an older Palate.*Run the pipeline again with another --runs, or with --fresh"
    with pytest.raises(RunError, match=remedy):
        run()
    with pytest.raises(RunError, match=remedy):
        input_key(first.directory / "out.txt", DigestCache())
    renamed = first.directory.with_name("first-0123456789ab")
    first.directory.rename(renamed)
    with pytest.raises(RunError, match=f"{renamed.name} {remedy}"):
        refuse_old_runs(planned())
    assert forget(planned(), ["first"]) == [renamed, second.directory, both.directory]
    refuse_old_runs(planned())
    run()
    assert status(planned()[0]) == "done"


def test_a_stage_in_a_directory_of_its_own_minds_only_that_directory() -> None:
    run()
    first, *_ = planned()
    beside = replace(first, directory=first.directory.with_name("mine"))
    make_old(first.directory)
    assert forget([beside], ["first"]) == []
    first.directory.rename(beside.directory)
    assert forget([beside], ["first"]) == [beside.directory]


@dataclass(frozen=True)
class Call:
    """Write what a function returns."""

    function: FunctionInput
    ends: bool = True

    def check(self) -> None:
        """Accept all."""

    def run(self, run: Run) -> None:
        run.summary({"value": load_function(self.function)("")})
        if not self.ends:
            raise TrainingError("no end")


@dataclass(frozen=True)
class Obey:
    """Write what the first program of a rule file says."""

    rules: RuleFileInput

    def check(self) -> None:
        """Accept all."""

    def run(self, run: Run) -> None:
        (rule, *_) = RuleFile.read(Path(self.rules)).rules
        run.summary({"value": load_function(rule.program)("")})


@dataclass(frozen=True)
class Legislate:
    """Write a file of rules."""

    def check(self) -> None:
        """Accept all."""

    def run(self, run: Run) -> None:
        write_law(run.directory / "rules.yaml")


CALLS = {
    "call": StageEntry("tests.unit.pipeline.test_execute:Call", "Write what a function returns."),
    "obey": StageEntry("tests.unit.pipeline.test_execute:Obey", "Write what a program says."),
    "legislate": StageEntry("tests.unit.pipeline.test_execute:Legislate", "Write a file of rules."),
}


def write_law(path: Path, *programs: str) -> None:
    """Write a file with a rule for each program."""
    rules = [{"id": f"r{k}", "text": f"text {k}", "question": f"question {k}", "program": one} for k, one in enumerate(programs)]
    path.write_text(json.dumps({"rules": rules or [{"id": "r", "text": "t", "question": "q", "program": "users_own:f"}]}))


def calls(*names: str, ends: bool = True) -> tuple[Planned, ...]:
    """Stages that call `users_own:f`."""
    text = "".join(f"  {name}: {{stage: call, function: 'users_own:f', ends: {str(ends).lower()}}}\n" for name in names)
    Path("p.yaml").write_text(f"stages:\n{text}")
    return plan_pipeline(read_pipeline(Path("p.yaml")), Path("runs"), CALLS)


def test_a_run_is_made_again_when_the_users_function_or_what_it_imports_was_edited() -> None:
    Path("users_own.py").write_text("from users_part import VALUE\ndef f(completion): return VALUE\n")
    Path("users_part.py").write_text("VALUE = 1\n")
    (first,) = calls("one")
    run_pipeline([first], print)
    assert [outcome.how for outcome in run_pipeline(calls("one"), print)] == ["skipped"]
    Path("users_part.py").write_text("VALUE = 22\n")
    lines: list[str] = []
    (again,) = run_pipeline(calls("one"), lines.append)
    assert again.how == "done"
    assert json.loads((again.directory / "summary.json").read_text()) == {"value": 22}
    assert lines[0] == f"one: function was edited since {first.directory} was made, so this is a new run"
    assert len(lines) == 2
    (parent,) = first.plan.parents
    assert (parent.field, Path(parent.path).name) == ("function", "users_own.py")
    assert first.plan.config["function"] == "users_own:f"


def test_a_run_that_was_cut_off_does_not_go_on_with_an_edited_function() -> None:
    Path("users_own.py").write_text("def f(completion): return 1\n")
    (first,) = calls("one", ends=False)
    with pytest.raises(TrainingError):
        run_pipeline([first], print)
    Path("users_own.py").write_text("def f(completion): return 2\n")
    (second,) = calls("one", ends=False)
    assert second.directory != first.directory
    with pytest.raises(RunError, match=r'function: "users_own:f@\w+" there, "users_own:f@\w+" here\. .* the digest of its source'):
        run_pipeline([replace(second, directory=first.directory)], print)


def test_a_function_that_is_edited_while_earlier_stages_run_is_refused() -> None:
    Path("users_own.py").write_text("def f(completion): return 1\n")
    items = calls("one", "two")
    run_pipeline(items[:1], print)
    Path("users_own.py").write_text("def f(completion): return 2\n")
    with pytest.raises(RunError, match=r"two\.function: 'users_own:f' was edited after this command had planned its stages"):
        run_pipeline(items[1:], print)


def test_a_function_that_is_nowhere_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"p\.yaml:2.*one\.function: 'users_own:f': there is no module 'users_own'"):
        calls("one")


def obeyed(text: str = "{stage: obey, rules: law.yaml}") -> tuple[Planned, ...]:
    Path("p.yaml").write_text(f"stages:\n  one: {text}\n")
    return plan_pipeline(read_pipeline(Path("p.yaml")), Path("runs"), CALLS)


def test_a_run_is_made_again_when_a_program_in_its_file_of_rules_was_edited() -> None:
    write_law(Path("law.yaml"), "users_own:f", "users_other:g", "palate.kitchen.rule_programs:raw")
    Path("users_own.py").write_text("from users_part import VALUE\ndef f(completion): return VALUE\n")
    Path("users_part.py").write_text("VALUE = 1\n")
    Path("users_other.py").write_text("def g(completion): return 1\n")
    (first,) = obeyed()
    run_pipeline([first], print)
    assert [outcome.how for outcome in run_pipeline(obeyed(), print)] == ["skipped"]
    (parent,) = first.plan.parents
    assert Path(parent.path).name == "law.yaml"
    assert [word.split("@")[0] for word in parent.key.split(" + ")[1:]] == ["users_own:f", "users_other:g"], "Palate's own has a version"
    Path("users_part.py").write_text("VALUE = 22\n")
    lines: list[str] = []
    (again,) = run_pipeline(obeyed(), lines.append)
    assert json.loads((again.directory / "summary.json").read_text()) == {"value": 22}
    assert lines[0] == f"one: rules was edited since {first.directory} was made, so this is a new run"
    (planned_before,) = obeyed()
    Path("users_other.py").write_text("def g(completion): return 2\n")
    with pytest.raises(RunError, match=r"one\.rules: 'users_other:g' was edited after this command"):
        run_pipeline([replace(planned_before, directory=Path("runs/elsewhere"))], print)


def test_programs_that_are_nowhere_and_files_that_are_no_rules_are_left_to_the_stage() -> None:
    write_law(Path("law.yaml"), "users_nowhere:f")
    for text in (Path("law.yaml").read_text(), "rules: ["):
        Path("law.yaml").write_text(text)
        assert " + " not in obeyed()[0].plan.parents[0].key


def test_the_key_of_a_run_does_not_depend_on_whether_the_stage_that_writes_its_rules_is_done() -> None:
    Path("users_own.py").write_text("def f(completion): return 1\n")
    text = "{stage: legislate}\n  two: {stage: obey, rules: $one/rules.yaml}"
    before = obeyed(text)
    run_pipeline(before, print)
    assert [item.plan.key for item in obeyed(text)] == [item.plan.key for item in before]
