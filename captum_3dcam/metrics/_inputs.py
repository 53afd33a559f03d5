"""The inputs of the metrics: boxes in their formats, and maps with or without a channel axis."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_3dcam._validation import check_choice, describe

BOX_FORMATS = ("xyxy", "xyxy_inclusive")


def to_exclusive(boxes: Tensor, box_format: str) -> Tensor:
    """Convert boxes (..., 2D) of a format to inclusive-exclusive ones, in float64.

    ``"xyxy"`` is inclusive-exclusive already; in ``"xyxy_inclusive"`` the last pixel belongs to
    the box, so that the width is x1 - x0 + 1. NaN, for an absent box, stays NaN.

    Raises ValueError for an unknown format, an odd number of bounds, and a lower bound above its
    upper bound.

    >>> to_exclusive(torch.tensor([2, 2, 4, 4]), "xyxy_inclusive")
    tensor([2., 2., 5., 5.], dtype=torch.float64)
    """
    check_choice("box_format", box_format, BOX_FORMATS)
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
    """ValueError unless there is one tensor (B_i, 2D) per sample, each with at least one box."""
    if isinstance(boxes, Tensor) or len(boxes) != samples:
        received = f"a tensor, {describe(boxes)}" if isinstance(boxes, Tensor) else len(boxes)
        raise ValueError(
            f"Expected a list of {samples} tensors of ground-truth boxes, one per sample; received "
            f"{received}. For one box per sample: list(boxes[:, None])."
        )
    for number, tensor in enumerate(boxes):
        if tensor.ndim != 2 or not len(tensor):
            raise ValueError(
                f"Sample {number} has ground-truth boxes of {describe(tensor)}; expected (B, 2D), "
                "with at least one box. Leave samples without a ground truth out."
            )


def check_masks(maps: Tensor, **masks: Tensor | None) -> None:
    """ValueError unless maps are (N, *S), and the masks that are given bool and of their shape."""
    for name, mask in masks.items():
        if mask is not None and (
            mask.shape != maps.shape or mask.dtype != torch.bool or maps.ndim < 2
        ):
            raise ValueError(
                f"Expected maps (N, *S) and {name}, bool, of the same shape; received maps of "
                f"{describe(maps)} and {name} of {describe(mask)}, {mask.dtype}. Resize masks to "
                "the maps, and compare: > 0. For boxes use boxes_to_mask."
            )


def drop_channel(maps: Tensor, rank: int) -> Tensor:
    """Maps (N, *S) or (N, 1, *S) of ``rank`` spatial axes as (N, *S), detached.

    Raises ValueError for any other shape, and for maps without a pixel.
    """
    if maps.ndim == rank + 2 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != rank + 1 or 0 in maps.shape[1:]:
        raise ValueError(
            f"Expected maps (N, *S) or (N, 1, *S) with {rank} spatial axes, as the boxes have; "
            f"received {describe(maps)}. Sum channels first, and add a batch axis with maps[None]."
        )
    return maps.detach()
