"""What the results in a folder depend on: a later run must be of the same."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from torch import nn

from captum_3dcam._digest import digest
from captum_3dcam._errors import ArgumentError
from captum_3dcam.explanation._recipe import Recipe

_NAME = "run.json"
_MAX_DEPTH = 8


class RunFile:
    """``run.json``: digests of the model and the options, the salt of names, the chosen layers.

    Raises ArgumentError for a folder with the results of another run, or with files that are none.
    """

    def __init__(
        self, state: Path, recipe: Recipe, target: Any, results: Mapping[str, Any]
    ) -> None:
        self.path = state / _NAME
        own = _describe(recipe, target, results)
        folder = str(state.parent)
        if not self.path.exists():
            if any(state.glob("journal-*")):
                raise ArgumentError(
                    f"folder {folder!r}: {_NAME} is missing, which says what its results are of. "
                    "Delete the folder, or pass another one."
                )
            _create(self.path, {**own, "salt": token_hex(16)})
        saved = self.read()
        different = [key for key in own if own[key] != saved.get(key)]
        if different:
            raise ArgumentError(
                f"folder {folder!r}: it holds the results of another run, whose "
                f"{' and '.join(different)} differ. Pass another folder, or delete this one."
            )
        self.salt = str(saved.get("salt"))

    def read(self) -> dict[str, Any]:
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArgumentError(
                f"{str(self.path)!r} is damaged: {error}. Delete its folder, or pass another one."
            ) from error
        if not isinstance(saved, dict):
            raise ArgumentError(f"{str(self.path)!r} is damaged. Pass another folder.")
        return saved

    def check_layers(self, layers: list[str]) -> None:
        """Keep the layers that "auto" chose; ArgumentError if they are not those of before."""
        path = self.path.with_name("layers.json")
        _create(path, layers)
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier != layers:
            raise ArgumentError(
                f"layers: the earlier results are of {', '.join(earlier)}, and for the first input "
                f"that there is now 'auto' chooses {', '.join(layers)}. Pass layers={earlier}."
            )


def _create(path: Path, content: Any) -> None:
    """Write a file, whole, unless there is one: several processes may begin at once."""
    temporary = path.with_name(f".{token_hex(8)}")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _describe(recipe: Recipe, target: Any, results: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in vars(recipe.options).items() if key != "progress"}
    options["class_names"] = recipe.names
    model = recipe.model
    modules = [
        (name, type(module).__qualname__, {k: v for k, v in vars(module).items() if _is_plain(v)})
        for name, module in model.named_modules()
    ]
    return {
        "weights": digest([*model.parameters(), *model.buffers()]),
        "model": _hash([modules, list(model.state_dict())]),
        "precision": [
            str(torch.get_autocast_dtype(device))
            for device in ("cpu", "cuda")
            if torch.is_autocast_enabled(device)
        ],
        **{key: _hash(value) for key, value in options.items()},
        "target": _hash(target),
        **results,
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _hash(value: Any) -> str:
    """Of a value as it is in each process: of a function its code, of another object its fields."""
    return sha256(json.dumps(stable(value)).encode()).hexdigest()[:16]


def stable(value: Any, depth: int = 0) -> Any:
    """JSON that is the same in each process.

    >>> stable({"layers": ("0", Path("a")), "size": 2.0})
    {'layers': ['0', 'a'], 'size': 2.0}
    >>> stable(lambda x: x + 1) == stable(lambda x: x + 1), stable(lambda x: x) == stable(len)
    (True, False)
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if depth > _MAX_DEPTH or isinstance(value, type | nn.Module):
        return getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, torch.Tensor):
        return digest([value])
    if isinstance(value, partial):
        value = [value.func, value.args, value.keywords]
    if isinstance(value, Mapping):
        return {str(key): stable(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [stable(each, depth + 1) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if is_dataclass(value):
        return {item.name: stable(getattr(value, item.name), depth + 1) for item in fields(value)}
    return _object(value, depth)


def _object(value: Any, depth: int) -> Any:
    """A function by its code and what it closes over, another object by its attributes."""
    code = getattr(value, "__code__", None)
    if code is None:
        own = dict(getattr(value, "__dict__", {}))
        return [getattr(value, "__qualname__", type(value).__qualname__), stable(own, depth + 1)]
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    constants = [each for each in code.co_consts if _is_plain(each)]
    inner = [each.co_code.hex() for each in code.co_consts if hasattr(each, "co_code")]
    parts = [code.co_code.hex(), list(code.co_names), constants, inner, cells, value.__defaults__]
    return [value.__name__, stable(parts, depth + 1)]
