"""What the process with the pretend device does: autograd must not have run in a process before it knows the device."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from palate.cli import main
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Sampling
from palate.models.causal import CausalPolicy
from palate.models.devices import placed
from palate.models.load import load_policy
from palate.models.offload import Offload
from palate.models.scalar import ScalarModel, with_heads
from palate.objectives.reduce import Sums
from palate.runs.record import RunPlan, read_record
from palate.runs.run import open_run
from palate.samplers import LocalSampler, ledger, own_cache
from palate.stages import sft
from palate.stages.online import Online
from palate.stages.online import loop as loop_module
from palate.stages.online.loop import Loop
from palate.testing import random_trees, tiny_policy, word_tokenizer
from palate.testing.pretend_device import MEMORY, NAME, pretend_device, register
from palate.text.pack import pack
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from tests.support.huge_models import huge_model

PIPELINE = Path(__file__).with_name("pipeline.yaml")
QUANTISED = Path(__file__).with_name("quantised.yaml")
"""Every training stage on a base of 4 bits."""


def prepare() -> None:
    """Makes the device known."""
    register()


def on_the_cpu(folder: Path, file: Path = PIPELINE) -> None:
    """Runs every stage on the CPU."""
    _run(folder, "cpu", file)


def on_the_device(folder: Path, file: Path = PIPELINE) -> None:
    """Runs every stage on the device."""
    with pretend_device():
        _run(folder, NAME, file)


def continued(folder: Path) -> tuple[float, float]:
    """Takes two steps on the device; how far off the weights are with a checkpoint between them, and with the second step on the CPU."""
    base = folder / "base"
    tiny_policy("qwen3", word_tokenizer()).save(base)
    batch = pack(random_trees([(3, (4, 5))], 20))

    def learner() -> tuple[CausalPolicy, Learner]:
        policy = load_policy(base)
        return policy, Learner({"policy": policy.module}, AdamW(lr=1e-2), 2)

    def step(policy: CausalPolicy, learner: Learner) -> None:
        learner.step([batch], lambda one: Sums(-policy.logps(one).logps.sum(), torch.tensor(float(len(one.targets))), {}))

    with pretend_device():
        straight, first = learner()
        step(straight, first)
        first.save(folder / "checkpoint", {})
        step(straight, first)
        again, third = learner()
        assert third.load(folder / "checkpoint") is not None
        step(again, third)
    later, second = learner()
    assert second.load(folder / "checkpoint") is not None
    step(later, second)
    return _apart(straight, again), _apart(straight, later)


def drawn(folder: Path) -> list[bool]:
    """Samples with tokens drawn on the CPU, as where the device has no float64, with rows that are refilled and with the model's own cache.

    Returns whether each has the tokens that are drawn on the device.
    """
    same = []
    for family in ("qwen3", "gemma2", "mamba"):
        base = folder / family
        tiny_policy(family, word_tokenizer()).save(base)
        with pretend_device(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            policy = load_policy(base)

            def sample(policy: CausalPolicy = policy) -> list[tuple[int, ...]]:
                groups = LocalSampler(policy, slots=3).sample([(4, 5, 6), (7, 8)], 3, Sampling(max_tokens=6, top_p=0.9), seed=1)
                return [one.ids for group in groups for one in group]

            there = sample()
            with patch.object(ledger, "drawing_device", _cpu), patch.object(own_cache, "drawing_device", _cpu):
                same.append(sample() == there)
    return same


def _cpu(_device: torch.device) -> torch.device:
    return torch.device("cpu")


def devices_of_new_heads() -> set[str]:
    """Puts heads on a copy of a policy's backbone, and on the backbone itself; the devices that their weights are on."""
    with pretend_device():
        policy = placed_policy()
        models = [with_heads(policy, ("overall",), 0, takes=takes) for takes in (False, True)]
        return {p.device.type for model in models for p in model.parameters()}


def devices_of_results(folder: Path) -> dict[str, str]:
    """Loads a policy on the device and computes with it, and with heads on it; the path, where the module is and where each result is."""
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    batch = pack(random_trees([(3, (4, 5)), (2, (6,))], 20))
    with pretend_device(), torch.no_grad():
        policy = load_policy(folder / "base")
        outputs, scalar = policy.logps(batch), with_heads(policy, ("overall",), 0)
        total, logps = policy.nll(batch, torch.ones(len(batch.targets)))
        results = {"logps": outputs.logps, "entropy": outputs.entropy, "total": total, "learned": logps}
        results |= {"scores": scalar.scores(batch), "values": scalar.values(batch)}
        return {"path": policy.path, "module": policy.device.type, **{name: x.device.type for name, x in results.items()}}


def tuned(folder: Path) -> tuple[str, str | None]:
    """Runs a single stage on the device; the device of its model, and the one that its record names."""
    tiny_policy("llama", word_tokenizer()).save(folder / "base")
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    words = ["sft", "--model", str(folder / "base"), "--data", str(folder / "rows.jsonl"), "--out", str(folder / "run"), "--device", NAME]
    places = []

    def loading(*given: Any, **settings: Any) -> CausalPolicy:
        policy = load_policy(*given, **settings)
        places.append(policy.device.type)
        return policy

    with pretend_device(), contextlib.redirect_stdout(io.StringIO()), patch.object(sft, "load_policy", loading):
        assert main(words) == 0
    (place,), record = places, read_record(folder / "run")
    return place, None if record is None else record.device


def refused(folder: Path, total: float) -> tuple[int, str]:
    """Starts a stage on the device with this memory in all; its exit code, and what it wrote on standard error."""
    huge_model(folder / "huge")
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    words = ["sft", "--model", str(folder / "huge"), "--data", str(folder / "rows.jsonl"), "--runs", str(folder / "runs"), "--device", NAME]
    text = io.StringIO()
    with pretend_device(), patch.object(MEMORY, "total", total), contextlib.redirect_stderr(text):
        return main(words), text.getvalue()


@dataclass(frozen=True)
class Offloaded:
    """What runs with and without offload give: numbers and weights, and where each model was at the places of an iteration."""

    rows: tuple[list[dict[str, float]], list[dict[str, float]]]
    is_alike: bool
    at: dict[str, set[tuple[str, str, str]]]


def offloaded(folder: Path, **settings: Any) -> Offloaded:
    """Trains online on the device twice, without offload and with it; the devices are those of policy, reference and reward model."""
    policy = tiny_policy("qwen3", word_tokenizer())
    policy.save(folder / "base")
    with_heads(policy, ("overall",), 0).save(folder / "reward")
    (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "the cook has {what}"}}\n' for what in ("rice", "beans", "salt", "two")))
    values = {
        "model": str(folder / "base"), "prompts": str(folder / "prompts.jsonl"), "reward": str(folder / "reward"), "iterations": 2,
        "prompts_per_iteration": 4, "samples_per_prompt": 2, "sampling": {"max_tokens": 4}, "reward_requirements": {"min_accuracy": 0},
        "minibatches": 1, **settings,
    }  # fmt: skip
    at: dict[str, set[tuple[str, str, str]]] = {"sample": set(), "reward": set(), "reference": set(), "learn": set()}
    rows, weights = [], []
    with pretend_device(), watched(at):
        for offload in (False, True):
            for places in at.values():
                places.clear()
            stage = read_config(Online, Settings({**values, "offload": offload}, {(): "here"}))
            stage.check()
            run = open_run(folder / f"runs-{offload}", RunPlan("online", "online", seed=1))
            with run.active():
                stage.run(run)
            rows.append(list(run.logged()))
            weights.append(load_policy(run.directory / "model").state_dict())
    same = all(torch.equal(value.cpu(), weights[1][name].cpu()) for name, value in weights[0].items())
    return Offloaded((rows[0], rows[1]), same, at)


@contextlib.contextmanager
def watched(at: dict[str, set[tuple[str, str, str]]]) -> Iterator[None]:
    """A context in which loops note where policy, reference and reward model are while they sample, score and learn."""
    here: list[Loop] = []
    sample, learn, of_trees = Loop.sample, Loop.learn, loop_module.over_trees

    def note(place: str) -> None:
        loop = here[-1]
        (reward,) = loop.rewards.models.values()
        at[place].add((loop.policy.device.type, loop.reference.device.type, reward.model.device.type))

    def sampled(loop: Loop, *words: Any) -> Any:
        here.append(loop)
        note("sample")
        return sample(loop, *words)

    def learned(loop: Loop, *words: Any) -> Any:
        note("learn")
        return learn(loop, *words)

    def normalised(model: ScalarModel, scores: torch.Tensor) -> torch.Tensor:
        note("reward")
        return scale(model, scores)

    def over(*words: Any) -> Any:
        note("reference")
        return of_trees(*words)

    scale = ScalarModel.normalised
    spies = [
        (Loop, "sample", sampled),
        (Loop, "learn", learned),
        (ScalarModel, "normalised", normalised),
        (loop_module, "over_trees", over),
    ]
    with contextlib.ExitStack() as changed:
        for owner, name, spy in spies:
            changed.enter_context(patch.object(owner, name, spy))
        yield


def moved_and_back() -> tuple[list[str], bool, bool, int]:
    """Takes a tied model off the device and back; its devices, whether numbers and ties stay, and how many weights it has less."""
    batch = pack(random_trees([(3, (4, 5))], 20))
    with pretend_device(), torch.no_grad():
        policy = placed_policy("gpt2")
        policy.module.requires_grad_(requires_grad=False)
        before, count = policy.logps(batch).logps, len(list(policy.parameters()))
        places = [policy.device.type]
        offload = Offload(policy.module)
        places.append(policy.device.type)
        offload.fetch()
        places.append(policy.device.type)
        for _ in range(2):
            with offload.used():
                places.append(policy.device.type)
                same = torch.equal(policy.logps(batch).logps, before)
            places.append(policy.device.type)
        tied = policy.module.get_output_embeddings().weight is policy.module.get_input_embeddings().weight
        return places, same, tied, count - len(list(policy.parameters()))


def placed_policy(family: str = "qwen3") -> CausalPolicy:
    """A tiny policy on the process's device."""
    policy = tiny_policy(family, word_tokenizer())
    placed(policy.module)
    return policy


def _apart(one: CausalPolicy, other: CausalPolicy) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.detach().cpu() - b.detach().cpu()).abs().max()) for a, b in pairs)


def _run(folder: Path, device: str, file: Path) -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main(["run", str(file), f"device={device}", "--runs", str(folder)])
    assert code == 0, text.getvalue()[-4000:]
