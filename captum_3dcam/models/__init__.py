"""The networks of the 3DCAM paper, checkpoints, preprocessing and layer-wise gating."""

from captum_3dcam._input_range import check_input_range
from captum_3dcam.models.checkpoint import load_checkpoint
from captum_3dcam.models.flow import FlowPreprocessing, optical_flow
from captum_3dcam.models.gated import LayerwiseGatedClassifier
from captum_3dcam.models.i3d import I3D, I3DFlow, i3d, i3d_flow
from captum_3dcam.models.preprocessing import Preprocessing
from captum_3dcam.models.presets import PRESETS, VOLUME_PRESETS, get_preprocessing
from captum_3dcam.models.resnet2d import ResNet, resnet50
from captum_3dcam.models.resnext3d import ResNeXt3D, resnext50_3d, resnext101_3d
from captum_3dcam.models.two_stream import TwoStream
from captum_3dcam.models.volume_preprocessing import VolumePreprocessing

__all__ = [
    "I3D",
    "PRESETS",
    "VOLUME_PRESETS",
    "FlowPreprocessing",
    "I3DFlow",
    "LayerwiseGatedClassifier",
    "Preprocessing",
    "ResNeXt3D",
    "ResNet",
    "TwoStream",
    "VolumePreprocessing",
    "check_input_range",
    "get_preprocessing",
    "i3d",
    "i3d_flow",
    "load_checkpoint",
    "optical_flow",
    "resnet50",
    "resnext50_3d",
    "resnext101_3d",
]
