"""Input validation, and the samples of a tensor as NumPy arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import check_integer, check_tensor, describe
from captum_3dcam.frame_times import FrameRate, check_rate, frame_time

Array = NDArray[Any]


def to_arrays(x: Tensor) -> Iterator[Array]:
    """Each sample (*S) of (N, 1, *S), in float32 at least: NumPy has no bfloat16."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    for sample in x.detach()[:, 0]:
        yield sample.to("cpu", dtype).numpy()


def mask_arrays(mask: Tensor) -> Iterator[Array]:
    """Each sample (*S) of a mask (N, 1, *S)."""
    yield from mask[:, 0].cpu().numpy()


def to_tensor(array: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)


def check_maps(maps: Tensor) -> None:
    _check_shape(maps, "maps")
    check_values(maps, "maps")


def check_clips(maps: Tensor) -> None:
    check_maps(maps)
    if maps.ndim < 4:
        raise ValueError(
            "Expected maps (N, 1, T, *S) with a time axis and at least one spatial axis; got "
            f"{describe(maps)}. For a temporal profile (N, T), use segments()."
        )


def check_mask(mask: Tensor, maps: Tensor | None = None) -> Tensor:
    """The mask, if it is bool (N, 1, *S) and has the shape of the maps."""
    _check_shape(mask, "mask")
    if mask.dtype != torch.bool:
        raise TypeError(f"Expected a bool mask; got {mask.dtype}. Make one with binarize(maps).")
    if maps is not None and mask.shape != maps.shape:
        raise ValueError(
            f"Expected a mask of the maps' shape {tuple(maps.shape)}; got {describe(mask)}."
        )
    return mask


def _check_shape(x: Tensor, name: str) -> None:
    check_tensor(name, x)
    if x.ndim < 3 or x.shape[1] != 1 or 0 in x.shape[2:]:
        raise ValueError(
            f"Expected {name} (N, 1, *S) with at least one spatial axis, as attribute() returns "
            f"them; got {describe(x)}. Add missing axes with {name}[None, None]; turn several "
            f"classes (N, k, *S) into samples with {name}.flatten(0, 1)[:, None]."
        )


def check_values(x: Tensor, name: str) -> None:
    if not x.isfinite().all():
        raise ValueError(f"Expected finite {name}; got NaN or Inf. Find out where they arise.")


def check_connectivity(connectivity: int | None, rank: int) -> int:
    """The connectivity, by default the number of axes."""
    connectivity = rank if connectivity is None else check_integer("connectivity", connectivity)
    if connectivity > rank:
        raise ValueError(
            f"connectivity={connectivity}: expected at most {rank}, the number of axes along which "
            "neighbours may differ. In 2D, 1 means 4 neighbours and 2 means 8."
        )
    return connectivity


def check_fps(fps: FrameRate | None, length: int | None = None) -> FrameRate | None:
    return None if fps is None else check_rate(fps, length)


def to_seconds(start: int, end: int, fps: FrameRate | None) -> tuple[float, float]:
    if fps is None:
        raise ValueError(
            f"The frames [{start}, {end}) have no time in seconds without a frame rate. Pass fps "
            "to the function or class that returned them."
        )
    return frame_time(fps, start), frame_time(fps, end)
