"""Maps over images, videos and volumes. Each function returns its figure and axes.

Arguments are named as in :mod:`captum.attr.visualization`, and nothing is shown unless
``use_pyplot=True``. Images and videos are channels-last, (H, W[, 3]) and (T, H, W[, 3]), as bytes
or as floats in [0, 1]; volumes are (D, H, W), of any range. A map may be coarser than what it
explains: it is drawn over the whole of it. It comes as the attribution classes return it, on any
device and in any precision, for one sample: ``attribution[i]``, or a batch of one.

All pictures of a figure share one colour scale, unless ``scale`` says otherwise.
"""

from captum_3dcam.visualization.animation import animate_video_attr, save_animation
from captum_3dcam.visualization.image import visualize_image_attr
from captum_3dcam.visualization.panels import visualize_classes_attr, visualize_layers_attr
from captum_3dcam.visualization.profile import visualize_temporal_profile
from captum_3dcam.visualization.style import METHODS, SIGNS
from captum_3dcam.visualization.video import visualize_video_attr
from captum_3dcam.visualization.volume import (
    visualize_volume_attr,
    visualize_volume_montage,
    visualize_volume_projections,
)

__all__ = [
    "METHODS",
    "SIGNS",
    "animate_video_attr",
    "save_animation",
    "visualize_classes_attr",
    "visualize_image_attr",
    "visualize_layers_attr",
    "visualize_temporal_profile",
    "visualize_video_attr",
    "visualize_volume_attr",
    "visualize_volume_montage",
    "visualize_volume_projections",
]
