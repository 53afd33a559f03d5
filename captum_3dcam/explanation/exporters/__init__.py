"""An explanation in other programs: TensorBoard, Weights & Biases, FiftyOne, napari and 3D Slicer.

Their libraries are not installed with this package. Nothing that is exported holds the input's
name or path, or the header of a scan.
"""

from captum_3dcam.explanation.exporters._fiftyone import to_fiftyone
from captum_3dcam.explanation.exporters._napari import to_napari
from captum_3dcam.explanation.exporters._slicer import write_slicer_scene
from captum_3dcam.explanation.exporters._tensorboard import add_to_tensorboard
from captum_3dcam.explanation.exporters._wandb import to_wandb

__all__ = ["add_to_tensorboard", "to_fiftyone", "to_napari", "to_wandb", "write_slicer_scene"]
