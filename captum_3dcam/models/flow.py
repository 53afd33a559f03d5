"""Optical flow as the input of a network: computed of frames, and scaled for the flow stream."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_3dcam._files import import_extra
from captum_3dcam._validation import check_floats, check_positive, check_tensor, describe
from captum_3dcam.models._frame_geometry import FrameGeometry, check_side_or_size, geometry_of
from captum_3dcam.models.preprocessing import Preprocessing

_GREY = Preprocessing(channels=1)


def optical_flow(frames: Tensor) -> Tensor:
    """The optical flow of RGB frames (3, T, H, W): (2, T, H, W), x and y in pixels per frame.

    Frame t has the flow from t to t + 1: its pixel (x, y) is at (x + flow[0], y + flow[1]) in the
    next frame. The last frame has that of the one before it. Grey values, TV-L1 (Zach, Pock,
    Bischof, 2007, doi 10.1007/978-3-540-74936-3_22), as the flow stream of I3D was trained with;
    here by scikit-image (extra ``flow``).

    Args:
        frames: uint8, or floats in [0, 1]; two frames or more.

    Raises ImportError without scikit-image, ValueError for another shape or range, and TypeError
    for another dtype.

    >>> x = torch.linspace(0, 6.28, 32)
    >>> frames = torch.stack([torch.sin(x - shift * 0.2) for shift in (0, 1)]) / 2 + 0.5
    >>> flow = optical_flow(frames[None, :, None].expand(3, 2, 32, 32))
    >>> flow.shape, 0.5 < flow[0].median() < 1.5  # one pixel, 6.28 / 31, to the right
    (torch.Size([2, 2, 32, 32]), tensor(True))
    """
    _check_clip(frames, (3,), "RGB frames (3, T, H, W)")
    if frames.shape[1] < 2:
        raise ValueError(
            f"Expected two frames or more, between which there is motion; received "
            f"{describe(frames)}."
        )
    registration = import_extra("skimage.registration", "Optical flow needs scikit-image", "flow")
    grey = _GREY(frames)[0].cpu().numpy()
    flows = [registration.optical_flow_tvl1(*pair) for pair in pairwise(grey)]  # (row, column)
    flow = torch.from_numpy(np.stack([*flows, flows[-1]], axis=1)[::-1].copy())
    return flow.to(frames.device, torch.float32)


@dataclass(frozen=True)
class FlowPreprocessing:
    """Optical flow for a flow stream: clipped to [−``bound``, ``bound``], divided by ``bound``.

    As I3D's flow stream was trained (Carreira, Zisserman, arXiv 1705.07750): flow in pixels of the
    resized frames, [-20, 20] -> [-1, 1]. A clip of three channels is RGB, resized before
    :func:`optical_flow`; one of two channels is a flow, whose displacements are resized with its
    frames. ``size`` and ``crop`` are as in :class:`Preprocessing`.

    Raises ValueError or TypeError for values other than described.

    >>> flow = torch.tensor([5.0, -50.0])[:, None, None, None].expand(2, 8, 16, 16)
    >>> FlowPreprocessing(size=(32, 32))(flow)[:, 0, 0, 0]  # 10 and -100 pixels of the 32
    tensor([ 0.5000, -1.0000])
    """

    size: int | tuple[int, int] | None = None
    """What frames are resized to: (H, W), the length of the shorter side, or None."""
    crop: int | tuple[int, int] | None = None
    """(H, W) of the centre that is kept after resizing; None keeps all."""
    bound: float = 20.0
    """Pixels per frame; larger displacements are clipped."""

    def __post_init__(self) -> None:
        check_side_or_size(self.size, "size")
        check_side_or_size(self.crop, "crop")
        check_positive("bound", self.bound)

    def __call__(self, clip: Tensor) -> Tensor:
        """Convert RGB frames (3, T, H, W), or their flow (2, T, H, W), to the network's input.

        Raises ImportError for frames without scikit-image, ValueError for another shape, and for
        frames smaller than the crop.
        """
        _check_clip(clip, (2, 3), "RGB frames (3, T, H, W) or a flow (2, T, H, W)")
        geometry = self.geometry((clip.shape[-2], clip.shape[-1]))
        if clip.shape[0] == 3:
            flow = optical_flow(Preprocessing(size=self.size)(clip))
        else:
            flow = _resize(check_floats("clip", clip), geometry)
        return geometry.crop(flow).clamp(-self.bound, self.bound) / self.bound

    def restore(self, clip: Tensor) -> Tensor:
        """Convert a network's input back to a flow in pixels per frame, clipped as it was."""
        return clip * self.bound

    def geometry(self, frame_size: tuple[int, int]) -> FrameGeometry:
        """For frames of (H, W): their size when resized, and the position of the crop."""
        return geometry_of(frame_size, self.size, self.crop)

    def maps_to_frame(self, maps: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """Maps (..., h, w) of the network's input -> over the whole frame, as Preprocessing."""
        return self.geometry(frame_size).maps_to_frame(maps)

    def boxes_to_input(self, boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """Boxes (..., 4) of frames of (H, W) -> in pixels of the network's input."""
        return self.geometry(frame_size).boxes_to_input(boxes)


def _resize(flow: Tensor, geometry: FrameGeometry) -> Tensor:
    """A flow at another size; a pixel that moves by 1 of 10 columns moves by 2 of 20."""
    if geometry.resized == geometry.frame:
        return flow
    resized = F.interpolate(
        flow.movedim(0, 1), geometry.resized, mode="bilinear", antialias=True
    ).movedim(1, 0)
    y, x = (new / old for new, old in zip(geometry.resized, geometry.frame, strict=True))
    return resized * flow.new_tensor([x, y]).reshape(2, 1, 1, 1)


def _check_clip(clip: Any, channels: tuple[int, ...], expected: str) -> None:
    check_tensor("clip", clip)
    if clip.ndim != 4 or clip.shape[0] not in channels or not clip.numel():
        raise ValueError(
            f"Expected {expected}, not empty and without a batch axis; received {describe(clip)}. "
            "Convert one clip at a time."
        )
