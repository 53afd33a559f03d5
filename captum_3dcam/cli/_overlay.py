"""A video with its map over it."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray
from tqdm.auto import tqdm

from captum_3dcam.io import VideoFile, write_video
from captum_3dcam.visualization.style import Look, pictures

_MAX_GIF_FPS = 50


def write_overlay(
    heat_map: NDArray[np.float32], video: VideoFile, path: Path, progress: bool
) -> None:
    """Write the video with a map (T, H, W) over it, frame by frame, on one colour scale."""
    style = Look("blended_heat_map", "positive", None, 0.8, None).over([heat_map])
    step = -(-int(video.fps) // _MAX_GIF_FPS) if path.suffix == ".gif" else 1
    pairs = islice(zip(heat_map, video, strict=False), 0, None, step)
    total = -(-len(heat_map) // step)
    frames = (blend(values, frame, style) for values, frame in pairs)
    bar = tqdm(frames, path.name, total, unit="frame", disable=not progress)
    write_video(bar, path, video.fps / step)


def blend(
    heat_map: NDArray[np.float32], frame: NDArray[np.uint8], style: Look
) -> NDArray[np.uint8]:
    """A frame (H, W, 3) with a map (H', W') over it, as the figures show it."""
    size = frame.shape[:2]
    values = torch.from_numpy(np.array(heat_map))[None, None]
    resized = F.interpolate(values, size, mode="bilinear")[0, 0].numpy()
    blended = np.zeros((*size, 3), np.float32)
    for layer in pictures(resized, frame.astype(np.float32) / 255, style):
        colors = colormaps.get_cmap(layer.cmap)(layer.norm(layer.data))[..., :3]
        alpha = 1.0 if layer.alpha is None else layer.alpha[..., None]
        blended += (colors - blended) * alpha
    pixels: NDArray[np.uint8] = (blended * 255).round().astype(np.uint8)
    return pixels
