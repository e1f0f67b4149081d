"""A pretend accelerator, so that devices are tested where there is none: a forgotten transfer fails as it does on a GPU.

Its tensors compute on the CPU, say that they are on `pretend:0`, and do not meet tensors of the CPU. It is a backend that torch lets
Python write. It cannot show speed, streams, or what kernels do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from palate.core.process import computing_on

NAME = "pretend"

_CROSSING = ("aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_")
"""Operations that take tensors of two devices. Row numbers may be on the CPU, as a GPU's may."""

_MADE_ON_CPU = ("tensor", "as_tensor", "arange", "linspace", "eye")
"""Functions of torch that make tensors in a way of their own, or give a tensor its size after it was made."""


@dataclass
class PretendMemory:
    """Bytes that the device says are free, and all that it has."""

    free: float = 1e12
    total: float = 1e12


MEMORY = PretendMemory()


class _Backend(_DummyBackendModule):  # type: ignore[misc]
    def mem_get_info(self, _device: torch.device) -> tuple[float, float]:
        return MEMORY.free, MEMORY.total

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class PretendTensor(torch.Tensor):
    """A tensor of the CPU, `content`, that says it is elsewhere."""

    content: torch.Tensor
    __slots__: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> PretendTensor:
        """Wrap a tensor of the CPU. Autograd records what happens to the wrapper."""
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device=torch.device(NAME, 0)
        )
        made.content = inner
        return made

    def __getitem__(self, at: Any) -> torch.Tensor:
        """Return the rows at these places."""
        return torch.Tensor.__getitem__(self, _places(at))

    def __setitem__(self, at: Any, value: Any) -> None:
        """Write rows."""
        torch.Tensor.__setitem__(self, _places(at), value)

    @property
    def data(self) -> torch.Tensor:
        """The same tensor, unknown to autograd."""
        return self.detach()

    @data.setter  # type: ignore[override]
    def data(self, new: PretendTensor) -> None:
        torch.Tensor.data.__set__(self, new)  # type: ignore[attr-defined]
        self.content = new.content

    def tolist(self) -> Any:
        """Return the content, as a GPU's tensors do."""
        return self.content.tolist()

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        """Return the content with its device."""
        return f"{NAME}({self.content!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Compute on the CPU."""
        return _run(func, args, kwargs or {})


def _made_on_cpu(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function, whose tensors for the device are made on the CPU and moved."""

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> torch.Tensor:
        is_ours = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == NAME
        words = {**kwargs, "device": "cpu"} if is_ours else kwargs
        result = make(*args, **words)
        return result.to(NAME) if is_ours else result

    return made


def _places(at: Any) -> Any:
    """Row numbers, lists of them as tensors."""
    each = at if isinstance(at, tuple) else (at,)
    return tuple(torch.tensor(one).to(NAME) if isinstance(one, list) else one for one in each)


def _changed(x: Any, change: Callable[[Any], Any]) -> Any:
    """What an operation of ATen takes or gives, each leaf changed. It nests lists and tuples alone; torch's own trees take much longer."""
    return type(x)([_changed(one, change) for one in x]) if type(x) in (list, tuple) else change(x)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what the operation gives on the CPU, as tensors of the device where it would give those.

    Raises:
        RuntimeError: tensors of both devices meet, as torch says it for a GPU.
    """
    name = func._schema.name + (f".{func._overloadname}" if func._overloadname == "Tensor" and "index" in func._schema.name else "")
    known: dict[int, PretendTensor] = {}  # an operation in place gives the same tensor back
    theirs = 0

    def on_cpu(x: Any) -> Any:
        nonlocal theirs
        if isinstance(x, PretendTensor):
            known[id(x.content)] = x
            return x.content
        if isinstance(x, torch.Tensor):
            theirs += x.dim() > 0
        elif isinstance(x, torch.device) and x.type == NAME:
            return torch.device("cpu")
        return x

    inner, words = _changed(args, on_cpu), {key: _changed(value, on_cpu) for key, value in kwargs.items()}
    if known and theirs and not name.startswith(_CROSSING):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! ({name})")
    result = func(*inner, **words)
    device = kwargs.get("device")
    leaves = device is not None and torch.device(device).type == "cpu"
    if leaves or name == "aten::_local_scalar_dense" or (name == "aten::copy_" and not isinstance(args[0], PretendTensor)):
        return args[0] if name == "aten::copy_" else result

    def wrapped(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return known[id(x)] if id(x) in known else PretendTensor(x)

    return _changed(result, wrapped)


@functools.cache
def register() -> torch.library.Library:
    """Register the backend with torch, once in a process: it cannot be taken back. Autograd must not have run before."""
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    torch.utils._device._device_constructors()  # torch notes its functions that make tensors once; they must be its own
    library = torch.library.Library("_", "IMPL")
    library.fallback(_fallback, "PrivateUse1")
    return library


def _fallback(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return _run(func, args, kwargs)


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Load and make models on the pretend device meanwhile."""
    register()
    with computing_on(NAME), ExitStack() as changed:
        for name in _MADE_ON_CPU:
            changed.enter_context(patch.object(torch, name, _made_on_cpu(getattr(torch, name))))
        # Inference mode cannot take views of what a backend in Python made outside it.
        changed.enter_context(patch.object(torch, "inference_mode", torch.no_grad))
        yield torch.device(NAME, 0)
