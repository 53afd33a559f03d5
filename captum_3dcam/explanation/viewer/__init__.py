"""The interactive viewer of maps over an image, a video or a volume.

One HTML file holds everything: it needs no server, no network and no other file. The same scripts
show a :class:`ViewerContent` as a page, in a report, in a notebook and as a widget.
"""

from captum_3dcam.explanation.viewer.content import (
    GROUPS,
    MAX_FRAMES,
    ImageContent,
    Regions,
    VideoContent,
    ViewerClass,
    ViewerContent,
    ViewerMap,
    VolumeContent,
)
from captum_3dcam.explanation.viewer.page import notebook_html, report_page, viewer_page
from captum_3dcam.explanation.viewer.widget import make_widget

__all__ = [
    "GROUPS",
    "MAX_FRAMES",
    "ImageContent",
    "Regions",
    "VideoContent",
    "ViewerClass",
    "ViewerContent",
    "ViewerMap",
    "VolumeContent",
    "make_widget",
    "notebook_html",
    "report_page",
    "viewer_page",
]
