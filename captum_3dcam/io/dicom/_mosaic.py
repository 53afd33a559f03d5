"""Siemens mosaics: all slices of a volume side by side in one image."""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import BYTES_PER_PIXEL, check_size, import_extra
from captum_3dcam.io.dicom._objects import MOSAIC_COUNT, DicomObject, reading
from captum_3dcam.io.dicom._pixels import read_dataset


def mosaic_shape(header: Any) -> tuple[int, int, int]:
    """(D, H, W) by the scanner's own tag; one slice where it is missing."""
    count = int(header[MOSAIC_COUNT].value) if MOSAIC_COUNT in header else 1
    tiles = math.ceil(math.sqrt(max(count, 1)))
    return max(count, 1), int(header.Rows) // tiles, int(header.Columns) // tiles


def _check_tiles(rows: int, columns: int, tiles: int, count: int) -> None:
    """Refuse tiles that do not fill the image: nothing says which pixels are theirs."""
    if rows % tiles or columns % tiles or min(rows, columns) < tiles:
        raise ValueError(
            f"its {rows} x {columns} pixels are not {tiles} x {tiles} equal tiles, as {count} "
            "slices need: pixels and header do not belong together. Export it from the scanner's "
            "archive again, as single slices if possible."
        )


def read_mosaic(item: DicomObject) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read the values (D, H, W) and the affine (4, 4) of its voxels in LPS, with NiBabel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is announced as experimental; the tests compare it
        wrappers = import_extra("nibabel.nicom.dicomwrappers", "Mosaics need NiBabel", "medical")
    with reading(item.path, "a Siemens mosaic"):
        rows, columns = int(item.header.Rows), int(item.header.Columns)
        check_size(item.path, BYTES_PER_PIXEL * rows * columns, f"{rows} x {columns} pixels")
        wrapper = wrappers.wrapper_from_data(read_dataset(item.path))
        if type(wrapper) is not wrappers.MosaicWrapper:
            raise ValueError(
                "it has no Siemens header that says where its slices are. Convert it with dcm2niix."
            )
        _check_tiles(rows, columns, wrapper.mosaic_size, wrapper.n_mosaic)
        data = np.asarray(wrapper.get_data(), np.float32)  # rows, columns, slices
        return data.transpose(2, 0, 1), np.asarray(wrapper.affine)[:, [2, 0, 1, 3]]
