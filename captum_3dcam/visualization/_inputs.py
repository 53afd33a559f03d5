"""Input validation: maps, images and videos as arrays of the expected shape and range."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import check_integers, check_tensor, is_number, show
from captum_3dcam.visualization.style import Style

Array = NDArray[Any]
Values = Tensor | Array

_AXES = {2: "(H, W)", 3: "(T, H, W) or (D, H, W)"}


def as_array(values: Values, name: str = "attr") -> Array:
    """Real numbers as an array; TypeError for anything else."""
    if isinstance(values, Tensor):
        values = check_tensor(name, values).detach().cpu()
        # NumPy has no bfloat16.
        return (values.float() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # of rows of different lengths, or on a GPU
        array = np.empty(0, object)
    if array.dtype.kind not in "buif":
        received = array.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise TypeError(f"{name} must hold real numbers, as a tensor or array; got {received}.")
    return array


def squeeze_leading(array: Array, rank: int) -> Array:
    """Without the leading axes of size 1 beyond ``rank``."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array


def as_map(attr: Values, rank: int) -> Array:
    """One map of ``rank`` axes as finite float32, without leading axes of size 1."""
    array = as_array(attr)
    heat = squeeze_leading(array, rank)
    if heat.ndim != rank or not heat.size:
        raise ValueError(
            f"attr must be one map {_AXES[rank]}, with leading axes of size 1 at most; got shape "
            f"{array.shape}. Choose one sample: attr[i]; sum channels: attr.sum(1)."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
        heat = heat.astype(np.float32)
    if not np.isfinite(heat).all():
        raise ValueError("attr holds NaN or Inf. Find out why before drawing it.")
    return heat


def as_images(images: Values | None, rank: int, heat: Array, style: Style) -> Array:
    """Grey or RGB floats in [0, 1], channels last; without images, black ones of the map's size.

    ``rank`` is 2 for an image, 3 for a video.
    """
    if images is None:
        return blank(heat, style)
    return _as_floats(_channels_last(images, rank))


def as_pixels(images: Values | None, rank: int, heat: Array, style: Style) -> Array:
    """The same as bytes."""
    if images is None:
        return blank(heat, style).astype(np.uint8)
    array = _channels_last(images, rank)
    if array.dtype == np.uint8:
        return array
    pixels: Array = (_as_floats(array) * 255).round().astype(np.uint8)
    return pixels


def _channels_last(images: Values, rank: int) -> Array:
    array = squeeze_leading(as_array(images, "the image"), rank + 1)
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    elif array.ndim == rank + 1 and array.shape[-1] != 3:
        array = squeeze_leading(array, rank)
    if array.ndim not in (rank, rank + 1) or (array.ndim == rank + 1 and array.shape[-1] != 3):
        shape = "(H, W), (H, W, 1) or (H, W, 3)" if rank == 2 else "(T, H, W) or (T, H, W, 3)"
        channels = next((axis for axis, size in enumerate(array.shape) if size in (1, 3)), 0)
        raise ValueError(
            f"The image must be channels-last, {shape}; got shape {array.shape}. Move the "
            f"channels: tensor.movedim({channels}, -1)."
        )
    if not array.size:
        raise ValueError(f"The image is empty: its shape is {array.shape}.")
    return array


def _as_floats(array: Array) -> Array:
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    # Undoing a normalisation leaves [0, 1] by rounding.
    if not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError(
            f"The image must be bytes, or floats in [0, 1]; got {array.dtype} from "
            f"{array.min():.4g} to {array.max():.4g}. Undo the model's preprocessing first; window "
            "a scan: ((x - low) / (high - low)).clip(0, 1)."
        )
    return np.clip(array, 0, 1).astype(np.float32)


def check_lengths(maps: Sequence[Array], video: Array) -> None:
    """ValueError unless maps (T, H', W') are of as many frames as their video (T, H, W[, 3])."""
    for heat in maps:
        if len(heat) != len(video):
            raise ValueError(
                f"The map has {len(heat)} frames and the video {len(video)}. Pass the clip that "
                "was explained, or give attribute() output_size=(T, H, W)."
            )


def blank(heat: Array, style: Style) -> Array:
    """Zeros in place of what was explained; ValueError if the style draws that."""
    if style.method != "heat_map" or style.raw:
        setting = "raw=True" if style.raw else f"method={style.method!r}"
        raise ValueError(
            f"{setting} needs the image, video or volume that was explained: pass it after "
            "attr, or choose method='heat_map', which draws the map alone."
        )
    return np.zeros_like(heat)


def choose_frames(frames: Any, length: int, name: str = "frames") -> list[int]:
    """The given indices, or as many evenly spaced ones as the given number."""
    if is_number(frames, Integral):
        indices = [round(t) for t in np.linspace(0, length - 1, max(min(frames, length), 0))]
    else:
        indices = list(check_integers(name, frames, minimum=None))
    if not indices or not all(0 <= t < length for t in indices):
        raise ValueError(
            f"{name}={show(frames)} must be a positive number, or {name} from 0 to {length - 1}."
        )
    return indices
