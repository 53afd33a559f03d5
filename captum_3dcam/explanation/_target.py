"""Which classes to explain."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from captum_3dcam._errors import ArgumentError
from captum_3dcam._targets import normalize_target
from captum_3dcam._validation import show

_EXPECTED = (
    'expected a class index, "top3" or another count, "each", an index into an output with more '
    "axes such as (1, 4, 8), a class name, or a list of indices and names"
)
_MAX_NAMES = 5  # in a message


@dataclass(frozen=True)
class Target:
    """The classes to explain: given ones, or the highest."""

    classes: tuple[Any, ...] = ()
    """Class indices, or indices into an output with more axes; () for the highest."""
    top: int = 1
    """The number of the highest classes."""
    each: bool = False
    """The highest class of each window."""


def parse_target(target: Any, class_names: Sequence[str] = ()) -> Target:
    """The target of :func:`captum_3dcam.explain`, or of the command line, where all is text.

    Raises ArgumentError for anything else.

    >>> parse_target("top3"), parse_target(["golf", 0], ["run", "golf"]).classes
    (Target(classes=(), top=3, each=False), (1, 0))
    >>> parse_target("1,-4,8").classes
    ((1, -4, 8),)
    """
    if target is None:
        return Target()
    if isinstance(target, str) and target not in class_names:
        if target == "each":
            return Target(each=True)
        if top := re.fullmatch("top([1-9][0-9]{0,3})", target):
            return Target(top=int(top[1]))
    several = target if isinstance(target, list) else [target]
    if not several:
        raise ArgumentError(f"target=[]: {_EXPECTED}.")
    return Target(tuple(_class(normalize_target(each), class_names) for each in several))


def _class(target: Any, names: Sequence[str]) -> Any:
    if isinstance(target, str):
        return _find_name(target, names) if target in names else _index(target, names)
    is_index = isinstance(target, Integral) and not isinstance(target, bool)
    is_several = isinstance(target, tuple) and all(isinstance(i, Integral) for i in target)
    if not (is_index or is_several or callable(target)):
        raise ArgumentError(f"target={show(target)}: {_EXPECTED}.")
    return target


def _find_name(name: str, names: Sequence[str]) -> int:
    indices = [index for index, each in enumerate(names) if each == name]
    if len(indices) > 1:
        raise ArgumentError(
            f"target={show(name)}: it is the name of the classes {', '.join(map(str, indices))}. "
            "Pass the index."
        )
    return indices[0]


def _index(text: str, names: Sequence[str]) -> Any:
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    if re.fullmatch("-?[0-9]{1,9}(,-?[0-9]{1,9})+", text):
        return tuple(map(int, text.split(",")))
    first = ", ".join(names[:_MAX_NAMES])
    known = f"the {len(names)} names begin with {first}" if names else "pass class_names"
    raise ArgumentError(f"target={show(text)}: {_EXPECTED}. For a name, {known}.")
