"""Settings of PyTorch that belong to the whole process, changed while a model is explained."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import torch

_settings, _settings_lock = ExitStack(), Lock()
_settings_count = 0


@contextmanager
def process_wide_settings() -> Iterator[None]:
    """Compiled code runs eagerly, fused transformer layers stay off, cuDNN's switch is restored.

    Compiled code does not see hooks that came after it, and warns of global ones; the fused
    layers, which PyTorch takes while gradients are off, run no modules inside; cuDNN is switched
    off for recurrent networks, see :class:`ForwardRun`. The settings are
    the whole process's: of calls in several threads the first one makes them and the last one
    restores them.
    """
    global _settings_count
    with _settings_lock:
        _settings_count += 1
        if _settings_count == 1:
            if "torch._dynamo" in sys.modules:  # else nothing is compiled, and importing it is slow
                _settings.enter_context(torch.compiler.set_stance("force_eager"))
                _settings.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", ".*when there are global hooks on modules")
            _settings.callback(
                torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
            )
            torch.backends.mha.set_fastpath_enabled(False)
            _settings.callback(set_cudnn, torch.backends.cudnn.enabled)
    try:
        yield
    finally:
        with _settings_lock:
            _settings_count -= 1
            if _settings_count == 0:
                _settings.close()


def set_cudnn(enabled: bool) -> None:
    torch.backends.cudnn.enabled = enabled
