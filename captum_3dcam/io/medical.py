"""A scan in whichever form it comes."""

from pathlib import Path

from captum_3dcam.io._files import StrPath
from captum_3dcam.io.dicom import read_dicom
from captum_3dcam.io.nifti import read_nifti
from captum_3dcam.io.volume import Volume


def read_volume(path: StrPath) -> Volume:
    """A NIfTI file by its suffix, ``.nii`` or ``.nii.gz``; any other file or folder as DICOM.

    Raises as :func:`read_nifti` and :func:`read_dicom`.
    """
    nifti = Path(path).name.lower().endswith((".nii", ".nii.gz"))
    return read_nifti(path) if nifti else read_dicom(path)
