"""Run a model and leave it as it was: buffers, attributes and torch's random generators."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import is_
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

_CONTAINERS = (list, dict, set, deque, OrderedDict)
# nn.Module's own attributes are its hooks and tables, of which a forward pass changes hooks alone:
# transformers' models install some in their first, and note that in an attribute.
_MODULE_ATTRIBUTES = frozenset(nn.Module().__dict__) - {"training"}
_HOOKS = sorted(name for name in _MODULE_ATTRIBUTES if name.startswith("_forward_"))


@contextmanager
def preserved_state(
    *roots: nn.Module,
    tensors: Iterable[Tensor] = (),
    on_new_module: Callable[[nn.Module], object] | None = None,
    on_new_root: Callable[[nn.Module], object] | None = None,
) -> Iterator[Callable[[], None]]:
    """Restore on exit what the modules that run inside may have changed, also after an error.

    That is: buffers (batch normalisation in train mode updates them), the modules' own attributes
    (a recurrent state, a counter, the train flag), and the random generators of the CPU and of the
    devices that the modules and ``tensors`` lie on (dropout draws from them).

    The modules are the roots and those that run in this thread, seen by a global forward
    pre-hook; a module's state is copied before it runs for the first time, and then
    ``on_new_module`` is called with it. ``on_new_root`` is called with a module whose submodules
    have been added, before it runs.

    Yields a function that restores the same once more.
    """
    snapshot, thread = _Snapshot(on_new_module, on_new_root), get_ident()

    def before_forward(module: nn.Module, args: Any) -> None:
        if get_ident() == thread:
            snapshot.add(module)

    cache = parametrize._cache  # of parametrize.cached(): ours would have no graph
    parametrize._cache = {}
    handle = register_module_forward_pre_hook(before_forward)
    try:
        snapshot.add_generators([torch.empty(0), *tensors])
        for root in roots:
            snapshot.add(root)
        yield snapshot.restore
    finally:
        handle.remove()
        parametrize._cache = cache
        snapshot.restore()
        # The caller keeps ``restore``. With the caller's own methods in the snapshot, this would be
        # a reference cycle, which keeps tensors until the garbage collector runs.
        snapshot.drop_callbacks()


class _Snapshot:
    """What modules and random generators held when they were added."""

    def __init__(
        self,
        on_new_module: Callable[[nn.Module], object] | None,
        on_new_root: Callable[[nn.Module], object] | None,
    ) -> None:
        self._on_new_module, self._on_new_root = on_new_module, on_new_root
        self._modules: dict[int, nn.Module] = {}
        self._copied: set[int] = set()
        self._undo: list[Callable[[], None]] = []
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._first_hook = RemovableHandle.next_id
        self._generators: dict[torch.device, Tensor] = {}

    def add(self, root: nn.Module) -> None:
        """The module and all modules in it, unless they are known."""
        if id(root) in self._modules:
            self._add_state(root)
            return
        new = [module for module in root.modules() if id(module) not in self._modules]
        for module in new:
            self._modules[id(module)] = module
            self._add_state(module)
            self.add_generators(module._parameters.values())
            self.add_generators(module._buffers.values())
        if self._on_new_module is not None:
            for module in new:
                self._on_new_module(module)
        if self._on_new_root is not None:
            self._on_new_root(root)

    def add_generators(self, tensors: Iterable[Tensor | None]) -> None:
        """The random generators of the devices that the tensors lie on."""
        devices = {tensor.device for tensor in tensors if tensor is not None}
        for device in devices.difference(self._generators):
            if device.type != "meta":
                self._generators[device] = _generator_state(device)

    def drop_callbacks(self) -> None:
        self._on_new_module = self._on_new_root = None

    def restore(self) -> None:
        for undo in self._undo:
            undo()
        for module in self._modules.values():
            _remove_new_hooks(module, self._first_hook)
        with torch.no_grad():
            for tensor, values in self._tensors.values():
                # Through .data: a graph of the caller's that has saved the buffer, as batch
                # normalisation does, must not find its version changed.
                tensor.data.copy_(values)
        for device, state in self._generators.items():
            _set_generator_state(device, state)

    def _add_state(self, module: nn.Module) -> None:
        if id(module) in self._copied or _keeps_its_state(module):
            return
        self._copied.add(id(module))
        attributes = {
            name: value for name, value in module.__dict__.items() if name not in _MODULE_ATTRIBUTES
        }
        self._undo.append(lambda: _restore_attributes(module, attributes))
        if isinstance(module._buffers, dict):
            self._add_items(module._buffers)
        for buffer in module._buffers.values():  # a scripted module's table is no dict
            self._add_tensor(buffer)
        for value in attributes.values():
            if type(value) in _CONTAINERS:
                self._add_items(value)
            self._add_tensor(value)

    def _add_items(self, container: Any) -> None:
        """The container's items, and the values of those that are tensors."""
        items = container.copy()
        self._undo.append(lambda: _restore_items(container, items))
        for value in items.values() if isinstance(items, dict) else items:
            self._add_tensor(value)

    def _add_tensor(self, value: Any) -> None:
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
            return  # a forward pass does not train
        if id(value) not in self._tensors and _is_writable(value):
            self._tensors[id(value)] = (value, value.detach().clone())


def _keeps_its_state(module: nn.Module) -> bool:
    """Whether a forward pass cannot change it: PyTorch's own modules in eval mode.

    A module's hooks may change it, as those of torch.nn.utils.weight_norm, and the first run of a
    lazy module makes another module of it, which cannot be undone.
    """
    own = type(module).__module__.startswith("torch.nn.modules.")
    if own and not module.training and not module._forward_pre_hooks and not module._forward_hooks:
        return True
    return _is_lazy(module)


def _is_lazy(module: nn.Module) -> bool:
    return any(is_lazy(p) for p in module._parameters.values() if p is not None)


def _remove_new_hooks(module: nn.Module, first: int) -> None:
    """Remove the hooks that the model has installed itself, as transformers' networks do.

    They are those numbered from ``first`` on, but for this package's, which remove themselves.
    """
    for table in (module._forward_hooks, module._forward_pre_hooks):
        for number in [n for n, hook in table.items() if n >= first and not _is_own(hook)]:
            for name in _HOOKS:
                module.__dict__.get(name, {}).pop(number, None)


def _is_own(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("captum_3dcam.")


def _restore_attributes(module: nn.Module, attributes: dict[str, Any]) -> None:
    current = module.__dict__
    for name in set(current) - set(attributes) - _MODULE_ATTRIBUTES:
        del current[name]
    for name, value in attributes.items():
        if current.get(name) is not value:
            current[name] = value


def _restore_items(container: Any, items: Any) -> None:
    if isinstance(items, dict):
        same = list(container) == list(items) and all(container[k] is items[k] for k in items)
    else:
        same = len(container) == len(items) and all(map(is_, container, items))
    if not same:
        container.clear()
        (container.extend if isinstance(container, (list, deque)) else container.update)(items)


def _is_writable(tensor: Tensor) -> bool:
    """Whether an in-place operation can change it: not if sparse, without values, or expanded."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested:
        return False
    return tensor.is_contiguous() or all(
        step or size <= 1 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _generator_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    state: Tensor = torch.get_device_module(device).get_rng_state(device)
    return state


def _set_generator_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)
