"""napari."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.io import VideoFile, Volume

Layer = tuple[NDArray[Any], dict[str, Any], str]

# From (R, A, S) to (I, P, L). napari draws its last axes down and to the right, where a slice of a
# scan has the patient's back and left. Its 3D view takes the axes in their order as right-handed:
# with S as the first, the patient would be mirrored there.
_TO_IPL = np.array([[0.0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
_BLACK_AND_WHITE = (0.5, 99.5)  # percentiles of a scan


class _World(NamedTuple):
    """The coordinates in which layers are shown."""

    size: Sequence[int]
    """Of the original, along its axes."""
    affine: NDArray[np.float64]
    """From its voxels to the coordinates."""
    names: tuple[str, ...]
    units: tuple[str, ...]

    def layer(self, data: NDArray[Any], **arguments: Any) -> Layer:
        """Data that cover the original, and may have an axis of colours after its axes."""
        rank = len(self.size)
        affine = self.affine @ _stretch(data.shape[:rank], self.size)
        # napari slices an array along the axis of the coordinate: the closest one comes first.
        order = _closest_axes(self.affine)
        arguments |= {"affine": affine[:, [*order, rank]]}
        arguments |= {"axis_labels": self.names, "units": self.units}
        return data.transpose(*order, *range(rank, data.ndim)), arguments, "image"


def to_napari(explanation: Explanation, sample: int = 0) -> list[Layer]:
    """What was explained and the map of each class, as napari's tuples (data, arguments, "image").

    ``napari.layers.Layer.create(*layer)`` makes a layer of each. Their affines put the maps on the
    original. The axes of an image are in pixels, those of a video in seconds, by the frames' mean
    duration, and pixels. Those of a scan are in mm to the patient's feet, back and left: the
    coordinates (R, A, S), negative and in reverse. Of a scan without an affine they are in its
    spacing, or in voxels.

    Raises ValueError for a video that does not fit in memory.
    """
    part = explanation[sample]
    (original,) = part.originals
    world = _make_world(part)
    layers = []
    if original is not None:
        data, arguments = _show(part, original)
        layers.append(world.layer(data, name=part.kind, **arguments))
    for rank, caption in enumerate(part.captions[0]):
        heat_map = part.heat_map(rank).float().numpy()
        layer = world.layer(
            heat_map,
            name=caption,
            colormap="inferno",
            blending="additive",
            contrast_limits=(0.0, float(heat_map.max()) or 1.0),
            visible=rank == 0,
        )
        layers.append(layer)
    return layers


def _make_world(explanation: Explanation) -> _World:
    size, (original,) = explanation.size, explanation.originals
    if explanation.kind == "image":
        return _World(size, np.eye(3), ("y", "x"), ("pixel", "pixel"))
    if (times := explanation.times) is not None:
        affine = np.diag([1 / times.fps, 1, 1, 1])
        affine[0, 3] = times.edges[0]
        return _World((len(times), *size), affine, ("t", "y", "x"), ("s", "pixel", "pixel"))
    size = getattr(original, "shape", size)
    if "affine" in explanation.facts:
        affine = _TO_IPL @ np.array(explanation.facts["affine"])
        return _World(size, affine, ("I", "P", "L"), ("mm",) * 3)
    spacing = getattr(original, "spacing", None)
    unit = "pixel" if spacing is None else "mm"
    return _World(size, np.diag([*(spacing or (1, 1, 1)), 1]), ("d", "h", "w"), (unit,) * 3)


def _show(explanation: Explanation, original: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    """The values of an original, and how they are shown."""
    if isinstance(original, VideoFile):
        (frames,) = original.chunks(sys.maxsize)
        return frames, {"rgb": True}
    if explanation.kind == "image":
        return original, {"rgb": True}
    data = original.data if isinstance(original, Volume) else original.array
    channel = data.reshape(-1, *data.shape[-3:])[0]
    window = explanation.facts.get("window") or np.percentile(channel, _BLACK_AND_WHITE)
    low, high = map(float, window)
    return channel, {"colormap": "gray", "contrast_limits": (low, high if high > low else low + 1)}


def _stretch(size: Sequence[int], whole: Sequence[int]) -> NDArray[np.float64]:
    """From the voxels of a grid to those of another one that covers the same."""
    scale = np.array(whole) / size
    affine = np.diag([*scale, 1.0])
    affine[:-1, -1] = (scale - 1) / 2
    return affine


def _closest_axes(affine: NDArray[np.float64]) -> list[int]:
    """Of each coordinate, the axis of the voxels that is closest to it."""
    if len(affine) < 4:
        return list(range(len(affine) - 1))
    voxel = Volume(np.zeros((1, 1, 1), np.float32), affine)
    return [voxel.world_axes.index(coordinate) for coordinate in range(3)]
