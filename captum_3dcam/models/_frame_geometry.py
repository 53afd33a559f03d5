"""Where the pixels of a network's input lie in the frame: resized, then cropped in the centre."""

from numbers import Integral
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._validation import check_floats, check_tensor, describe, is_number, show

Size = tuple[int, int]


class FrameGeometry(NamedTuple):
    """A frame (H, W), what it is resized to, and the part of that which is the network's input."""

    frame: Size
    resized: Size
    top: int
    left: int
    size: Size
    """(h, w) of the input, whose first pixel is that at (top, left) of the resized frame."""

    def crop(self, frames: Tensor) -> Tensor:
        """The input (..., h, w) of resized frames."""
        (height, width), top, left = self.size, self.top, self.left
        return frames[..., top : top + height, left : left + width]

    def maps_to_frame(self, maps: Tensor) -> Tensor:
        """Maps (..., h, w) over the whole resized frame, 0 outside of the crop."""
        check_tensor("maps", maps)
        if maps.ndim < 2 or tuple(maps.shape[-2:]) != self.size:
            raise ValueError(
                f"Expected maps (..., {self.size[0]}, {self.size[1]}), as large as the network's "
                f"input for frames of {self.frame}; received {describe(maps)}."
            )
        right = self.resized[1] - self.left - self.size[1]
        bottom = self.resized[0] - self.top - self.size[0]
        return F.pad(maps, (self.left, right, self.top, bottom))

    def boxes_to_input(self, boxes: Tensor) -> Tensor:
        boxes = _check_boxes(boxes)
        return boxes * self._scale(boxes) - self._offset(boxes)

    def boxes_to_frame(self, boxes: Tensor) -> Tensor:
        boxes = _check_boxes(boxes)
        return (boxes + self._offset(boxes)) / self._scale(boxes)

    def _scale(self, boxes: Tensor) -> Tensor:
        y, x = (new / old for new, old in zip(self.resized, self.frame, strict=True))
        return boxes.new_tensor([x, y, x, y])

    def _offset(self, boxes: Tensor) -> Tensor:
        return boxes.new_tensor([self.left, self.top, self.left, self.top])


def geometry_of(frame: Any, size: Any, crop: Any) -> FrameGeometry:
    """The geometry for frames of (H, W); ``size`` and ``crop`` as in ``Preprocessing``.

    >>> geometry_of((240, 320), 128, 112)
    FrameGeometry(frame=(240, 320), resized=(128, 170), top=8, left=29, size=(112, 112))
    """
    height, width = check_size(frame, "frame_size")
    resized = _resized((height, width), size)
    cropped = resized if crop is None else _as_size(crop)
    rows, columns = (old - new for old, new in zip(resized, cropped, strict=True))
    if min(rows, columns) < 0:
        raise ValueError(
            f"crop={crop}: frames of {(height, width)}, resized to {resized}, are smaller. Pass a "
            f"smaller crop, or size=({cropped[0]}, {cropped[1]}) without a crop."
        )
    # Rounded half to even, as by torchvision's center_crop.
    return FrameGeometry((height, width), resized, round(rows / 2), round(columns / 2), cropped)


def _resized(frame: Size, size: Any) -> Size:
    if size is None:
        return frame
    if not is_number(size, Integral):
        return _as_size(size)
    short, long = sorted(frame)
    enlarged = int(size * long / short)  # truncated, as by torchvision's Resize
    return (size, enlarged) if frame[0] == short else (enlarged, size)


def _as_size(side: Any) -> Size:
    return (int(side), int(side)) if is_number(side, Integral) else (int(side[0]), int(side[1]))


def check_size(size: Any, name: str) -> Size:
    """The (H, W); ValueError for other values.

    >>> check_size([4, 6], "size")
    (4, 6)
    """
    is_pair = isinstance(size, tuple | list | torch.Size) and len(size) == 2
    if not is_pair or not all(is_number(side, Integral) and side > 0 for side in size):
        raise ValueError(f"{name}={show(size)}: expected (H, W), two positive integers.")
    return int(size[0]), int(size[1])


def check_side_or_size(size: Any, name: str) -> None:
    """ValueError unless it is a positive integer, (H, W) or None."""
    if size is None or (is_number(size, Integral) and size > 0):
        return
    if is_number(size, Integral) or not isinstance(size, tuple | list | torch.Size):
        raise ValueError(f"{name}={show(size)}: expected a positive integer, (H, W) or None.")
    check_size(size, name)


def _check_boxes(boxes: Tensor) -> Tensor:
    boxes = check_tensor("boxes", boxes)
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(f"Expected boxes (..., 4), x0, y0, x1, y1; received {describe(boxes)}.")
    return check_floats("boxes", boxes if boxes.is_floating_point() else boxes.float())
