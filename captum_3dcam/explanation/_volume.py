"""Volumes: explained on the grid of the preprocessing, with maps on the scan's own grid."""

from typing import Any

import torch
from torch import Tensor

from captum_3dcam._errors import argument_errors
from captum_3dcam.explanation._explainer import Explainer
from captum_3dcam.explanation._preprocessing import VolumeSteps
from captum_3dcam.explanation._scores import Prediction
from captum_3dcam.explanation._transfer import move_like
from captum_3dcam.io import Volume

_AXES = (
    "A voxel is (d, h, w), an index into map.npz: (k, j, i) of the file, and slice, row, column of "
    "DICOM. A box is the voxels [start, stop). mm are to the patient's right, front and head (RAS)."
)


class VolumeSource:
    """A scan, of one or several channels."""

    kind = "volume"
    times = None

    def __init__(
        self, scan: Volume, preprocess: VolumeSteps, like: Tensor, map_suffix: str = ".nii.gz"
    ) -> None:
        self.scan, self.preprocessing = scan, str(preprocess)
        self.window = preprocess.values.window
        self.originals, self.map_suffix = [scan], map_suffix
        with argument_errors():
            self.resampled = preprocess.values.resample(scan)
        self.inputs = move_like(preprocess(self.resampled.to_tensor()[0])[None], like)

    def explain(self, explainer: Explainer) -> tuple[list[list[Prediction]], Tensor]:
        predictions, maps = explainer.explain(self.inputs)
        if self.resampled is self.scan:
            return predictions, maps
        on_scan = [
            self.resampled.with_data(heat_map).resample_to(self.scan).data
            for heat_map in maps.flatten(0, 2)
        ]
        joined = torch.stack([torch.from_numpy(data) for data in on_scan])
        return predictions, joined.reshape(*maps.shape[:3], *self.scan.shape)

    def describe(self, maps: Tensor) -> dict[str, Any]:
        """Facts for the report."""
        return {
            **describe_scan(self.scan),
            "window": self.window,
            "map_suffix": self.map_suffix,
            "model_size": list(self.inputs.shape[2:]),
        }

    def advise(self, expected: int, received: int) -> str:
        """What to do about an input of other channels than the model's first convolution takes."""
        if expected == 1:
            return " Choose one of them with index."
        return " Pass the files of all channels, as channel_files." if expected > received else ""


def describe_scan(scan: Volume) -> dict[str, Any]:
    """The scan's grid."""
    return {
        "size": list(scan.shape),
        "channels": scan.channels,
        "spacing": [float(f"{side:.6g}") for side in scan.spacing],
        "orientation": scan.orientation,
        "affine": scan.affine.tolist(),
        "axes": _AXES,
    }
