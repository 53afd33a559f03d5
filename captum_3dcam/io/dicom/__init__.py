"""Read volumes, images and videos from DICOM files.

pydicom reads the headers and pixels, and NiBabel Siemens' mosaics; the slices are put together
here. Of the readers that ``studies/dicom_readers.py`` compares on the same files, SimpleITK's is
wrong without an error for tilted gantries, mosaics, enhanced files and missing slices, dcm2niix for
rescaled enhanced files, and highdicom for mosaics; GDCM, on which SimpleITK is built, also ends the
process at some damaged files.
"""

from captum_3dcam.io.dicom.cine import read_cine
from captum_3dcam.io.dicom.image import read_dicom_image
from captum_3dcam.io.dicom.series import DicomSeries, dicom_kind, list_series
from captum_3dcam.io.dicom.volume import read_dicom

__all__ = [
    "DicomSeries",
    "dicom_kind",
    "list_series",
    "read_cine",
    "read_dicom",
    "read_dicom_image",
]
