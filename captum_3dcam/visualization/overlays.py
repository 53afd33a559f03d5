"""Boxes, tubes and segments to draw with a map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from captum_3dcam.localization import Boxes, Segment, Tube
from captum_3dcam.visualization._figures import OUTLINED
from captum_3dcam.visualization._inputs import Array, as_array

Size = tuple[int, int]

# Of Okabe and Ito's colours those that stand out from black and from the map.
_COLORS = ("#56B4E9", "#FFFFFF", "#009E73", "#F0E442", "#CC79A7")
_LINE_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True, eq=False)
class Overlays:
    """What is drawn over a map of one sample; frames are counted from the clip's first.

    Args:
        boxes: of an image ``localization.boxes(maps)[i]``; of a video one for each frame,
            ``localization.frame_boxes(maps)[i]``.
        tubes: of a video ``localization.tubes(maps)[i]``, which the legend numbers; or with names
            for the legend, ``{"ground truth": tube, ...}``.
        segments: of a video ``localization.segments(profile)[i]``, shaded in the profile.
        box_size: the (H, W) in whose pixels boxes and tubes are given, by default the map's.

    Raises:
        TypeError: for boxes, tubes or segments of another type, or of a batch.
        ValueError: for boxes that are not (B, 4), or a ``box_size`` that is not positive.

    >>> import torch
    >>> Overlays(tubes={"ground truth": Tube(0, torch.zeros(8, 4), 1.0)}).box_size is None
    True
    """

    boxes: Boxes | Sequence[Boxes] | None = None
    tubes: Sequence[Tube] | Mapping[str, Tube] = ()
    segments: Sequence[Segment] = ()
    box_size: Size | None = None

    def __post_init__(self) -> None:
        if not all(isinstance(boxes, Boxes) for boxes in self.boxes_per_frame):
            raise TypeError(
                "boxes must be those of one sample: of an image localization.boxes(maps)[i], of a "
                "video localization.frame_boxes(maps)[i], one Boxes for each frame."
            )
        tubes = list(self.tubes.values() if isinstance(self.tubes, Mapping) else self.tubes)
        if not all(isinstance(tube, Tube) for tube in tubes):
            raise TypeError("tubes must be those of one sample: localization.tubes(maps)[i].")
        if not all(isinstance(segment, Segment) for segment in self.segments):
            raise TypeError(
                "segments must be those of one sample: localization.segments(profile)[i]."
            )
        shapes = [boxes.boxes.shape for boxes in self.boxes_per_frame]
        for shape in (*shapes, *(tube.boxes.shape for tube in tubes)):
            if len(shape) != 2 or shape[1] != 4:
                raise ValueError(
                    f"Boxes over images are (B, 4), x0, y0, x1, y1; got shape {tuple(shape)}."
                )
        if self.box_size is not None and min(self.box_size) < 1:
            raise ValueError(f"box_size={self.box_size}: expected (H, W), in pixels.")

    @property
    def boxes_per_frame(self) -> list[Boxes]:
        """One for each frame; an image is one."""
        if isinstance(self.boxes, Boxes):
            return [self.boxes]
        return list(self.boxes or [])

    @property
    def named_tubes(self) -> dict[str, Tube]:
        """The tubes with their names in the legend."""
        if isinstance(self.tubes, Mapping):
            return dict(self.tubes)
        return {f"tube {i} ({tube.score:.2f})": tube for i, tube in enumerate(self.tubes, start=1)}


class _Outline(NamedTuple):
    """A box (x0, y0, x1, y1) in an image's coordinates, its line style, and its label."""

    box: Array
    style: int
    label: str = ""


class OverlayArtist:
    """Draws overlays over the frames of a clip; an image is a clip of one frame.

    Boxes are scaled from the pixels of ``box_size``, by default ``map_size``, to ``image_size``.
    """

    def __init__(self, overlays: Overlays, length: int, map_size: Size, image_size: Size) -> None:
        self._boxes = overlays.boxes_per_frame
        self._tubes = overlays.named_tubes
        self.segments = overlays.segments
        if self._boxes and len(self._boxes) != length:
            raise ValueError(
                f"There are boxes for {len(self._boxes)} images, and {length} to draw. Pass of an "
                "image localization.boxes(maps)[i], of a video localization.frame_boxes(maps)[i]."
            )
        for name, tube in self._tubes.items():
            check_frames(name, tube, length)
        for segment in self.segments:
            check_frames("A segment", segment, length)
        (h, w), (height, width) = overlays.box_size or map_size, image_size
        self._factor = np.array([width / w, height / h] * 2)

    def draw(self, ax: Axes, frame: int) -> list[Artist]:
        """Draw the boxes of a frame and the tubes that cross it."""
        return [artist for outline in self._outlines(frame) for artist in _draw(ax, outline)]

    def add_legend(self, ax: Axes) -> None:
        """Add a legend that names the tubes."""
        handles = [
            Line2D([], [], label=name, **_line(style))
            for style, name in enumerate(self._tubes, start=bool(self._boxes))
        ]
        if handles:
            # A white or yellow line is visible on grey only.
            options: dict[str, Any] = {"loc": "lower center", "ncols": min(len(handles), 4)}
            ax.legend(handles=handles, fontsize="small", facecolor="0.6", **options)

    def _outlines(self, frame: int) -> list[_Outline]:
        """The outlines in one frame; a box with NaN is left out."""
        outlines = []
        if self._boxes:
            boxes, scores = (as_array(values) for values in self._boxes[frame])
            outlines += [_Outline(b, 0, f"{s:.2f}") for b, s in zip(boxes, scores, strict=True)]
        for style, tube in enumerate(self._tubes.values(), start=bool(self._boxes)):
            if tube.start <= frame < tube.end:
                outlines.append(_Outline(as_array(tube.boxes[frame - tube.start]), style))
        # Pixel 0 goes from -0.5 to 0.5 on the axis.
        scaled = (outline._replace(box=outline.box * self._factor - 0.5) for outline in outlines)
        return [outline for outline in scaled if np.isfinite(outline.box).all()]


def check_frames(name: str, span: Tube | Segment, length: int) -> None:
    """ValueError unless a tube or segment covers a frame of the clip."""
    if span.end <= 0 or span.start >= length:
        raise ValueError(
            f"{name} covers the frames {span.start} to {span.end - 1}, and the clip has {length}. "
            "Count frames from the clip's first."
        )


def _draw(ax: Axes, outline: _Outline) -> list[Artist]:
    x0, y0, x1, y1 = outline.box
    artists: list[Artist] = [
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **_line(outline.style)))
    ]
    if outline.label:
        options: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": "small"}
        artists.append(ax.text(x0, y0, f" {outline.label}", clip_on=True, **options, **OUTLINED))
    return artists


def _line(style: int) -> dict[str, Any]:
    return {
        "color": _COLORS[style % len(_COLORS)],
        "linestyle": _LINE_STYLES[style % len(_LINE_STYLES)],
        "linewidth": 2,
        "path_effects": [withStroke(linewidth=3.5, foreground="black")],
    }
