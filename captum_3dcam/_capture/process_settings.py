"""Settings of PyTorch that belong to the whole process, changed while a model is explained."""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from threading import RLock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from captum_3dcam._restoration import Restoration

_lock = RLock()
if hasattr(os, "register_at_fork"):  # a forked child must not wait for another thread's lock
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class SharedSettings:
    """Of calls in several threads, the first one makes them and the last one restores them."""

    def __init__(self, make: Callable[[ExitStack], None]) -> None:
        self._make, self._undo = make, ExitStack()
        self._users: set[Restoration] = set()

    def use(self, restoration: Restoration) -> None:
        """Until the restoration's end."""
        restoration.add(lambda: self._leave(restoration))
        with _lock:
            if not self._users:
                self._make(self._undo)
            self._users.add(restoration)

    def _leave(self, user: Restoration) -> None:
        with _lock:
            self._users.discard(user)
            if not self._users:
                self._undo.close()


def _eager(undo: ExitStack) -> None:
    if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it is slow
        undo.enter_context(torch.compiler.set_stance("force_eager"))
        undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", ".*when there are global hooks on modules")
    undo.callback(
        torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
    )
    torch.backends.mha.set_fastpath_enabled(False)
    undo.callback(set_cudnn, torch.backends.cudnn.enabled)


def _unfused(undo: ExitStack) -> None:
    undo.enter_context(sdpa_kernel(SDPBackend.MATH))


eager_modules = SharedSettings(_eager)
"""Compiled code runs eagerly, fused transformer layers stay off, cuDNN's switch is restored.

Compiled code does not see hooks that came after it, and warns of global ones; the fused layers,
which PyTorch takes while gradients are off, run no modules inside; cuDNN is switched off for
recurrent networks, see :class:`ForwardRun`.
"""
unfused_attention = SharedSettings(_unfused)
"""Attention in its parts, for fused attention has no second derivative."""


def set_cudnn(enabled: bool) -> None:
    torch.backends.cudnn.enabled = enabled
