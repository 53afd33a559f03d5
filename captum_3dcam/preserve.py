"""Run a model and leave it as it was: its buffers and torch's random generators."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import getclosurevars, ismethod
from types import FunctionType
from typing import Any

import torch
from torch import nn


def modules_behind(forward_func: Any) -> list[nn.Module]:
    """The modules that a callable runs: itself, or what its object, closure and globals hold."""
    found: list[nn.Module] = []
    seen: set[int] = set()
    queue = [forward_func]
    while queue:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.append(value)
        else:
            queue.extend(_held_by(value))
    return found


def all_modules(roots: Iterable[nn.Module]) -> list[nn.Module]:
    """The roots and all that is in them, each once."""
    found: dict[nn.Module, None] = {}
    for root in roots:
        if root not in found:  # a layer is mostly part of the model, and walking it takes time
            found.update(dict.fromkeys(root.modules()))
    return list(found)


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, partial):
        return (value.func, *value.args, *value.keywords.values())
    if ismethod(value):
        return (value.__self__, value.__func__)
    if isinstance(value, FunctionType):
        variables = getclosurevars(value)
        # A library's functions are not followed: the way through their globals has no end.
        own = (v for v in variables.globals.values() if _is_local(v, value.__module__))
        return (*variables.nonlocals.values(), *own)
    # Any other object: the modules that it holds itself.
    return [v for v in getattr(value, "__dict__", {}).values() if isinstance(v, nn.Module)]


def _is_local(value: Any, module_name: str) -> bool:
    if isinstance(value, (nn.Module, partial)) or ismethod(value):
        return True
    return isinstance(value, FunctionType) and value.__module__ == module_name


@contextmanager
def unchanged(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back, on any exit, what a forward pass of these modules may change.

    Batch normalisation in train mode updates its buffers and dropout draws random numbers;
    an explanation must do neither to the model that is being explained.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for device_type, indices in _accelerators(modules).items():
            stack.enter_context(torch.random.fork_rng(indices, device_type=device_type))
        stack.enter_context(_buffers_kept(modules))
        yield


def _accelerators(modules: Iterable[nn.Module]) -> dict[str, list[int]]:
    """The devices beside the CPU that the modules' tensors lie on, by type."""
    devices = {
        tensor.device
        for module in modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None and tensor.device.type not in ("cpu", "meta")
    }
    by_type: dict[str, list[int]] = {}
    for device in devices:
        by_type.setdefault(device.type, []).append(device.index or 0)
    return by_type


@contextmanager
def _buffers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    kept = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
    ]
    try:
        yield
    finally:
        for module, name, buffer, before in kept:
            module._buffers[name] = buffer  # a forward may have put another tensor there
            if buffer is not None and before is not None and not torch.equal(buffer, before):
                # Through .data: a graph of the caller's that has saved the buffer, as batch
                # norm does, has seen these values and must not find its version changed.
                buffer.data.copy_(before)
