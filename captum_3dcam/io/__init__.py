"""Videos, pictures and scans in; maps, overlays and volumes out, where they belong.

What needs an optional package says which extra installs it. Files are written whole or not at all.
"""

from captum_3dcam.io.dicom import read_dicom
from captum_3dcam.io.image import read_image
from captum_3dcam.io.maps import Map, load_map, save_map
from captum_3dcam.io.medical import read_volume
from captum_3dcam.io.nifti import read_nifti, write_nifti
from captum_3dcam.io.video import (
    Video,
    VideoFile,
    open_video,
    read_video,
    write_video,
)
from captum_3dcam.io.volume import Volume

__all__ = [
    "Map",
    "Video",
    "VideoFile",
    "Volume",
    "load_map",
    "open_video",
    "read_dicom",
    "read_image",
    "read_nifti",
    "read_video",
    "read_volume",
    "save_map",
    "write_nifti",
    "write_video",
]
