"""Run a model and leave it as it was: buffers, attributes and torch's random generators."""

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import is_
from threading import _DummyThread, active_count, get_ident
from threading import enumerate as enumerate_threads
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.overrides import _push_mode as push_function_mode
from torch.utils.hooks import RemovableHandle

from captum_3dcam._restoration import Restoration

Copies = dict[int, Tensor]
"""By identity of a tensor, its values before."""

_CONTAINERS = (list, dict, set, deque, OrderedDict)
# nn.Module's own attributes are its hooks and tables, of which a forward pass changes hooks alone:
# transformers' models install some in their first, and note that in an attribute.
_MODULE_ATTRIBUTES = frozenset(nn.Module().__dict__) - {"training"}
# PyTorch's functions that draw. Those that may, as dropout, have an argument "training".
_DRAWS = re.compile(
    "(rand|randn|randint)(_like)?|randperm|multinomial|poisson|gumbel_softmax"
    "|(bernoulli|normal|uniform|random|exponential|geometric|cauchy|log_normal)_?"
)
_HOOKS = sorted(name for name in _MODULE_ATTRIBUTES if name.startswith("_forward_"))


@contextmanager
def preserved_state(*roots: nn.Module, tensors: Iterable[Tensor] = ()) -> Iterator[None]:
    """:class:`ModelState` of what runs inside. Let Ctrl-C through with ``interruptible()``."""
    with Restoration() as restoration:
        ModelState(tensors).preserve(restoration, *roots)
        yield


def preserve_generators(restoration: Restoration, tensors: Iterable[Tensor]) -> None:
    """Restore the random generators of the CPU and the tensors' devices at the end, in any case."""
    generators = _Generators()
    restoration.add(generators.restore)
    generators.add([torch.empty(0), *tensors])


class ModelState:
    """What the modules that run may change, as it was before they ran for the first time.

    That is: buffers (batch normalisation in train mode updates them), the modules' own attributes
    (a recurrent state, a counter, the train flag), and the random generators of the CPU and of the
    devices that the modules and ``tensors`` lie on (dropout draws from them).

    ``on_new_module`` is called with each module before it runs for the first time, and
    ``on_new_root`` with one whose submodules have been added.
    """

    def __init__(
        self,
        tensors: Iterable[Tensor] = (),
        on_new_module: Callable[[nn.Module], object] | None = None,
        on_new_root: Callable[[nn.Module], object] | None = None,
    ) -> None:
        self._on_new_module, self._on_new_root = on_new_module, on_new_root
        self._modules: dict[int, nn.Module] = {}
        self._states: dict[int, _ModuleState] = {}
        self._copies: Copies = {}
        self._first_hook = RemovableHandle.next_id
        self._generators = _Generators()
        self._generators.add([torch.empty(0), *tensors])
        self._in_training = self._has_run = False
        self._draws = _Draws()
        self._thread = get_ident()
        self._other_threads = _python_threads() - {self._thread}
        self._in_other_threads: WeakSet[nn.Module] = WeakSet()

    def preserve(self, restoration: Restoration, *roots: nn.Module) -> None:
        """Restore at the end what the roots and the modules that run until then have changed.

        Modules are seen by a global forward pre-hook. What other threads do meanwhile is left to
        them: the state of modules that run there too, and, if no module was in train mode and the
        model did not draw otherwise, the random generators.
        """
        self._has_run = False
        if active_count() > 1:  # else whoever draws, it is the model
            push_function_mode(self._draws)
        # The caller may keep this object. With the caller's own methods in it, it would be in a
        # reference cycle, which keeps tensors until the collector runs.
        restoration.add(self._drop_callbacks)
        restoration.add(self._restore)
        if parametrize._cache_enabled:  # that of parametrize.cached(): ours would have no graph
            restoration.add(partial(setattr, parametrize, "_cache", parametrize._cache))
            parametrize._cache = {}
        restoration.add(register_module_forward_pre_hook(self._before_forward).remove)
        for root in roots:
            self._add(root)

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        if get_ident() == self._thread:
            if id(module) in self._modules:
                self._has_run = True
                self._add_state(module)
            else:
                with Restoration():  # what a callback changes it notes for later: both, or neither
                    self._add(module)
        elif get_ident() in self._other_threads:
            self._in_other_threads.add(module)
        else:  # a thread that the model has started, or autograd's, which recomputes checkpoints
            self._has_run = True

    def _add(self, root: nn.Module) -> None:
        """The module and all modules in it, unless they are known. Ctrl-C must be held."""
        self._has_run = True
        if id(root) in self._modules:
            self._add_state(root)
            return
        new = [module for module in root.modules() if id(module) not in self._modules]
        for module in new:
            self._modules[id(module)] = module
            self._add_state(module)
        tables = (table for each in new for table in (each._parameters, each._buffers))
        self._generators.add(tensor for table in tables for tensor in table.values())
        if self._on_new_module is not None:
            for module in new:
                self._on_new_module(module)
        if self._on_new_root is not None:
            self._on_new_root(root)

    def _drop_callbacks(self) -> None:
        self._on_new_module = self._on_new_root = None

    def _restore(self) -> None:
        if self._has_run:
            for state in self._states.values():
                if state.module not in self._in_other_threads:
                    state.restore()
            for module in self._modules.values():
                _remove_new_hooks(module, self._first_hook)
        if self._in_training or self._draws.seen or active_count() == 1:
            self._generators.restore()

    def _add_state(self, module: nn.Module) -> None:
        self._in_training |= module.training
        if id(module) not in self._states and not _keeps_its_state(module):
            self._states[id(module)] = _ModuleState(module, self._copies)


def _python_threads() -> set[int | None]:
    """All but the dummies, such as autograd's, which run the model again in a GPU's backward."""
    return {each.ident for each in enumerate_threads() if not isinstance(each, _DummyThread)}


class _ModuleState:
    """A module's attributes, buffers and the items of its containers."""

    def __init__(self, module: nn.Module, copies: Copies) -> None:
        self.module, self._copies = module, copies
        self._attributes = {
            name: value for name, value in module.__dict__.items() if name not in _MODULE_ATTRIBUTES
        }
        values = list(self._attributes.values())
        self._containers = [(value, value.copy()) for value in values if type(value) in _CONTAINERS]
        if isinstance(module._buffers, dict):  # a scripted module's table is none
            self._containers.append((module._buffers, module._buffers.copy()))
        for _, items in self._containers:
            values += items.values() if isinstance(items, dict) else items
        self._tensors = [v for v in (*values, *module._buffers.values()) if _may_change(v)]
        for tensor in self._tensors:
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.detach().clone()

    def restore(self) -> None:
        _restore_attributes(self.module, self._attributes)
        for container, items in self._containers:
            _restore_items(container, items)
        for tensor in self._tensors:
            # Through .data: a graph of the caller's that has saved the buffer, as batch
            # normalisation does, must not find its version changed.
            tensor.data.copy_(self._copies[id(tensor)])


def _may_change(value: Any) -> bool:
    """Whether it is a tensor that a forward pass may write to; it does not train parameters."""
    is_tensor = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    return is_tensor and _is_writable(value)


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
    for table in filter(None, (module._forward_hooks, module._forward_pre_hooks)):
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


class _Draws(TorchFunctionMode):
    """Sees whether this thread draws random numbers."""

    seen = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        self.seen |= bool(_DRAWS.fullmatch(name) or kwargs.get("training"))
        return func(*args, **kwargs)


class _Generators:
    """The states of torch's random generators, by device."""

    def __init__(self) -> None:
        self._states: dict[torch.device, Tensor] = {}

    def add(self, tensors: Iterable[Tensor | None]) -> None:
        """Those of the devices that the tensors lie on."""
        devices = {tensor.device for tensor in tensors if tensor is not None}
        for device in devices.difference(self._states):
            if device.type != "meta":
                self._states[device] = _generator_state(device)

    def restore(self) -> None:
        for device, state in self._states.items():
            _set_generator_state(device, state)


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
