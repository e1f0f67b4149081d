"""`palate plan`: the memory of a pipeline's stages before anything runs, and the time of an online step on a number of GPUs."""

from __future__ import annotations

import argparse
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser
from palate.core import ConfigError
from palate.core.process import AUTO
from palate.pipeline.table import Stages

GPU_KIND, GPU_COUNT = "h100", 8
"""The GPUs that are assumed for `--model`."""

TOKENS = 1024
"""Tokens of the longest prompt and completion that are assumed where no setting says it."""


def plan_parser() -> Parser:
    """What `palate plan` takes."""
    parser = Parser("plan", COMMANDS["plan"])
    parser.add_argument("file", nargs="?", type=Path, help="the pipeline's YAML file; data need not be there")
    words = "model=7B, model=PATH, or stage.field=value; a model may be a published size, and only its config.json is read"
    parser.add_argument("assignments", nargs="*", metavar="name=value", help=words)
    device = "device to plan for, there or not (default: that of the file; auto is a GPU where --gpu or --memory is given or one is there)"
    parser.add_argument("--device", help=device)
    parser.add_argument("--memory", metavar="AMOUNT", help="memory of a device, such as 24GB (default: that of --gpu, or of this machine)")
    parser.add_argument("--gpu", metavar="NAME", help="kind of GPU, such as h100 or rtx4090, in place of --memory")
    parser.add_argument("--model", metavar="MODEL", help="without a file: online training of this model, a path or a size such as 8B")
    parser.add_argument("--gpus", type=int, metavar="N", help="with --model: number of GPUs (default: 8, of kind h100)")
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="processes that share a stage, one per device (default: 1)")
    tokens = f"tokens of the longest prompt and completion together, where no setting limits them (default: {TOKENS})"
    parser.add_argument("--tokens", type=int, default=TOKENS, metavar="N", help=tokens)
    return parser


def plan(words: list[str], stages: Stages) -> int:
    """`palate plan`; returns the exit status, which is 1 where a stage does not fit."""
    options = plan_parser().parse(words)
    for name in ("ranks", "tokens", "gpus"):
        if (vars(options)[name] or 1) < 1 or vars(options)[name] == 0:
            raise ConfigError(f"--{name} is {vars(options)[name]}; give 1 or more.")
    if options.model is not None:
        return _plan_model(options)
    if options.file is None or options.gpus is not None:
        raise ConfigError(
            "palate plan: name a pipeline file, or a model with --model and --gpus. `palate plan --help` lists what it takes."
        )
    if options.gpu is not None and options.memory is not None:
        raise ConfigError("palate plan: --gpu and --memory both say how much memory a device has. Give one of them.")
    from palate.cli.plan_page import show_memory
    from palate.pipeline.estimates.gpus import bytes_of, find_gpu
    from palate.pipeline.estimates.pipeline_memory import plan_memory
    from palate.pipeline.estimates.role_memory import Machine
    from palate.pipeline.plan import read_pipeline

    given = bytes_of(options.memory) if options.memory is not None else find_gpu(options.gpu).memory if options.gpu is not None else None
    pipeline = read_pipeline(options.file, options.assignments)
    device = options.device or pipeline.device
    is_gpu = device != "cpu" if device != AUTO else given is not None or _has_gpu()
    memory = _memory_here(is_gpu=is_gpu) if given is None else given
    machine = Machine(is_gpu, options.ranks, options.tokens, memory)
    planned, notes = plan_memory(pipeline, stages, machine, memory)
    return show_memory(planned, machine, memory, notes)


def _plan_model(options: argparse.Namespace) -> int:
    """`palate plan --model`."""
    if options.file is not None:
        raise ConfigError(f"palate plan: --model plans without a file, so {options.file} would have no effect. Leave one of them out.")
    from palate.cli.cluster_page import show_cluster
    from palate.config.artifacts import model_at
    from palate.models.shapes import find_shape
    from palate.pipeline.estimates.cluster_plan import OnlineRequest
    from palate.pipeline.estimates.gpus import bytes_of, find_gpu

    gpu = find_gpu(options.gpu or GPU_KIND)
    memory = gpu.memory if options.memory is None else bytes_of(options.memory)
    shape = find_shape(model_at(options.model))
    request = OnlineRequest(shape, options.gpus or GPU_COUNT, gpu, memory, tokens=max(options.tokens, 4))
    return show_cluster(request, options.gpu or GPU_KIND)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _memory_here(*, is_gpu: bool) -> float | None:
    """Return the memory of this machine's device, in bytes; None for a GPU that is not here."""
    import torch

    from palate.models.devices import memory_of_device

    if is_gpu and not torch.cuda.is_available():
        return None
    return memory_of_device(torch.device("cuda", 0) if is_gpu else torch.device("cpu")).total
