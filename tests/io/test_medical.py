"""read_volume: the format is chosen by the suffix."""

import numpy as np
import pytest

from captum_3dcam.io import Volume, read_volume, write_nifti


def test_the_suffix_selects_the_reader(tmp_path):
    pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    write_nifti(Volume(np.ones((2, 3, 4)), np.eye(4)), tmp_path / "Scan.NII.GZ")
    assert read_volume(tmp_path / "Scan.NII.GZ").shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"The folder '.*' has no DICOM files"):
        read_volume(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no NIfTI file 'none\.nii'"):
        read_volume("none.nii")
    with pytest.raises(FileNotFoundError, match=r"no DICOM file or folder 'none'"):
        read_volume("none")
