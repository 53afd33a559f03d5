"""Boxes, tubes and segments to draw with a map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from captum_3dcam._validation import (
    check_instance,
    check_integers,
    check_sequence,
    check_text,
    show,
)
from captum_3dcam.localization import Boxes, Segment, Tube
from captum_3dcam.visualization._inputs import Array, as_array
from captum_3dcam.visualization._text import LITERAL, OUTLINED, size_of, wrap_to
from captum_3dcam.visualization.style import repr_changed

Size = tuple[int, int]

# Of Okabe and Ito's colours those that stand out from black and from the map.
_COLORS = ("#56B4E9", "#FFFFFF", "#009E73", "#F0E442", "#CC79A7")
_LINE_STYLES = ("-", "--", "-.", ":")
SEGMENT: dict[str, Any] = {"color": "#E69F00", "alpha": 0.4, "linewidth": 0}
# Of a legend, in inches: a line with the gaps beside it, and a letter.
_HANDLE, _LETTER = 0.6, 0.08
_LABEL = 0.4, 0.15  # inches, of the score of a box
_NUMBERS = 0.9  # inches, of those beside the axes


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

    Raises TypeError for boxes, tubes or segments of another type or of a batch, and ValueError for
    boxes that are not (B, 4).

    >>> Overlays(segments=[Segment(2, 5, 0.9)], box_size=(112, 112))
    Overlays(segments=[Segment(start=2, end=5, score=0.9, fps=None)], box_size=(112, 112))
    """

    boxes: Boxes | Sequence[Boxes] | None = None
    tubes: Sequence[Tube] | Mapping[str, Tube] = ()
    segments: Sequence[Segment] = ()
    box_size: Size | None = None

    def __repr__(self) -> str:
        return repr_changed(self)

    def __post_init__(self) -> None:
        if self.boxes is not None:
            check_sequence("boxes", self.boxes, of="Boxes, one for each frame")
        _check_boxes(self.boxes_per_frame)
        _check_tubes(self.tubes)
        _check_segments(self.segments)
        if self.box_size is not None:
            _check_box_size(self.box_size)

    @property
    def boxes_per_frame(self) -> list[Boxes]:
        """One for each frame; an image is one."""
        return [self.boxes] if isinstance(self.boxes, Boxes) else list(self.boxes or [])

    @property
    def named_tubes(self) -> dict[str, Tube]:
        """The tubes with their names in the legend."""
        if isinstance(self.tubes, Mapping):
            return dict(self.tubes)
        return {f"tube {i} ({tube.score:.2f})": tube for i, tube in enumerate(self.tubes, start=1)}

    def check_length(self, length: int) -> None:
        """ValueError for boxes of more or fewer frames, and tubes and segments outside the clip."""
        boxes = self.boxes_per_frame
        if boxes and len(boxes) != length:
            raise ValueError(
                f"There are boxes for {len(boxes)} images, and {length} to draw. Pass of an image "
                "localization.boxes(maps)[i], of a video localization.frame_boxes(maps)[i]."
            )
        spans: list[tuple[str, Tube | Segment]] = [*self.named_tubes.items()]
        spans += [("A segment", segment) for segment in self.segments]
        for name, span in spans:
            if span.end <= 0 or span.start >= length:
                raise ValueError(
                    f"{name} covers the frames {span.start} to {span.end - 1}, and the clip has "
                    f"{length}. Count frames from the clip's first."
                )


def _check_boxes(frames: Sequence[object]) -> None:
    for frame in frames:
        if not isinstance(frame, Boxes):
            raise TypeError(
                "boxes must be those of one sample: of an image localization.boxes(maps)[i], of a "
                "video localization.frame_boxes(maps)[i], one Boxes for each frame."
            )
        corners, scores = as_array(frame.boxes, "boxes"), as_array(frame.scores, "scores")
        _check_corners(corners.shape)
        if scores.shape != corners.shape[:1]:
            raise ValueError(
                f"Expected as many scores as boxes; got {corners.shape} and {scores.shape}."
            )


def _check_tubes(tubes: object) -> None:
    if isinstance(tubes, Mapping):
        for name in tubes:
            check_text("a name of tubes", name)
        tubes = list(tubes.values())
    for tube in check_sequence("tubes", tubes, of="Tube, or a dict of them"):
        if not isinstance(tube, Tube):
            raise TypeError("tubes must be those of one sample: localization.tubes(maps)[i].")
        _check_corners(tube.boxes.shape)


def _check_segments(segments: object) -> None:
    for segment in check_sequence("segments", segments, of="Segment"):
        if not isinstance(segment, Segment):
            raise TypeError(
                "segments must be those of one sample: localization.segments(profile)[i]."
            )


def _check_corners(shape: Sequence[int]) -> None:
    if len(shape) != 2 or shape[1] != 4:
        raise ValueError(f"Boxes over images are (B, 4), x0, y0, x1, y1; got shape {tuple(shape)}.")


def _check_box_size(box_size: object) -> None:
    size = check_integers("box_size", box_size, minimum=None)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"box_size={show(box_size)}: expected (H, W), in pixels.")


class OverlayArtist:
    """Draws overlays over the frames of a clip; an image is a clip of one frame.

    Boxes are scaled from the pixels of ``box_size``, by default ``map_size``, to ``image_size``.
    """

    def __init__(self, overlays: Overlays, length: int, map_size: Size, image_size: Size) -> None:
        check_instance("overlays", overlays, Overlays)
        self._boxes = overlays.boxes_per_frame
        self._tubes = overlays.named_tubes
        self.segments = overlays.segments
        overlays.check_length(length)
        (h, w), (self._height, self._width) = overlays.box_size or map_size, image_size
        self._factor = np.array([self._width / w, self._height / h] * 2)

    def draw(self, ax: Axes, frame: int) -> list[Artist]:
        """Draw the boxes of a frame and the tubes that cross it; those with NaN are left out."""
        artists = []
        if self._boxes:
            boxes, scores = (as_array(values) for values in self._boxes[frame])
            shown = self._are_legible(ax, boxes)
            for box, score, is_legible in zip(boxes, scores, shown, strict=True):
                artists += self._draw_box(ax, box, 0, f" {score:.2f}" if is_legible else "")
        for number, tube in enumerate(self._tubes.values(), start=bool(self._boxes)):
            if tube.start <= frame < tube.end:
                box = as_array(tube.boxes[frame - tube.start])
                artists += self._draw_box(ax, box, number)
        return artists

    def add_legend(self, ax: Axes, frames: Sequence[int]) -> None:
        """Add a legend above the axes that names the tubes in these frames, and the segments."""
        width = size_of(ax)[0] - _NUMBERS
        entries: list[tuple[str, Artist]] = []
        for number, (name, tube) in enumerate(self._tubes.items(), start=bool(self._boxes)):
            if any(tube.start <= frame < tube.end for frame in frames):
                line = Line2D([], [], label=str(number), **_line(number))
                entries.append((wrap_to(name, width - _HANDLE, "small"), line))
        if self.segments:
            entries.append(("segment", Patch(label="segment", **SEGMENT)))
        if not entries:
            return
        longest = max(len(line) for name, _ in entries for line in name.split("\n"))
        columns = int(width / (_LETTER * longest + _HANDLE))
        options: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        legend = ax.legend(
            handles=[handle for _, handle in entries],
            ncols=min(max(columns, 1), len(entries)),
            fontsize="small",
            facecolor="0.6",  # a white or yellow line is visible on grey only
            **options,
        )
        # Not as labels of the lines: matplotlib leaves out those that begin with "_".
        for text, (name, _) in zip(legend.get_texts(), entries, strict=True):
            text.set(text=name, **LITERAL)

    @property
    def legend_height(self) -> float:
        """Inches, at most."""
        return 0.1 + 0.2 * len(self._tubes) if self._tubes or self.segments else 0.0

    def _are_legible(self, ax: Axes, boxes: Array) -> list[bool]:
        """Of each box whether its label covers no earlier one."""
        width, height = size_of(ax)
        inches = min(width / self._width, height / self._height)
        kept: list[tuple[float, float]] = []
        shown = []
        for x, y in (boxes * self._factor)[:, :2] * inches:
            is_free = all(abs(x - i) > _LABEL[0] or abs(y - j) > _LABEL[1] for i, j in kept)
            shown.append(is_free and bool(np.isfinite((x, y)).all()))
            if shown[-1]:
                kept.append((x, y))
        return shown

    def _draw_box(self, ax: Axes, box: Array, number: int, label: str = "") -> list[Artist]:
        x0, y0, x1, y1 = box * self._factor - 0.5  # pixel 0 goes from -0.5 to 0.5 on the axis
        if not np.isfinite((x0, y0, x1, y1)).all():
            return []
        rectangle = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **_line(number))
        options: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": "small", "clip_on": True}
        artists: list[Artist] = [ax.add_patch(rectangle)]
        return [*artists, ax.text(x0, y0, label, **options, **OUTLINED)] if label else artists


def _line(number: int) -> dict[str, Any]:
    return {
        "color": _COLORS[number % len(_COLORS)],
        "linestyle": _LINE_STYLES[number % len(_LINE_STYLES)],
        "linewidth": 2,
        "path_effects": [withStroke(linewidth=3.5, foreground="black")],
    }
