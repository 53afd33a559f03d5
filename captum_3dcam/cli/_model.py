"""The user's model: its code, weights and layers."""

import importlib
import importlib.util
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from captum_3dcam._errors import ArgumentError, ModelError
from captum_3dcam.cli._errors import one_line
from captum_3dcam.models import load_checkpoint

_EXPECTED = "expected package.module:callable or path/to/file.py:callable"


def load_model(options: Namespace) -> nn.Module:
    """The model of ``--model`` in eval mode, on its device, with the checkpoint's weights."""
    module_name, _, name = options.model.rpartition(":")
    if not module_name or not name:
        raise ArgumentError(f"--model {options.model}: {_EXPECTED}.")
    factory = _attribute(_import(module_name), name, module_name)
    model = _build(factory, options.model, options.model_args)
    if options.checkpoint is not None:
        load_checkpoint(options.checkpoint, model)
    if options.device == "auto":
        options.device = best_device()
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"--device {options.device}: {one_line(error)}") from error
    return model.eval().to(options.device)


def best_device() -> str:
    """The GPU of this process, by its number on the machine; without one the CPU.

    torchrun numbers the processes of a machine in LOCAL_RANK, SLURM in SLURM_LOCALID.
    """
    if torch.cuda.is_available():
        number = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
        return f"cuda:{int(number) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _import(name: str) -> ModuleType:
    is_file = name.endswith(".py")
    if is_file and not Path(name).is_file():
        raise ArgumentError(f"--model: there is no file {name!r}.")
    try:
        return _import_file(Path(name)) if is_file else _import_module(name)
    except Exception as error:  # the user's code may raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and not is_file and f"{name}.".startswith(f"{missing}."):
            raise ArgumentError(
                f"--model: there is no module {missing!r}; {_EXPECTED}. A module in the current "
                "folder is found too, unless an installed one has its name."
            ) from error
        raise ModelError(f"--model: importing {name!r} failed: {one_line(error)}") from error


def _import_file(path: Path) -> ModuleType:
    # A prefixed name, because another module of the file's name may be imported already.
    name = f"_captum_3dcam_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "the suffix is .py"
    assert spec.loader is not None, "the suffix is .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _append_to_path(path.parent)
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        _append_to_path(Path())
    return importlib.import_module(name)


def _append_to_path(folder: Path) -> None:
    """Make a folder's modules importable, unless others have their names; main() undoes it."""
    sys.path.append(str(folder.absolute()))


def _attribute(module: ModuleType, name: str, module_name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            nearest = get_close_matches(part, dir(value), n=3, cutoff=0.5)
            hint = f" The nearest names are {', '.join(map(repr, nearest))}." if nearest else ""
            raise ArgumentError(f"--model: {module_name!r} has no {name!r}.{hint}")
        value = getattr(value, part)
    return value


def _build(factory: Any, name: str, arguments: dict[str, Any]) -> nn.Module:
    """The model that a callable returns, or the model itself."""
    if isinstance(factory, nn.Module):
        if arguments:
            raise ArgumentError(f"--model {name} is already a model: it takes no --model-args.")
        return factory
    if not callable(factory):
        raise ArgumentError(
            f"--model {name} is of type {type(factory).__name__}; expected a model, or a callable "
            "that returns one."
        )
    try:
        model = factory(**arguments)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"--model: calling {name} failed: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        returned = type(model).__name__
        raise ArgumentError(f"--model {name} returns {returned}; expected a torch.nn.Module.")
    return model


def choose_layers(model: nn.Module, names: Sequence[str] | None) -> Any:
    """The layers by their names in ``--layers``; "auto" without them.

    The model's ``LAYERS`` may be a dict from own names to dotted names or
    :class:`captum_3dcam.Layer` objects.
    """
    if names is None or list(names) == ["auto"]:
        return "auto"
    return [own_layers(model).get(name, name) for name in names]


def own_layers(model: nn.Module) -> dict[str, Any]:
    """The model's ``LAYERS`` by their names."""
    own = getattr(model, "LAYERS", {})
    return dict(own) if isinstance(own, Mapping) else {name: name for name in own}
