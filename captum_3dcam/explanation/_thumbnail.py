"""A small image of a result: what was explained, where the map is highest, with the map over it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from captum_3dcam.explanation.viewer import VideoContent, ViewerContent, VolumeContent
from captum_3dcam.visualization import OverlayRenderer

THUMBNAIL = "overlay_small.jpg"
_HEIGHT = 240
_RANGE = (1, 99)  # percentiles of a scan without a window, black to white


def write_thumbnail(content: ViewerContent, path: Path) -> None:
    """Write a JPEG of the first map of the first class: of a video a frame, of a scan a slice."""
    heat = content.maps[0].values[0]
    index = 0
    if heat.ndim == 3:
        index = int(np.argmax(heat.reshape(len(heat), -1).max(axis=1)))
        heat = heat[index]
    pixels = _small(_pixels(content.original, index))
    renderer = OverlayRenderer(pixels.shape[:2], float(heat.max()), timed=False)
    Image.fromarray(renderer.render(heat, pixels)).save(path, "JPEG", quality=85)


def _pixels(original: Any, index: int) -> NDArray[np.uint8]:
    """RGB bytes: the image, or the frame or slice of that number."""
    if isinstance(original, VideoContent):
        return original.frames[index]  # type: ignore[no-any-return]
    if not isinstance(original, VolumeContent):
        return original.pixels  # type: ignore[no-any-return]
    array = np.asarray(getattr(original.volume, "array", original.volume.data))
    values = array.reshape(-1, *array.shape[-3:])[0][index]
    low, high = map(float, original.window or np.nanpercentile(values, _RANGE))
    grey = np.nan_to_num((values - low) / ((high - low) or 1.0)).clip(0, 1)
    return np.repeat((255 * grey).round().astype(np.uint8)[..., None], 3, axis=-1)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if height <= _HEIGHT:
        return pixels
    size = (_HEIGHT, max(1, round(width * _HEIGHT / height)))
    frames = torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0)[None].float()
    small = F.interpolate(frames, size, mode="area")[0]
    return np.asarray(small.movedim(0, -1).round().byte())
