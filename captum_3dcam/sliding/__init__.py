"""Long videos and big volumes: explained in windows, with memory that does not grow.

Also shot boundaries, so that no window contains two scenes of a video.
"""

from captum_3dcam.sliding._windows import Window
from captum_3dcam.sliding.shots import shot_boundaries
from captum_3dcam.sliding.sliding_window_cam import (
    MapChunk,
    SlidingWindowCAM,
    WindowedAttribution,
)

__all__ = ["MapChunk", "SlidingWindowCAM", "Window", "WindowedAttribution", "shot_boundaries"]
