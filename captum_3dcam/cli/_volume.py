"""Volumes: maps on the scan's own grid, as NIfTI with its affine, boxes, a peak, and figures."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_3dcam import localization
from captum_3dcam.cli._errors import UsageError, usage_errors
from captum_3dcam.cli._explainer import Explainer
from captum_3dcam.cli._explanation import Explanation, list_boxes
from captum_3dcam.cli._output import save_figure, spread_frames
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.io import Volume, read_dicom, read_volume, write_nifti
from captum_3dcam.visualization import (
    Style,
    visualize_attr_panels,
    visualize_volume_attr,
    visualize_volume_montage,
)

Array = NDArray[np.float32]


class VolumeSource:
    """A NIfTI or DICOM file, or a folder of DICOM files."""

    def __init__(self, options: Namespace, model: nn.Module) -> None:
        self.window = options.clip and tuple(options.clip)
        if self.window and not self.window[0] < self.window[1]:
            low, high = self.window
            raise UsageError(f"--clip {low:g} {high:g}: expected LOW < HIGH.")
        self.scan = _read(options.input, options.series)
        self.resampled = _resample(self.scan, options)
        inputs = _normalize(self.resampled.to_tensor()[0], self.window, options.normalize)
        preprocess = getattr(model, "PREPROCESSING", None)
        if preprocess is not None and options.normalize is None:
            inputs = _preprocess(inputs, preprocess)
        self.inputs = inputs[None].to(options.device)

    def explain(self, explainer: Explainer, folder: Path) -> tuple[list[Prediction], Array]:
        predictions, maps = explainer.explain(self.inputs)
        volumes = [self.resampled.with_data(heat_map) for heat_map in maps]
        if self.resampled is not self.scan:
            volumes = [volume.resample_to(self.scan) for volume in volumes]
        return predictions, np.stack([volume.data for volume in volumes])

    def localize(self, heat_map: Array) -> dict[str, Any]:
        """The peak, and boxes around the components above half of it; none in a map of zeros."""
        voxel = _peak(heat_map)
        peak = {"voxel": list(voxel), "mm": self.scan.to_world(voxel)}
        (boxes,) = localization.boxes(torch.from_numpy(heat_map)[None, None], select="all")
        return {"peak": peak if heat_map[voxel] > 0 else None, "boxes": list_boxes(boxes)}

    def describe(self, maps: Array) -> dict[str, Any]:
        return {
            "size": list(self.scan.shape),
            "spacing": [round(side, 2) for side in self.scan.spacing],
            "orientation": self.scan.orientation,
            "affine": self.scan.affine.tolist(),
            "model_size": list(self.inputs.shape[2:]),
        }

    def write(self, explanation: Explanation, folder: Path) -> dict[str, Path]:
        files = {}
        for stem, heat_map in zip(explanation.file_stems("map"), explanation.maps, strict=True):
            name = f"nifti{stem.removeprefix('map')}"
            files[name] = folder / f"{stem}.nii.gz"
            write_nifti(self.scan.with_data(heat_map), files[name])
        for name, figure in self._figures(explanation).items():
            files[name] = folder / f"{name}.png"
            save_figure(figure, files[name])
        return files

    def _figures(self, explanation: Explanation) -> dict[str, Any]:
        maps, captions = explanation.maps, explanation.captions
        if len(captions) > 1:
            slices = spread_frames(len(self.scan.data), _peak(maps[0])[0])
            return {"figure": visualize_attr_panels(maps, self.scan, captions, frames=slices)[0]}
        title, style = captions[0], Style(window=self.window)
        return {
            "figure": visualize_volume_attr(maps[0], self.scan, title=title, style=style)[0],
            "montage": visualize_volume_montage(maps[0], self.scan, title=title, style=style)[0],
        }


def _peak(heat_map: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(heat_map.argmax()), heat_map.shape))


# ------------------------------------------------------------------------------- preprocessing


def _read(path: Path, series: str | None) -> Volume:
    if series is None:
        return read_volume(path)
    if not path.is_dir():
        raise UsageError("--series is for a folder of DICOM files.")
    return read_dicom(path, series)


def _resample(scan: Volume, options: Namespace) -> Volume:
    """The scan in the orientation, size and spacing of the options; itself if there are none."""
    size, spacing, codes = options.size, options.spacing, options.orientation
    if size is not None and spacing is not None:
        raise UsageError("--size and --spacing both resample: pass one of them.")
    for name, given, counts in (("size", size, (3,)), ("spacing", spacing, (1, 3))):
        if given is not None and len(given) not in counts:
            raise UsageError(f"--{name} {' '.join(map(str, given))}: expected D H W for volumes.")
    with usage_errors():
        oriented = scan if codes is None else scan.reorient(codes.upper())
        if size is not None:
            return oriented.resample(size=size)
        if spacing is not None:
            return oriented.resample(spacing=spacing if len(spacing) == 3 else spacing[0])
        return oriented


def _normalize(x: Tensor, window: tuple[float, float] | None, method: str | None) -> Tensor:
    if window is not None:
        x = x.clamp(*window)
    if method == "unit":
        low, high = window or (x.min(), x.max())
        return (x - low) / max(float(high - low), 1e-12)
    if method == "zscore":
        return (x - x.mean()) / x.std().clamp(min=1e-12)
    return x


def _preprocess(x: Tensor, preprocess: Any) -> Tensor:
    """The model's own preprocessing of (1, D, H, W), which must keep the grid."""
    inputs: Tensor = preprocess(x)
    if inputs.ndim != 4 or inputs.shape[1:] != x.shape[1:]:
        raise UsageError(
            f"The model's PREPROCESSING turns (1, D, H, W) = {tuple(x.shape)} into "
            f"{tuple(inputs.shape)}; it must keep the grid. Resample with --size or --spacing."
        )
    return inputs
