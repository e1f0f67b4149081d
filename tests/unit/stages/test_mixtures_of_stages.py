"""Stages that learn from several sources with weights: shares, sources and keys, and a run that was killed ends as a straight one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.config.read import dump_config
from palate.core import ConfigError, Interrupted, Sampling
from palate.data.data_sources import DataInput, DataSource
from palate.data.jsonl import write_rows
from palate.evaluation import reward_model
from palate.evaluation.policy_answers import read_answers
from palate.evaluation.report_sections import reward_of
from palate.evaluation.reward_model import reference_samples
from palate.models.load import Architecture
from palate.models.scalar import scalar_from
from palate.objectives.direct import BCO
from palate.pipeline.plan import plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES, Stage
from palate.raters.simulated import Simulated
from palate.rewards.learned import LearnedReward
from palate.runs.record import Parent, RunPlan, read_record
from palate.runs.run import Run, open_run
from palate.stages.collect import Collect
from palate.stages.compare import Compare
from palate.stages.direct import Direct
from palate.stages.evaluate import Evaluate
from palate.stages.online.pretraining import Pretraining, Texts
from palate.stages.pretrain import Pretrain
from palate.stages.reward import Reward
from palate.stages.sample import Sample
from palate.stages.sft import SFT
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training import checkpoints
from palate.training.keep import Best
from tests.support.stages import ran, rows_of, summary_of
from tests.unit.stages.online.toy import configured, started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, two rows in one file and six in another; each row has all that any stage reads, and ids that both files have."""
    folder = tmp_path_factory.mktemp("mixtures")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    for name, count, start in (("few", 2, 0), ("many", 6, 2)):
        rows: list[dict[str, Any]] = [{"id": str(k), "prompt": f"the cook has {WORDS[start + k]}"} for k in range(count)]
        write_rows(folder / f"{name}.jsonl", rows)
        write_rows(folder / f"{name}-demos.jsonl", [{**row, "completion": " rice"} for row in rows])
        write_rows(folder / f"{name}-pairs.jsonl", [{**row, "chosen": " rice", "rejected": " salt"} for row in rows])
        write_rows(folder / f"{name}-texts.jsonl", [{"text": row["prompt"]} for row in rows])
    write_rows(folder / "held_out.jsonl", [{"prompt": "the pot has", "chosen": " rice", "rejected": " salt"}])
    return folder


def both(data: Path, ending: str = "", **of_few: Any) -> DataInput:
    """Both files with equal weights, so the few rows come three times an epoch."""
    few = DataSource(str(data / f"few{ending}.jsonl"), "few", weight=1.0, **of_few)
    return few, DataSource(str(data / f"many{ending}.jsonl"), "many", weight=1.0)


def stage_of(kind: str, data: Path) -> Stage:
    """A stage with three examples per step."""
    base, pairs = str(data / "base"), both(data, "-pairs")
    match kind:
        case "sft":
            return SFT(base, both(data, "-demos"), demonstrations_per_step=3)
        case "pretrain":
            size = Architecture(hidden_size=16, layers=1, heads=2, max_positions=32)
            return Pretrain(both(data, "-texts"), base, architecture=size, documents_per_step=3)
        case "direct":
            return Direct(base, pairs, prompts_per_step=3)
        case "unpaired":
            return Direct(base, pairs, prompts_per_step=3, objective=BCO())
        case _:
            return Reward(base, pairs, held_out=str(data / "held_out.jsonl"), prompts_per_step=3)


@pytest.mark.parametrize("kind", ["sft", "pretrain", "direct", "unpaired", "reward"])
def test_an_epoch_has_the_shares_of_the_weights(kind: str, data: Path, tmp_path: Path) -> None:
    run = ran(stage_of(kind, data), tmp_path / "run", "direct" if kind == "unpaired" else kind)
    rows = rows_of(run, "metrics.jsonl")
    assert len(rows) == 4, "twelve examples of which three make a step; eight without weights"
    of_sources = {name.split("/")[1] for row in rows for name in row if "_of_" in name}
    things = ("loss",) if kind in {"sft", "pretrain"} else ("loss", "accuracy")
    assert of_sources == {f"{thing}_of_{name}" for thing in things for name in ("few", "many")}
    assert summary_of(run)["sources"] == {
        "few": {"examples": 2, "share": 0.5, "passes": 3},
        "many": {"examples": 6, "share": 0.5, "passes": 1},
    }


def test_a_run_that_was_killed_ends_with_the_bytes_of_a_straight_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = ran(stage_of("sft", data), tmp_path / "straight", "sft")
    log = Run.log

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        if step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
        patch.setattr(Run, "log", deadly)
        with pytest.raises(Interrupted):
            ran(stage_of("sft", data), tmp_path / "killed", "sft")
    resumed = ran(stage_of("sft", data), tmp_path / "killed", "sft")
    for file in ("metrics.jsonl", "summary.json", "model/model.safetensors"):
        assert (resumed / file).read_bytes().replace(b"killed", b"straight") == (straight / file).read_bytes()


def test_a_best_model_was_measured_on_each_held_out_source(data: Path, tmp_path: Path) -> None:
    held_out = (DataSource(str(data / "few-demos.jsonl"), "few"), DataSource(str(data / "many-demos.jsonl"), "x many"))
    stage = SFT(str(data / "base"), str(data / "many-demos.jsonl"), held_out=held_out, keep=Best())
    run = ran(stage, tmp_path / "run", "sft")
    (row,), last = rows_of(run, "metrics.jsonl"), summary_of(run)["last"]
    assert {name for name in row if "_of_" in name} == {"sft/held_out_loss_of_few/mean", "sft/held_out_loss_of_x_many/mean"}
    for name in ("few", "x_many"):
        assert last[f"best_held_out_loss_of_{name}"] == row[f"sft/held_out_loss_of_{name}/mean"]
    tokens = {"few": 2, "x_many": 6}  # demonstrations, all of one length
    mean = sum(row[f"sft/held_out_loss_of_{name}/mean"] * count for name, count in tokens.items()) / 8
    assert row["sft/held_out_loss/mean"] == pytest.approx(mean, rel=1e-5)


def test_a_reward_model_is_tested_on_each_source_and_the_report_says_so(data: Path, tmp_path: Path) -> None:
    others = (str(data / "held_out.jsonl"), str(tmp_path / "second.jsonl"))
    rows = [{"prompt": f"the guests {word}", "chosen": " salt", "rejected": " rice"} for word in ("make", "have")]
    write_rows(tmp_path / "second.jsonl", rows)
    base = str(data / "base")
    run = ran(Reward(base, str(data / "many-pairs.jsonl"), held_out=others), tmp_path / "run", "reward")
    summary, predicted = summary_of(run), rows_of(run, "predictions.jsonl")
    assert [row["source"] for row in predicted] == ["held_out", "second", "second"]
    of_each = summary["held_out_sources"]
    assert {name: figures["n"] for name, figures in of_each.items()} == {"held_out": 1, "second": 2}
    right = {name: [row["chosen"] > row["rejected"] for row in predicted if row["source"] == name] for name in of_each}
    assert {name: figures["accuracy"] for name, figures in of_each.items()} == {name: sum(own) / len(own) for name, own in right.items()}
    card = reward_of(str(run), None, None)
    assert [row.dimension for row in card.rows] == ["overall", "from held_out", "from second"]
    assert card.rows[2].accuracy.value == of_each["second"]["accuracy"]
    alone = ran(Reward(base, str(data / "many-pairs.jsonl"), held_out=others[1]), tmp_path / "alone", "reward")
    assert "held_out_sources" not in summary_of(alone)
    assert "source" not in rows_of(alone, "predictions.jsonl")[0]


def sampled(folder: Path, name: str, *prompts: str, text: str) -> str:
    """A file with one completion of each prompt, with ids that other files have too."""
    rows = [{"id": str(k), "prompt": prompt, "completions": [{"text": text, "stop": "eos"}]} for k, prompt in enumerate(prompts)]
    write_rows(folder / f"{name}.jsonl", rows)
    return str(folder / f"{name}.jsonl")


def test_samples_of_several_sources_are_compared_with_each_other(tmp_path: Path) -> None:
    one = sampled(tmp_path, "one", "the cook", "the pot", text=" has rice")
    other = sampled(tmp_path, "other", "the guests", "the cook", text=" has salt")
    simulated = Simulated("tests.unit.stages.online.golden:dimensions")
    run = ran(Collect((one, other), simulated, held_out=0), tmp_path / "run", "collect")
    _, row = rows_of(run, "comparisons.jsonl")
    assert row["item"]["id"].startswith("one/0"), "the prompt that both have; no other has two completions"
    assert {each["text"] for each in row["item"]["candidates"]} == {" has rice", " has salt"}
    assert [one["fields"] for one in rows_of(run, "preferences.jsonl")] == [{"source": "one"}]
    with pytest.raises(ConfigError, match="a weight would have no effect"):
        Collect((DataSource(one, weight=1),), simulated).check()


def test_the_scale_of_scores_is_set_by_samples_of_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sampled(tmp_path, "one", "the cook", "the pot", "the guests", text=" has rice")
    other = sampled(tmp_path, "other", "the salt", text=" has rice")
    monkeypatch.setattr(reward_model, "REFERENCE_PROMPTS", 2)
    run = open_run(tmp_path / "run", RunPlan("reward", "reward", seed=1))
    reward = LearnedReward(scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0))
    found, trees = reference_samples(run, (one, other), reward)
    assert [prompt.id for prompt, _ in found] == ["one/0", "other/0"]
    assert len(trees) == 2
    assert [prompt.id for prompt, _ in reference_samples(run, one, reward)[0]] == ["0", "1"]


def test_policies_are_compared_on_the_prompts_of_several_sources(data: Path, tmp_path: Path) -> None:
    prompts = (str(data / "few.jsonl"), DataSource(str(data / "many.jsonl"), limit=2))
    asked = [f"the cook has {WORDS[k]}" for k in range(4)]
    policies = {"a": sampled(tmp_path, "a", *reversed(asked), text=" rice 1"), "b": str(data / "base")}
    stage = Compare(policies, prompts=prompts, gold="tests.unit.stages.online.golden:dimensions", sampling=Sampling(max_tokens=4))
    run = ran(stage, tmp_path / "run", "compare")
    answers = rows_of(run, "answers-1.jsonl")
    assert [(row["id"], row["fields"]["source"]) for row in answers] == [
        ("few/0", "few"), ("few/1", "few"), ("many/0", "many"), ("many/1", "many"),
    ]  # fmt: skip
    assert summary_of(run)["prompts"] == 4
    with pytest.raises(ConfigError, match="a weight would have no effect"):
        Compare(policies, prompts=both(data), gold="tests.unit.stages.online.golden:dimensions").check()


def test_without_weights_every_row_comes_once_and_samples_say_their_source(data: Path, tmp_path: Path) -> None:
    files = (str(data / "few.jsonl"), DataSource(str(data / "many.jsonl"), limit=3))
    run = ran(Sample(str(data / "base"), files, samples_per_prompt=1), tmp_path / "run", "sample")
    rows = rows_of(run, "samples.jsonl")
    assert [row["id"] for row in rows] == ["few/0", "few/1", "many/0", "many/1", "many/2"]
    assert [row["fields"] for row in rows] == [{"source": name} for name in ("few", "few", "many", "many", "many")]
    with pytest.raises(ConfigError, match="a weight would have no effect"):
        Sample(str(data / "base"), both(data)).check()


def test_an_evaluation_has_the_figures_of_each_source(data: Path, tmp_path: Path) -> None:
    files = (str(data / "few.jsonl"), str(data / "many.jsonl"))
    given = [{"prompt": f"the cook has {WORDS[k]}", "completion": f" rice{' and salt' * k}"} for k in range(8)]
    write_rows(tmp_path / "given.jsonl", given)
    stage = Evaluate(files, completions=str(tmp_path / "given.jsonl"), probes={"length": "builtins:len"})
    run = ran(stage, tmp_path / "run", "evaluate")
    rows, summary = rows_of(run, "completions.jsonl"), summary_of(run)
    assert [row["source"] for row in rows] == ["few"] * 2 + ["many"] * 6
    of_each = {name: [row["probes"]["length"] for row in rows if row["source"] == name] for name in ("few", "many")}
    for name, lengths in of_each.items():
        figures = summary["sources"][name]
        assert figures["prompts"] == len(lengths)
        assert figures["means"]["probe/length"]["mean"] == pytest.approx(sum(lengths) / len(lengths))
    alone = ran(replace(stage, prompts=files[0]), tmp_path / "alone", "evaluate")
    assert "sources" not in summary_of(alone)
    record = read_record(run)
    assert record is not None
    parents = tuple(Parent(f"prompts.{k}", path, "") for k, path in enumerate(files))
    replace(record, parents=parents, config=dump_config(stage)).write(run)
    answers = read_answers(str(run), None).rows
    assert [(prompt.id, completion.text) for prompt, (completion,) in answers] == [(row["id"], row["text"]) for row in rows]
    assert [row["content"] for row in rows_of(alone, "completions.jsonl")] == [row["content"] for row in rows[:2]]
    with pytest.raises(ConfigError, match="a weight would have no effect"):
        Evaluate(both(data), model=str(data / "base")).check()


def test_a_prompt_that_two_sources_have_is_of_the_first(data: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "again.jsonl", [{"prompt": f"the cook has {WORDS[0]}"}, {"prompt": "the cook has rice and salt"}])
    files = (str(data / "few.jsonl"), str(tmp_path / "again.jsonl"))
    run = ran(Sample(str(data / "base"), files, samples_per_prompt=1), tmp_path / "run", "sample")
    assert [row["id"] for row in rows_of(run, "samples.jsonl")] == ["few/0", "few/1", "again/again.jsonl:2"]


def test_prompts_of_online_training_have_their_shares_and_rewards_by_source(data: Path, tmp_path: Path) -> None:
    sources = [{"path": str(data / f"{name}.jsonl"), "weight": 1} for name in ("few", "many")]
    loop = started(configured(data, prompts=sources, prompts_per_iteration=6, iterations=1), tmp_path / "loop")
    taken = [loop.prompts[k].id for k in loop.prompts_from(0, 12)]
    assert Counter(name.split("/")[0] for name in taken) == {"few": 6, "many": 6}
    assert [loop.prompts[k].id for k in loop.prompts_from(5, 7)] == taken[5:]
    row = loop.iterate()
    of_each = [row[f"online/reward_of_{name}/mean"] for name in ("few", "many")]
    assert sum(of_each) / 2 == pytest.approx(row["online/reward/mean"], abs=1e-6)
    assert of_each[0] != of_each[1]


def test_held_out_prompts_of_online_training_have_their_rewards_by_source(data: Path, tmp_path: Path) -> None:
    sources = [str(data / "few.jsonl"), {"path": str(data / "many.jsonl"), "name": "many", "limit": 4}]
    keep = {"keep": {"kind": "best_reward"}, "held_out": {"prompts": sources}}
    loop = started(configured(data, prompts=str(data / "few.jsonl"), iterations=1, **keep), tmp_path / "loop")
    assert Counter(prompt.source_name for prompt in loop.held_out_prompts) == {"few": 2, "many": 4}
    found = loop.measure_held_out()
    of_each = [found.others[f"reward_of_{name}/mean"] for name in ("few", "many")]
    assert (2 * of_each[0] + 4 * of_each[1]) / 6 == pytest.approx(-found.loss, abs=1e-6)
    assert of_each[0] != of_each[1]


def test_documents_mixed_in_have_their_shares(data: Path, tmp_path: Path) -> None:
    run, policy = open_run(tmp_path, RunPlan("online", "online", seed=1)), tiny_policy("qwen3", word_tokenizer())
    texts = Texts(Pretraining(both(data, "-texts"), documents_per_step=4), run, policy, 1)
    with torch.no_grad():
        nlls = Counter(round(float(loss().metrics["pretraining_nll"][0]), 4) for step in range(3) for loss in texts.losses(step, 1.0))
    assert sorted(nlls.values(), reverse=True)[:2] == [3, 3]
    assert nlls.total() == 12


def test_the_key_of_a_run_has_the_content_of_every_file_and_how_it_is_mixed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("few", "many"):
        (tmp_path / f"{name}.jsonl").write_bytes((data / f"{name}-demos.jsonl").read_bytes())
    list_of = "[$first, {path: many.jsonl, weight: 1}]"
    text = f"name: p\ninputs: {{first: few.jsonl}}\nstages:\n  sft: {{stage: sft, model: {data / 'base'}, data: {list_of}}}\n"

    def planned(text: str) -> tuple[str, dict[str, str]]:
        Path("p.yaml").write_text(text)
        plan = plan_pipeline(read_pipeline(Path("p.yaml")), Path("runs"), STAGES)[0].plan
        return plan.key, {parent.field: Path(parent.path).name for parent in plan.parents}

    with pytest.raises(ConfigError, match="the source 'few' has no weight and others have one"):
        planned(text)
    text = text.replace("$first", "{path: $first, weight: 1}")
    key, parents = planned(text)
    assert parents == {"model": "base", "data.0.path": "few.jsonl", "data.1.path": "many.jsonl"}
    assert planned(text)[0] == key
    assert planned(text.replace("weight: 1}]", "weight: 2}]"))[0] != key
    write_rows(tmp_path / "many.jsonl", [{"prompt": "the cook has", "completion": " beans"}])
    assert planned(text)[0] != key
