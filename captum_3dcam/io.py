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


def read_video(path: str | PathLike[str], size: tuple[int, int] | None = None) -> Video:
    """Decode all frames of a video file with PyAV, rescaled to ``size`` (H, W) if given.

    Raises ImportError without PyAV (the extra ``video``), FileNotFoundError, and ValueError for
    a file that is no video.
    """
    av = _import_av()
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no video file {str(path)!r}.")
    height, width = size or (None, None)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate)
            frames = [
                frame.to_ndarray(format="rgb24", width=width, height=height)
                for frame in container.decode(stream)
            ]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as a video: {error}") from error
    if not frames:
        raise ValueError(f"{str(path)!r} holds no video frames.")
    return Video(np.stack(frames), fps)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("Reading video needs PyAV: pip install 'captum_3dcam[video]'.") from error
    return av
