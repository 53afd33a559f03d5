"""Read a volume from DICOM files."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import StrPath, check_size
from captum_3dcam._validation import warn
from captum_3dcam.io._voxels import Index, SeveralVolumesError
from captum_3dcam.io.dicom._mosaic import read_mosaic
from captum_3dcam.io.dicom._objects import DicomObject, reading
from captum_3dcam.io.dicom._pixels import decode_frames, read_dataset, rescale
from captum_3dcam.io.dicom._slices import Slice, list_slices
from captum_3dcam.io.dicom._stacks import describe, order, split_stacks
from captum_3dcam.io.dicom.series import name_files, select_volume
from captum_3dcam.io.volume import Volume, check_shape

_MAX_RATIO = 1.5  # of the distance between slices to that which the tags say
_QUANTITATIVE = ("CT", "PT")  # modalities whose values are measurements
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_dicom(
    source: StrPath | Sequence[StrPath],
    series: str | int | None = None,
    index: Index = None,
) -> Volume:
    """Read a DICOM series as a :class:`Volume`.

    ``data[d, h, w]`` is row h, column w of slice d. The slices are sorted along their normal, so
    that an axial scan runs from the feet up. The rescale slope and intercept (or the modality
    lookup table) are applied: CT is in Hounsfield units. Of MONOCHROME1, in which low values are
    white, the values are kept as well, with a UserWarning except for CT and PET. World coordinates
    are converted from LPS to RAS. A slice that is there twice is read once.

    Reads files of one slice, enhanced multi-frame files and Siemens mosaics. Slices of a tilted
    gantry are read as they are, with the tilt in the affine, and a UserWarning.

    Args:
        source: a file, a list of files, or a folder, with its subfolders, in which other files and
            DICOM objects other than scans are passed over, and, with a UserWarning, damaged files
            of other series. Damaged files in the folder of the series that tell no other are
            an error, because they may be its slices; those that are not DICOM but by name, such as
            empty ones, only if its slices are more than 1.5 times as far apart as their
            SpacingBetweenSlices, or without it SliceThickness, says, or both tags are missing.
        series: the number of the series in :func:`list_series`, or its SeriesInstanceUID; required
            if there are several. Files of several patients or frames of reference are several
            series, even under one UID.
        index: which volume of a series that has several (time points, echoes, orientations), from 0
            in the order that the error lists; required if there are several. ``"all"`` reads those
            on one grid as the channels of one input.

    Raises ImportError without pydicom (extra ``medical``), FileNotFoundError, and ValueError for
    damaged files, series without a volume, several series or volumes, slices that are missing or
    unevenly spaced, compressed pixels without their decoder, and volumes that take more than 2 GiB
    as float32 (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    items, damaged = select_volume(source, series)
    mosaics = sorted((item for item in items if item.is_mosaic), key=_acquisition)
    if len(mosaics) == len(items):
        read = [read_mosaic(mosaics[n]) for n in _choose(_describe_mosaics(mosaics), index)]
        _check_interpretation(items)
        return _as_channels([data for data, _ in read], [affine for _, affine in read])
    stacks = split_stacks([each for item in items for each in list_slices(item)])
    chosen = [order(stacks[n][1]) for n in _choose(list(describe(stacks)), index)]
    if damaged:
        _check_nothing_is_lost(chosen, damaged)
    _check_memory([slices for slices, _ in chosen])
    paths = {slice_.path for slices, _ in chosen for slice_ in slices}
    _check_interpretation([item for item in items if item.path in paths])
    affines = [_affine(slices[0], step) for slices, step in chosen]
    return _as_channels([_read_slices(slices) for slices, _ in chosen], affines)


def _check_nothing_is_lost(
    chosen: list[tuple[list[Slice], NDArray[np.float64]]], damaged: list[Path]
) -> None:
    """Compare the distance between slices with the tags; damaged files may have been slices."""
    for slices, step in chosen:
        distance, expected = float(np.linalg.norm(step)), min(each.thickness for each in slices)
        if distance > _MAX_RATIO * expected:
            says = f"is {expected:.3g} mm" if expected else "is not given"
            raise ValueError(
                f"{name_files(damaged)} in the folder of the series may be slices of it: the "
                f"others are {distance:.3g} mm apart, but SpacingBetweenSlices or SliceThickness "
                f"{says}. Copy them again, or move them out of the folder if they are not."
            )


def _check_interpretation(items: list[DicomObject]) -> None:
    """Say what low values are, where it is not the usual meaning."""
    shown = {
        str(item.header.get("PhotometricInterpretation"))
        for item in items
        if item.header.get("Modality") not in _QUANTITATIVE
    }
    if "MONOCHROME1" not in shown:
        return
    if len(shown) > 1:
        raise ValueError(
            f"Low values are white in some slices of {str(items[0].path.parent)!r} and black in "
            "others (MONOCHROME1 and MONOCHROME2). Expected one meaning: invert those of one kind."
        )
    warn(
        "The scan is MONOCHROME1: low values are white. Its values are kept as they are, as by "
        "dcm2niix (SimpleITK and highdicom invert them, each in its own way). A network that "
        "expects bright tissue to be high needs them inverted."
    )


def _acquisition(item: DicomObject) -> tuple[int, int]:
    with reading(item.path):
        header = item.header
        return int(header.get("AcquisitionNumber") or 0), int(header.get("InstanceNumber") or 0)


def _describe_mosaics(mosaics: list[DicomObject]) -> list[str]:
    numbers = [_acquisition(item) for item in mosaics]
    unique = len({acquisition for acquisition, _ in numbers}) == len(numbers)
    return [
        f"{n}: AcquisitionNumber {acquisition}" + ("" if unique else f", InstanceNumber {instance}")
        for n, (acquisition, instance) in enumerate(numbers)
    ]


def _choose(choices: list[str], index: Index) -> list[int]:
    if index == "all" or (index is None and len(choices) == 1):
        return list(range(len(choices)))
    if isinstance(index, int) and 0 <= index < len(choices):
        return [index]
    advice = (
        f"{'; '.join(choices)}. Pass index= (--index), 0 to {len(choices) - 1}, to read one, or "
        "'all' if they are the channels of one input."
    )
    if index is None:
        raise SeveralVolumesError(len(choices), f"The series has several volumes: {advice}")
    raise ValueError(f"There is no index {index!r}: {advice}")


def _affine(first: Slice, step: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3] = np.c_[step, first.axes, first.position]
    return affine


def _as_channels(grids: list[NDArray[np.float32]], affines: list[NDArray[np.float64]]) -> Volume:
    """One volume of grids with affines in LPS, which have to be the same."""
    for data, affine in zip(grids, affines, strict=True):
        same = data.shape == grids[0].shape and np.allclose(affine, affines[0], atol=1e-2)
        if not same:
            raise ValueError("The volumes of the series are on different grids: pass one index.")
    data = grids[0] if len(grids) == 1 else np.stack(grids)
    return Volume(data, _LPS_TO_RAS @ affines[0])


def _check_memory(stacks: list[list[Slice]]) -> None:
    for slices in stacks:
        check_shape((len(slices), *slices[0].size))
    first, count = stacks[0][0], sum(map(len, stacks))
    rows, columns = first.size
    copies = 1 if len(stacks) == 1 else 2  # the channels, and all of them as one array
    size = copies * sum(4 * len(slices) * math.prod(slices[0].size) for slices in stacks)
    check_size(first.path.parent, size, f"{count} slices of {rows} x {columns} pixels")


def _read_slices(slices: list[Slice]) -> NDArray[np.float32]:
    data = np.empty((len(slices), *slices[0].size), np.float32)
    for path, group in groupby(range(len(slices)), lambda number: slices[number].path):
        numbers = list(group)
        with reading(path, "a DICOM slice"):
            _read_file([slices[n] for n in numbers], data[numbers[0] : numbers[-1] + 1])
    return data


def _read_file(slices: list[Slice], data: NDArray[np.float32]) -> None:
    """Fill data with the slices of a file."""
    dataset = read_dataset(slices[0].path)
    frames = [item.frame for item in slices if item.frame is not None]
    decoded = decode_frames(dataset, frames or None)
    for values, item, stored in zip(data, slices, decoded, strict=True):
        if stored.shape != item.size:
            raise ValueError(f"its pixels are {stored.shape}; its header describes {item.size}.")
        values[:] = rescale(stored, dataset, item.rescale)
