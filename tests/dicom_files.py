"""DICOM files of a few pixels, with any element changed."""

import numpy as np
import pydicom
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
)

SERIES = "1.2.3.4"
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
ALONG_ROW, ALONG_COLUMN = TURN[:, 0], TURN[:, 1]
NORMAL = np.cross(ALONG_ROW, ALONG_COLUMN)
FIRST = np.array([-120.5, -88.25, 301.0])
SPACING = (0.8, 0.6)  # between rows, between columns
STEP = 2.5
SIZE = (5, 6)


def stored(number):
    return np.random.default_rng(number).integers(0, 4000, SIZE).astype(np.uint16)


def slice_of(number, step=None, pixels=None, **changed):
    """The dataset of slice ``number`` of an oblique series."""
    step = STEP * NORMAL if step is None else step
    pixels = stored(number) if pixels is None else pixels
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{SERIES}.{number + 1}"
    dataset.SeriesInstanceUID = SERIES
    dataset.SeriesDescription = "thorax"
    dataset.Modality = "CT"
    dataset.InstanceNumber = 50 - number  # no order to rely on
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = list(SPACING)
    dataset.SliceThickness = 4.0
    dataset.ImageOrientationPatient = [f"{x:.12f}" for x in (*ALONG_ROW, *ALONG_COLUMN)]
    dataset.ImagePositionPatient = [f"{x:.10f}" for x in FIRST + number * step]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1 + number, -1024
    dataset.PixelData = pixels.tobytes()
    return change(dataset, changed)


def change(dataset, changed):
    for name, value in changed.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def save(dataset, path, syntax=ExplicitVRLittleEndian):
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
        dataset["PixelData"].VR = "OW"
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder, numbers=range(4), names="{:02d}.dcm", **changed):
    folder.mkdir(exist_ok=True)
    return [save(slice_of(n, **changed), folder / names.format(7 * n % 10)) for n in numbers]


def image_of(pixels, **changed):
    """An X-ray, without any position: 2D grey or (H, W, 3) colour, (T, ...) with several frames."""
    dataset = slice_of(0, pixels=pixels if pixels.ndim == 2 else pixels[0, ..., 0])
    for name in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, name)
    del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.SliceThickness
    dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "DX"
    dataset.SeriesDescription, dataset.PixelData = "chest", pixels.tobytes()
    if pixels.ndim == 4:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "RGB"
        if len(pixels) > 1:
            dataset.NumberOfFrames = len(pixels)
    return change(dataset, changed)
