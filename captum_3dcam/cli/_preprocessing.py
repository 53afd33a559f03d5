"""The values of a preprocessing among the options."""

from argparse import Namespace
from typing import Any

from torch import nn

from captum_3dcam._errors import ArgumentError
from captum_3dcam.explanation._preprocessing import replace_frame_values, replace_volume_values


def of_frames(options: Namespace, model: nn.Module) -> Any:
    """What ``explain`` takes as its preprocessing of images and videos."""
    values = {name: _value(options, name, (1, 2), "H W for frames") for name in ("size", "crop")}
    values |= {name: _value(options, name) for name in ("mean", "std")}
    values["channels"] = options.channels
    given = {name: value for name, value in values.items() if value is not None}
    return replace_frame_values(options.preprocessing, model, given)


def of_volumes(options: Namespace, model: nn.Module) -> Any:
    """What ``explain`` takes as its preprocessing of volumes."""
    values = {
        "orientation": options.orientation,
        "normalize": options.normalize,
        "size": _value(options, "size", (3,), "D H W for volumes"),
        "spacing": _value(options, "spacing", (1, 3), "one number, or D H W"),
    }
    given = {name: value for name, value in values.items() if value is not None}
    if options.clip is not None:
        low, high = options.clip
        if not low < high:
            raise ArgumentError(f"--clip {low:g} {high:g}: expected LOW < HIGH.")
        given |= {"window": (low, high), "units": None}
    return replace_volume_values(options.preprocessing, model, given)


def _value(options: Namespace, name: str, counts: tuple[int, ...] = (), expected: str = "") -> Any:
    """One number by itself, several as a tuple."""
    numbers = getattr(options, name)
    if numbers is None:
        return None
    if counts and len(numbers) not in counts:
        raise ArgumentError(f"--{name} {' '.join(map(str, numbers))}: expected {expected}.")
    return numbers[0] if len(numbers) == 1 else tuple(numbers)
