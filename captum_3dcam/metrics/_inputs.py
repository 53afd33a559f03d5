"""What the metrics take: boxes in their formats, and maps with or without a channel."""

from collections.abc import Sequence

import torch
from torch import Tensor

Boxes = Sequence[Tensor]

_TO_EXCLUSIVE: dict[str, int] = {"xyxy": 0, "xyxy_inclusive": 1}
BOX_FORMATS = tuple(_TO_EXCLUSIVE)


def to_exclusive(boxes: Tensor, box_format: str) -> Tensor:
    """Boxes (..., 2D) of a format as float64, inclusive-exclusive.

    ``"xyxy"`` is so already; in ``"xyxy_inclusive"`` the last pixel belongs to the box, so that
    the width is x1 - x0 + 1. NaN, for an absent box, stays.

    Raises ValueError for an unknown format, an odd or zero number of bounds, and bounds that are
    the wrong way round.

    >>> to_exclusive(torch.tensor([2, 2, 4, 4]), "xyxy_inclusive")
    tensor([2., 2., 5., 5.], dtype=torch.float64)
    """
    check_box_format(box_format)
    if boxes.ndim == 0 or boxes.shape[-1] % 2 or not boxes.shape[-1]:
        raise ValueError(
            "Boxes hold as many lower bounds as upper ones, (x0, y0, x1, y1); got shape "
            f"{tuple(boxes.shape)}. Put the bounds in the last axis."
        )
    low, high = boxes.double().chunk(2, dim=-1)
    high = high + _TO_EXCLUSIVE[box_format]
    if (high < low).any():
        wrong = boxes[(high < low).any(dim=-1)][0].tolist()
        raise ValueError(
            f"A box's lower bounds come first and are not above its upper ones; got {wrong} as "
            f"{box_format!r}. Convert (x, y, width, height) to (x, y, x + width, y + height)."
        )
    return torch.cat([low, high], dim=-1)


def check_box_format(box_format: str) -> str:
    """The name itself, if it is one of :data:`BOX_FORMATS`; else a ValueError that lists them."""
    if box_format not in _TO_EXCLUSIVE:
        raise ValueError(
            f"box_format={box_format!r} is not known. Choose one of "
            f"{', '.join(map(repr, BOX_FORMATS))}."
        )
    return box_format


def check_truth(truth: Boxes | Tensor, samples: int) -> None:
    """ValueError unless there is one tensor (B_i, 2D) a sample, each with a box at least."""
    if isinstance(truth, Tensor) or len(truth) != samples:
        came = f"a tensor {tuple(truth.shape)}" if isinstance(truth, Tensor) else f"{len(truth)}"
        raise ValueError(
            f"Expected a list of {samples} tensors of true boxes, one a sample; got {came}. "
            "For one box a sample: list(boxes[:, None])."
        )
    for number, boxes in enumerate(truth):
        if boxes.ndim != 2 or not len(boxes):
            raise ValueError(
                f"Sample {number} has true boxes of shape {tuple(boxes.shape)}; expected "
                "(B, 2D), with one box at least. Leave samples without a truth out."
            )


def drop_channel(maps: Tensor, rank: int) -> Tensor:
    """Maps (N, *S) or (N, 1, *S) of ``rank`` spatial axes as (N, *S), without gradient.

    Raises ValueError for any other shape, and for maps without a pixel.

    >>> drop_channel(torch.zeros(2, 1, 4, 5), 2).shape
    torch.Size([2, 4, 5])
    """
    if maps.ndim == rank + 2 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != rank + 1 or 0 in maps.shape[1:]:
        raise ValueError(
            f"Expected maps (N, *S) or (N, 1, *S) with {rank} spatial axes, as the boxes have; "
            f"got {tuple(maps.shape)}. Sum channels first, and add a batch axis with maps[None]."
        )
    return maps.detach()
