"""Read volumes, images and videos from DICOM files.

pydicom reads the headers, SimpleITK decodes compressed pixels, NiBabel reads Siemens' mosaics, and
the slices are put together here. Of the readers that ``studies/dicom_readers.py`` compares on the
same files, SimpleITK's own is wrong without an error for tilted gantries, mosaics, enhanced files
and MONOCHROME1, and only prints that slices are missing; dcm2niix is wrong for enhanced files
with a rescale per frame and writes two volumes of a tilted gantry; highdicom is wrong for mosaics
and MONOCHROME1. python-gdcm, another decoder, ended the process at some damaged files.
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
