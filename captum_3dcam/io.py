"""Videos in. What needs an optional package says which extra installs it."""

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Video(NamedTuple):
    """Decoded frames, (T, H, W, 3) RGB bytes, and their rate in frames per second."""

    frames: NDArray[np.uint8]
    fps: float


def read_video(
    path: str | PathLike[str], size: tuple[int | None, int | None] = (None, None)
) -> Video:
    """Decode all frames of a video file with PyAV, rescaled to ``size`` (H, W).

    None keeps the video's own height or width; with the other one given, its aspect ratio.

    Raises ImportError without PyAV (the extra ``video``), FileNotFoundError, and ValueError for
    a file that is no video.
    """
    av = _import_av()
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no video file {str(path)!r}.")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate)
            height, width = _fit(size, stream.height, stream.width)
            frames = [
                frame.to_ndarray(format="rgb24", width=width, height=height)
                for frame in container.decode(stream)
            ]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a video: {error}") from error
    if not frames:
        raise ValueError(f"{str(path)!r} holds no video frames.")
    return Video(np.stack(frames), fps)


def _fit(size: tuple[int | None, int | None], height: int, width: int) -> tuple[int, int]:
    if size[0] is None and size[1] is not None:
        return max(round(height * size[1] / width), 1), size[1]
    if size[1] is None and size[0] is not None:
        return size[0], max(round(width * size[0] / height), 1)
    return size[0] or height, size[1] or width


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("Reading video needs PyAV: pip install 'captum_3dcam[video]'.") from error
    return av
