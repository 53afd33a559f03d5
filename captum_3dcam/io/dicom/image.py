"""Read an image from a DICOM file: X-rays, photographs, single frames."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import BYTES_PER_PIXEL, StrPath, check_size
from captum_3dcam.io.dicom._objects import DicomObject, import_pydicom, reading
from captum_3dcam.io.dicom._pixels import decode_frames, measured_values, read_dataset
from captum_3dcam.io.dicom.series import select_object

Pixels = NDArray[np.uint8]


def read_dicom_image(path: StrPath, series: str | int | None = None) -> Pixels:
    """Read an X-ray, photograph, ultrasound frame or secondary capture as RGB, (H, W, 3) uint8.

    Grey values are shown as the file says: the modality lookup table or rescale, then the lookup
    table or the first window for display; without one, values of more than 8 bits are stretched
    from their minimum to their maximum, padding aside. MONOCHROME1, in which low values are white,
    is inverted. Colour is converted to RGB, and palettes are applied. Pixels that are not square
    are made so, by linear interpolation along their longer side.

    Args:
        path: a file, or a folder with one image.
        series: the number of the series in :func:`list_series`, or its SeriesInstanceUID; required
            if a folder has several.

    Raises ImportError without pydicom (extra ``medical``), FileNotFoundError, and ValueError for
    damaged files, several images, volumes and videos, compressed pixels without their decoder, and
    images of more than 2^26 pixels (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    item = select_object(path, "image", series)
    with reading(item.path, "a DICOM image"):
        dataset = read_dataset(item.path)
        check_frames(item, dataset)
        (stored,) = decode_frames(dataset)
        return Display(dataset, *value_range(dataset, [stored])).to_rgb(stored)


def check_frames(item: DicomObject, dataset: Any) -> None:
    """Check the size of an image, or of all frames of a video, before they are decoded."""
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), item.frames
    if min(rows, columns, count) < 1:
        raise ValueError(f"its size is {rows} x {columns}, {count} frames.")
    ratio = _pixel_ratio(dataset)
    pixels = round(rows * columns * max(ratio, 1 / ratio))
    content = f"{rows} x {columns} pixels" if count == 1 else f"{count} x {rows} x {columns} pixels"
    check_size(item.path, pixels * (BYTES_PER_PIXEL + 3 * (count - 1)), content)


def value_range(dataset: Any, frames: Any) -> tuple[float, float]:
    """The lowest and highest value of all frames, without the value that fills the surroundings."""
    padding = dataset.get("PixelPaddingValue")
    low, high = np.inf, -np.inf
    if _is_grey(dataset) and not _has_display(dataset):
        for stored in frames:
            values = stored if padding is None else stored[stored != padding]
            if values.size:
                values = measured_values(values, dataset)
                low, high = min(low, values.min()), max(high, values.max())
    return float(low), float(high)


def _is_grey(dataset: Any) -> bool:
    return str(dataset.PhotometricInterpretation).startswith("MONOCHROME")


def _has_display(dataset: Any) -> bool:
    """Whether the file says how its values are shown, or they can be shown as they are."""
    rescaled = "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset
    as_is = int(dataset.BitsStored) == 8 and not dataset.PixelRepresentation and not rescaled
    return "WindowCenter" in dataset or "VOILUTSequence" in dataset or as_is


class Display:
    """How the values of a file are shown: as 8-bit RGB, with square pixels."""

    def __init__(self, dataset: Any, low: float, high: float) -> None:
        self._dataset = dataset
        self._range = low, high
        rows, columns, ratio = int(dataset.Rows), int(dataset.Columns), _pixel_ratio(dataset)
        self.size = (round(rows * max(ratio, 1)), round(columns / min(ratio, 1)))
        """(H, W) with square pixels."""

    def to_rgb(self, stored: NDArray[Any]) -> Pixels:
        if _is_grey(self._dataset):
            rgb = np.repeat(self._to_grey(stored)[..., None], 3, axis=2)
        else:
            rgb = self._to_colour(stored)
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"its pixels are {stored.shape}; expected an image, grey or RGB.")
        return rgb if rgb.shape[:2] == self.size else _resize(rgb, self.size)

    def _to_grey(self, stored: NDArray[Any]) -> Pixels:
        if stored.ndim != 2:
            raise ValueError(f"its pixels are {stored.shape}; expected one channel.")
        grey = self._windowed(stored)
        if not np.isfinite(grey).all():
            raise ValueError("its rescale slope, intercept or window is damaged.")
        if self._dataset.PhotometricInterpretation == "MONOCHROME1":
            grey = 255 - grey
        return np.clip(np.round(grey), 0, 255).astype(np.uint8)

    def _windowed(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        pydicom, dataset = import_pydicom(), self._dataset
        values = measured_values(stored, dataset)
        if "VOILUTSequence" in dataset:
            table = dataset.VOILUTSequence[0]
            entries, first, bits = table.LUTDescriptor
            # pydicom counts values in the type of the entries: more than 255 overflow 8 bits.
            table.LUTDescriptor = [entries, first, 16]
            shown = pydicom.pixels.apply_voi(np.round(values).astype(np.int64), dataset)
            table.LUTDescriptor = [entries, first, bits]
            return np.asarray(shown * (255 / ((1 << int(bits)) - 1)), float)
        if "WindowCenter" in dataset:
            return _apply_window(pydicom, values, dataset)
        low, high = self._range
        if not math.isfinite(low):  # of 8 bits, shown as they are
            return values
        return (values - low) * (255 / max(high - low, 1e-12))

    def _to_colour(self, stored: NDArray[Any]) -> Pixels:
        bits = int(self._dataset.BitsStored)
        if self._dataset.PhotometricInterpretation == "PALETTE COLOR":
            stored = _apply_palette(stored, self._dataset)
            bits = 8 * stored.itemsize
        return (stored >> (bits - 8)).astype(np.uint8) if bits > 8 else stored.astype(np.uint8)


def _apply_palette(stored: NDArray[Any], dataset: Any) -> NDArray[Any]:
    entries, _, bits = map(int, dataset.RedPaletteColorLookupTableDescriptor)
    entries = entries or 2**16
    table = dataset.get("RedPaletteColorLookupTableData")  # not of a segmented palette
    swapped = table is not None and not dataset.original_encoding[1]
    narrow = table is not None and len(table) in (entries, entries + 1)
    if narrow and (swapped or entries > 2**8):
        raise ValueError("its palette has entries of 8 bits and is large or big endian.")
    colours = import_pydicom().pixels.apply_color_lut(stored, dataset)[..., :3]
    if swapped:
        colours = colours.byteswap()  # pydicom reads the table as little endian
    return np.asarray(colours, np.uint8 if bits == 8 else colours.dtype)


def _apply_window(pydicom: Any, values: NDArray[np.float64], dataset: Any) -> NDArray[np.float64]:
    """The first window of the file, from 0 to 255."""
    window = pydicom.Dataset()
    for name in ("WindowCenter", "WindowWidth", "VOILUTFunction", "PhotometricInterpretation"):
        if name in dataset:
            window[name] = dataset[name]
    window.BitsStored, window.PixelRepresentation = 8, 0  # the range of the result
    return np.asarray(pydicom.pixels.apply_windowing(values, window), np.float64)


def _resize(rgb: Pixels, size: tuple[int, int]) -> Pixels:
    from PIL import Image

    # A copy: PyTorch warns of arrays that it may not write to.
    return np.array(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BILINEAR))


def _pixel_ratio(dataset: Any) -> float:
    """The height of a pixel divided by its width."""
    for name in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"):
        value = dataset.get(name)
        if value is not None and len(value) == 2 and min(map(float, value)) > 0:
            ratio = float(value[0]) / float(value[1])
            if not 0.1 <= ratio <= 10:
                raise ValueError(f"its pixels are {ratio:.3g} times as high as wide.")
            return 1 if abs(ratio - 1) < 1e-3 else ratio
    return 1
