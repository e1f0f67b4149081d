"""Pipelines: references, overrides, checks before anything runs."""

from pathlib import Path

import pytest

from palate.cli.settings_table import described
from palate.config.former_names import FORMER_NAMES
from palate.config.settings import nearest
from palate.core import ConfigError, RunError
from palate.core.process import Shard
from palate.pipeline.plan import Pipeline, Planned, plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES
from tests.support.toys import TOYS, Count, Long, Plain

TEXT = """\
name: kitchen
seed: 4
inputs:
  words: null
  model: org/name
stages:
  first: {stage: count, data: $words, model: $model}
  second:
    stage: count
    data: $first/out.txt
    rule: {scale: 2}
  both: {stage: join, parts: [$first/out.txt, $second/out.txt], seed: 9}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(TEXT)
    Path("w.txt").write_text("one two\nthree")
    return tmp_path


def planned(*words: str, text: str | None = None) -> tuple[Planned, ...]:
    if text is not None:
        Path("p.yaml").write_text(text)
    return plan_pipeline(read_pipeline(Path("p.yaml"), words), Path("runs"), TOYS)


@pytest.mark.usefixtures("here")
def test_references_become_paths_in_earlier_runs_and_keys_follow_them() -> None:
    first, second, both = planned("words=w.txt")
    assert isinstance(first.stage, Count)
    assert isinstance(second.stage, Count)
    assert first.stage.data == "w.txt"
    assert first.stage.model == "org/name"
    assert second.stage.data == f"runs/first-{first.plan.key}/out.txt"
    assert second.stage.rule == Plain(scale=2.0)
    assert [(parent.field, parent.path, parent.key) for parent in both.plan.parents] == [
        ("parts.0", f"../first-{first.plan.key}/out.txt", f"{first.plan.key}/out.txt"),
        ("parts.1", f"../second-{second.plan.key}/out.txt", f"{second.plan.key}/out.txt"),
    ]
    assert [name for name, _ in both.needs] == ["first", "second"]
    assert [item.plan.seed for item in (first, second, both)] == [4, 4, 9]
    assert first.plan.parents[1].key == "hub:org/name"
    assert not Path("runs").exists()


@pytest.mark.usefixtures("here")
def test_a_change_reaches_exactly_what_is_built_on_it() -> None:
    keys = [item.plan.key for item in planned("words=w.txt")]
    later = [item.plan.key for item in planned("words=w.txt", "second.rule.scale=5")]
    assert [a == b for a, b in zip(keys, later, strict=True)] == [True, False, False]
    Path("w.txt").write_text("other")
    assert not set(keys) & {item.plan.key for item in planned("words=w.txt")}


@pytest.mark.usefixtures("here")
def test_the_same_content_at_another_path_has_the_same_key() -> None:
    keys = [item.plan.key for item in planned("words=w.txt")]
    Path("elsewhere").mkdir()
    Path("w.txt").rename("elsewhere/v.txt")
    assert [item.plan.key for item in planned("words=elsewhere/v.txt")] == keys


@pytest.mark.usefixtures("here")
def test_overrides_reach_nested_settings_seed_and_name() -> None:
    pipeline = read_pipeline(Path("p.yaml"), ["words=w.txt", "seed=1", "name=other", "second.rule=long", "second.rule.letters=7"])
    assert (pipeline.name, pipeline.seed) == ("other", 1)
    _, second, _ = plan_pipeline(pipeline, Path("runs"), TOYS)
    assert isinstance(second.stage, Count)
    assert second.stage.rule == Long(letters=7)
    assert second.plan.seed == 1


@pytest.mark.usefixtures("here")
def test_a_device_is_that_of_the_pipeline_or_of_the_stage_and_changes_no_key() -> None:
    keys = [item.plan.key for item in planned("words=w.txt")]
    assert [item.plan.device for item in planned("words=w.txt")] == ["auto"] * 3
    later = planned("words=w.txt", "device=cuda", "second.device=cpu")
    assert [item.plan.device for item in later] == ["cuda", "cpu", "cuda"]
    assert [item.plan.device for item in planned("words=w.txt", text=f"device: cuda:1\n{TEXT}")] == ["cuda:1"] * 3
    assert [item.plan.key for item in later] == keys


@pytest.mark.usefixtures("here")
def test_what_ranks_share_out_is_said_by_the_pipeline_or_the_stage_and_changes_no_key() -> None:
    keys = [item.plan.key for item in planned("words=w.txt")]
    assert [item.plan.shard for item in planned("words=w.txt")] == [Shard()] * 3
    later = planned("words=w.txt", "shard=all:4", "second.shard=frozen")
    assert [item.plan.shard for item in later] == [Shard("all", 4), Shard("frozen"), Shard("all", 4)]
    assert [item.plan.shard for item in planned("words=w.txt", text=f"shard: frozen\n{TEXT}")] == [Shard("frozen")] * 3
    assert [item.plan.key for item in later] == keys
    with pytest.raises(ConfigError, match=r"second\.shard=8.*shard is '8': use none, frozen or all"):
        planned("words=w.txt", "second.shard=8")


@pytest.mark.usefixtures("here")
def test_a_pipeline_without_name_seed_and_inputs_takes_the_files_name() -> None:
    Path("p.yaml").write_text("stages: {}\n")
    pipeline = read_pipeline(Path("p.yaml"))
    assert pipeline == Pipeline("p", 0, {}, pipeline.settings, ())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"p\.yaml:7: first\.data: the input words has no value. Add words=PATH"),
        (["words=none.txt"], r"there is nothing at none\.txt"),
        (["words=org/name"], r"there is nothing at org/name\. Correct the path\.$"),
        (["word=w.txt"], "there is no input or stage 'word'. Did you mean 'words'?"),
        (["words=w.txt", "secnd.rate=1"], "there is no input or stage 'secnd'. Did you mean 'second'?"),
        (["words=w.txt", "second.rat=1"], r"command line \(second.rat=1\): Count has no 'rat'. Did you mean 'rate'?"),
        (["words=w.txt", "second.rate=fast"], r"command line \(second.rate=fast\): .*number"),
        (["words=w.txt", "second=1"], "second is a stage; set one of its fields"),
        (["words=w.txt", "second.rate"], "not of the form name=value"),
        (["words=w.txt", "seed=-1"], "a seed is a whole number of 0 or more, got -1"),
        (["words=w.txt", "second.seed=x"], "a seed is a whole number"),
        (["words=w.txt", "second.device=1"], "a device is auto, cpu, cuda, mps, or one of several such as cuda:1, got 1"),
        (["words=w.txt", "second.expect=maybe"], "expect must be done or refused, got 'maybe'"),
        (["words=w.txt", "second.data=$both/out.txt"], "both comes later"),
        (["words=w.txt", "second.data=$second"], "second comes later .or is this stage itself"),
        (["words=w.txt", "second.data=$frist/x"], "there is no stage or input .frist. Did you mean 'first'?"),
        (["words=w.txt", "second.loudness=loud", "second.rate=null"], r"p\.yaml:8: second: loudness: loud needs a rate"),
        (["words=w.txt", "second.stage=cuont"], "there is no stage 'cuont'. Did you mean 'count'?"),
        (["words=w.txt", "model=not/a/hub/name"], "there is nothing at not/a/hub/name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(*words)
    assert not Path("runs").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage:\n  a: {}\n", r"p\.yaml:1: a pipeline has no 'stage'. Did you mean 'stages'?"),
        ("stages:\n  a: {data: w.txt}\n", r"p\.yaml:2: a must hold `stage: KIND`"),
        ("stages:\n  a: count\n", r"p\.yaml:2: a must hold `stage: KIND`"),
        ("name: x\n", "stages must hold"),
        ("inputs: {a: null}\nstages:\n  a: {stage: count}\n", r"p\.yaml:3: a stage cannot be called 'a'"),
        ("inputs: {a: 3}\nstages: {}\n", r"p\.yaml:1: the input a must be a path, got 3"),
        ("stages:\n  a:\n    stage: count\n    dta: w.txt\n", r"p\.yaml:4: Count has no 'dta'. Did you mean 'data'?"),
        (
            "stages:\n  a:\n    stage: count\n    data: w.txt\n    others: [w.txt, v.txt]\n",
            r"p\.yaml:5: a\.others\.1: there is nothing",
        ),
        ("stages:\n  a: {stage: count, data: w.txt, rule: {kind: plain, scale: -1}}\n", r"p\.yaml:2: plain: scale must be > 0"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(text=text)


@pytest.mark.usefixtures("here")
def test_an_input_in_an_unfinished_run_is_refused_with_its_place() -> None:
    from palate.runs.record import RunPlan
    from palate.runs.run import open_run

    run = open_run(Path("runs"), RunPlan("base", "pretrain"))
    with pytest.raises(RunError, match=r"p\.yaml:7: first\.data: .*'running'"):
        planned(f"words={run.directory}")


OLD = """\
name: old
stages:
  comparisons:
    stage: collect
    data: w.txt
    opinions: 3
    from: {kind: simulated, crowd: {raters: 5}, second_opinions: 0.1}
  ppo:
    stage: online
    model: w.txt
    prompts: w.txt
    passes: 2
    steps: 10
    sampler: {ahead: 1}
    method: imitate_best
  second:
    stage: direct
    axis: overall
    lerning_rate: 1
"""


@pytest.mark.usefixtures("here")
def test_every_old_name_of_a_file_is_reported_in_one_message_with_its_line_and_its_new_name() -> None:
    Path("old.yaml").write_text(OLD)
    with pytest.raises(ConfigError) as caught:
        plan_pipeline(read_pipeline(Path("old.yaml")), Path("runs"), STAGES)
    lines = str(caught.value).splitlines()
    for line, old, new in [
        (6, "opinions", "raters_per_comparison"),
        (7, "crowd", "pool"),
        (7, "second_opinions", "repeat_share"),
        (12, "passes", "epochs_per_batch"),
        (13, "steps", "iterations"),
        (14, "ahead", "asynchronous"),
        (15, "imitate_best", "raft"),
        (18, "axis", "dimension"),
    ]:
        assert any(text.startswith(f"old.yaml:{line}: ") and f"{old!r}. It is called {new!r} now." in text for text in lines), (old, lines)
    assert any(text.startswith("old.yaml:19: Direct has no 'lerning_rate'.") for text in lines)


def test_a_former_name_is_offered_only_where_the_new_one_is_known() -> None:
    assert nearest("steps", ["iterations", "stops"]) == "It is called 'iterations' now."
    assert nearest("steps", ["stops"]) == "Did you mean 'stops'?"
    assert nearest("axes", ["dimensions"]) == "It is called 'dimensions' now."


def test_each_new_name_is_a_setting_or_a_kind_of_today() -> None:
    options = [option for entry in STAGES.values() for option in described(entry).options]
    names = {word for option in options for word in (*option.name.split("."), *(kind for kind, _ in option.kinds), *option.choices)}
    assert [new for news in FORMER_NAMES.values() for new in news if new not in {*names, "eos", "unpaired"}] == []
