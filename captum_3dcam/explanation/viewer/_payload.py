"""The content of the viewer as JSON: JPEG frames, maps and scans as packed bytes."""

import base64
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch
from math import ceil, log10, prod
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import (
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)

from captum_3dcam.explanation.viewer.content import (
    ImageContent,
    Original,
    Regions,
    VideoContent,
    ViewerContent,
    ViewerMap,
    VolumeContent,
)
from captum_3dcam.localization import Boxes
from captum_3dcam.visualization.scan import PatientScan, apply_window, find_peak, resolve_scan
from captum_3dcam.visualization.style import Style

Array = NDArray[Any]

_JPEG_QUALITY = {"image": 88, "video": 72}
_MAX_PIXELS = 1024  # on the longer side of an image
_MAX_VOXELS = 2**22  # of a scan
_MAX_SIDES = (128, 96, 64, 48, 32, 24, 16)  # of a map: the largest with which all maps fit
_MAX_VALUES = 2**23  # of all maps together
_LEVELS = 255
_Pools = dict[int, Callable[..., Tensor]]  # by the number of axes
_MEAN: _Pools = {2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
_MAXIMUM: _Pools = {2: adaptive_max_pool2d, 3: adaptive_max_pool3d}


def to_payload(content: ViewerContent) -> dict[str, Any]:
    """What the scripts of the viewer read, as JSON takes it."""
    original = content.original
    side = _choose_side(content)
    return {
        "title": content.title,
        "warnings": [str(text) for text in content.warnings],
        "classes": [
            {"name": c.name, "score": _finite(c.score), "probability": _finite(c.probability)}
            for c in content.classes
        ],
        "maps": [_describe_map(heat, original, side) for heat in content.maps],
        "regions": [_describe_regions(regions, original) for regions in content.regions],
        "palette": _base64((colormaps["inferno"](np.arange(256))[:, :3] * 255).round()),
        "original": {"kind": original.kind, **_describe(original)},
    }


def _finite(number: float) -> float | None:
    """JSON has no NaN."""
    return float(number) if np.isfinite(number) else None


def _base64(values: Array | bytes) -> str:
    data = values if isinstance(values, bytes) else values.astype(np.uint8).tobytes()
    return base64.b64encode(data).decode()


def _pack(values: Array) -> dict[str, Any]:
    """Bytes on three axes, deflated as differences along the last ``deltas`` of them.

    A smooth map is smallest as differences along all axes, a noisy scan along one or none.
    """
    residuals = [values]
    for axis in reversed(range(3)):
        last = residuals[-1]
        start = np.zeros_like(last.take([0], axis))
        residuals.append(np.diff(last, axis=axis, prepend=start))
    sizes = [len(zlib.compress(residual.tobytes(), 1)) for residual in residuals]  # a fast estimate
    deltas = sizes.index(min(sizes))
    packed = zlib.compress(residuals[deltas].tobytes(), 6)
    return {"size": list(values.shape), "deltas": deltas, "data": _base64(packed)}


def _reduce(values: Array, shape: Sequence[int], pools: _Pools) -> Array:
    """Arrays (k, *S) reduced to another S: a new value is of the area that it covers."""
    if values.shape[1:] == tuple(shape):
        return values
    return pools[len(shape)](torch.tensor(values)[None], tuple(shape))[0].numpy()


# ---------------------------------------------------------------------------------------- maps


def _choose_side(content: ViewerContent) -> int:
    """The longest side of a map for which the values of all maps are few enough."""
    for side in _MAX_SIDES:
        shapes = [_reduced(heat.values.shape[1:], content.original, side) for heat in content.maps]
        if len(content.classes) * sum(map(prod, shapes)) <= _MAX_VALUES:
            return side
    return _MAX_SIDES[-1]


def _reduced(shape: Sequence[int], original: Original, side: int) -> tuple[int, ...]:
    """The shape of a map with sides of at most ``side``; all frames are kept."""
    kept = int(original.has_time)
    return (*shape[:kept], *(min(n, side) for n in shape[kept:]))


def _describe_map(heat: ViewerMap, original: Original, side: int) -> dict[str, Any]:
    """For each class, levels from 0 to 255 of the maximum.

    The maximum, its voxel and the means of frames are those of the map as it was computed.
    """
    shape = _reduced(heat.values.shape[1:], original, side)
    values = _reduce(heat.values, shape, _MAXIMUM)
    meaning = heat.meaning
    if values.shape != heat.values.shape:
        cells = " x ".join(map(str, shape[int(original.has_time) :]))
        meaning += f"; drawn as {cells} cells, each with the highest value in it"
    classes = []
    for full, small in zip(heat.values, values, strict=True):
        peak = float(full.max())
        levels = np.rint(small.astype(np.float64) / (peak or 1) * _LEVELS).astype(np.uint8)
        grid = levels.reshape(-1, *levels.shape[-2:])
        frames = full.reshape(len(full) if original.has_time else 1, -1)
        exact = {"peak": peak, "voxel": find_peak(full, original.shape)}
        classes.append({**exact, "means": frames.mean(axis=1).tolist(), **_pack(grid)})
    return {
        "name": heat.name,
        "group": heat.group,
        "meaning": meaning,
        "classes": classes,
    }


# ------------------------------------------------------------------------------------ originals


@singledispatch
def _describe(original: Any) -> dict[str, Any]:
    raise TypeError(f"Expected an image, a video or a volume; got {type(original).__name__}.")


@_describe.register
def _(original: ImageContent) -> dict[str, Any]:
    image = Image.fromarray(original.pixels)
    image.thumbnail((_MAX_PIXELS, _MAX_PIXELS))
    is_reduced = image.size[::-1] != original.shape
    note = f"shown at {image.width} x {image.height} pixels" if is_reduced else None
    return {
        "size": original.shape,
        "shown": [image.height, image.width],
        "note": note,
        "frames": [_jpeg(image, _JPEG_QUALITY["image"])],
    }


@_describe.register
def _(original: VideoContent) -> dict[str, Any]:
    frames = (Image.fromarray(frame) for frame in original.frames)
    return {
        "size": original.shape[1:],
        "shown": original.frames.shape[1:3],
        "note": original.note,
        "step": original.step,
        "edges": original.times.edges.tolist(),
        "frames": [_jpeg(frame, _JPEG_QUALITY["video"]) for frame in frames],
    }


@_describe.register
def _(original: VolumeContent) -> dict[str, Any]:
    scan, style = resolve_scan(original.volume, (), Style(window=original.window))
    window = style.window or (0.0, 1.0)
    spacing = None if scan.spacing is None else [float(mm) for mm in scan.spacing]
    shape = _scan_shape(scan.shape, spacing or (1.0, 1.0, 1.0))
    grey = _reduce(apply_window(scan.array, window)[None], shape, _MEAN)[0]
    size, shown = (" x ".join(map(str, sides)) for sides in (scan.shape, shape))
    return {
        "size": scan.shape,
        "note": f"shown at {shown} of {size} voxels" if shape != scan.shape else None,
        "scan": _pack(np.rint(grey * _LEVELS).astype(np.uint8)),
        "window": window,
        "spacing": spacing,
        "decimals": max(2, 2 - ceil(log10(min(spacing)))) if spacing else 0,
        "patient": _describe_patient(scan) if isinstance(scan, PatientScan) else None,
        "planes": [
            {**plane._asdict(), "lengths": [scan.length(axis) for axis in plane[1:3]]}
            for plane in scan.planes
        ],
    }


def _describe_patient(scan: PatientScan) -> dict[str, Any]:
    volume = scan.volume
    return {
        "affine": volume.affine.tolist(),
        "world_axes": volume.world_axes,
        "is_oblique": scan.is_oblique,
    }


def _jpeg(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True)
    return _base64(file.getvalue())


def _scan_shape(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """The shape with few enough voxels: the axis with the finest ones is halved first."""
    steps = [1, 1, 1]
    while (
        prod(sizes := tuple(ceil(n / k) for n, k in zip(shape, steps, strict=True))) > _MAX_VOXELS
    ):
        axes = [axis for axis in range(3) if sizes[axis] > 1]
        finest = min(axes, key=lambda axis: spacing[axis] * steps[axis])
        steps[finest] *= 2
    return sizes


# -------------------------------------------------------------------------------------- regions


def _describe_regions(regions: Regions, original: Original) -> dict[str, Any]:
    """Boxes and tubes as fractions of the original, frame by frame; segments in frames.

    A box is {number, label, corners}, with the corners in the order of the axes, the starts before
    the stops. The number tells boxes (0) and tubes (1 and up) apart, and names the latter.
    """
    kept = int(original.has_time)
    size = np.array(original.shape[kept:])
    frames: list[list[dict[str, Any]]] = [[] for _ in range(original.shape[0] if kept else 1)]
    for frame, boxes in zip(frames, regions.boxes, strict=False):
        frame += _list_boxes(boxes, size)
    for number, tube in enumerate(regions.tubes, start=1):
        for t, box in enumerate(tube.boxes, start=tube.start):
            if 0 <= t < len(frames) and (corners := _fractions(box, size)):
                frames[t].append({"number": number, "label": str(number), "corners": corners})
    return {
        "frames": frames,
        "tubes": [{"start": t.start, "end": t.end, "score": float(t.score)} for t in regions.tubes],
        "segments": [
            {"start": s.start, "end": s.end, "score": float(s.score)} for s in regions.segments
        ],
    }


def _list_boxes(boxes: Boxes, size: Array) -> Iterator[dict[str, Any]]:
    for box, score in zip(boxes.boxes, boxes.scores.tolist(), strict=True):
        if corners := _fractions(box, size):
            yield {"number": 0, "label": f"{score:.3g}", "corners": corners}


def _fractions(box: Tensor, size: Array) -> list[float]:
    """Starts and stops along the axes, from x, y, ..., the last axis first; none for NaN."""
    first, last = np.split(box.detach().cpu().double().numpy(), 2)
    corners = np.concatenate([first[::-1] / size, last[::-1] / size])
    return corners.tolist() if np.isfinite(corners).all() else []
