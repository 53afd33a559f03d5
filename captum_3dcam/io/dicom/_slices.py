"""The geometry of slices: files of one slice each, and the frames of a multi-frame file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import BYTES_PER_PIXEL, check_size
from captum_3dcam.io.dicom._objects import (
    GEOMETRY,
    STACK_TAGS,
    DicomObject,
    import_pydicom,
    reading,
)

_FRAME_TAGS = (*GEOMETRY[2:], *STACK_TAGS, "SpacingBetweenSlices", "SliceThickness")
_RESCALE_TAGS = ("RescaleSlope", "RescaleIntercept")


class Slice(NamedTuple):
    """The geometry of a slice, in LPS and mm."""

    path: Path
    frame: int | None
    """Of a multi-frame file."""
    size: tuple[int, int]
    """Rows and columns."""
    axes: NDArray[np.float64]
    """(3, 2), from one row to the next and from one column to the next."""
    position: NDArray[np.float64]
    """(3,), of the first voxel."""
    thickness: float
    """Or the distance to the next slice; 0 if unknown."""
    rescale: Any
    """The dataset with the rescale slope and intercept of a frame; None where the file has one."""
    labels: dict[str, str]
    """What may tell it from another slice at the same position."""

    def __str__(self) -> str:
        return repr(str(self.path)) + ("" if self.frame is None else f" frame {self.frame + 1}")


def list_slices(item: DicomObject) -> Iterator[Slice]:
    """Yield the slices of a file."""
    with reading(item.path, "a DICOM slice"):
        header = item.header
        if item.is_mosaic:
            raise ValueError("it is a mosaic among single slices. Pass the files of one kind.")
        if int(header.get("SamplesPerPixel") or 1) != 1:
            raise ValueError("it has colour channels. Expected greyscale slices.")
        if item.frames == 1 and "PerFrameFunctionalGroupsSequence" not in header:
            yield _parse(item.path, None, header, None)
            return
        frames = header.get("PerFrameFunctionalGroupsSequence") or ()
        if item.frames < 1 or len(frames) != item.frames:
            raise ValueError(
                f"it has {item.frames} frames and the positions of {len(frames)}. Expected a "
                "position in the patient for each frame."
            )
        shared = list(header.get("SharedFunctionalGroupsSequence") or ())
        for number, groups in enumerate(frames):
            flat = _flatten(header, [*shared, groups])
            yield _parse(item.path, number, flat, flat)


def _flatten(header: Any, groups: list[Any]) -> Any:
    """The elements of a frame, which the functional groups hold, as of a file of one slice."""
    flat = import_pydicom().Dataset()
    flat.Rows, flat.Columns = header.Rows, header.Columns
    for group in groups:
        for sequence in group:
            if sequence.VR == "SQ" and not sequence.tag.is_private and sequence.value:
                for name in (*_FRAME_TAGS, *_RESCALE_TAGS):
                    if name in sequence.value[0]:
                        flat[name] = sequence.value[0][name]
    return flat


def _parse(path: Path, frame: int | None, header: Any, rescale: Any) -> Slice:
    if missing := [tag for tag in GEOMETRY if header.get(tag) is None]:
        raise ValueError(f"it has no {missing[0]}, so it is not a slice of a volume.")
    size = int(header.Rows), int(header.Columns)
    if min(size) < 1:
        raise ValueError(f"its size is {size[0]} x {size[1]}.")
    check_size(path, BYTES_PER_PIXEL * size[0] * size[1], f"{size[0]} x {size[1]} pixels")
    spacing, cosines, position = (np.array(header.get(tag), np.float64) for tag in GEOMETRY[2:])
    complete = (spacing.shape, cosines.shape, position.shape) == ((2,), (6,), (3,))
    units = np.resize(cosines, (2, 3))[::-1].T  # (3, 2), unit vectors of the axes
    orthonormal = np.allclose(units.T @ units, np.eye(2), atol=1e-3)
    finite = np.isfinite(position).all() and np.isfinite(spacing).all()
    if not (complete and orthonormal and finite and spacing.min() > 0):
        values = ", ".join(f"{tag} {header.get(tag)}" for tag in GEOMETRY[2:])
        raise ValueError(f"its geometry is damaged: {values}.")
    thickness = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0)
    labels = {tag: str(header.get(tag)) for tag in STACK_TAGS if header.get(tag) is not None}
    return Slice(path, frame, size, units * spacing, position, abs(thickness), rescale, labels)
