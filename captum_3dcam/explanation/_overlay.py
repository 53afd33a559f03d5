"""A video with its map over it, as a file."""

from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._video import resized
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import write_video
from captum_3dcam.visualization import OverlayRenderer, Style

_HEIGHT = 480
_MIN_GIF_DURATION = 0.02 - 1e-6  # seconds; browsers slow down what is faster


def write_overlay(explanation: Explanation, rank: int, path: Path, progress: bool) -> None:
    """Write one class of a video, on one colour scale, with the frames' own times.

    In the file, time 0 is where the sampling starts.
    """
    video, times = explanation.originals[0], explanation.times
    assert times is not None, "a video has times"
    chosen = _frames_of_gif(times) if path.suffix == ".gif" else range(len(times))
    is_chosen = np.isin(range(len(times)), chosen)
    frames = _render(explanation, rank, is_chosen)
    bar = tqdm(frames, path.name, len(chosen), unit="frame", disable=not progress)
    starts = times.edges[:-1][is_chosen]
    first, end = min(video.sampling.start, times.edges[0]), times.edges[-1]
    if path.suffix == ".gif":
        end = max(end, starts[-1] + _MIN_GIF_DURATION)
    write_video(bar, path, FrameTimes([first, *starts[1:], end]))


def _render(explanation: Explanation, rank: int, is_chosen: Any) -> Iterator[NDArray[np.uint8]]:
    heat_map = explanation.heat_map(rank)
    video = resized(explanation.originals[0], _HEIGHT)
    renderer = OverlayRenderer(
        video.size,
        float(heat_map.max()),
        title=explanation.captions[0][rank],
        style=Style(sign="positive"),
    )
    assert explanation.times is not None, "a video has times"
    triples = zip(heat_map, video, explanation.times.edges[:-1], strict=True)
    for heat, frame, time in compress(triples, is_chosen):
        yield renderer.render(heat, frame, time)


def _frames_of_gif(times: FrameTimes) -> list[int]:
    """The frames that leave each one shown for long enough."""
    chosen = [0]
    for frame, start in enumerate(times.edges[:-1]):
        if start - times.edges[chosen[-1]] >= _MIN_GIF_DURATION:
            chosen.append(frame)
    if times.edges[-1] - times.edges[chosen[-1]] < _MIN_GIF_DURATION and len(chosen) > 1:
        chosen.pop()
    return chosen
