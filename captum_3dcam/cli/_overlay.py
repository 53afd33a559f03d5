"""A video with its map over it."""

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from captum_3dcam.io import VideoFile, write_video
from captum_3dcam.visualization import Style, render_image_attr

_MAX_GIF_FPS = 50


def write_overlay(
    heat_map: NDArray[np.float32], video: VideoFile, path: Path, progress: bool
) -> None:
    """Write the video with a map (T, H, W) over it, frame by frame, on one colour scale."""
    style = Style(sign="positive", vmax=float(heat_map.max()) or None)
    step = -(-int(video.fps) // _MAX_GIF_FPS) if path.suffix == ".gif" else 1
    pairs = islice(zip(heat_map, video, strict=False), 0, None, step)
    total = -(-len(heat_map) // step)
    frames = (render_image_attr(values, frame, style) for values, frame in pairs)
    bar = tqdm(frames, path.name, total, unit="frame", disable=not progress)
    write_video(bar, path, video.fps / step)
