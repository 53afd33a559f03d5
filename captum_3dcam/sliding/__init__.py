"""Long videos and big volumes: windows in, one map out, at a memory that does not grow.

Also where a video's scenes begin, so that no window sees two of them.
"""

from captum_3dcam.sliding.explain import Explanation, Piece, SlidingWindowCAM
from captum_3dcam.sliding.shots import shot_boundaries
from captum_3dcam.sliding.windows import Window

__all__ = ["Explanation", "Piece", "SlidingWindowCAM", "Window", "shot_boundaries"]
