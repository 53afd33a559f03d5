"""Long videos and big volumes: windows in, one map out, at a memory that does not grow.

Also where a video's scenes begin, so that no window sees two of them.
"""

from captum_3dcam.sliding._windows import Window
from captum_3dcam.sliding.shots import shot_boundaries
from captum_3dcam.sliding.sliding_window_cam import Explanation, Piece, SlidingWindowCAM

__all__ = ["Explanation", "Piece", "SlidingWindowCAM", "Window", "shot_boundaries"]
