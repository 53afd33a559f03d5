"""Run a model and leave it as it was: its buffers and torch's random generators."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from inspect import ismethod
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn


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
        return (*_closure_of(value), *_globals_of(value))
    # Any other object: the modules that it holds itself, or in its lists and dicts.
    return [m for held in getattr(value, "__dict__", {}).values() for m in _modules_in(held)]


def _closure_of(function: FunctionType) -> Iterable[Any]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a name that has no value yet
            yield from _modules_in(cell.cell_contents) or (cell.cell_contents,)


def _globals_of(function: FunctionType) -> Iterable[Any]:
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        # A library's functions are not followed: the way through their globals has no end.
        own = isinstance(value, FunctionType) and value.__module__ == function.__module__
        if own or isinstance(value, partial) or ismethod(value):
            yield value
        yield from _modules_in(value)


def _modules_in(value: Any) -> list[nn.Module]:
    """The value, if it is a module, or the modules in it, if it is a plain container."""
    values = value.values() if isinstance(value, dict) else value
    held = values if isinstance(value, (dict, list, tuple, set)) else (value,)
    return [module for module in held if isinstance(module, nn.Module)]


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
    named = [
        (module, name, buffer) for module in modules for name, buffer in module._buffers.items()
    ]
    copies = [_Copy(alike) for alike in _alike(buffer for _, _, buffer in named)]
    try:
        yield
    finally:
        for module, name, buffer in named:
            module._buffers[name] = buffer  # a forward may have put another tensor there
        for copy in copies:
            copy.put_back()


class _Copy:
    """The values of tensors of one kind in one: a network has hundreds of small buffers."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.values = self._joined()

    @torch.no_grad()
    def _joined(self) -> Tensor:
        return torch.cat([t if t.ndim == 1 else t.reshape(-1) for t in self.tensors])

    def put_back(self) -> None:
        if torch.equal(self.values, self._joined()):
            return
        sizes = [tensor.numel() for tensor in self.tensors]
        for tensor, before in zip(self.tensors, self.values.split(sizes), strict=True):
            # Through .data: a graph of the caller's that has saved the buffer, as batch norm
            # does, has seen these values and must not find its version changed.
            tensor.data.copy_(before.view(tensor.shape))


def _alike(buffers: Iterable[Tensor | None]) -> Iterable[list[Tensor]]:
    """Those that an in-place operation can change, each once, by kind.

    It cannot change what is sparse, without values, or expanded.
    """
    groups: dict[Any, dict[int, Tensor]] = {}
    for buffer in buffers:
        if buffer is None or buffer.layout != torch.strided or buffer.is_meta or buffer.is_nested:
            continue
        if buffer.is_contiguous() or all(
            step or size <= 1 for size, step in zip(buffer.shape, buffer.stride(), strict=True)
        ):
            kind = (type(buffer), buffer.dtype, buffer.device)
            groups.setdefault(kind, {})[id(buffer)] = buffer
    return [list(group.values()) for group in groups.values()]
