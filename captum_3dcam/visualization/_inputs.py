"""At the door: maps and pictures as arrays, or an error that says what was expected."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Values = Tensor | Array

_AXES = {2: "(H, W)", 3: "(T, H, W) or (D, H, W)"}


def as_array(values: Values) -> Array:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    # NumPy has no bfloat16.
    return (values.float() if values.is_floating_point() else values).numpy()


def as_map(attr: Values, rank: int) -> Array:
    """One map of ``rank`` axes as finite float32; leading axes of size 1 go."""
    heat = strip(as_array(attr), rank)
    if heat.ndim != rank or not heat.size:
        raise ValueError(
            f"attr must be one map {_AXES[rank]}, with leading axes of size 1 at most; got shape "
            f"{tuple(attr.shape)}. Choose one sample: attr[i]; sum channels: attr.sum(1)."
        )
    return as_finite(heat)


def as_finite(heat: Array) -> Array:
    if heat.dtype.kind not in "buif":
        raise ValueError(f"attr must hold real numbers; got {heat.dtype}.")
    with np.errstate(over="ignore"):  # what float32 cannot hold is named below
        heat = heat.astype(np.float32)
    if not np.isfinite(heat).all():
        raise ValueError("attr holds NaN or Inf. Look at the map before it is drawn.")
    return heat


def strip(array: Array, rank: int) -> Array:
    """Without the leading axes of size 1 beyond ``rank``."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array


def as_pictures(pictures: Values | None, rank: int, heat: Array, method: str) -> Array:
    """Grey or RGB floats in [0, 1], channels last; where there is none, black of the map's size."""
    if pictures is None:
        return _stand_in(heat, method)
    array = strip(as_array(pictures), rank + 1)
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    elif array.ndim == rank + 1 and array.shape[-1] != 3:
        array = strip(array, rank)
    if array.ndim not in (rank, rank + 1) or (array.ndim == rank + 1 and array.shape[-1] != 3):
        shape = "(H, W), (H, W, 1) or (H, W, 3)" if rank == 2 else "(T, H, W) or (T, H, W, 3)"
        channels = next((axis for axis, size in enumerate(array.shape) if size in (1, 3)), 0)
        raise ValueError(
            f"The picture must be channels-last, {shape}; got shape {array.shape}. Move the "
            f"channels: tensor.movedim({channels}, -1)."
        )
    if not array.size:
        raise ValueError(f"The picture is empty: its shape is {array.shape}.")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    # Undoing a normalisation leaves [0, 1] by rounding.
    if not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError(
            f"The picture must be bytes, or floats in [0, 1]; got {array.dtype} from "
            f"{array.min():.4g} to {array.max():.4g}. Undo the model's preprocessing first; window "
            "a scan: ((x - low) / (high - low)).clip(0, 1)."
        )
    return np.clip(array, 0, 1).astype(np.float32)


def _stand_in(heat: Array, method: str) -> Array:
    if method != "heat_map":
        raise ValueError(
            f"method={method!r} draws what was explained: pass it beside attr, or choose "
            "method='heat_map', which draws the map alone."
        )
    return np.zeros_like(heat)


def check_length(heat: Array, video: Array) -> None:
    if len(heat) != len(video):
        raise ValueError(
            f"The map has {len(heat)} frames and the video {len(video)}. Pass the clip that was "
            "explained, or give attribute() output_size=(T, H, W)."
        )


def as_clip(
    attr: Values, original_video: Values | None, method: str, fps: float | None
) -> tuple[Array, Array]:
    heat = as_map(attr, 3)
    video = as_pictures(original_video, 3, heat, method)
    check_fps(fps)
    check_length(heat, video)
    return heat, video


def as_volume(original_volume: Values | None, heat: Array, method: str) -> Array:
    """A volume (D, H, W) as it is; where there is none, black of the map's size."""
    if original_volume is None:
        return _stand_in(heat, method)
    volume = strip(as_array(original_volume), 3)
    if volume.ndim != 3 or not volume.size or volume.dtype.kind not in "buif":
        raise ValueError(
            "original_volume must be one grey volume (D, H, W) of real numbers, with leading axes "
            f"of size 1 at most; got {volume.dtype} of shape {tuple(original_volume.shape)}."
        )
    return volume


def check_inside(heat: Array, volume: Array) -> None:
    if any(m > n for m, n in zip(heat.shape, volume.shape, strict=True)):
        raise ValueError(
            f"The map {heat.shape} is finer than the volume {volume.shape}. Pass the volume that "
            "was explained, its axes in the same order."
        )


def choose_window(window: tuple[float, float] | None, volume: Array) -> tuple[float, float]:
    """The values that are black and white.

    By default the 0.5th and 99.5th percentiles, so that few odd voxels do not darken the rest.
    """
    if window is not None:
        if not window[0] < window[1]:
            raise ValueError(
                f"window={window} must be (low, high): the values that are black and white."
            )
        return window
    finite = volume[np.isfinite(volume)]
    if not finite.size:
        raise ValueError("original_volume holds no finite value.")
    low, high = np.percentile(finite, (0.5, 99.5))
    if low == high:
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def check_fps(fps: float | None) -> None:
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be positive; got {fps}.")


def choose_frames(frames: int | Sequence[int], length: int, name: str = "frames") -> list[int]:
    """Which of ``length`` pictures to show: the given ones, or so many evenly spaced."""
    if isinstance(frames, int):
        shown = [round(t) for t in np.linspace(0, length - 1, max(min(frames, length), 0))]
    else:
        shown = list(frames)
    if not shown or not all(0 <= t < length for t in shown):
        raise ValueError(
            f"{name}={frames!r} must be a positive number, or {name} from 0 to {length - 1}."
        )
    return shown
