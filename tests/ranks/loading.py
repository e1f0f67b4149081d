"""What a rank does in the tests of loading: models that ranks share out when they are loaded, beside the same models whole."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.rank_loading import Peak, watched
from palate.core.process import Shard, computing_on, place
from palate.distributed.group import joined_group
from palate.distributed.windows import windows
from palate.models.adapters import LoRA
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.scalar import ScalarModel, load_scalar, scalar_from, with_heads
from palate.models.shards import is_shared_out
from palate.models.shared_layers import on_host, sharing_out
from palate.testing import random_trees
from palate.text.pack import pack

Model = CausalPolicy | ScalarModel
ADAPTED = LoRA(rank=2, modules_to_save=("k_proj",))
CASES: Mapping[str, Callable[[Path], Model]] = {
    "narrow file": lambda folder: load_policy(folder / "narrow"),
    "wide file": lambda folder: load_policy(folder / "wide", dtype="bfloat16"),
    "torch file": lambda folder: load_policy(folder / "torch"),
    "reward model": lambda folder: load_scalar(folder / "reward", dtype="bfloat16"),
    "new heads": lambda folder: scalar_from(folder / "narrow", ("score",), 3),
    "encoder": lambda folder: scalar_from(folder / "encoder", ("score",), 3),
    "heads in place of others": lambda folder: with_heads(load_scalar(folder / "reward"), ("value",), 0, start="zero", takes=True),
    "new adapter": lambda folder: load_policy(folder / "narrow").with_adapter(ADAPTED, str(folder / "narrow"), 5),
    "adapter that is merged": lambda folder: load_policy(folder / "adapter", dtype="bfloat16"),
}


def outputs(model: Model) -> Tensor:
    """What the model computes on a batch."""
    batch = pack(random_trees([(3, (4, 5)), (2, (6,))], 20))
    with torch.no_grad():
        return model.logps(batch).logps if isinstance(model, CausalPolicy) else model.scores(batch)


def differences(shared: Model, whole: Model) -> list[str]:
    """The names of weights and buffers that differ in a bit, and what else does."""
    ours, theirs = dict(shared.module.named_parameters()), dict(whole.module.named_parameters())
    buffers, others = dict(shared.module.named_buffers()), dict(whole.module.named_buffers())
    if ours.keys() != theirs.keys() or buffers.keys() != others.keys():
        return ["names"]
    apart = [name for name, p in ours.items() if p.dtype != theirs[name].dtype or not torch.equal(on_host(p), theirs[name])]
    apart += [name for name, p in ours.items() if p.requires_grad != theirs[name].requires_grad]
    apart += [name for name, x in buffers.items() if not torch.equal(x, others[name])]
    settings = [model.module.config.to_dict() for model in (shared, whole)]
    apart += [name for name in settings[0] if settings[0][name] != settings[1][name]]
    apart += [] if shared.path == whole.path else ["path"]
    return apart if torch.equal(outputs(shared), outputs(whole)) else [*apart, "outputs"]


def compared(folder: Path) -> int:
    """Loads each model both ways, and writes how they differ, how many weights are shared out, and what was told."""
    figures: dict[str, object] = {}
    with joined_group() as group, computing_on("cpu", Shard("all")):
        for name, load in CASES.items():
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                with sharing_out(windows(), learns=True):
                    shared = load(folder)
            whole = load(folder)
            messages = [str(one.message) for one in told if "each rank reads all of" in str(one.message)]
            figures[name] = [differences(shared, whole), sum(map(is_shared_out, shared.parameters())), len(messages)]
            group.gather(None)  # whoever goes on takes its slices with it
    (folder / f"{place().rank}.json").write_text(json.dumps(figures))
    return 0


def peaks(folder: Path) -> int:
    """Loads a model that is shared out, and writes by how much this rank's memory grew."""
    found: dict[str, Peak] = {}
    with joined_group() as group, computing_on("cpu", Shard("all")):
        with watched(found, "before"):
            load_policy(folder / "wide")  # whatever loading needs beside weights is there now
        with watched(found, "load"), sharing_out(windows(), learns=True):
            policy = load_policy(folder / "model")
            group.gather(None)
        figures = {"grown": found["load"].own - found["before"].own, "bytes": 4 * sum(p.numel() for p in policy.parameters())}
        group.gather(None)
    (folder / f"{place().rank}.json").write_text(json.dumps(figures))
    return 0
