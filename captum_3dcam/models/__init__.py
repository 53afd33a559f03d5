"""The networks of the 3DCAM paper, checkpoints, preprocessing and layer-wise gating."""

from captum_3dcam._input_range import check_input_range
from captum_3dcam.models.checkpoint import load_checkpoint
from captum_3dcam.models.gated import LayerwiseGatedClassifier
from captum_3dcam.models.i3d import I3D, i3d
from captum_3dcam.models.preprocessing import Preprocessing
from captum_3dcam.models.presets import PRESETS, VOLUME_PRESETS, get_preprocessing
from captum_3dcam.models.resnext3d import ResNeXt3D, resnext50_3d, resnext101_3d
from captum_3dcam.models.volume_preprocessing import VolumePreprocessing

__all__ = [
    "I3D",
    "PRESETS",
    "VOLUME_PRESETS",
    "LayerwiseGatedClassifier",
    "Preprocessing",
    "ResNeXt3D",
    "VolumePreprocessing",
    "check_input_range",
    "get_preprocessing",
    "i3d",
    "load_checkpoint",
    "resnext50_3d",
    "resnext101_3d",
]
