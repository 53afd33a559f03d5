"""Boxes and tubes over pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from captum_3dcam.localization import Boxes, Tube
from captum_3dcam.visualization._figures import EDGED, name_of
from captum_3dcam.visualization._inputs import Array, as_array

Tubes = Sequence[Tube] | Mapping[str, Tube]
Size = tuple[int, int]

# Of Okabe and Ito's colours those that stand out from black and from the map.
_COLOURS = ("#56B4E9", "#FFFFFF", "#009E73", "#F0E442", "#CC79A7")
_LINES = ("-", "--", "-.", ":")


class Outline(NamedTuple):
    """One box (x0, y0, x1, y1) in a picture's coordinates, and what is written on it."""

    box: Array
    style: int
    text: str = ""


class Outlines:
    """What is drawn over each frame: its boxes with their scores, and the tubes that cross it.

    Boxes are counted in pixels of ``box_size``, and drawn in those of ``picture_size``.
    """

    def __init__(
        self,
        length: int,
        boxes: Sequence[Boxes] | None,
        tubes: Tubes | None,
        box_size: Size,
        picture_size: Size,
    ) -> None:
        _check_boxes(boxes, length)
        self.boxes = boxes or []
        self.tubes = _named(tubes, length)
        (h, w), (height, width) = box_size, picture_size
        if h < 1 or w < 1:
            raise ValueError(f"box_size={box_size} must be (H, W), in pixels.")
        self._factor = np.array([width / w, height / h] * 2)

    def at(self, frame: int) -> list[Outline]:
        """The outlines in one frame, the tubes' last; a box with nan is none."""
        found = []
        if self.boxes:
            boxes, scores = (as_array(values) for values in self.boxes[frame])
            found += [Outline(b, 0, f"{s:.2f}") for b, s in zip(boxes, scores, strict=True)]
        first = 1 if self.boxes else 0
        for i, tube in enumerate(self.tubes.values(), start=first):
            if tube.start <= frame < tube.end:
                found.append(Outline(as_array(tube.boxes[frame - tube.start]), i))
        # Pixel 0 goes from -0.5 to 0.5 on the axis.
        placed = (o._replace(box=o.box * self._factor - 0.5) for o in found)
        return [outline for outline in placed if np.isfinite(outline.box).all()]

    def draw(self, ax: Axes, frame: int) -> list[Artist]:
        return [artist for outline in self.at(frame) for artist in _draw(ax, outline)]

    def legend(self, ax: Axes) -> None:
        """Which line is which tube."""
        first = 1 if self.boxes else 0
        handles = [
            Line2D([], [], label=name, **_style(i)) for i, name in enumerate(self.tubes, first)
        ]
        if handles:
            # A white or yellow line is seen on grey alone.
            place: dict[str, Any] = {"loc": "lower center", "ncols": min(len(handles), 4)}
            ax.legend(handles=handles, fontsize="small", facecolor="0.6", **place)


def _draw(ax: Axes, outline: Outline) -> list[Artist]:
    x0, y0, x1, y1 = outline.box
    drawn: list[Artist] = [
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **_style(outline.style)))
    ]
    if outline.text:
        place: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": "small", "clip_on": True}
        drawn.append(ax.text(x0, y0, f" {outline.text}", **place, **EDGED))
    return drawn


def _style(position: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[position % len(_COLOURS)],
        "linestyle": _LINES[position % len(_LINES)],
        "linewidth": 2,
        "path_effects": [withStroke(linewidth=3.5, foreground="black")],
    }


# ------------------------------------------------------------------------------------- checks


def _check_boxes(boxes: Sequence[Boxes] | None, length: int) -> None:
    if boxes is None:
        return
    if not all(isinstance(frame, Boxes) for frame in boxes):
        raise TypeError(
            "boxes must be those of one sample: of an image localization.boxes(maps)[i], of a clip "
            "localization.frame_boxes(maps)[i], one Boxes a frame."
        )
    if len(boxes) != length:
        raise ValueError(f"There are boxes for {len(boxes)} frames, and the clip has {length}.")
    for frame in boxes:
        check_frame(frame.boxes.shape)


def check_frame(shape: Sequence[int]) -> None:
    if len(shape) != 2 or shape[1] != 4:
        raise ValueError(
            f"Boxes on a picture are (B, 4), x0, y0, x1, y1; got shape {tuple(shape)}."
        )


def _named(tubes: Tubes | None, length: int) -> dict[str, Tube]:
    """Tubes by what the legend calls them."""
    given = list(tubes.values()) if isinstance(tubes, Mapping) else list(tubes or [])
    if not all(isinstance(tube, Tube) for tube in given):
        raise TypeError("tubes must be those of one sample: localization.tubes(maps)[i].")
    names = tubes if isinstance(tubes, Mapping) else _numbers(given)
    named = dict(zip(names, given, strict=True))
    for name, tube in named.items():
        check_frame(tube.boxes.shape)
        if tube.end <= 0 or tube.start >= length:
            raise ValueError(
                f"{name} covers the frames {tube.start} to {tube.end - 1}, and the clip has "
                f"{length}. Count a tube's frames from the clip's first."
            )
    return named


def _numbers(tubes: Sequence[Tube]) -> list[str]:
    return [name_of(f"tube {i}", tube.score) for i, tube in enumerate(tubes, start=1)]
