"""A scan explained: its map on the scan's own grid, as NIfTI with the scan's affine."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_3dcam import localization
from captum_3dcam.cli._errors import WrongUseError
from captum_3dcam.cli._explained import Explained, map_metadata, name_of_file
from captum_3dcam.cli._explainer import Explainer, Said
from captum_3dcam.cli._in_memory import explain_whole
from captum_3dcam.cli._writing import rounded, save_figure, spread
from captum_3dcam.io import Volume, read_dicom, read_volume, save_map, write_nifti
from captum_3dcam.visualization import (
    visualize_classes_attr,
    visualize_volume_attr,
    visualize_volume_montage,
)


def explain(options: Namespace, explainer: Explainer, folder: Path) -> Explained:
    """Write ``map.nii.gz`` on the scan's grid, ``map.npz`` (classes, D, H, W), and figures."""
    scan = _read(options)
    given = _on_the_models_grid(scan, options)
    x = _prepared(explainer, given, options)
    found = explain_whole(options, explainer, x)
    said = [each for each, _ in found]
    maps = [given.with_data(heat) for _, heat in found]
    if given is not scan:
        maps = [each.resample_to(scan) for each in maps]
    files = {"map": folder / "map.npz"}
    stacked = np.stack([each.data for each in maps])
    geometry = {"affine": scan.affine.tolist(), "orientation": scan.orientation}
    save_map(stacked, files["map"], map_metadata(options, explainer, said) | geometry)
    for each, heat in zip(said, maps, strict=True):
        name = name_of_file("map", each, len(said) > 1)
        files[f"nifti{name.removeprefix('map')}"] = folder / f"{name}.nii.gz"
        write_nifti(heat, folder / f"{name}.nii.gz")
    for name, figure in _figures(stacked, said, scan, options).items():
        files[name] = folder / f"{name}.png"
        save_figure(figure, files[name])
    return Explained(
        {
            "size": list(scan.shape),
            "spacing": rounded(scan.spacing),
            "orientation": scan.orientation,
            "affine": scan.affine.tolist(),
            "model_size": list(x.shape[2:]),
        },
        [(each, _places(heat)) for each, heat in zip(said, maps, strict=True)],
        files,
    )


# -------------------------------------------------------------------------------- preparation


def _read(options: Namespace) -> Volume:
    if options.series is None:
        return read_volume(options.input)
    if not options.input.is_dir():
        raise WrongUseError("--series is for a folder of DICOM files.")
    return read_dicom(options.input, options.series)


def _on_the_models_grid(scan: Volume, options: Namespace) -> Volume:
    """The scan, turned and resampled as asked; itself if nothing is."""
    size, spacing = options.size, options.spacing
    if size is not None and spacing is not None:
        raise WrongUseError("--size and --spacing both say how to resample: give one.")
    for name, given, counts in (("size", size, (3,)), ("spacing", spacing, (1, 3))):
        if given is not None and len(given) not in counts:
            raise WrongUseError(
                f"--{name} {' '.join(map(str, given))}: a volume has three sides, D H W."
            )
    try:
        given = scan if options.orientation is None else scan.reorient(options.orientation.upper())
        if size is not None:
            return given.resample(size=size)
        if spacing is not None:
            return given.resample(spacing=spacing if len(spacing) == 3 else spacing[0])
    except ValueError as error:
        raise WrongUseError(str(error)) from error
    return given


def _prepared(explainer: Explainer, given: Volume, options: Namespace) -> Tensor:
    """The model's input, (1, C, D, H, W)."""
    if options.clip is not None and not options.clip[0] < options.clip[1]:
        raise WrongUseError(f"--clip {options.clip[0]:g} {options.clip[1]:g}: expected LOW < HIGH.")
    x = given.to_tensor()[0]
    if options.clip is not None:
        x = x.clamp(*options.clip)
    if options.normalize == "unit":
        low, high = options.clip or (x.min(), x.max())
        x = (x - low) / max(float(high - low), 1e-12)
    elif options.normalize == "zscore":
        x = (x - x.mean()) / x.std().clamp(min=1e-12)
    own = getattr(explainer.module, "PREPROCESSING", None)
    if own is not None and options.normalize is None:
        x = own(x)
        if x.ndim != 4 or tuple(x.shape[1:]) != given.shape:
            raise WrongUseError(
                f"The model's PREPROCESSING makes {tuple(x.shape)} of (1, D, H, W) = "
                f"{(1, *given.shape)}; the grid has to stay. Resample by --size or --spacing."
            )
    return x[None].to(explainer.device)


# ------------------------------------------------------------------------------------ results


def _places(heat: Volume) -> dict[str, Any]:
    """The peak, and boxes around the components above half of it, best first.

    A map that is zero has neither.
    """
    voxel = _peak(heat.data)
    peak = {"voxel": list(voxel), "mm": rounded(heat.to_world(voxel).tolist())}
    (found,) = localization.boxes(torch.from_numpy(heat.data)[None, None], select="all")
    return {
        "peak": peak if heat.data[voxel] > 0 else None,
        # (x0, y0, z0, x1, y1, z1): W, H, D.
        "boxes": [
            {"box": rounded(box.tolist()), "score": score.item()}
            for box, score in zip(found.boxes, found.scores, strict=True)
        ],
    }


def _peak(heat: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(heat.argmax()), heat.shape))


def _figures(
    maps: np.ndarray, said: list[Said], scan: Volume, options: Namespace
) -> dict[str, Any]:
    names, scores = [each.name for each in said], [each.probability for each in said]
    place: dict[str, Any] = {"spacing": scan.spacing, "orientation": scan.orientation}
    if len(said) > 1:
        place["frames"] = spread(len(scan.data), _peak(maps[0])[0])
        return {"figure": visualize_classes_attr(maps, scan.data, names, scores, **place)[0]}
    words: dict[str, Any] = {
        "window": options.clip and tuple(options.clip),
        "class_name": names[0],
        "class_score": scores[0],
    }
    return {
        "figure": visualize_volume_attr(maps[0], scan.data, **place, **words)[0],
        "montage": visualize_volume_montage(maps[0], scan.data, **place, **words)[0],
    }
