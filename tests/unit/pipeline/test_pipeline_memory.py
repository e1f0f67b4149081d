"""The memory of a pipeline's stages: models are followed through the file, and what is short gets advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.core import ConfigError, ModelError
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.models.shapes import find_shape
from palate.pipeline.estimates.gpus import GPUS, bytes_of, find_gpu
from palate.pipeline.estimates.memory_advice import advice_for
from palate.pipeline.estimates.memory_parts import GB, StageMemory
from palate.pipeline.estimates.pipeline_memory import PlannedMemory, plan_memory
from palate.pipeline.estimates.role_memory import Machine
from palate.pipeline.plan import read_pipeline
from palate.pipeline.table import STAGES
from palate.testing import tiny_policy

WHOLE = """\
name: p
inputs: {model: null, data: null}
stages:
  sft: {stage: sft, model: $model, data: $data}
  reward: {stage: reward, model: $sft, preferences: $data}
  ppo: {stage: online, model: $sft, reward: $reward, prompts: $data, dtype: bfloat16}
  eval: {stage: evaluate, model: $ppo, prompts: $data, reward: $reward, reference: $sft}
  world: {stage: world}
"""
ADAPTERS = """\
name: p
stages:
  reward: {stage: reward, model: 7B, preferences: d, adapters: {kind: lora, merge: false}, dtype: bfloat16}
  grpo:
    {stage: online, preset: deepseek-grpo, model: 7B, reward: $reward, prompts: d, adapters: lora, dtype: bfloat16}
"""
GPU = Machine(is_gpu=True)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(text: str, *words: str, machine: Machine = GPU, memory: float | None = None) -> dict[str, PlannedMemory]:
    Path("p.yaml").write_text(text)
    items, _ = plan_memory(read_pipeline(Path("p.yaml"), words), STAGES, machine, memory)
    return {item.name: item for item in items}


def needed(item: PlannedMemory) -> StageMemory:
    assert item.memory is not None
    return item.memory


def test_models_are_followed_from_stage_to_stage_without_any_file() -> None:
    items = planned(WHOLE, "model=0.5B")
    assert {name: sorted(item.origins) for name, item in items.items()} == {
        "sft": ["model"], "reward": ["model"], "ppo": ["model", "reward"], "eval": ["model", "reference", "reward"], "world": [],
    }  # fmt: skip
    assert {origin.shape.name for item in items.values() for origin in item.origins.values()} == {"Qwen2.5-0.5B"}
    assert items["world"].memory is None
    assert list(needed(items["ppo"]).by_role()) == ["process", "policy", "reference", "reward", "value", "sampler"]


def test_a_directory_and_a_model_made_here_are_followed_too() -> None:
    tiny_policy("llama").save("tiny")
    text = """\
name: p
stages:
  base: {stage: pretrain, data: c, tokenizer: tiny, architecture: {hidden_size: 64, layers: 3}}
  one: {stage: sft, model: $base, data: d}
  two: {stage: sft, model: tiny, data: d}
  mean: {stage: average, models: [$one, $one/model]}
"""
    items = planned(text)
    assert items["one"].origins["model"].shape.layers == 3
    assert items["two"].origins["model"].shape.layers == 2
    assert [origin.shape.hidden_size for origin in items["mean"].origins.values()] == [64, 64]


def test_an_ensemble_needs_what_its_largest_start_needs() -> None:
    text = """\
name: p
stages:
  small: {stage: sft, model: 0.5B, data: d}
  large: {stage: sft, model: 1.5B, data: d}
  one: {stage: reward, model: $large, preferences: d}
  three: {stage: reward, model: $small, preferences: d, members: {count: 3, other_models: [$large]}}
  ppo: {stage: online, model: $small, reward: $three, prompts: d, dtype: bfloat16}
"""
    items = planned(text)
    assert list(items["three"].origins) == ["model", "members.other_models.0"]
    assert needed(items["three"]).peak == needed(items["one"]).peak
    assert items["ppo"].origins["reward"].shape == items["one"].origins["model"].shape


def test_an_adapter_on_disk_has_the_sizes_of_its_base_and_its_own_rank() -> None:
    tiny_policy("llama").save("tiny")
    load_policy("tiny").with_adapter(LoRA(rank=5), "tiny", 0).save("adapter")
    item = planned("name: p\nstages:\n  one: {stage: sft, model: adapter, data: d}\n")["one"]
    assert item.origins["model"].rank == 5
    assert item.origins["model"].shape.parameters == find_shape("tiny").parameters
    assert Path(item.origins["model"].base).resolve() == Path("tiny").resolve()


def test_the_roles_of_ppo_hold_what_they_must() -> None:
    item = planned(WHOLE, "model=0.5B")["ppo"]
    roles, size = needed(item).by_role(), item.origins["model"].shape.parameters
    assert roles["policy"]["weights"] == 2 * size
    assert roles["policy"]["float32 weights"] == 4 * size
    assert roles["policy"]["moments"] == 8 * size
    assert roles["reference"] == {"weights": 2 * size}
    assert roles["reward"]["weights"] == pytest.approx(2 * size, rel=1e-4)
    assert roles["value"]["moments"] == pytest.approx(8 * size, rel=1e-4)
    assert roles["sampler"]["cache"] > 0


def test_adapters_share_their_base() -> None:
    items = planned(ADAPTERS)
    size = items["grpo"].origins["model"].shape.parameters
    roles = needed(items["grpo"]).phases["learn"]
    held = {(part.role, part.kind): part.size for part in roles}
    assert held["policy", "weights"] == pytest.approx(2 * size, rel=0.02)
    assert held["reward", "weights"] < 0.02 * size
    assert "reference" not in {part.role for part in roles}
    other = planned(ADAPTERS.replace("model: 7B, reward", "model: Qwen2.5-3B, reward"))
    alone = {(part.role, part.kind): part.size for part in needed(other["grpo"]).phases["learn"]}
    assert alone["reward", "weights"] == pytest.approx(2 * size, rel=0.2)


def test_a_named_reference_is_counted_unless_it_shares_the_base_of_adapters() -> None:
    """Qwen2.5-7B has an output head of its own, which is not shared; a base in 4 bits is not the reference's."""
    whole = {size: needed(planned(WHOLE, "model=0.5B", f"ppo.kl.reference={size}")["ppo"]) for size in ("0.5B", "1.5B")}
    assert whole["0.5B"].phases == needed(planned(WHOLE, "model=0.5B")["ppo"]).phases
    assert whole["1.5B"].by_role()["reference"]["weights"] == 2 * find_shape("1.5B").parameters
    scored = [max(p.size for p in item.phases["score"] if (p.role, p.kind) == ("reference", "activations")) for item in whole.values()]
    assert scored[1] > 1.2 * scored[0]

    def held(reference: str, *words: str) -> float:
        item = needed(planned(ADAPTERS, f"grpo.kl.reference={reference}", *words)["grpo"])
        return sum(part.size for part in item.phases["learn"] if (part.role, part.kind) == ("reference", "weights"))

    assert held("7B") == held("7B", "grpo.offload=true") == 2 * find_shape("7B").output_head
    assert held("7B", "grpo.adapters.base_dtype=nf4") == 2 * find_shape("7B").parameters
    assert held("3B") == 2 * find_shape("3B").parameters
    assert held("3B", "grpo.offload=true") == 0


def test_a_reward_model_that_reads_the_likelihood_keeps_a_head_and_computes_logits() -> None:
    """Qwen2.5-7B has a head of its own, of a billion numbers; its value model keeps none."""
    text = WHOLE + "  best: {stage: rerank, model: $sft, reward: $reward, prompts: $data}\n"
    plain, reading = (planned(text, "model=7B", f"reward.score={score}") for score in ("last_token", "with_likelihood"))
    head = find_shape("7B").output_head
    assert head > 5e8
    for stage, kind, size in (("reward", "moments", 8), ("ppo", "weights", 2)):
        with_head, without = (needed(items[stage]).by_role()["reward"][kind] for items in (reading, plain))
        assert with_head - without == pytest.approx(size * head)
    values = [needed(items["ppo"]).by_role()["value"]["moments"] for items in (reading, plain)]
    assert values[0] == values[1]
    assert "head" in needed(reading["reward"]).by_role()["reward"]
    assert "head" not in needed(plain["reward"]).by_role()["reward"]
    scored = [{part.kind for part in needed(items["best"]).phases["score"] if part.role == "reward"} for items in (reading, plain)]
    assert ["head" in kinds for kinds in scored] == [True, False]


def test_the_file_of_a_reward_model_says_whether_it_reads_the_likelihood() -> None:
    for name, reads in (("plain", False), ("reading", True)):
        scalar_from(tiny_policy("llama"), ("overall",), seed=0, reads_likelihood=reads).save(name)
        item = planned(f"name: p\nstages:\n  one: {{stage: rerank, model: {name}, reward: {name}, prompts: d}}\n")["one"]
        assert item.origins["reward"].reads_likelihood == reads


def test_settings_that_save_memory_do() -> None:
    def peak(*words: str, ranks: int = 1) -> float:
        return needed(planned(WHOLE, "model=1.5B", "sft.dtype=bfloat16", *words, machine=Machine(is_gpu=True, ranks=ranks))["sft"]).peak

    whole, adapter = peak(), peak("sft.adapters=lora")
    assert peak("sft.tokens_per_microbatch=2048") < whole
    assert peak("sft.checkpoint_activations=true") < whole
    assert peak("sft.adapters=lora", "sft.adapters.base_dtype=nf4") < adapter < whole
    assert peak("sft.optimizer.state=8bit") == pytest.approx(whole - 6 * 1_543_714_304)
    assert peak(ranks=8) < whole
    assert peak("sft.dtype=float32") > whole


def test_frozen_models_that_are_offloaded_are_counted_where_they_lie() -> None:
    here, there = (needed(planned(WHOLE, "model=0.5B", f"ppo.offload={word}")["ppo"]) for word in ("false", "true"))
    size = planned(WHOLE, "model=0.5B")["ppo"].origins["model"].shape.parameters
    frozen = {(part.role, part.kind): part.size for part in here.phases["learn"] if part.role in ("reference", "reward")}
    assert sum(frozen.values()) == pytest.approx(4 * size, rel=1e-3)
    assert here.total("learn") - there.total("learn") == pytest.approx(sum(frozen.values()))
    assert there.host - here.host == pytest.approx(sum(frozen.values()))
    scored = {(part.role, part.kind) for part in there.phases["score"]}
    assert ("reference", "weights") in scored
    on_a_cpu = [needed(planned(WHOLE, "model=0.5B", f"ppo.offload={word}", machine=Machine())["ppo"]).peak for word in ("false", "true")]
    assert on_a_cpu[0] == on_a_cpu[1]


def test_weights_that_ranks_share_out_are_counted_where_they_lie() -> None:
    def at(*words: str) -> StageMemory:
        return needed(planned(WHOLE, "model=7B", "ppo.dtype=bfloat16", *words, machine=Machine(is_gpu=True, ranks=4))["ppo"])

    shape = planned(WHOLE, "model=7B")["ppo"].origins["model"].shape
    rest, layers = shape.parameters - shape.layer_numbers, shape.layer_numbers
    assert layers == pytest.approx(0.857 * shape.parameters, rel=1e-2)  # the embeddings are the rest
    held = {}
    for word in ("none", "frozen", "all", "all:2"):
        memory = at(f"shard={word}")
        held[word] = {part.role: part.size for part in memory.phases["learn"] if part.kind == "weights"}
    for word, sharers in (("all", 4), ("all:2", 2)):
        assert held[word]["policy"] == held[word]["reference"] == 2 * (rest + layers * (1 / sharers + 1 / shape.layers))
    assert held["frozen"] == {**held["none"], "reference": held["all"]["reference"], "reward": held["all"]["reward"]}
    assert at("shard=all").total("load") < 0.6 * at("shard=none").total("load")  # of layers a rank loads its slices
    gradients = [part.size for part in at("shard=all").phases["learn"] if part.kind == "gradients" and part.role == "policy"]
    assert sum(gradients) == pytest.approx(4 * shape.parameters / 4 + 2 * (rest + layers / shape.layers))
    assert at("shard=all").host == pytest.approx(12 * shape.parameters)  # of loading, less than of a checkpoint


def test_sharing_out_is_advised_where_more_ranks_are_not_enough() -> None:
    item = planned(WHOLE, "model=70B", "sft.dtype=bfloat16", "sft.adapters=lora")["sft"]
    advice = advice_for(item.stage, item.origins, GPU, 80e9)
    assert advice.changes[-2:] == ("shard=all", "--launch torchrun:8")
    assert advice.fits


def test_offload_is_advised_before_adapters() -> None:
    item = planned(WHOLE, "model=0.5B")["ppo"]
    fewest = needed(planned(WHOLE, "model=0.5B", "ppo.tokens_per_microbatch=512", "ppo.offload=true")["ppo"]).peak
    assert advice_for(item.stage, item.origins, GPU, fewest + 1).changes == ("tokens_per_microbatch=512", "offload=true")


def test_a_reference_that_is_measured_once_is_gone_when_the_policy_learns() -> None:
    text = "name: p\nstages:\n  dpo: {stage: direct, model: 0.5B, reference: 1.5B, preferences: d, dtype: bfloat16}\n"
    dpo = needed(planned(text)["dpo"])
    size = find_shape("1.5B").parameters
    assert {(part.role, part.kind): part.size for part in dpo.phases["score"]}["reference", "weights"] == 2 * size
    assert "moments" not in {part.kind for part in dpo.phases["score"]}
    assert "reference" not in {part.role for part in dpo.phases["learn"]}
    moving = needed(planned(text.replace("reference: 1.5B", "reference_update: {}").replace("bfloat16", "float32"))["dpo"])
    assert "reference" in {part.role for part in moving.phases["learn"]}


def test_advice_tries_the_cheapest_change_first() -> None:
    item = planned(WHOLE, "model=1.5B", "sft.dtype=bfloat16")["sft"]

    def advised(memory: float) -> tuple[str, ...]:
        advice = advice_for(item.stage, item.origins, GPU, memory)
        assert advice.fits
        assert advice.peak <= memory
        return advice.changes

    assert advised(50 * GB) == ("tokens_per_microbatch=4096",)
    assert advised(38 * GB) == ("tokens_per_microbatch=1024",)
    assert advised(36 * GB) == ("checkpoint_activations=true",)
    assert advised(35 * GB) == ("tokens_per_microbatch=4096", "checkpoint_activations=true")
    assert advised(20 * GB)[-1] == "adapters=lora (rank 16)"
    assert advised(6 * GB)[-1] == "adapters.base_dtype=nf4"
    smallest = advice_for(item.stage, item.origins, GPU, 1 * GB)
    assert not smallest.fits
    assert smallest.peak > 1 * GB


def test_more_ranks_are_proposed_where_an_adapter_cannot_help() -> None:
    size = "{hidden_size: 4096, layers: 24, intermediate_size: 16384}"
    text = f"name: p\nstages:\n  base: {{stage: pretrain, data: c, tokenizer: t, architecture: {size}}}\n"
    item = planned(text, memory=60 * GB)["base"]
    assert item.advice is not None
    assert [word for word in item.advice.changes if word.startswith("--launch torchrun:")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "p.yaml:4: the input model has no value. Add model=PATH, or a size such as model=7B"),
        (("model=9B",), "p.yaml:4: there is no model '9B'"),
        (("model=7B", "sft.dtype=float8"), "dtype"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(WHOLE, *words)
    assert told in str(caught.value)


def test_a_model_directory_without_a_configuration_is_told_with_its_place() -> None:
    Path("empty").mkdir()
    with pytest.raises(ModelError, match=r"p.yaml:4: empty is not a model directory: it has no config.json"):
        planned(WHOLE, "model=empty")


@pytest.mark.parametrize("text", ["24", "GB", "-1GB", "0GB", "many", "24XB", ""])
def test_an_amount_of_memory_needs_a_number_and_a_unit(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an amount of memory. Give a number above 0 with its unit"):
        bytes_of(text)


def test_amounts_of_memory_and_kinds_of_gpu() -> None:
    assert [bytes_of(text) for text in ("24GB", "24 gb", "1.5TB", "80GiB")] == [24e9, 24e9, 1.5e12, 80 * 2**30]
    assert find_gpu("RTX 4090") is GPUS["rtx4090"]
    with pytest.raises(ConfigError, match=r"there is no GPU 'h9000' in the table. Known: .*h100"):
        find_gpu("h9000")
