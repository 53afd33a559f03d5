"""Read a scan of any supported format."""

from pathlib import Path

from captum_3dcam._files import StrPath
from captum_3dcam.io.dicom import read_dicom
from captum_3dcam.io.nifti import read_nifti
from captum_3dcam.io.volume import Volume


def read_volume(path: StrPath) -> Volume:
    """Read ``.nii`` and ``.nii.gz`` by :func:`read_nifti`, anything else by :func:`read_dicom`."""
    is_nifti = Path(path).name.lower().endswith((".nii", ".nii.gz"))
    return read_nifti(path) if is_nifti else read_dicom(path)
