"""Read and write videos, images, volumes and maps.

A function that needs an optional package raises ImportError with the extra that installs it. Every
write is atomic. What a file describes may take 2 GiB of memory, or the bytes in the environment
variable ``CAPTUM_3DCAM_MAX_BYTES``; more is a ValueError.
"""

from captum_3dcam.frame_times import FrameTimes as FrameTimes  # documented in captum_3dcam
from captum_3dcam.io._voxels import SeveralVolumesError
from captum_3dcam.io.dicom import (
    DicomSeries,
    dicom_kind,
    list_series,
    read_cine,
    read_dicom,
    read_dicom_image,
)
from captum_3dcam.io.image import read_image
from captum_3dcam.io.image_sequence import list_images
from captum_3dcam.io.kinds import input_kind
from captum_3dcam.io.maps import Map, load_map, save_map
from captum_3dcam.io.medical import read_volume, write_volume
from captum_3dcam.io.nifti import read_nifti, write_nifti
from captum_3dcam.io.sampling import Sampling
from captum_3dcam.io.video import Video, VideoFile, open_video, read_video
from captum_3dcam.io.video_writer import write_video
from captum_3dcam.io.volume import Volume

__all__ = [
    "DicomSeries",
    "Map",
    "Sampling",
    "SeveralVolumesError",
    "Video",
    "VideoFile",
    "Volume",
    "dicom_kind",
    "input_kind",
    "list_images",
    "list_series",
    "load_map",
    "open_video",
    "read_cine",
    "read_dicom",
    "read_dicom_image",
    "read_image",
    "read_nifti",
    "read_video",
    "read_volume",
    "save_map",
    "write_nifti",
    "write_video",
    "write_volume",
]
