"""Figures of maps over images, videos and volumes.

Each function returns its figure and axes, which a notebook shows as the result of a cell; a script
shows nothing unless ``Style(use_pyplot=True)``.
Images and videos are channels-last, (H, W[, 3]) and (T, H, W[, 3]), as bytes or as floats in
[0, 1]; volumes are (D, H, W), of any range. A map is what an attribution class returns for one
sample, ``attribution[i]`` or a batch of one, on any device and in any precision. It may be coarser
than the image: it is drawn over the whole of it.

How maps are drawn is a :class:`Style`, which any number of figures share. Only
:func:`visualize_image_attr` takes its settings one by one, as Captum's function of that name.
"""

from captum_3dcam.visualization.animation import (
    VideoAnimation,
    animate_video_attr,
    save_animation,
)
from captum_3dcam.visualization.image import render_image_attr, visualize_image_attr
from captum_3dcam.visualization.overlay_video import OverlayRenderer, overlay_frames
from captum_3dcam.visualization.overlays import Overlays
from captum_3dcam.visualization.panels import visualize_attr_panels
from captum_3dcam.visualization.profile import visualize_temporal_profile
from captum_3dcam.visualization.scan import Scan
from captum_3dcam.visualization.style import METHODS, SIGNS, Style
from captum_3dcam.visualization.video import visualize_video_attr
from captum_3dcam.visualization.volume import (
    visualize_volume_attr,
    visualize_volume_montage,
    visualize_volume_projections,
)

__all__ = [
    "METHODS",
    "SIGNS",
    "OverlayRenderer",
    "Overlays",
    "Scan",
    "Style",
    "VideoAnimation",
    "animate_video_attr",
    "overlay_frames",
    "render_image_attr",
    "save_animation",
    "visualize_attr_panels",
    "visualize_image_attr",
    "visualize_temporal_profile",
    "visualize_video_attr",
    "visualize_volume_attr",
    "visualize_volume_montage",
    "visualize_volume_projections",
]
