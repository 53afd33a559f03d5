"""Stacks of slices: a series is split into volumes, and the slices of one are put in order."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._validation import warn
from captum_3dcam.io.dicom._choices import format_position, tell_apart
from captum_3dcam.io.dicom._objects import STACK_TAGS
from captum_3dcam.io.dicom._slices import Slice

_TOLERANCE = 0.1  # of a slice's position, as a fraction of the distance between slices
_SAME_POSITION = 0.01  # mm

Stack = tuple[str, list[Slice]]
"""A label, and the slices that it tells from the others of the series."""


def split_stacks(slices: list[Slice]) -> list[Stack]:
    """Split slices by size and orientation, and, where positions repeat, by what else differs."""
    grids: list[list[Slice]] = []
    for item in slices:
        grid = next((grid for grid in grids if _is_parallel(item, grid[0])), None)
        if grid is None:
            grids.append([item])
        else:
            grid.append(item)
    labels = [""] if len(grids) == 1 else [_orientation(grid[0]) for grid in grids]
    return [
        (", ".join(filter(None, (label, repeat))), stack)
        for label, grid in zip(labels, grids, strict=True)
        for repeat, stack in _split_repeats(grid)
    ]


def _is_parallel(item: Slice, other: Slice) -> bool:
    tolerance = 1e-3 * np.abs(other.axes).max()
    same_axes = np.allclose(item.axes, other.axes, rtol=0, atol=tolerance)
    return item.size == other.size and same_axes


def _orientation(item: Slice) -> str:
    across = int(np.abs(_normal(item)).argmax())
    return ("sagittal", "coronal", "axial")[across]


def _normal(item: Slice) -> NDArray[np.float64]:
    normal = np.cross(item.axes[:, 1], item.axes[:, 0])
    return np.asarray(normal / np.linalg.norm(normal))


def _split_repeats(slices: list[Slice]) -> list[Stack]:
    if not _repeats(slices):
        return [("", slices)]
    tags = [tag for tag in STACK_TAGS if len({item.labels.get(tag) for item in slices}) > 1]
    for choices in ([[tag] for tag in tags], combinations(tags, 2), [tags]):
        splits = [_split_by(slices, names) for names in choices]
        if valid := [split for split in splits if _is_of_volumes(split, slices)]:
            return min(valid, key=len)
    return [("", slices)]


def _split_by(slices: list[Slice], names: Sequence[str]) -> list[Stack]:
    groups: dict[tuple[str, ...], list[Slice]] = {}
    for item in slices:
        groups.setdefault(tuple(item.labels.get(name, "") for name in names), []).append(item)
    return [
        (", ".join(map(" ".join, zip(names, values, strict=True))), groups[values])
        for values in sorted(groups, key=_number)
    ]


def _is_of_volumes(split: list[Stack], slices: list[Slice]) -> bool:
    """Whether no stack has a position twice, and the largest has all of them.

    A number that differs between slices, such as a time, would split each position off.
    """
    positions = 1 + np.count_nonzero(_gaps(slices) > _SAME_POSITION)
    complete = max(len(stack) for _, stack in split) == positions
    return complete and not any(_repeats(stack) for _, stack in split)


def _number(values: tuple[str, ...]) -> list[tuple[float, str]]:
    """Order numbers by value, as "10" comes after "9"."""
    return [(_to_float(value), value) for value in values]


def _to_float(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return math.inf
    return number if math.isfinite(number) else math.inf


def _repeats(slices: list[Slice]) -> bool:
    """Whether two slices are at one position."""
    gaps = _gaps(slices)
    limit = max(_TOLERANCE * np.median(gaps), _SAME_POSITION) if len(gaps) else 0
    return bool((gaps <= limit).any())


def _gaps(slices: list[Slice]) -> NDArray[np.float64]:
    normal = _normal(slices[0])
    return np.diff(sorted(float(item.position @ normal) for item in slices))


def order(slices: list[Slice]) -> tuple[list[Slice], NDArray[np.float64]]:
    """Sort parallel slices; return them and the vector between neighbours, (3,) in LPS and mm."""
    first, normal = slices[0], _normal(slices[0])
    if len(slices) == 1:
        if first.thickness <= 0:
            raise ValueError(f"{first} is a single slice without a thickness.")
        return slices, normal * first.thickness
    slices = sorted(slices, key=lambda item: float(item.position @ normal))
    _check_gaps(slices)
    step = (slices[-1].position - slices[0].position) / (len(slices) - 1)
    for number, item in enumerate(slices):
        distance = np.linalg.norm(item.position - slices[0].position - number * step)
        if distance > _TOLERANCE * np.linalg.norm(step):
            raise ValueError(
                f"The slices are not evenly spaced along a line: {item} is {distance:.3g} mm from "
                "its expected position. dcm2niix interpolates such series to even slices."
            )
    _warn_of_tilt(slices, step, normal)
    return slices, step


def _check_gaps(slices: list[Slice]) -> None:
    gaps = _gaps(slices)
    typical = float(np.median(gaps))
    for gap, (before, after) in zip(gaps, pairwise(slices), strict=True):
        if gap <= max(_TOLERANCE * typical, _SAME_POSITION):
            raise ValueError(
                f"Two slices at the same position: {before} and {after}. If the series has several "
                "time points, pass the files of one."
            )
        if gap > 1.5 * typical:
            raise ValueError(
                f"{round(gap / typical) - 1} or more slices are missing between {before} and "
                f"{after}: the distance is {gap:.3g} mm; the other slices are {typical:.3g} mm "
                "apart."
            )


def _warn_of_tilt(
    slices: list[Slice], step: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    sideways = float(np.linalg.norm(step - (step @ normal) * normal))
    pixel = np.linalg.norm(slices[0].axes, axis=0).min()
    if sideways * (len(slices) - 1) > 0.5 * pixel:
        angle = math.degrees(math.atan2(sideways, float(step @ normal)))
        warn(
            f"The slices are tilted by {angle:.1f} degrees (gantry tilt): each is shifted by "
            f"{sideways:.2g} mm against the one before. The volume keeps the slices, and the tilt "
            "in its affine: positions are right, but a network sees a sheared body, and programs "
            "that know no shear, such as those with ITK, show it sheared. dcm2niix resamples."
        )


def describe(stacks: list[Stack]) -> Iterator[str]:
    """Yield one choice per stack, without anything that identifies the patient."""
    texts = [f"{label or 'volume'} ({_count(slices)}" for label, slices in stacks]
    for number, text in enumerate(texts):
        alike = [s[0] for other, (_, s) in zip(texts, stacks, strict=True) if other == text]
        own, others = _details(stacks[number][1][0]), [_details(other) for other in alike]
        more = tell_apart(own, others) if len(alike) > 1 else ""
        yield f"{number}: {', '.join(filter(None, (text, more)))})"


def _count(slices: list[Slice]) -> str:
    rows, columns = slices[0].size
    count = "1 slice" if len(slices) == 1 else f"{len(slices)} slices"
    return f"{count} of {rows} x {columns} pixels"


def _details(item: Slice) -> dict[str, str]:
    rows, columns = np.linalg.norm(item.axes, axis=0)
    x, y, z = _normal(item) * (-1, -1, 1) + 0.0  # no -0.0
    labels = {tag: f"{tag} {value}" for tag, value in item.labels.items()}
    return {
        "spacing": f"{rows:.4g} x {columns:.4g} mm apart",
        "position": f"first pixel at {format_position(item.position)}",
        **labels,
        "normal": f"normal ({x:.3f}, {y:.3f}, {z:.3f}) RAS",
    }
