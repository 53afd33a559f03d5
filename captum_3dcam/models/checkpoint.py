"""Weights from files that were saved elsewhere: all of them fit, or none is loaded.

A checkpoint is a pickle, and unpickling can run code: here only tensors and plain containers are
unpickled (torch's ``weights_only``).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from captum_3dcam.io._files import existing_path

_WRAPPED_AS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_COUNTER = "num_batches_tracked"  # of batch norm; files older than PyTorch 0.4.1 have none
_MAX_LISTED = 5
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)

Model = TypeVar("Model", bound=nn.Module)


def load_checkpoint(
    path: str | PathLike[str], model: Model, *, skip: str | Sequence[str] = ()
) -> Model:
    """Load a file's weights into ``model``, all names and shapes alike; returns the model.

    The file holds a state dict, bare or under ``"state_dict"``, ``"model_state_dict"`` or
    ``"model"``, as torch.save wrote it in any version. The prefixes that DataParallel and
    torch.compile put before every name may be there or not, in the file and in the model; batch
    norm's ``num_batches_tracked`` may be absent. On any error the model is as it was.

    Args:
        path: of the file.
        model: on any device; neither it nor its mode changes but for the weights.
        skip: parts of the model, by dotted name, that stay as they are, and that the file may
            lack or have in another shape: ``("fc",)`` for another number of classes.

    Raises:
        FileNotFoundError: without the file.
        ValueError: for a file that is damaged, holds no weights or asks for code to be run; for
            names and shapes that differ, NaN and Inf; for a ``skip`` that the model has not.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     trained = nn.DataParallel(nn.Sequential(nn.Linear(2, 3)))
    ...     torch.save({"epoch": 9, "state_dict": trained.state_dict()}, f"{folder}/model.pt")
    ...     model = load_checkpoint(f"{folder}/model.pt", nn.Sequential(nn.Linear(2, 3)))
    >>> torch.equal(model[0].weight, trained.module[0].weight)
    True
    """
    own = model.state_dict()
    wrapper = _wrapper_of(own)
    expected = {name.removeprefix(wrapper): tensor for name, tensor in own.items()}
    skip = [name.removeprefix(wrapper) for name in ([skip] if isinstance(skip, str) else skip)]
    _check_skip(skip, expected)
    expected = _without(skip, expected)
    found = _without(skip, _read_weights(path))
    _check_fit(path, found, expected, type(model).__name__)
    own.update({wrapper + name: tensor for name, tensor in found.items()})
    model.load_state_dict(own)
    return model


def _wrapper_of(names: Collection[str]) -> str:
    """The wrappers' prefix that all names have, at its longest.

    >>> _wrapper_of(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"])
    'module._orig_mod.'
    """
    first, *rest = names or [""]
    prefix = ""
    while more := next((w for w in _WRAPPERS if first.startswith(prefix + w)), None):
        if not all(name.startswith(prefix + more) for name in rest):
            break
        prefix += more
    return prefix


def _without(skip: Sequence[str], state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name] for name in state if not any(_is_in(name, part) for part in skip)}


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


# ------------------------------------------------------------------------------------- reading


def _read_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file by name, without the wrappers' prefix."""
    shown = repr(str(path))
    with existing_path(path, "checkpoint file").open("rb") as file:
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise anything
            raise ValueError(f"{shown} cannot be read as a checkpoint: {_why(error)}") from error
    state = _unwrapped(loaded)
    if not isinstance(state, Mapping) or not state:
        raise ValueError(
            f"{shown} holds no weights: expected a state dict, bare or under one of "
            f"{', '.join(map(repr, _WRAPPED_AS))}; got {_described(state)}."
        )
    for name, tensor in state.items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise ValueError(
                f"{shown} holds no state dict, tensors by name: under {name!r} there is "
                f"{_described(tensor)}."
            )
    prefix = _wrapper_of(state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _why(error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"it asks for {refused[1]}, and whatever is not a tensor or a plain container could "
            "run code. If you trust the file, allow it by torch.serialization.safe_globals, or "
            "save the model's state_dict() alone."
        )
    summary = str(error).partition("\n")[0]
    return f"it is damaged, cut off, or of another kind ({type(error).__name__}: {summary})."


def _unwrapped(loaded: Any) -> Any:
    if isinstance(loaded, Mapping):
        for key in _WRAPPED_AS:
            if isinstance(loaded.get(key), Mapping):
                return loaded[key]
    return loaded


def _is_plain(tensor: Any) -> bool:
    """Whether it is a dense tensor of ordinary real numbers, here in memory."""
    return (
        isinstance(tensor, Tensor)
        and not tensor.is_nested
        and (tensor.layout, tensor.device.type) == (torch.strided, "cpu")
        and tensor.dtype in _FLOATS + _INTEGERS
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor) and not _is_plain(value):
        return f"a tensor of {value.dtype} that is not plain numbers in memory"
    if isinstance(value, Mapping) and not value:
        return "an empty dict"
    return f"an object of type {type(value).__name__}"


# ------------------------------------------------------------------------------------- checks


def _check_skip(skip: Sequence[str], expected: Mapping[str, Tensor]) -> None:
    for part in skip:
        if not any(_is_in(name, part) for name in expected):
            parts = dict.fromkeys(name.partition(".")[0] for name in expected)
            raise ValueError(
                f"skip: the model has no weights under {part!r}. It has {_listed(list(parts))}."
            )


def _check_fit(
    path: str | PathLike[str],
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    model: str,
) -> None:
    missing = [name for name in expected if name not in found and not name.endswith(_COUNTER)]
    unexpected = [name for name in found if name not in expected]
    common = {name: (expected[name], found[name]) for name in found if name in expected}
    differing = [
        f"{name} (expected {tuple(ours.shape)}, found {tuple(theirs.shape)})"
        for name, (ours, theirs) in common.items()
        if ours.shape != theirs.shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": differing}
    if any(faults.values()):
        lines = [f"{len(some)} {fault}: {_listed(some)}." for fault, some in faults.items() if some]
        raise ValueError(
            f"{str(path)!r} does not fit this {model}. "
            + " ".join(lines)
            + " Parts of the model can be left as they are by name, e.g. skip=('fc',)."
        )
    for name, (ours, theirs) in common.items():
        # As the model will hold them: half precision has a smaller range.
        if not theirs.to(ours.dtype).isfinite().all():
            raise ValueError(f"{str(path)!r} has NaN or Inf in {name!r}; nothing was loaded.")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f", and {more} more" if more > 0 else "")
