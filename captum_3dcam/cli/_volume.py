"""Volumes: maps on the scan's own grid and in its format, boxes, a peak, and figures."""

import warnings
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_3dcam import localization
from captum_3dcam.cli._errors import UsageError, usage_errors
from captum_3dcam.cli._explainer import Explainer
from captum_3dcam.cli._explanation import Explanation
from captum_3dcam.cli._model import input_channels, name_preprocessing
from captum_3dcam.cli._output import save_figure, spread_frames
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.io import SeveralVolumesError, Volume, read_volume, write_volume
from captum_3dcam.io.medical import map_suffix, volume_format
from captum_3dcam.localization import Boxes
from captum_3dcam.models import VOLUME_PRESETS, VolumePreprocessing
from captum_3dcam.visualization import (
    Style,
    visualize_attr_panels,
    visualize_volume_attr,
    visualize_volume_montage,
)

Array = NDArray[np.float32]

_AXES = (
    "A voxel is (d, h, w), an index into map.npz: (k, j, i) of the file, and slice, row, column of "
    "DICOM. A box is the voxels [start, stop). mm are to the patient's right, front and head (RAS)."
)
_MONTAGE, _PANELS = 12, 8  # slices


class VolumeSource:
    """A scan of any format, or several as channels."""

    def __init__(self, options: Namespace, model: nn.Module) -> None:
        preprocess = _make_preprocessing(model, options)
        self.window = preprocess.window
        self.suffix = map_suffix(options.input)
        self.scan = _read(options, model)
        self.resampled = _resample(self.scan, options)
        self.preprocessing = str(preprocess)
        self.inputs = preprocess(self.resampled.to_tensor()[0])[None].to(options.device)

    def explain(self, explainer: Explainer, folder: Path) -> tuple[list[Prediction], Array]:
        classifier = replace(explainer.classifier, explains_volumes=True)
        predictions, maps = replace(explainer, classifier=classifier).explain(self.inputs)
        volumes = [self.resampled.with_data(heat_map) for heat_map in maps]
        if self.resampled is not self.scan:
            volumes = [volume.resample_to(self.scan) for volume in volumes]
        return predictions, np.stack([volume.data for volume in volumes])

    def localize(self, heat_map: Array) -> dict[str, Any]:
        """The peak, and boxes around the components above half of it; none in a map of zeros."""
        voxel = _peak(heat_map)
        peak = {"voxel": list(voxel), "mm": self.scan.to_mm(voxel)}
        (boxes,) = localization.boxes(torch.from_numpy(heat_map)[None, None], select="all")
        return {"peak": peak if heat_map[voxel] > 0 else None, "boxes": _list_boxes(boxes)}

    def describe(self, maps: Array) -> dict[str, Any]:
        return {
            "size": list(self.scan.shape),
            "channels": self.scan.channels,
            "spacing": [float(f"{side:.6g}") for side in self.scan.spacing],
            "orientation": self.scan.orientation,
            "affine": self.scan.affine.tolist(),
            "axes": _AXES,
            "model_size": list(self.inputs.shape[2:]),
        }

    def write(self, explanation: Explanation, folder: Path) -> dict[str, Path]:
        files = {}
        kind = "nifti" if self.suffix == ".nii.gz" else self.suffix.removeprefix(".")
        for stem, heat_map in zip(explanation.file_stems("map"), explanation.maps, strict=True):
            name = f"{kind}{stem.removeprefix('map')}"
            files[name] = folder / f"{stem}{self.suffix}"
            write_volume(self.scan.with_data(heat_map), files[name])
        for name, figure in self._figures(explanation).items():
            files[name] = folder / f"{name}.png"
            save_figure(figure, files[name])
        return files

    def _figures(self, explanation: Explanation) -> dict[str, Any]:
        maps, captions, regions = explanation.maps, explanation.captions, explanation.regions
        peaks = [region["peak"]["voxel"] for region in regions if region["peak"]]
        peak_slices = list(dict.fromkeys(voxel[0] for voxel in peaks))[:_PANELS]
        if len(captions) > 1:
            shown = spread_frames(self.scan.shape[0], *peak_slices, count=_PANELS)
            return {"figure": visualize_attr_panels(maps, self.scan, captions, frames=shown)[0]}
        common: dict[str, Any] = {
            "boxes": _to_boxes(regions[0]["boxes"]),
            "title": captions[0],
            "style": Style(window=self.window),
        }
        shown = spread_frames(self.scan.shape[0], *peak_slices, count=_MONTAGE)
        peak = peaks[0] if peaks else None
        figure, _ = visualize_volume_attr(maps[0], self.scan, at=peak, **common)
        montage, _ = visualize_volume_montage(maps[0], self.scan, slices=shown, **common)
        return {"figure": figure, "montage": montage}


def _peak(heat_map: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(heat_map.argmax()), heat_map.shape))


def _list_boxes(boxes: Boxes) -> list[dict[str, Any]]:
    """One dict per box, its corners (d, h, w) instead of x, y, z."""
    corners = boxes.boxes.round().int().tolist()
    return [
        {"start": box[2::-1], "stop": box[:2:-1], "score": score}
        for box, score in zip(corners, boxes.scores.tolist(), strict=True)
    ]


def _to_boxes(boxes: list[dict[str, Any]]) -> Boxes:
    """The inverse of :func:`_list_boxes`."""
    corners = [[*box["start"][::-1], *box["stop"][::-1]] for box in boxes]
    scores = torch.tensor([box["score"] for box in boxes])
    return Boxes(torch.tensor(corners, dtype=torch.float32).reshape(-1, 6), scores)


# ----------------------------------------------------------------------------------- reading


def _read(options: Namespace, model: nn.Module) -> Volume:
    if options.series is not None and volume_format(options.input) not in ("dicom", None):
        raise UsageError("--series is for DICOM files.")
    more: list[Path] = options.channel_files or []
    source = [options.input, *more] if more else options.input
    try:
        return read_volume(source, series=options.series, index=options.index, nan=options.nan)
    except ValueError as error:
        # A model whose first convolution takes as many channels cannot receive one of the volumes.
        several = error if isinstance(error, SeveralVolumesError) else error.__cause__
        if more or not isinstance(several, SeveralVolumesError):
            raise
        if several.count != input_channels(model):
            raise
        return read_volume(source, series=options.series, index="all", nan=options.nan)


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
            resampled = oriented.resample(spacing=spacing if len(spacing) == 3 else spacing[0])
            _check_side(oriented, resampled)
            return resampled
        return oriented


def _check_side(scan: Volume, resampled: Volume) -> None:
    if any(new == 1 < old for new, old in zip(resampled.shape, scan.shape, strict=True)):
        new, old = (" x ".join(map(str, volume.shape)) for volume in (resampled, scan))
        raise UsageError(f"--spacing: of the {old} voxels, {new} are left. Pass it in mm.")


# ------------------------------------------------------------------------------- preprocessing


class _Preprocess:
    """Clip and normalise each channel of (C, D, H, W), then apply the model's own function."""

    def __init__(self, values: VolumePreprocessing, own: Callable[[Tensor], Tensor] | None) -> None:
        self._values, self._own = values, own
        self.window = values.window

    def __str__(self) -> str:
        steps = (self._values, *([] if self._own is None else [self._own]))
        return ", ".join(map(name_preprocessing, steps))

    def __call__(self, x: Tensor) -> Tensor:
        for message in {self._values.check_units(channel) for channel in x} - {None}:
            warnings.warn(str(message), stacklevel=2)
        inputs = torch.cat([self._values(channel[None]) for channel in x])
        if self._own is None:
            return inputs
        inputs = self._own(inputs)
        if inputs.ndim != 4 or inputs.shape[1:] != x.shape[1:]:
            axes = f"({x.shape[0]}, D, H, W)"
            raise UsageError(
                f"The model's PREPROCESSING turns {axes} = {tuple(x.shape)} into "
                f"{tuple(inputs.shape)}; it must keep the grid. Resample with --size or --spacing."
            )
        return inputs


def _make_preprocessing(model: nn.Module, options: Namespace) -> _Preprocess:
    """That of ``--preprocessing`` or the model; ``--clip`` and ``--normalize`` replace its parts.

    With ``--normalize``, a function of the model's is not called.
    """
    name = options.preprocessing
    if name is not None and name not in VOLUME_PRESETS:
        raise UsageError(
            f"--preprocessing {name} is for images and videos: pass one of "
            f"{', '.join(VOLUME_PRESETS)}, or --clip and --normalize."
        )
    own = VOLUME_PRESETS[name] if name else getattr(model, "PREPROCESSING", None)
    values = own if isinstance(own, VolumePreprocessing) else VolumePreprocessing()
    if options.clip is not None:
        low, high = options.clip
        if not low < high:
            raise UsageError(f"--clip {low:g} {high:g}: expected LOW < HIGH.")
        values = replace(values, window=(low, high), units=None)
    if options.normalize is not None:
        values = replace(values, normalize=options.normalize)
    is_function = own is not None and not isinstance(own, VolumePreprocessing)
    return _Preprocess(values, own if is_function and options.normalize is None else None)
