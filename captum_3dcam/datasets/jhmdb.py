"""JHMDB on disk: 21 actions, each video with its person's joints and puppet mask."""

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import check_choice
from captum_3dcam.datasets._files import Problem, noted
from captum_3dcam.datasets._frames import Footage, FrameSource
from captum_3dcam.datasets._matfile import read_mat
from captum_3dcam.datasets._splits import SUBSETS, find_folder, read_class_splits
from captum_3dcam.datasets.clips import Truth, Video, VideoDataset
from captum_3dcam.datasets.synthetic import mask_boxes

_JOINTS = 15


class JHMDB(VideoDataset):
    """JHMDB (Jhuang et al., *Towards understanding action recognition*, ICCV 2013), as clips.

    Each :class:`VideoClip` has one actor. Under ``root`` lie, as they are published::

        Rename_Images/<class>/<video>/00001.png, or ReCompress_Videos/<class>/<video>.avi
        joint_positions/<class>/<video>/joint_positions.mat
        puppet_mask/<class>/<video>/puppet_mask.mat
        splits/<class>_test_split1.txt, or without the folder

    The classes are those that have a split file, in order of the alphabet.

    Args:
        root: the folder.
        subset: ``"train"`` or ``"test"``.
        split: 1, 2 or 3.
        clip_length: the frames of a clip; the last one of a video is padded. None: a video is
            one clip.
        boxes: ``"mask"``, tight around the puppet mask and, in frames without one, around the
            joints; or ``"joints"``, around the pixels of all joints. Boxes around joints are
            clipped to the frame, and nan where no joint lies in it.

    Raises:
        ValueError: for another subset, split, clip_length or boxes, and for a damaged split.
        FileNotFoundError: without a split.

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
        check_choice("subset", subset, SUBSETS)
        check_choice("split", split, (1, 2, 3))
        check_choice("boxes", boxes, ("mask", "joints"))
        self.root, self.boxes = Path(root), boxes
        folder = find_folder(self.root, ("splits", "."), f"?*_test_split{split}.txt")
        listed = read_class_splits(folder, split, subset)
        videos = [
            Video(f"{name}/{video}", label, self._frames(name, video))
            for label, (name, names) in enumerate(listed.items())
            for video in names
        ]
        super().__init__(tuple(listed), videos, clip_length)

    def check(self) -> list[Problem]:
        """All that is wrong with the files, which are all read; [] if nothing is.

        Puppet masks that end before their video are as published, and no problem.
        """
        return self._unlisted() + super().check()

    def _frames(self, name: str, video: str) -> FrameSource:
        folder = self.root / "Rename_Images" / name / video
        return FrameSource(folder, self.root / "ReCompress_Videos" / name / f"{video}.avi")

    def _unlisted(self) -> list[Problem]:
        """Classes with data and without a split: their absence moves the labels of others."""
        folders = sorted(
            path for path in (self.root / "joint_positions").glob("*") if path.is_dir()
        )
        return [
            Problem(path, f"The class {str(path)!r} has no split file: labels differ from JHMDB's.")
            for path in folders
            if path.name not in self.classes
        ]

    def _joint_file(self, video: int) -> Path:
        return self.root / "joint_positions" / self.videos[video] / "joint_positions.mat"

    def _mask_file(self, video: int) -> Path:
        return self.root / "puppet_mask" / self.videos[video] / "puppet_mask.mat"

    def _truth(self, video: int, start: int, stop: int, size: tuple[int, int]) -> Truth:
        joints = _read_joints(self._joint_file(video))
        masks = _read_masks(self._mask_file(video), size)
        boxes = _fit(joint_boxes(joints, size), start, stop, math.nan)
        shown = _fit(torch.from_numpy(masks[start:stop] > 0), 0, stop - start, False)
        if self.boxes == "mask":
            tight = mask_boxes(shown)
            boxes = torch.where(tight.isnan(), boxes, tight)
        return Truth(boxes[None], shown[None])

    def _check_truth(self, video: int, footage: Footage | None, problems: list[Problem]) -> None:
        path = self._joint_file(video)
        with noted(problems, path):
            joints = _read_joints(path)
            if not joints.isfinite().all():
                problems.append(Problem(path, f"{str(path)!r} has joints that are nan or inf."))
            if footage is not None and len(joints) != footage.frames:
                message = f"{str(path)!r} has {len(joints)} frames; the video has {footage.frames}."
                problems.append(Problem(path, message))
        path = self._mask_file(video)
        with noted(problems, path):
            masks = _read_masks(path, footage and footage.size)
            if footage is not None and len(masks) > footage.frames:
                message = f"{str(path)!r} has {len(masks)} frames; the video has {footage.frames}."
                problems.append(Problem(path, message))


def joint_boxes(joints: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (T, 4) around the pixels of joints (T, J, 2), which count from 1, in a frame (H, W).

    They are clipped to the frame. A joint that is not finite is none; without a joint in the
    frame the box is nan.

    >>> joints = torch.tensor([[[1.0, 1.0], [4.0, 400.0]], [[-3.0, 5.0], [2.0, 300.0]]])
    >>> joint_boxes(joints, size=(240, 320)).tolist()
    [[0.0, 0.0, 4.0, 240.0], [nan, nan, nan, nan]]
    """
    edges = joints.new_tensor(size[::-1])  # the width for x, the height for y
    there = joints.isfinite().all(dim=-1, keepdim=True)
    # Pixel k of 1, 2, ... covers [k - 1, k], and has its centre at k - 0.5.
    low = torch.where(there, joints - 1, math.inf).amin(dim=1)
    high = torch.where(there, joints, -math.inf).amax(dim=1)
    boxes = torch.cat([low, high], dim=-1).clamp(min=0).minimum(edges.repeat(2))
    in_frame = there & (joints >= 0.5) & (joints <= edges + 0.5)
    return boxes.where(in_frame.all(dim=-1).any(dim=-1, keepdim=True), math.nan).float()


def _read_joints(path: Path) -> Tensor:
    """(T, 15, 2), float64, x and y from 1 on."""
    joints = read_mat(path, "pos_img")
    if joints.shape[:2] != (2, _JOINTS) or joints.ndim > 3:
        raise ValueError(
            f"'pos_img' in {str(path)!r} is of shape {joints.shape}; expected (2, {_JOINTS}, T)."
        )
    by_frame = np.atleast_3d(joints).astype(np.float64).transpose(2, 1, 0)
    return torch.from_numpy(by_frame)


def _read_masks(path: Path, size: tuple[int, int] | None) -> NDArray[Any]:
    """(T, H, W), of a video whose frames are of the size, if that is known; T may be 0."""
    masks = read_mat(path, "part_mask")
    if not masks.size:
        return np.zeros((0, *(size or (0, 0))), dtype=np.uint8)
    if masks.ndim > 3 or (size is not None and masks.shape[:2] != size):
        frames = "" if size is None else f", as the frames are {size[0]} x {size[1]}"
        raise ValueError(
            f"'part_mask' in {str(path)!r} is of shape {masks.shape}; expected (H, W, T){frames}."
        )
    by_frame: NDArray[Any] = np.atleast_3d(masks).transpose(2, 0, 1)
    return by_frame


def _fit(x: Tensor, start: int, stop: int, value: float) -> Tensor:
    """Rows [start, stop) of (T, ...), with a value for those beyond the end."""
    rows = x[start:stop]
    missing = stop - start - len(rows)
    return torch.cat([rows, rows.new_full((missing, *x.shape[1:]), value)])
