"""Bytes of the models of a stage: as they are loaded, as they learn, and as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from palate.core.process import AUTO, Shard
from palate.models.adapters import LoRA
from palate.models.shapes import ModelShape
from palate.pipeline.estimates.memory_parts import CHECK, GB, MemoryPart, MemoryScript
from palate.pipeline.estimates.pass_memory import WIDE, PackedTrees, Trained, cache_bytes, forward_bytes, head_bytes
from palate.pipeline.table import Stage
from palate.samplers.forward import LARGEST_PACKED
from palate.training.sliced_weights import BUCKET

WIDTHS: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number of each type."""

PACKED = 0.52
"""Bytes of a number in 4 bits, with its scales (see `palate.models.four_bit`)."""

MOMENTS: Mapping[str, int] = {"float32": 8, "8bit": 2, "paged_8bit": 2}
"""Bytes of the optimizer's two running means, by the type of its state."""

ROWS = 256
"""Completions that the local sampler draws at once, at most."""

PREFILL = 4096
"""Tokens of prompts that the local sampler reads at once."""


CPU_PROCESS = 0.40 * GB
"""What a process needs on a CPU before any model is there: Python, torch and transformers (`benchmarks/plan_memory.py` measures it)."""

CPU_GAPS = 0.4
"""Share of what passes that lies unused between blocks on a CPU; `benchmarks/plan_memory.py` measured it."""

MACHINE = 8
"""GPUs of a machine that are assumed where nothing says how many ranks share out weights."""

GPU_PROCESS = 1.0 * GB
"""What is assumed for a process on a GPU before any model is there: CUDA's context and its libraries."""


@dataclass(frozen=True)
class Machine:
    """What a stage runs on.

    Attributes:
        is_gpu: whether models compute on a GPU; then loading and writing also need memory of the machine.
        ranks: processes that share the work, one per device.
        tokens: tokens of the longest prompt and completion together, where no setting says it.
        memory: bytes of a device, of which an engine may take a share; None where they are not known.
        shard: which weights the ranks share out.
    """

    is_gpu: bool = False
    ranks: int = 1
    tokens: int = 1024
    memory: float | None = None
    shard: Shard = field(default_factory=Shard)

    def sharers(self, *, learns: bool) -> int:
        """Return how many ranks share out a model, of which all weights learn or some are frozen."""
        return min(self.ranks, self.shard.ranks or MACHINE) if self.shard.takes(learns=learns) else 1

    def shares_on_gpu(self, *, learns: bool) -> bool:
        """Return whether ranks share out such a model over GPUs."""
        return self.is_gpu and self.sharers(learns=learns) > 1

    @property
    def process(self) -> float:
        """Return the bytes that a process needs on its device before any model is there."""
        return GPU_PROCESS if self.is_gpu else CPU_PROCESS


@dataclass(frozen=True)
class ModelOrigin:
    """A model that a stage loads.

    Attributes:
        shape: its sizes.
        name: which model it is.
        base: where its weights come from; adapters with the same base share it.
        rank: rank of the adapter, if it is kept beside its base.
        heads: heads of a scalar model; 0 for a language model.
        reads_likelihood: whether the scores read the likelihood, for which a scalar model keeps its language-model head.
    """

    shape: ModelShape
    name: str
    base: str
    rank: int | None = None
    heads: int = 0
    reads_likelihood: bool = False

    @property
    def has_vocabulary(self) -> bool:
        """Return whether the model computes logits."""
        return not self.heads or self.reads_likelihood

    @property
    def size(self) -> int:
        """Return the numbers of the model without adapters."""
        if not self.heads:
            return self.shape.parameters
        return self.shape.backbone + self.heads * self.shape.hidden_size + (self.shape.output_head if self.reads_likelihood else 0)

    def scalar(self, heads: int = 1) -> ModelOrigin:
        """Return a scalar model on the same backbone."""
        return replace(self, heads=heads)


Origins = Mapping[str, ModelOrigin]
"""The models of a stage by the setting that names them; those in a list have their number behind a dot."""


def largest_start(origins: Origins) -> ModelOrigin:
    """Return the largest model from which a stage starts: `model`, or where members of an ensemble start from others, one of these."""
    starts = [origin for setting, origin in origins.items() if setting == "model" or setting.startswith("members.other_models.")]
    return max(starts, key=lambda origin: origin.size)


def width_of(stage: Stage, machine: Machine) -> int:
    """Return the bytes of a number of the type that a stage computes in; `auto` is a narrow one on a GPU."""
    name = vars(stage).get("dtype", "float32")
    return WIDTHS["bfloat16" if machine.is_gpu else "float32"] if name == AUTO else WIDTHS[name]


def sampler_settings(stage: Stage) -> Mapping[str, object]:
    """Return the settings of what draws completions in a stage; without a `kind` it is this process."""
    settings = vars(stage).get("sampler")
    return {"kind": "local"} if settings is None else {"kind": "local", **vars(settings)}


def trained_of(origin: ModelOrigin, width: int, adapters: LoRA | None, *, is_checkpointing: bool = False) -> Trained:
    """Return how a stage with these settings trains a model."""
    if adapters is None:
        return Trained(origin.shape, width, is_checkpointing=is_checkpointing)
    is_packed = adapters.base_dtype is not None
    return Trained(origin.shape, width, adapters.rank, adapters.target_modules, is_checkpointing, is_packed)


def frozen_bytes(origin: ModelOrigin, trained: Trained, width: int) -> float:
    """Return the bytes of a model whose numbers have this width, except those that are packed in 4 bits."""
    packed = origin.shape.linear_numbers if trained.is_packed else 0
    return PACKED * packed + width * (origin.size - packed)


def device_bytes(machine: Machine, origin: ModelOrigin, whole: float, width: int, *, learns: bool) -> float:
    """Return what a device holds of a model: all, or what is not in its layers, a slice of the layers, and one layer.

    Args:
        machine: says how many ranks share.
        origin: the model.
        whole: its bytes.
        width: bytes of a number outside its layers.
        learns: whether all its weights learn.
    """
    sharers = machine.sharers(learns=learns)
    if sharers == 1:
        return whole
    rest = width * (origin.size - origin.shape.layer_numbers)
    return rest + (whole - rest) * (1 / sharers + 1 / origin.shape.layers)


def learned_numbers(origin: ModelOrigin, adapters: LoRA | None) -> int:
    """Return how many numbers learn."""
    if adapters is None:
        return origin.size
    return origin.shape.adapter(adapters.rank, adapters.target_modules) + origin.heads * origin.shape.hidden_size


def load_trained(script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, trained: Trained) -> None:
    """Load a model that will learn: in float32; or on the CPU, layer by layer packed in 4 bits."""
    if not trained.is_packed:
        load(script, machine, role, origin, learns=trained.rank is None)
        return
    script.hold(role, "weights", frozen_bytes(origin, trained, WIDE))
    read = trained.width * origin.size
    if machine.is_gpu:
        script.moment("load")
        script.needs_host(read * machine.ranks)
    else:
        script.moment("load", [MemoryPart(role, "weights while loading", read)])


def load(script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, *, width: int = WIDE, learns: bool | None = None) -> None:
    """Load a model in float32, or with numbers of this width.

    With `learns`, which says whether all its weights learn, ranks share it out where the stage does that. They copy their slices of the
    layers from the file, which is mapped, and so need memory of the machine for the rest alone. Without it each holds all of it.
    """
    whole = width * origin.size
    held = whole if learns is None else device_bytes(machine, origin, whole, width, learns=learns)
    script.hold(role, "weights", held)
    script.moment("load")
    if machine.is_gpu:
        script.needs_host(machine.ranks * (whole if held == whole else width * (origin.size - origin.shape.layer_numbers)))


def load_frozen(script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, width: int) -> None:
    """Load a model that does not learn, and share it out over ranks where the stage does that."""
    load(script, machine, role, origin, width=width, learns=False)


def make_learner(script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, trained: Trained, learned: int) -> None:
    """Hold what a learner does before its first step: weights in the computing type, and float32 weights."""
    learns, adapter = trained.rank is None, learned if trained.rank is not None else 0
    if machine.ranks > 1 or trained.width != WIDE:
        script.hold(role, "float32 weights", WIDE * learned / machine.ranks)
    sharers = machine.sharers(learns=learns)
    is_cast = sharers > 1 and not trained.is_packed and trained.width != WIDE
    layers = origin.shape.layer_numbers
    narrow = MemoryPart(role, "weights in another type", trained.width * (layers / sharers + origin.size - layers))
    script.moment("load", apart=[narrow] if is_cast else [])  # weights in float32 are still there
    whole = frozen_bytes(origin, trained, trained.width)
    held = device_bytes(machine, origin, whole, trained.width, learns=learns)
    script.hold(role, "weights", held + trained.width * adapter)


def start_learning(
    script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, trained: Trained, learned: int, state: str
) -> None:
    """Hold what a learner does from its first step on: its weights, gradients and moments of the type `state`."""
    make_learner(script, machine, role, origin, trained, learned)
    take_steps(script, machine, role, origin, trained, learned, state)


def take_steps(script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, trained: Trained, learned: int, state: str) -> None:
    """Hold what a learner that was made has from its first step on: gradients, and moments of the type `state`."""
    share = machine.ranks
    script.hold(role, "gradients", WIDE * learned / share)
    script.hold(role, "moments", MOMENTS[state] * learned / share)
    if machine.is_gpu:
        script.needs_host(3 * WIDE * learned)  # a checkpoint is gathered on its way to the disk
        if machine.shares_on_gpu(learns=True) and trained.rank is None:
            script.needs_host(machine.ranks * trained.width * origin.shape.layer_numbers)  # gradients of a pass


def passing_gradients(machine: Machine, role: str, trained: Trained, learned: int) -> list[MemoryPart]:
    """Return the gradients of one pass, where they are not those that add up, and what ranks exchange at once."""
    if machine.ranks == 1:
        return [] if trained.width == WIDE else [MemoryPart(role, "gradients", trained.width * learned)]
    exchanged = 2 * WIDE * min(learned, BUCKET)
    if machine.shares_on_gpu(learns=True) and trained.rank is None:  # those of layers wait in the machine's memory
        learned -= round(trained.shape.layer_numbers * (1 - 1 / trained.shape.layers))
    return [MemoryPart(role, "gradients", trained.width * learned), MemoryPart("ranks", "exchange", exchanged)]


def write(script: MemoryScript, machine: Machine, role: str, origin: ModelOrigin, trained: Trained) -> None:
    """Write a model that has learned: in float32, merged with its adapter, and read again as a check.

    The learner, with its gradients and moments, is still there.
    """
    whole, freed = WIDE * origin.size, script.freed
    if trained.rank is not None:
        held = device_bytes(machine, origin, frozen_bytes(origin, trained, WIDE), WIDE, learns=False)
        script.hold(role, "weights", held)
        if origin.heads or not machine.is_gpu:  # a policy is merged on the CPU
            script.hold("merged", "weights", whole)
    elif machine.ranks > 1:
        script.hold(role, "weights", device_bytes(machine, origin, whole, WIDE, learns=True))
    elif trained.width != WIDE:
        script.moment("write", [MemoryPart(role, "weights", whole - trained.width * origin.size)])
        script.drop(role, "weights")  # the float32 weights take their place
    if machine.is_gpu:
        script.moment("write")
        script.needs_host(whole * (2 if trained.rank is not None and not origin.heads else 1))
    else:
        # A process on a CPU keeps what was freed. Files of weights are mapped beside it, and merged layers are copies of what was mapped.
        merged = 0 if trained.rank is None else WIDE * origin.shape.linear_numbers
        stays = MemoryPart("process", "freed memory that stays", freed)
        script.moment("write", [], [stays, MemoryPart("merged", "merged layers", merged), MemoryPart(CHECK, "weights", whole)])
    script.drop("merged")


def sample(script: MemoryScript, origin: ModelOrigin, width: int, rows: int, prompt: int, completion: int) -> None:
    """Draw completions with the local sampler; its cache stays."""
    shape, rows = origin.shape, min(ROWS, rows)
    script.hold("sampler", "cache", cache_bytes(shape, rows, prompt + completion, width))
    passing = [MemoryPart("sampler", "head", rows * shape.vocabulary * (3 * WIDE + (width if width != WIDE else 0)))]
    read = PackedTrees(1, 0, 1, max(PREFILL, prompt))  # attention of a prefill does not hold its cells
    passing.append(MemoryPart("sampler", "activations", forward_bytes(Trained(shape, width), read)))
    if width * origin.size <= LARGEST_PACKED:
        packed = shape.linear_numbers + shape.vocabulary * shape.hidden_size
        passing.append(MemoryPart("sampler", "packed weights", width * packed))
    script.moment("sample", passing)


def score(script: MemoryScript, machine: Machine, role: str, trained: Trained, trees: PackedTrees, *, has_vocabulary: bool) -> None:
    """Read completions without gradients."""
    trees = replace(trees, is_fused=machine.is_gpu)
    passing = [MemoryPart(role, "activations", forward_bytes(trained, trees))]
    if has_vocabulary:
        passing.append(MemoryPart(role, "head", head_bytes(trained, learns=False)))
    script.moment("score", passing)
