"""Samples: an input, the class to explain, and where it is."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._validation import describe
from captum_3dcam.datasets import ActionClip, LocalizedImage, VideoClip
from captum_3dcam.models import Preprocessing


class Sample(NamedTuple):
    """A clip, image or volume, a class, and the boxes of that class."""

    inputs: Tensor
    """(C, *S), preprocessed, without the batch axis."""
    target: int
    """The class to explain."""
    boxes: Tensor
    """(T, 4): x0, y0, x1, y1 in pixels, inclusive-exclusive, in each frame; NaN where there is
    none. An image has one frame, (1, 4); the frames of a volume are its slices. (B, T, 4) for B
    objects of the class: a predicted box is compared with the best of them."""
    mask: Tensor | None = None
    """(*S), bool: where energy counts as inside, if known better than by the boxes."""


class Samples(Protocol):
    """A list of :class:`Sample`, or a dataset of them: always the same one at an index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


def prepare_sample(
    item: VideoClip | ActionClip | LocalizedImage, preprocess: Preprocessing, target: int
) -> Sample:
    """Preprocess an item of :mod:`captum_3dcam.datasets`, with its boxes and masks.

    The mask is the union of all actors' masks, or None if a frame with a box has no mask: energy
    on an actor without a mask would count as outside.

    Raises ValueError if the preprocessing crops the frames: no method can find what the network
    does not see.

    >>> from captum_3dcam.datasets import SyntheticActions
    >>> preprocess = Preprocessing(mean=0.5, size=(32, 32))
    >>> sample = prepare_sample(SyntheticActions(1, size=64)[0], preprocess, target=0)
    >>> sample.inputs.shape, sample.boxes.shape, sample.mask.shape
    (torch.Size([3, 16, 32, 32]), torch.Size([1, 16, 4]), torch.Size([16, 32, 32]))
    """
    if isinstance(item, LocalizedImage):
        frames, boxes, masks = item.image, item.boxes[:, None], None
    else:
        frames, boxes, masks = item.clip, item.boxes, item.masks
    frame_size = (frames.shape[-2], frames.shape[-1])
    _check_whole_frame(preprocess, frame_size)
    inputs = preprocess(frames)
    boxes = preprocess.boxes_to_input(boxes, frame_size)
    return Sample(inputs, target, boxes, _union_mask(boxes, masks, inputs.shape[1:]))


def _check_whole_frame(preprocess: Preprocessing, frame_size: tuple[int, int]) -> None:
    geometry = preprocess.geometry(frame_size)
    if geometry.size != geometry.resized:
        raise ValueError(
            f"The preprocessing crops frames of {frame_size}, resized to {geometry.resized}, to "
            f"{geometry.size}. No map has what the network did not see, so that the boxes of a "
            f"dataset need whole frames: replace it by size={geometry.size} and crop=None."
        )


def _union_mask(boxes: Tensor, masks: Tensor | None, size: Sequence[int]) -> Tensor | None:
    if masks is None or (~boxes.isnan().any(dim=-1) & ~masks.flatten(2).any(dim=-1)).any():
        return None
    union = masks.any(dim=0)[None, None].float()
    return F.interpolate(union, tuple(size), mode="nearest-exact")[0, 0] > 0.5


def evenly_spaced(length: int, limit: int | None) -> list[int]:
    """At most ``limit`` indices, evenly spaced over a list of some length; all for None.

    >>> evenly_spaced(10, 3), evenly_spaced(2, 3)
    ([0, 3, 6], [0, 1])
    """
    if limit is None or limit >= length:
        return list(range(length))
    return [number * length // limit for number in range(limit)]


def check_sample(sample: Sample, index: int) -> None:
    """ValueError unless inputs, boxes and mask of a sample fit together."""
    inputs, size = describe(sample.inputs), tuple(sample.inputs.shape[1:])
    if len(size) < 2 or 0 in size:
        raise ValueError(
            f"Sample {index} has inputs of {inputs}; expected (C, H, W), (C, T, H, W), or another "
            "number of axes before H and W, without a batch axis."
        )
    frames = prod(size[:-2])
    if sample.boxes.ndim not in (2, 3) or tuple(sample.boxes.shape[-2:]) != (frames, 4):
        raise ValueError(
            f"Sample {index} has boxes of {describe(sample.boxes)}; its inputs, {inputs}, have "
            f"{frames} frames, so expected ({frames}, 4), or (B, {frames}, 4) for B objects, NaN "
            "where there is no box."
        )
    if sample.boxes.isnan().any(dim=-1).all():
        raise ValueError(
            f"Sample {index} has no box in any frame. Leave samples without a ground truth out."
        )
    mask = sample.mask
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != size):
        raise ValueError(
            f"Sample {index} has a mask of {describe(mask)}, {mask.dtype}; expected {size}, bool."
        )
