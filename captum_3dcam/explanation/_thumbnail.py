"""A small image of a result: what was explained, where the map is highest, with the map over it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_3dcam.explanation.viewer import VideoContent, ViewerContent, VolumeContent
from captum_3dcam.visualization import OverlayRenderer, Style
from captum_3dcam.visualization.scan import apply_window, resolve_scan

THUMBNAIL = "overlay_small.jpg"
_SIZE = (960, 240)  # width and height, at most


def write_thumbnail(content: ViewerContent, path: Path) -> None:
    """Write a JPEG of the first map of the first class: of a video a frame, of a scan a slice."""
    heat = content.maps[0].values[0]
    index = 0
    if heat.ndim == 3:
        index = int(np.argmax(heat.reshape(len(heat), -1).max(axis=1)))
        heat = heat[index]
    image = Image.fromarray(_pixels(content.original, index))
    image.thumbnail(_SIZE)
    renderer = OverlayRenderer(image.size[::-1], float(heat.max()), timed=False)
    Image.fromarray(renderer.render(heat, np.asarray(image))).save(path, "JPEG", quality=85)


def _pixels(original: Any, index: int) -> NDArray[np.uint8]:
    """RGB bytes: the image, or the frame or slice of that number."""
    if isinstance(original, VideoContent):
        return original.frames[index]  # type: ignore[no-any-return]
    if not isinstance(original, VolumeContent):
        return original.pixels  # type: ignore[no-any-return]
    scan, style = resolve_scan(original.volume, (), Style(window=original.window))
    grey = apply_window(scan.array[index], style.window or (0.0, 1.0))
    return np.repeat((255 * grey).round().astype(np.uint8)[..., None], 3, axis=-1)
