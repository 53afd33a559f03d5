"""Decode pixels and rescale them, within the limit of memory."""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.io.dicom._objects import check_deflated, import_pydicom

_QUANTITATIVE = ("CT", "PT")  # modalities whose values are measurements
_SOFS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
# By transfer syntax, the decoder of pydicom and the extra that installs it. GDCM, which has all of
# them, ends the process at some damaged files; so do the readers of ITK that are built on it.
_DECODERS = {
    "1.2.840.10008.1.2.5": ("pydicom", "medical"),  # RLE
    "1.2.840.10008.1.2.4.50": ("pillow", "medical"),  # JPEG baseline
    **dict.fromkeys(_JPEG_2000, ("pillow", "medical")),
    "1.2.840.10008.1.2.4.80": ("pyjpegls", "medical"),  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": ("pyjpegls", "medical"),  # JPEG-LS near lossless
    "1.2.840.10008.1.2.4.51": ("pylibjpeg", "jpeg"),  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.57": ("pylibjpeg", "jpeg"),  # JPEG lossless
    "1.2.840.10008.1.2.4.70": ("pylibjpeg", "jpeg"),  # JPEG lossless, first-order prediction
}


def read_dataset(path: Path) -> Any:
    """Read a whole file; one without a transfer syntax gets that which pydicom detects."""
    pydicom = import_pydicom()
    check_deflated(pydicom, path)
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        uid = pydicom.uid
        plain = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = plain if little else uid.ExplicitVRBigEndian
    return dataset


def decode_frames(dataset: Any, frames: list[int] | None = None) -> Iterator[NDArray[Any]]:
    """Yield the pixels of some frames, or of all; colour as RGB."""
    pixels = import_pydicom().pixels
    plugin = _choose_decoder(dataset)
    if frames is None and int(dataset.get("NumberOfFrames") or 1) == 1:
        yield pixels.pixel_array(dataset, decoding_plugin=plugin)
    else:
        yield from pixels.iter_pixels(dataset, indices=frames, decoding_plugin=plugin)


def _choose_decoder(dataset: Any) -> str:
    """The name of the decoder; "" for pixels that are not compressed."""
    pydicom = import_pydicom()
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    name, extra = _DECODERS.get(syntax, ("", ""))
    if not name:
        raise ValueError(
            f"its pixels are compressed as {syntax.name}, which is not supported. Decompress it, "
            "for example with the tools of DCMTK or GDCM."
        )
    if name not in pydicom.pixels.get_decoder(syntax).available_plugins:
        raise ValueError(
            f"its pixels are compressed as {syntax.name}: pip install 'captum_3dcam[{extra}]'."
        )
    if name != "pydicom":
        _check_frame_sizes(pydicom, dataset, syntax)
    return name


def _check_frame_sizes(pydicom: Any, dataset: Any, syntax: str) -> None:
    """Check the size in each compressed frame: a decoder allocates what it says."""
    expected = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames") or 1)
    for frame in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=count):
        size = _jpeg_2000_size(frame) if syntax in _JPEG_2000 else _jpeg_size(frame)
        if size != expected:
            raise ValueError(
                f"its compressed pixels are {size[0]} x {size[1]}; its header describes "
                f"{expected[0]} x {expected[1]}."
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
    """Apply the rescale slope and intercept, or the modality lookup table.

    MONOCHROME1, in which low values are white, is inverted, except where values are measurements.
    """
    interpretation = dataset.PhotometricInterpretation
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"it is {interpretation}; expected MONOCHROME1 or MONOCHROME2.")
    if interpretation == "MONOCHROME1" and dataset.get("Modality") not in _QUANTITATIVE:
        bits = int(dataset.BitsStored)
        minimum = -(1 << (bits - 1)) if dataset.PixelRepresentation else 0
        stored = 2 * minimum + (1 << bits) - 1 - stored.astype(np.int64)
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
