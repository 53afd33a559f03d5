"""The user's model: its code imported as asked, its weights loaded, its preprocessing found."""

import importlib
import importlib.util
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam import attribution
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.cli._errors import FailedError, WrongUseError, in_a_line
from captum_3dcam.cli._parser import METHODS, WITHOUT_FUSION
from captum_3dcam.models import Preprocessing, load_checkpoint

Prepare = Callable[[Tensor], Tensor]

_EXPECTED = "expected package.module:callable or path/to/file.py:callable"


def load_model(options: Namespace) -> nn.Module:
    """The model in eval mode, on its device, with its checkpoint's weights."""
    where, colon, name = options.model.rpartition(":")
    if not colon or not where or not name:
        raise WrongUseError(f"--model {options.model}: {_EXPECTED}.")
    made = _call(_find(_module(where), name, where), options)
    if not isinstance(made, nn.Module):
        raise WrongUseError(
            f"--model {options.model} gives {type(made).__name__}; expected a torch.nn.Module."
        )
    if options.checkpoint is not None:
        load_checkpoint(options.checkpoint, made)
    return made.eval().to(_device(options.device))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise WrongUseError(f"--device {name}: {in_a_line(error)}") from error
    return device


def _module(where: str) -> ModuleType:
    if where.endswith(".py"):
        return _from_file(Path(where))
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{where}.".startswith(f"{error.name}."):
            raise WrongUseError(
                f"--model: there is no module {error.name!r}; {_EXPECTED}. Modules of the current "
                "folder are found too."
            ) from error
        raise FailedError(f"--model: importing {where!r} failed: {in_a_line(error)}") from error
    except Exception as error:  # the user's code may raise anything
        raise FailedError(f"--model: importing {where!r} failed: {in_a_line(error)}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise WrongUseError(f"--model: there is no file {str(path)!r}.")
    # A name of its own: the file may be called as a module that is imported already.
    name = f"_captum_3dcam_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "its suffix is that of Python's source"
    assert spec.loader is not None, "its suffix is that of Python's source"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.absolute()))  # its neighbours; main() puts it back
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise FailedError(f"--model: importing {str(path)!r} failed: {in_a_line(error)}") from error
    return module


def _find(module: ModuleType, name: str, where: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=3, cutoff=0.5)
            hint = f" The nearest names are {', '.join(map(repr, near))}." if near else ""
            raise WrongUseError(f"--model: {where!r} has no {name!r}.{hint}")
        found = getattr(found, part)
    return found


def _call(found: Any, options: Namespace) -> Any:
    if isinstance(found, nn.Module):
        if options.model_args:
            raise WrongUseError(
                f"--model {options.model} is a model already: it takes no --model-args."
            )
        return found
    if not callable(found):
        raise WrongUseError(
            f"--model {options.model} is of type {type(found).__name__}; expected a callable that "
            "returns a model, or a model."
        )
    try:
        return found(**options.model_args)
    except Exception as error:  # the user's code may raise anything
        raise FailedError(f"--model: calling {options.model} failed: {in_a_line(error)}") from error


# ------------------------------------------------------------------------------ preprocessing


def preparation(module: nn.Module, options: Namespace) -> Prepare:
    """From RGB frames, (3, H, W) or (3, T, H, W), to the model's input of one sample.

    The model's own ``PREPROCESSING``, in which ``--size``, ``--scale`` and ``--mean`` replace
    what they name.
    """
    own = getattr(module, "PREPROCESSING", Preprocessing(1.0, (0.0, 0.0, 0.0)))
    size = None if options.size is None else tuple(options.size)
    given = {"size": size, "scale": options.scale, "mean": options.mean and tuple(options.mean)}
    given = {name: value for name, value in given.items() if value is not None}
    if not callable(own) or (given and not isinstance(own, Preprocessing)):
        raise WrongUseError(
            f"The model's PREPROCESSING is of type {type(own).__name__}, which "
            + ("--size, --scale and --mean cannot change." if callable(own) else "is no callable.")
        )
    if size is not None and len(size) != 2:
        raise WrongUseError(f"--size {' '.join(map(str, size))}: frames have two sides, H W.")
    try:
        return replace(own, **given) if isinstance(own, Preprocessing) else own
    except ValueError as error:
        raise WrongUseError(str(error)) from error


# ------------------------------------------------------------------------------------- layers


def named_layers(module: nn.Module, given: list[str] | None) -> dict[str, Any]:
    """The layers by the names that the user gave them, all of the model's ``LAYERS`` by default.

    ``LAYERS`` may give names of its own to layers: dotted names, or :class:`captum_3dcam.Layer`.
    """
    own = getattr(module, "LAYERS", {})
    known = dict(own) if isinstance(own, Mapping) else {name: name for name in own}
    if given is None and not known:
        raise WrongUseError(
            "The model has no LAYERS: give --layers. 'captum-3dcam layers --model ... "
            "--input-size ...' lists those worth choosing."
        )
    return {name: known.get(name, name) for name in (known if given is None else given)}


def make_cam(
    module: nn.Module, layers: Mapping[str, Any], method: str, fusion: str | None
) -> LayerwiseCAM:
    """The attribution of a method over layers."""
    if fusion is not None and method == WITHOUT_FUSION:
        raise WrongUseError(
            f"--method {method} joins the layers in its own way: it takes no --fusion."
        )
    make = getattr(attribution, METHODS[method])
    try:
        cam: LayerwiseCAM = make(
            module, list(layers.values()), **({} if fusion is None else {"fusion": fusion})
        )
    except (TypeError, ValueError) as error:
        raise WrongUseError(f"--layers: {error}") from error
    return cam
