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
from captum_3dcam.datasets.thumos import THUMOS14, MultiTHUMOS, UntrimmedVideo
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
    "THUMOS14",
    "UCF101",
    "UCF101_24",
    "ActionClip",
    "ActionVideo",
    "ILSVRCLocalization",
    "ImageAnnotation",
    "LocalizedImage",
    "MultiTHUMOS",
    "Problem",
    "SyntheticActionVideos",
    "SyntheticActions",
    "TubeAnnotation",
    "UntrimmedVideo",
    "VideoAnnotation",
    "VideoClip",
    "freeze",
    "load_pyannot",
]
