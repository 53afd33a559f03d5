"""JHMDB: 21 actions; each video has the joints and the puppet mask of one person."""

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import check_choice
from captum_3dcam.datasets._files import Problem, collect_problems
from captum_3dcam.datasets._frames import FrameSource, VideoSize
from captum_3dcam.datasets._matfile import read_mat
from captum_3dcam.datasets._splits import read_class_splits
from captum_3dcam.datasets._video_dataset import GroundTruth, VideoDataset
from captum_3dcam.datasets.synthetic import mask_boxes

_JOINTS = 15


class JHMDB(VideoDataset):
    """JHMDB (Jhuang et al., *Towards understanding action recognition*, ICCV 2013).

    A sample is a :class:`VideoClip` with one actor. ``root`` contains, as published::

        Rename_Images/<class>/<video>/00001.png, or ReCompress_Videos/<class>/<video>.avi
        joint_positions/<class>/<video>/joint_positions.mat
        puppet_mask/<class>/<video>/puppet_mask.mat
        splits/<class>_test_split1.txt, or the split files without the folder

    The classes are those with a split file, in alphabetical order. Other arguments and errors are
    those of :class:`UCF101`.

    Args:
        boxes: ``"mask"``: tight around the puppet mask and, in frames without a mask, around the
            joints; ``"joints"``: around the pixels of all joints. Boxes around joints are clipped
            to the frame, and nan if no joint lies in it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     _ = Path(root, "catch_test_split1.txt").write_text("ball.avi 2\\nbat.avi 1\\n")
    ...     data = JHMDB(root)
    ...     print(data.classes, data.videos, len(data.check()), "problems")
    ('catch',) ('catch/ball',) 3 problems
    """

    def __init__(
        self,
        root: str | PathLike[str],
        subset: str = "test",
        split: int = 1,
        *,
        clip_length: int | None = 16,
        boxes: str = "mask",
    ) -> None:
        check_choice("boxes", boxes, ("mask", "joints"))
        self.boxes = boxes
        classes, videos = read_class_splits(Path(root), ("splits", "."), subset, split)
        super().__init__(Path(root), subset, split, classes, videos, clip_length)

    def check(self) -> list[Problem]:
        """Read all files of the dataset and return what is wrong with them.

        Puppet masks that end before their video are as published, and not reported.
        """
        problems = [
            Problem(path, f"The class {str(path)!r} has no split file: labels differ from JHMDB's.")
            for path in sorted((self.root / "joint_positions").glob("*"))
            if path.is_dir() and path.name not in self.classes
        ]
        return problems + super().check()

    def _frame_source(self, video: str) -> FrameSource:
        return FrameSource(
            self.root / "Rename_Images" / video, self.root / "ReCompress_Videos" / f"{video}.avi"
        )

    def _mat_file(self, kind: str, video: int) -> Path:
        return self.root / kind / self.videos[video] / f"{kind}.mat"

    def _ground_truth(
        self, video: int, start: int, stop: int, size: tuple[int, int]
    ) -> GroundTruth:
        joints = _read_joints(self._mat_file("joint_positions", video))
        masks = _read_masks(self._mat_file("puppet_mask", video), size)
        boxes = _pad_rows(joint_boxes(joints, size)[start:stop], stop - start, math.nan)
        clip_masks = _pad_rows(torch.from_numpy(masks[start:stop] > 0), stop - start, False)
        if self.boxes == "mask":
            tight = mask_boxes(clip_masks)
            boxes = torch.where(tight.isnan(), boxes, tight)
        return GroundTruth(boxes[None], clip_masks[None])

    def _check_ground_truth(
        self, video: int, size: VideoSize | None, problems: list[Problem]
    ) -> None:
        path = self._mat_file("joint_positions", video)
        with collect_problems(problems, path):
            joints = _read_joints(path)
            if not joints.isfinite().all():
                problems.append(Problem(path, f"{str(path)!r} has joints that are nan or inf."))
            if size is not None and len(joints) != size.frames:
                raise _length_error(path, len(joints), size.frames)
        path = self._mat_file("puppet_mask", video)
        with collect_problems(problems, path):
            masks = _read_masks(path, size and size.image)
            if size is not None and len(masks) > size.frames:
                raise _length_error(path, len(masks), size.frames)


def _length_error(path: Path, frames: int, expected: int) -> ValueError:
    return ValueError(f"{str(path)!r} has {frames} frames; the video has {expected}.")


def joint_boxes(joints: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (T, 4) around the pixels of joints (T, J, 2), counted from 1, in a frame (H, W).

    Boxes are clipped to the frame. Joints that are not finite are ignored; a box is nan if no
    joint lies in the frame.

    >>> joints = torch.tensor([[[1.0, 1.0], [4.0, 400.0]], [[-3.0, 5.0], [2.0, 300.0]]])
    >>> joint_boxes(joints, size=(240, 320)).tolist()
    [[0.0, 0.0, 4.0, 240.0], [nan, nan, nan, nan]]
    """
    limits = joints.new_tensor(size[::-1])  # the width for x, the height for y
    is_finite = joints.isfinite().all(dim=-1, keepdim=True)
    # Pixel k of 1, 2, ... covers [k - 1, k], and has its centre at k - 0.5.
    low = torch.where(is_finite, joints - 1, math.inf).amin(dim=1)
    high = torch.where(is_finite, joints, -math.inf).amax(dim=1)
    boxes = torch.cat([low, high], dim=-1).clamp(min=0).minimum(limits.repeat(2))
    in_frame = is_finite & (joints >= 0.5) & (joints <= limits + 0.5)
    return boxes.where(in_frame.all(dim=-1).any(dim=-1, keepdim=True), math.nan).float()


def _read_joints(path: Path) -> Tensor:
    """(T, 15, 2), float64, x and y from 1 on."""
    joints = read_mat(path, "pos_img")
    if joints.shape[:2] != (2, _JOINTS) or joints.ndim > 3:
        raise ValueError(
            f"'pos_img' in {str(path)!r} has the shape {joints.shape}; expected (2, {_JOINTS}, T)."
        )
    return torch.from_numpy(np.atleast_3d(joints).astype(np.float64).transpose(2, 1, 0))


def _read_masks(path: Path, size: tuple[int, int] | None) -> NDArray[Any]:
    """(T, H, W), checked against the size of the frames if it is given; T may be 0."""
    masks = read_mat(path, "part_mask")
    if not masks.size:
        return np.zeros((0, *(size or (0, 0))), dtype=np.uint8)
    if masks.ndim > 3 or (size is not None and masks.shape[:2] != size):
        frames = "" if size is None else f", and the frames are {size[0]} x {size[1]}"
        raise ValueError(
            f"'part_mask' in {str(path)!r} has the shape {masks.shape}; expected (H, W, T){frames}."
        )
    by_frame: NDArray[Any] = np.atleast_3d(masks).transpose(2, 0, 1)
    return by_frame


def _pad_rows(rows: Tensor, length: int, value: float) -> Tensor:
    """(R, ...) -> (length, ...), with rows of the value appended."""
    missing = rows.new_full((length - len(rows), *rows.shape[1:]), value)
    return torch.cat([rows, missing])
