"""Load weights from checkpoint files.

A checkpoint is a pickle, and unpickling can run code. Only tensors and plain containers are
unpickled here (``weights_only`` of torch.load).
"""

import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from captum_3dcam._files import existing_path

_KEYS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # the prefixes of DataParallel and torch.compile
_COUNTER = "num_batches_tracked"  # of batch normalisation; absent in files before PyTorch 0.4.1
_MAX_LISTED = 5
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)

Model = TypeVar("Model", bound=nn.Module)
State = dict[str, Tensor]


def load_checkpoint(
    path: str | PathLike[str], model: Model, *, skip: str | Sequence[str] = ()
) -> Model:
    """Load the weights of a file into ``model`` and return it.

    The file holds a state dict, bare or under ``"state_dict"``, ``"model_state_dict"`` or
    ``"model"``. All names and shapes must match, except that the prefixes of DataParallel and
    torch.compile are ignored and ``num_batches_tracked`` may be missing. On any error the model
    is unchanged.

    Args:
        path: the file, written by torch.save of any version.
        model: the model, on any device. Its mode does not change.
        skip: dotted names of submodules that keep their weights; the file may lack them or have
            other shapes, e.g. ``"fc"`` for another number of classes.

    Raises FileNotFoundError, and ValueError for a file that is damaged or compressed, has no
    weights or requires code to be run, for names or shapes that do not match, for NaN and Inf, and
    for a name in ``skip`` that is not in the model.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     trained = nn.DataParallel(nn.Sequential(nn.Linear(2, 3)))
    ...     torch.save({"epoch": 9, "state_dict": trained.state_dict()}, f"{folder}/model.pt")
    ...     model = load_checkpoint(f"{folder}/model.pt", nn.Sequential(nn.Linear(2, 3)))
    >>> torch.equal(model[0].weight, trained.module[0].weight)
    True
    """
    own = model.state_dict()
    prefix = _wrapper_prefix(own)
    expected = {name.removeprefix(prefix): tensor for name, tensor in own.items()}
    skip = [name.removeprefix(prefix) for name in ([skip] if isinstance(skip, str) else skip)]
    _check_skip(skip, expected)
    expected = _without(skip, expected)
    weights = _without(skip, _read_weights(path))
    _check_match(repr(str(path)), weights, expected, type(model).__name__)
    own.update({prefix + name: tensor for name, tensor in weights.items()})
    model.load_state_dict(own)
    return model


def _wrapper_prefix(names: Collection[str]) -> str:
    """Return the longest prefix of wrappers that all names share.

    >>> _wrapper_prefix(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"])
    'module._orig_mod.'
    """
    first, *rest = names or [""]
    prefix = ""
    while more := next((w for w in _WRAPPERS if first.startswith(prefix + w)), None):
        if not all(name.startswith(prefix + more) for name in rest):
            break
        prefix += more
    return prefix


def _without(skip: Sequence[str], state: State) -> State:
    return {name: state[name] for name in state if not any(_is_in(name, part) for part in skip)}


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def _read_weights(path: str | PathLike[str]) -> State:
    """Return the tensors of a file by name, without the prefix of wrappers."""
    file, shown = existing_path(path, "checkpoint file"), repr(str(path))
    _check_file(file, shown)
    with _reading(shown):
        content = torch.load(file, map_location="cpu", weights_only=True)
    state = _unwrap(content)
    if not isinstance(state, Mapping) or not state:
        raise ValueError(
            f"{shown} has no weights: expected a state dict, bare or under one of "
            f"{', '.join(map(repr, _KEYS))}; got {_describe(state)}."
        )
    for name, tensor in state.items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise ValueError(
                f"{shown} is not a state dict, a dict from names to tensors: under {name!r} it has "
                f"{_describe(tensor)}."
            )
    prefix = _wrapper_prefix(state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


@contextmanager
def _reading(shown: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{shown} cannot be read as a checkpoint: {_reason(error)}") from error


def _check_file(file: Path, shown: str) -> None:
    """Raise ValueError for a file that could take more memory than its own size."""
    with _reading(shown):
        unpacked, size = _unpacked_size(file), file.stat().st_size
    if unpacked > size:
        raise ValueError(
            f"{shown} has {size:,} bytes and would unpack to {unpacked:,}. torch.save does not "
            "compress: if you trust the file, load it with torch.load and save it again."
        )
    with _reading(shown):
        pickled = _read_pickle(file)
    if b"\nbytearray\n" in pickled:  # a few bytes of a pickle can make one of any size
        raise ValueError(
            f"{shown} has a bytearray. Expected tensors and plain containers: save only the "
            "model's state_dict()."
        )


def _unpacked_size(file: Path) -> int:
    """The bytes of all members of a zip file; 0 for the files of older versions of torch.save."""
    if not zipfile.is_zipfile(file):
        return 0
    with zipfile.ZipFile(file) as archive:
        return sum(member.file_size for member in archive.infolist())


def _read_pickle(file: Path) -> bytes:
    """The pickle in a zip file; the whole file for those of older versions of torch.save."""
    if not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".pkl")]
        return b"".join(map(archive.read, members))


def _reason(error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:
        return (
            f"it requires {refused[1]}, and anything except tensors and plain containers could run "
            "code. If you trust the file, allow it with torch.serialization.safe_globals, or save "
            "only the model's state_dict()."
        )
    summary = str(error).partition("\n")[0]
    return f"it is damaged, truncated or of another kind ({type(error).__name__}: {summary})."


def _unwrap(content: Any) -> Any:
    if isinstance(content, Mapping):
        for key in _KEYS:
            if isinstance(content.get(key), Mapping):
                return content[key]
    return content


def _is_plain(tensor: Any) -> bool:
    """Return whether it is a dense tensor of a standard real dtype, with its data in memory."""
    return (
        isinstance(tensor, Tensor)
        and not tensor.is_nested
        and (tensor.layout, tensor.device.type) == (torch.strided, "cpu")
        and tensor.dtype in _FLOATS + _INTEGERS
    )


def _describe(value: Any) -> str:
    if isinstance(value, Tensor) and not _is_plain(value):
        return f"a tensor of {value.dtype} that is not dense real numbers in memory"
    if isinstance(value, Mapping) and not value:
        return "an empty dict"
    return f"an object of type {type(value).__name__}"


def _check_skip(skip: Sequence[str], expected: State) -> None:
    for part in skip:
        if not any(_is_in(name, part) for name in expected):
            parts = dict.fromkeys(name.partition(".")[0] for name in expected)
            raise ValueError(
                f"skip: the model has no weights under {part!r}. It has {_listed(list(parts))}."
            )


def _check_match(path: str, weights: State, expected: State, model: str) -> None:
    problems = {
        "missing": [n for n in expected if n not in weights and not n.endswith(_COUNTER)],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} (expected {tuple(expected[name].shape)}, received {tuple(tensor.shape)})"
            for name, tensor in weights.items()
            if name in expected and tensor.shape != expected[name].shape
        ],
    }
    if any(problems.values()):
        lines = [
            f" {len(names)} {kind}: {_listed(names)}." for kind, names in problems.items() if names
        ]
        raise ValueError(
            f"{path} does not match this {model}.{''.join(lines)} Submodules can be skipped by "
            "name, e.g. skip=('fc',)."
        )
    for name, tensor in weights.items():
        # In the model's dtype: half precision has a smaller range.
        if not tensor.to(expected[name].dtype).isfinite().all():
            raise ValueError(f"{path} has NaN or Inf in {name!r}; nothing was loaded.")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f", and {more} more" if more > 0 else "")
