"""Decode pixels and rescale them, within the limit of memory."""

import math
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._files import check_size, import_extra
from captum_3dcam.io.dicom._objects import check_deflated, import_pydicom, open_unpacked

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SOFS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_ITK = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91)}
"""JPEG, lossless JPEG, JPEG-LS and JPEG 2000."""
_RLE = "1.2.840.10008.1.2.5"
_IMAGE_TAGS = (
    "SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


def read_dataset(path: Path) -> Any:
    """Read a whole file; one without a transfer syntax gets that which pydicom detects."""
    pydicom = import_pydicom()
    with open_unpacked(path) as file:
        check_deflated(pydicom, file, path)
        dataset = pydicom.dcmread(file, force=True)
    dataset.filename = str(path)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        uid = pydicom.uid
        plain = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = plain if little else uid.ExplicitVRBigEndian
    return dataset


def decode_frames(dataset: Any, frames: list[int] | None = None) -> Iterator[NDArray[Any]]:
    """Yield the pixels of some frames, or of all; colour as RGB."""
    pixels, syntax = import_pydicom().pixels, dataset.file_meta.TransferSyntaxUID
    if syntax in _ITK:
        decoded = _decode_with_itk(dataset)
        yield from (decoded[number] for number in frames or range(len(decoded)))
        return
    if syntax.is_encapsulated and syntax != _RLE:
        raise ValueError(
            f"its pixels are compressed as {syntax.name}, which is not supported. Decompress it, "
            "for example with the tools of DCMTK or GDCM."
        )
    plugin = "pydicom" if syntax == _RLE else ""  # not another that is installed
    if frames is None and int(dataset.get("NumberOfFrames") or 1) == 1:
        yield pixels.pixel_array(dataset, decoding_plugin=plugin)
    else:
        yield from pixels.iter_pixels(dataset, indices=frames, decoding_plugin=plugin)


def _decode_with_itk(dataset: Any) -> NDArray[Any]:
    """The stored values of all frames, (T, rows, columns) or, in RGB, (T, rows, columns, 3).

    ITK has all decoders. It reads a file with these pixels alone, as it rescales and inverts others
    by its own rules.
    """
    sitk = import_extra("SimpleITK", "Compressed DICOM files need SimpleITK", "medical")
    pydicom = import_pydicom()
    _check_frame_sizes(pydicom, dataset)
    plain = pydicom.Dataset()
    for tag in _IMAGE_TAGS:
        if tag in dataset:
            plain[tag] = dataset[tag]
    grey = int(dataset.SamplesPerPixel) == 1
    plain.PhotometricInterpretation = "MONOCHROME2" if grey else dataset.PhotometricInterpretation
    plain.SOPClassUID, plain.SOPInstanceUID = _SECONDARY_CAPTURE, "1.2"
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        plain.save_as(path, enforce_file_format=True)
        try:
            image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        except RuntimeError as error:
            raise ValueError("its compressed pixels are damaged.") from error
    shape = _shape(dataset)
    return np.asarray(sitk.GetArrayFromImage(image)).reshape(shape if shape[3] > 1 else shape[:3])


def _shape(dataset: Any) -> tuple[int, int, int, int]:
    """Frames, rows, columns and samples."""
    count = int(dataset.get("NumberOfFrames") or 1)
    return count, int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)


def _check_frame_sizes(pydicom: Any, dataset: Any) -> None:
    """Check the size in each compressed frame: a decoder allocates what it says."""
    count, *expected, samples = _shape(dataset)
    size = math.prod(_shape(dataset)) * int(dataset.BitsAllocated) // 8
    content = f"{count} x {expected[0]} x {expected[1]} pixels of {samples} samples"
    check_size(dataset.filename, size, content)
    is_jpeg_2000 = dataset.file_meta.TransferSyntaxUID in _JPEG_2000
    for frame in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count):
        size_of_frame = _jpeg_2000_size(frame) if is_jpeg_2000 else _jpeg_size(frame)
        if [*size_of_frame] != expected:
            raise ValueError(
                f"its compressed pixels are {size_of_frame[0]} x {size_of_frame[1]}; its header "
                f"describes {expected[0]} x {expected[1]}."
            )


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(BytesIO(frame), formats=("JPEG2000",)) as image:
        return image.height, image.width


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of the largest frame header (SOF) of a JPEG or JPEG-LS stream."""
    sizes, start = [(0, 0)], 2
    while start + 9 <= len(frame) and frame[start] == 0xFF:
        marker = frame[start + 1]
        if marker == 0xFF:  # fill byte
            start += 1
            continue
        if marker == 0xDA:  # start of scan
            break
        length, _, rows, columns = struct.unpack_from(">HBHH", frame, start + 2)
        if marker in _SOFS:
            sizes.append((rows, columns))
        start += 2 + length
    return max(sizes)


def rescale(stored: NDArray[Any], dataset: Any, frame: Any = None) -> NDArray[np.float64]:
    """Apply the rescale slope and intercept, or the modality lookup table, to greyscale."""
    interpretation = dataset.PhotometricInterpretation
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"it is {interpretation}; expected MONOCHROME1 or MONOCHROME2.")
    return measured_values(stored, dataset if frame is None else frame)


def measured_values(stored: NDArray[Any], header: Any) -> NDArray[np.float64]:
    """Apply the modality lookup table, or the rescale slope and intercept, each if it is there."""
    if header.get("ModalityLUTSequence"):
        return np.asarray(import_pydicom().pixels.apply_modality_lut(stored, header), np.float64)
    # Not by pydicom, which ignores one of the two if the other is missing.
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    slope, intercept = (1.0 if slope is None else float(slope)), float(intercept or 0)
    if not (np.isfinite([slope, intercept]).all() and slope):
        raise ValueError(f"its rescale is damaged: slope {slope}, intercept {intercept}.")
    with np.errstate(over="ignore"):
        return np.asarray(stored, np.float64) * slope + intercept
