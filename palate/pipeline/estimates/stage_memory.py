"""Bytes of each kind of stage: it plays what the stage's `run` holds and drops, and records the moments between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from palate.pipeline.estimates.learning_memory import (
    MANY,
    Lengths,
    learn,
    learned_by,
    lengths_of,
    rewards_of,
    score_by_rewards,
    train_alone,
)
from palate.pipeline.estimates.memory_parts import CHECK, MemoryPart, MemoryScript, StageMemory
from palate.pipeline.estimates.online_memory import online
from palate.pipeline.estimates.pass_memory import WIDE, PackedTrees, Trained, head_bytes
from palate.pipeline.estimates.role_memory import (
    CPU_GAPS,
    Machine,
    Origins,
    largest_start,
    load,
    load_frozen,
    load_trained,
    make_learner,
    sample,
    sampler_settings,
    score,
    start_learning,
    trained_of,
    width_of,
    write,
)
from palate.pipeline.table import Stage
from palate.stages.average import Average
from palate.stages.direct import Direct
from palate.stages.evaluate import Evaluate
from palate.stages.online import Online
from palate.stages.pair import Pair
from palate.stages.pretrain import Pretrain
from palate.stages.refresh import Refresh
from palate.stages.rerank import Rerank
from palate.stages.revise import DRAFTS_PER_CHUNK, Revise
from palate.stages.reward import Reward
from palate.stages.sample import Sample
from palate.stages.sft import SFT
from palate.stages.train_rules import TrainRules


def _sft(script: MemoryScript, machine: Machine, stage: SFT, origins: Origins) -> None:
    origin = origins["model"]
    trained = trained_of(origin, width_of(stage, machine), stage.adapters, is_checkpointing=stage.checkpoint_activations)
    load_trained(script, machine, "policy", origin, trained)
    lengths = lengths_of(machine, origin, stage.max_tokens)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, 1, stage.tokens_per_microbatch, stage.demonstrations_per_step)
    train_alone(script, machine, "policy", origin, trained, trees, stage.optimizer.state)


def _pretrain(script: MemoryScript, machine: Machine, stage: Pretrain, origins: Origins) -> None:
    origin = origins["architecture"]
    load(script, machine, "policy", origin)
    window = stage.architecture.max_positions
    trees = PackedTrees.within(1, window - 1, 1, stage.tokens_per_microbatch, stage.documents_per_step)
    train_alone(script, machine, "policy", origin, trained_of(origin, width_of(stage, machine), None), trees, stage.optimizer.state)


def _direct(script: MemoryScript, machine: Machine, stage: Direct, origins: Origins) -> None:
    origin = origins["model"]
    trained = trained_of(origin, width_of(stage, machine), stage.adapters, is_checkpointing=stage.checkpoint_activations)
    load_trained(script, machine, "policy", origin, trained)
    lengths = lengths_of(machine, origin, stage.max_tokens)
    if "reference" in origins:
        reference = origins["reference"]
        load_frozen(script, machine, "reference", reference, trained.width)
    elif stage.reference_update is not None:
        script.hold("reference", "weights", WIDE * origin.size)
        script.hold("reference", "float32 weights", 0.0)
        script.moment("load")
    branches = 1 if stage.objective.is_unpaired else 2
    trees = PackedTrees.within(lengths.prompt, lengths.completion, branches, stage.tokens_per_microbatch, stage.prompts_per_step)
    learned = learned_by(origin, trained)
    if stage.objective.needs_reference and stage.reference_kind == "model" and stage.reference_update is None:
        make_learner(script, machine, "policy", origin, trained, learned)
        score(script, machine, "reference", trained, trees, has_vocabulary=True)
        script.drop("reference")  # what it says about every example is known
    start_learning(script, machine, "policy", origin, trained, learned, stage.optimizer.state)
    if stage.reference_update is not None:
        score(script, machine, "reference", trained, trees, has_vocabulary=True)
    learn(script, machine, "policy", trained, trees, learned, head_bytes(trained, learns=True))
    write(script, machine, "policy", origin, trained)


def _reward(script: MemoryScript, machine: Machine, stage: Reward, origins: Origins) -> None:
    origin = replace(largest_start(origins).scalar(), reads_likelihood=stage.score == "with_likelihood")
    trained = trained_of(origin, width_of(stage, machine), stage.adapters, is_checkpointing=stage.checkpoint_activations)
    load_trained(script, machine, "reward", origin, trained)
    lengths = lengths_of(machine, origin, stage.max_tokens)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, 2, stage.tokens_per_microbatch, stage.prompts_per_step)
    train_alone(script, machine, "reward", origin, trained, trees, stage.optimizer.state)


def _train_rules(script: MemoryScript, machine: Machine, stage: TrainRules, origins: Origins) -> None:
    origin = origins["model"].scalar()
    trained = trained_of(origin, width_of(stage, machine), stage.adapters, is_checkpointing=stage.checkpoint_activations)
    load_trained(script, machine, "classifier", origin, trained)
    lengths = lengths_of(machine, origin, stage.max_tokens)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, 1, stage.tokens_per_microbatch, stage.completions_per_step)
    train_alone(script, machine, "classifier", origin, trained, trees, stage.optimizer.state)


def _refresh(script: MemoryScript, machine: Machine, stage: Refresh, origins: Origins) -> None:
    origin = origins["reward"].scalar()
    load(script, machine, "reward before", origin, learns=False)
    load(script, machine, "reward", origin, learns=True)
    trained, lengths = trained_of(origin, width_of(stage, machine), None), lengths_of(machine, origin)
    trees = PackedTrees.within(lengths.prompt, lengths.completion, 2, stage.tokens_per_microbatch, stage.prompts_per_step)
    train_alone(script, machine, "reward", origin, trained, trees, stage.optimizer.state)
    if stage.curve:
        script.drop("reward", "moments")
        load(script, machine, "curve", origin, learns=True)
        learned = learned_by(origin, trained)
        start_learning(script, machine, "curve", origin, trained, learned, stage.optimizer.state)
        head = head_bytes(trained, learns=True) if origin.has_vocabulary else 0.0
        learn(script, machine, "curve", trained, trees, learned, head)


def _sample(script: MemoryScript, machine: Machine, stage: Sample | Revise, origins: Origins) -> None:
    origin = origins["model"]
    width = width_of(stage, machine)
    if sampler_settings(stage)["kind"] != "local":  # a server has the model
        script.moment("sample")
        return
    load(script, machine, "policy", origin, width=width)
    lengths = lengths_of(machine, origin, completion=stage.sampling.max_tokens)
    rows = (DRAFTS_PER_CHUNK if isinstance(stage, Revise) else (stage.limit or MANY) * stage.samples_per_prompt) // machine.ranks
    sample(script, origin, width, rows, lengths.prompt, lengths.completion)


def _evaluate(script: MemoryScript, machine: Machine, stage: Evaluate, origins: Origins) -> None:
    lengths, width = Lengths(machine.tokens // 2, stage.sampling.max_tokens), width_of(stage, machine)
    if "model" in origins:
        origin = origins["model"]
        load(script, machine, "policy", origin, width=width)
        lengths = lengths_of(machine, origin, completion=stage.sampling.max_tokens)
        rows = (stage.limit or MANY) // machine.ranks
        sample(script, origin, width, rows, lengths.prompt, lengths.completion)
        script.drop("sampler")
    score_by_rewards(script, machine, origins, width, lengths, 1)
    if "reference" in origins:
        load_frozen(script, machine, "reference", origins["reference"], width)
        trees = PackedTrees.within(lengths.prompt, lengths.completion, 1, stage.tokens_per_microbatch)
        score(script, machine, "reference", Trained(origins["reference"].shape, width), trees, has_vocabulary=True)


def _rerank(script: MemoryScript, machine: Machine, stage: Rerank, origins: Origins) -> None:
    lengths, width = Lengths(machine.tokens // 2, stage.sampling.max_tokens), width_of(stage, machine)
    if "model" in origins:
        load(script, machine, "policy", origins["model"], width=width)
    for role, reward in rewards_of(origins).items():
        load_frozen(script, machine, role, reward, width)
    if "model" in origins:
        lengths = lengths_of(machine, origins["model"], completion=stage.sampling.max_tokens)
        rows = (stage.limit or MANY) * stage.n // machine.ranks
        sample(script, origins["model"], width, rows, lengths.prompt, lengths.completion)
        script.drop("sampler")
    score_by_rewards(script, machine, origins, width, lengths, stage.n)


def _pair(script: MemoryScript, machine: Machine, stage: Pair, origins: Origins) -> None:
    longest = next(iter(rewards_of(origins).values()))
    score_by_rewards(script, machine, origins, width_of(stage, machine), lengths_of(machine, longest), 2)


def _average(script: MemoryScript, machine: Machine, stage: Average, origins: Origins) -> None:
    for number in range(len(stage.models)):
        load(script, machine, f"model {number + 1}", origins[f"models.{number}"])
    whole = WIDE * origins["models.0"].size
    copies = len(stage.models) if machine.is_gpu else 0
    if machine.is_gpu:
        script.needs_host((copies + 1) * whole)
        script.moment("write")
    else:
        script.moment("write", [MemoryPart("mean", "weights", whole), MemoryPart(CHECK, "weights", whole)])


def memory_of(stage: Stage, origins: Origins, machine: Machine) -> StageMemory | None:
    """Return the memory that a stage needs on each device; None for a stage without a model.

    Args:
        stage: its settings.
        origins: the models that it loads, by setting.
        machine: what it runs on.
    """
    kinds: Mapping[type, Callable[..., None]] = {
        SFT: _sft, Pretrain: _pretrain, Direct: _direct, Reward: _reward, TrainRules: _train_rules, Refresh: _refresh, Sample: _sample,
        Revise: _sample, Evaluate: _evaluate, Rerank: _rerank, Pair: _pair, Average: _average, Online: online,
    }  # fmt: skip
    play = kinds.get(type(stage))
    if play is None or not origins:
        return None
    script = MemoryScript(gaps=0.0 if machine.is_gpu else CPU_GAPS)
    script.hold("process", "baseline", machine.process)
    play(script, machine, stage, origins)
    return script.result()
