"""The inputs of the metrics: boxes in their formats, and maps with or without a channel axis."""

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from captum_3dcam._validation import (
    check_choice,
    check_numbers,
    check_sequence,
    check_tensor,
    describe,
    is_number,
    show,
)

BOX_FORMATS = ("xyxy", "xyxy_inclusive")


def to_exclusive(boxes: Tensor, box_format: str) -> Tensor:
    """Convert boxes (..., 2D) of a format to inclusive-exclusive ones, in float64.

    ``"xyxy"`` is inclusive-exclusive already; in ``"xyxy_inclusive"`` the last pixel belongs to
    the box, so that the width is x1 - x0 + 1. NaN, for an absent box, stays NaN.

    Raises TypeError for what is no tensor, and ValueError for an unknown format, an odd number of
    bounds, and a lower bound above its upper bound.

    >>> to_exclusive(torch.tensor([2, 2, 4, 4]), "xyxy_inclusive")
    tensor([2., 2., 5., 5.], dtype=torch.float64)
    """
    check_choice("box_format", box_format, BOX_FORMATS)
    check_tensor("boxes", boxes)
    if boxes.ndim == 0 or boxes.shape[-1] % 2 or not boxes.shape[-1]:
        raise ValueError(
            "Boxes have as many lower bounds as upper ones, (x0, y0, x1, y1); received "
            f"{describe(boxes)}. Put the bounds in the last axis."
        )
    low, high = boxes.double().chunk(2, dim=-1)
    high = high + (box_format == "xyxy_inclusive")
    if (high < low).any():
        wrong = boxes[(high < low).any(dim=-1)][0].tolist()
        raise ValueError(
            f"A lower bound of a box is above its upper bound: {wrong} as {box_format!r}. "
            "Convert (x, y, width, height) to (x, y, x + width, y + height)."
        )
    return torch.cat([low, high], dim=-1)


def check_boxes(boxes: Sequence[Tensor] | Tensor, samples: int) -> None:
    """An error unless there is one tensor (B_i, 2D) per sample, each with at least one box."""
    if not isinstance(boxes, Tensor):
        check_sequence("boxes", boxes, of="tensors (B, 2D), one per sample")
    if isinstance(boxes, Tensor) or len(boxes) != samples:
        received = f"a tensor, {describe(boxes)}" if isinstance(boxes, Tensor) else len(boxes)
        raise ValueError(
            f"Expected a list of {samples} tensors of ground-truth boxes, one per sample; received "
            f"{received}. For one box per sample: list(boxes[:, None])."
        )
    for number, tensor in enumerate(boxes):
        check_tensor(f"boxes[{number}]", tensor)
        if tensor.ndim != 2 or not tensor.numel() or tensor.shape[1] % 2:
            raise ValueError(
                f"Sample {number} has ground-truth boxes of {describe(tensor)}; expected (B, 2D), "
                "with at least one box. Leave samples without a ground truth out."
            )


def check_masks(maps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
    """An error unless maps are (N, *S), and the masks bool and of their shape."""
    check_tensor("maps", maps)
    given = {"masks": masks} if ignore is None else {"masks": masks, "ignore": ignore}
    for name, mask in given.items():
        check_tensor(name, mask)
        is_like = mask.shape == maps.shape and mask.dtype == torch.bool
        if not is_like or maps.ndim < 2 or 0 in maps.shape[1:]:
            raise ValueError(
                f"Expected maps (N, *S) and {name}, bool, of the same shape; received maps of "
                f"{describe(maps)} and {name} of {describe(mask)}, {mask.dtype}. Resize masks to "
                "the maps, and compare: > 0. For boxes use boxes_to_mask."
            )


def drop_channel(maps: Tensor, rank: int) -> Tensor:
    """Maps (N, *S) or (N, 1, *S) of ``rank`` spatial axes as (N, *S), detached.

    Raises ValueError for any other shape, and for maps without a pixel.
    """
    check_tensor("maps", maps)
    if maps.ndim == rank + 2 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != rank + 1 or 0 in maps.shape[1:]:
        raise ValueError(
            f"Expected maps (N, *S) or (N, 1, *S) with {rank} spatial axes, as the boxes have; "
            f"received {describe(maps)}. Sum channels first, and add a batch axis with maps[None]."
        )
    maps = maps.detach()
    return maps.float() if maps.dtype == torch.bool else maps


def check_samples(maps: Tensor) -> int:
    """The number of samples of maps (N, *S)."""
    if check_tensor("maps", maps).ndim < 2:
        raise ValueError(
            f"Expected maps (N, *S); received {describe(maps)}. Add a batch axis with maps[None]."
        )
    return len(maps)


def check_fractions(name: str, values: object) -> tuple[float, ...]:
    """The values as Python's numbers, if there is at least one and each is in [0, 1].

    >>> check_fractions("thresholds", [0, 0.5])
    (0, 0.5)
    """
    numbers = check_numbers(name, values)
    if not numbers or not all(0 <= number <= 1 for number in numbers):
        raise ValueError(
            f"{name}={show(values)} is empty or not in [0, 1]. Give fractions of the map's "
            "maximum, as cam_thresholds()."
        )
    return numbers


def check_iou_thresholds(
    iou_thresholds: Sequence[float], name: str = "iou_thresholds"
) -> tuple[float, ...]:
    """The thresholds as floats, if there is at least one and each is in (0, 1]."""
    if is_number(iou_thresholds, Real):
        raise TypeError(f"{name}={iou_thresholds!r}: expected a sequence. Write it (0.5,).")
    deltas = tuple(map(float, check_numbers(name, iou_thresholds)))
    if not deltas or not all(0 < delta <= 1 for delta in deltas):
        raise ValueError(
            f"{name}={show(iou_thresholds)} is empty or not in (0, 1]. Give fractions, as "
            "(0.3, 0.5, 0.7), not per cent."
        )
    return deltas
