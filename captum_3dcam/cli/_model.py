"""The user's model: its code, weights, layers and preprocessing."""

import importlib
import importlib.util
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam import attribution
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.cli._errors import FailedError, UsageError, one_line, usage_errors
from captum_3dcam.cli._parser import METHODS, WITHOUT_FUSION
from captum_3dcam.models import PRESETS, Preprocessing, VolumePreprocessing, load_checkpoint

_EXPECTED = "expected package.module:callable or path/to/file.py:callable"


def load_model(options: Namespace) -> nn.Module:
    """The model of ``--model`` in eval mode, on its device, with the checkpoint's weights."""
    module_name, _, name = options.model.rpartition(":")
    if not module_name or not name:
        raise UsageError(f"--model {options.model}: {_EXPECTED}.")
    factory = _attribute(_import(module_name), name, module_name)
    model = _build(factory, options.model, options.model_args)
    if options.checkpoint is not None:
        load_checkpoint(options.checkpoint, model)
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {options.device}: {one_line(error)}") from error
    return model.eval().to(options.device)


def _import(name: str) -> ModuleType:
    is_file = name.endswith(".py")
    if is_file and not Path(name).is_file():
        raise UsageError(f"--model: there is no file {name!r}.")
    try:
        return _import_file(Path(name)) if is_file else _import_module(name)
    except Exception as error:  # the user's code may raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and not is_file and f"{name}.".startswith(f"{missing}."):
            raise UsageError(
                f"--model: there is no module {missing!r}; {_EXPECTED}. A module in the current "
                "folder is found too, unless an installed one has its name."
            ) from error
        raise FailedError(f"--model: importing {name!r} failed: {one_line(error)}") from error


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
            raise UsageError(f"--model: {module_name!r} has no {name!r}.{hint}")
        value = getattr(value, part)
    return value


def _build(factory: Any, name: str, arguments: dict[str, Any]) -> nn.Module:
    """The model that a callable returns, or the model itself."""
    if isinstance(factory, nn.Module):
        if arguments:
            raise UsageError(f"--model {name} is already a model: it takes no --model-args.")
        return factory
    if not callable(factory):
        raise UsageError(
            f"--model {name} is of type {type(factory).__name__}; expected a model, or a callable "
            "that returns one."
        )
    try:
        model = factory(**arguments)
    except Exception as error:  # the user's code may raise anything
        raise FailedError(f"--model: calling {name} failed: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        returned = type(model).__name__
        raise UsageError(f"--model {name} returns {returned}; expected a torch.nn.Module.")
    return model


def make_preprocessing(model: nn.Module, options: Namespace) -> Callable[[Tensor], Tensor]:
    """From RGB frames, (3, H, W) or (3, T, H, W), to the model's input without the batch axis.

    It is that of ``--preprocessing``, or else the model's own ``PREPROCESSING``, in which the
    other options replace a value each.
    """
    name = options.preprocessing
    if name is not None and name not in PRESETS:
        raise UsageError(
            f"--preprocessing {name} is for volumes: pass one of {', '.join(PRESETS)}."
        )
    own: Any = PRESETS[name] if name else getattr(model, "PREPROCESSING", Preprocessing())
    given = _preprocessing_options(options)
    if not callable(own) or (given and not isinstance(own, Preprocessing)):
        raise UsageError(
            f"The model's PREPROCESSING is of type {type(own).__name__}, which "
            + (f"{', '.join(given)} cannot change." if callable(own) else "is not callable.")
        )
    if not isinstance(own, Preprocessing):
        return own  # type: ignore[no-any-return]
    fields = {name.removeprefix("--"): value for name, value in given.items()}
    if "size" in fields:
        fields.setdefault("crop", None)  # the size is that of the model's input
    is_models_own = name is None and hasattr(model, "PREPROCESSING")
    if not is_models_own and input_channels(model) == 1:
        fields.setdefault("channels", 1)
    chosen = {"mean": own.mean, "std": own.std, "channels": own.channels, **fields}
    for value in ("mean", "std"):
        if chosen["channels"] == 1 and isinstance(chosen[value], tuple):
            raise UsageError(
                f"The {value} is that of R, G and B, {chosen[value]}, and the network takes one "
                "channel, grey. Pass the --mean and --std of its training, one number each."
            )
    with usage_errors():
        return replace(own, **fields)


def name_preprocessing(preprocess: Any) -> str:
    """The values of a preprocessing, or the name of a function, for the report."""
    if isinstance(preprocess, (Preprocessing, VolumePreprocessing)):
        return repr(preprocess)
    return str(getattr(preprocess, "__qualname__", type(preprocess).__name__))


def _preprocessing_options(options: Namespace) -> dict[str, Any]:
    """The values of the options that were given, by option."""
    given: dict[str, Any] = {}
    for name in ("size", "crop"):
        sides = getattr(options, name)
        if sides is not None and len(sides) > 2:
            raise UsageError(f"--{name} {' '.join(map(str, sides))}: expected H W for frames.")
        given[f"--{name}"] = sides and (sides[0] if len(sides) == 1 else tuple(sides))
    for name in ("mean", "std"):
        values = getattr(options, name)
        given[f"--{name}"] = values and (values[0] if len(values) == 1 else tuple(values))
    given["--channels"] = options.channels
    return {name: value for name, value in given.items() if value is not None}


def input_channels(model: nn.Module) -> int | None:
    """The channels that the model's first convolution takes; None without one."""
    convolutions = (nn.Conv2d, nn.Conv3d)
    first = next((m for m in model.modules() if isinstance(m, convolutions)), None)
    return first.in_channels if first is not None else None


def choose_layers(model: nn.Module, names: Sequence[str] | None) -> dict[str, Any]:
    """The layers by their names in ``--layers``; by default all of the model's ``LAYERS``.

    ``LAYERS`` may be a dict from own names to dotted names or :class:`captum_3dcam.Layer` objects.
    A model without them has the layers of :func:`captum_3dcam.suggest_layers`, as with the name
    "auto".
    """
    own = getattr(model, "LAYERS", {})
    known = dict(own) if isinstance(own, Mapping) else {name: name for name in own}
    if names == ["auto"] or (names is None and not known):
        return {"auto": "auto"}
    return {name: known.get(name, name) for name in (known if names is None else names)}


def make_cam(
    model: nn.Module, layers: Mapping[str, Any], method: str, fusion: str | None
) -> LayerwiseCAM:
    """The attribution of a method over layers."""
    if fusion is not None and method == WITHOUT_FUSION:
        raise UsageError(f"--method {method} has its own fusion of the layers: omit --fusion.")
    cam_class = getattr(attribution, METHODS[method])
    arguments = {} if fusion is None else {"fusion": fusion}
    with usage_errors("--layers: ", TypeError):
        chosen = "auto" if list(layers) == ["auto"] else list(layers.values())
        cam: LayerwiseCAM = cam_class(model, chosen, **arguments)
        return cam
