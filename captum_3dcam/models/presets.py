"""Preprocessing by name: the figures that public networks were trained with."""

from types import MappingProxyType

from captum_3dcam._validation import check_choice
from captum_3dcam.models.preprocessing import Preprocessing
from captum_3dcam.models.volume_preprocessing import VolumePreprocessing

PRESETS = MappingProxyType(
    {
        "none": Preprocessing(),
        # torchvision.transforms._presets.ImageClassification, as most weights of torchvision/models
        # use it; timm has the same figures as IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
        "imagenet": Preprocessing(
            mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=256, crop=224
        ),
        # timm.data.constants.IMAGENET_INCEPTION_MEAN and ..._STD; sizes as in "imagenet".
        "inception": Preprocessing(mean=0.5, std=0.5, size=256, crop=224),
        # torchvision.transforms._presets.VideoClassification as torchvision/models/video/resnet.py
        # uses it: r3d_18, mc3_18, r2plus1d_18.
        "kinetics": Preprocessing(
            mean=(0.43216, 0.394666, 0.37645),
            std=(0.22803, 0.22145, 0.216989),
            size=(128, 171),
            crop=(112, 112),
            antialias=False,
        ),
        # The model zoo of pytorchvideo (slow_r50, slowfast_r50, x3d): Normalize((0.45,) * 3,
        # (0.225,) * 3), ShortSideScale(256), CenterCropVideo(256); without antialiasing.
        "pytorchvideo": Preprocessing(mean=0.45, std=0.225, size=256, crop=256, antialias=False),
    }
)
"""Of images and videos, by name."""


def _ct(level: float, width: float) -> VolumePreprocessing:
    return VolumePreprocessing((level - width / 2, level + width / 2), "unit", "HU")


VOLUME_PRESETS = MappingProxyType(
    {
        # Level and width in Hounsfield units as radiology uses them: Radiopaedia, "Windowing (CT)",
        # https://radiopaedia.org/articles/windowing-ct
        "ct-brain": _ct(40, 80),
        "ct-lung": _ct(-600, 1500),
        "ct-soft-tissue": _ct(50, 400),
        "ct-bone": _ct(400, 1800),
    }
)
"""Windows of CT scans, by name."""


def get_preprocessing(name: str) -> Preprocessing | VolumePreprocessing:
    """The preprocessing of that name, in :data:`PRESETS` or :data:`VOLUME_PRESETS`.

    Of images and videos: "none" (RGB in [0, 1]), "imagenet", "inception", "kinetics" (torchvision's
    video networks), "pytorchvideo". Of CT scans, windows in Hounsfield units scaled to [0, 1]:
    "ct-brain", "ct-lung", "ct-soft-tissue", "ct-bone". For other sizes use ``dataclasses.replace``.

    Raises ValueError for another name.

    >>> get_preprocessing("imagenet").std
    (0.229, 0.224, 0.225)
    >>> get_preprocessing("ct-lung").window
    (-1350.0, 150.0)
    """
    check_choice("preprocessing", name, (*PRESETS, *VOLUME_PRESETS))
    return PRESETS[name] if name in PRESETS else VOLUME_PRESETS[name]
