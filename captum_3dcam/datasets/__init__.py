"""Datasets with ground truth for localization, as :class:`torch.utils.data.Dataset`."""

from captum_3dcam.datasets._files import Problem
from captum_3dcam.datasets.clips import VideoClip
from captum_3dcam.datasets.ilsvrc import ILSVRCLocalization, ImageAnnotation, LocalizedImage
from captum_3dcam.datasets.jhmdb import JHMDB
from captum_3dcam.datasets.recognition import HMDB51, UCF101
from captum_3dcam.datasets.synthetic import (
    ACTIONS,
    ActionClip,
    ActionVideo,
    SyntheticActions,
    SyntheticActionVideos,
    freeze,
)
from captum_3dcam.datasets.ucf24 import (
    UCF101_24,
    TubeAnnotation,
    VideoAnnotation,
    load_pyannot,
)

__all__ = [
    "ACTIONS",
    "HMDB51",
    "JHMDB",
    "UCF101",
    "UCF101_24",
    "ActionClip",
    "ActionVideo",
    "ILSVRCLocalization",
    "ImageAnnotation",
    "LocalizedImage",
    "Problem",
    "SyntheticActionVideos",
    "SyntheticActions",
    "TubeAnnotation",
    "VideoAnnotation",
    "VideoClip",
    "freeze",
    "load_pyannot",
]
