"""What the viewer shows: the original, classes, maps, and the regions of the main map."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from captum_3dcam._validation import (
    check_choice,
    check_instance,
    check_integer,
    check_sequence,
    check_text,
    describe,
)
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Volume
from captum_3dcam.localization import Boxes, Segment, Tube
from captum_3dcam.visualization import Scan

Array = NDArray[Any]

GROUPS = ("method", "layer", "counterfactual")
MAX_FRAMES = 300
"""Of a video: a page that holds more is slow to open."""


@dataclass(frozen=True)
class ViewerClass:
    """A class that is explained, with what the model returned for it.

    >>> ViewerClass("tabby", score=9.1, probability=0.62).name
    'tabby'
    """

    name: str
    score: float
    probability: float

    def __post_init__(self) -> None:
        check_text("name", self.name)


@dataclass(frozen=True, eq=False)
class ViewerMap:
    """One map for each class, by one method, of one layer, or a counterfactual.

    Args:
        name: shown in the list of maps.
        group: one of :data:`GROUPS`.
        values: (k, *S), finite and 0 or more, for k classes. S is (H, W), (T, H, W) or (D, H, W),
            over the whole original, of any size; T is the number of frames.
        meaning: what the values are, for the colour bar.

    Raises TypeError or ValueError for others.

    >>> ViewerMap("layer4", "layer", np.ones((1, 7, 7))).values.dtype
    dtype('float32')
    """

    name: str
    group: str
    values: Array = field(repr=False)
    meaning: str = "attribution"

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_text("meaning", self.meaning)
        check_choice("group", self.group, GROUPS)
        values = np.asarray(self.values, np.float32)
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                f"The map {self.name!r} must be finite and 0 or more. Pass its positive part: "
                "values.clip(min=0)."
            )
        object.__setattr__(self, "values", values)


@dataclass(frozen=True, eq=False)
class ImageContent:
    """An image (H, W, 3) of bytes.

    >>> ImageContent(np.zeros((4, 6, 3), np.uint8)).shape
    (4, 6)
    """

    pixels: Array = field(repr=False)
    kind: ClassVar[str] = "image"
    has_time: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_bytes("pixels", self.pixels, "(H, W, 3)")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape[:2]


@dataclass(frozen=True, eq=False)
class VideoContent:
    """The frames (T, H, W, 3) of a video, as bytes, and when each is shown.

    Args:
        frames: at most :data:`MAX_FRAMES`, at the size at which they are to be shown.
        note: of which frames of the video these are, e.g. "one in 4 of 900 frames".
        size: the (H, W) of the video, in whose pixels regions are given and positions are shown;
            by default that of ``frames``.
        step: the frames are every ``step``-th of the video, as whose they are numbered, from 0.

    >>> clip = VideoContent(np.zeros((2, 4, 6, 3), np.uint8), FrameTimes.from_rate(2, fps=25))
    >>> clip.shape
    (2, 4, 6)
    """

    frames: Array = field(repr=False)
    times: FrameTimes
    note: str | None = None
    size: tuple[int, int] | None = None
    step: int = 1
    kind: ClassVar[str] = "video"
    has_time: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_bytes("frames", self.frames, "(T, H, W, 3)")
        check_instance("times", self.times, FrameTimes)
        check_integer("step", self.step, minimum=1)
        if len(self.frames) != len(self.times):
            raise ValueError(
                f"There are {len(self.frames)} frames and the times of {len(self.times)}. Pass "
                "times.take(frames)."
            )
        if len(self.frames) > MAX_FRAMES:
            raise ValueError(
                f"The viewer holds at most {MAX_FRAMES} frames; got {len(self.frames)}. Pass every "
                "second or third one, and their times."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.frames), *(self.size or self.frames.shape[1:3]))


@dataclass(frozen=True, eq=False)
class VolumeContent:
    """A scan, of which the first channel is shown.

    Args:
        volume: an ``io.Volume``, with positions of the patient (RAS, in mm), or where there is
            none a ``visualization.Scan``.
        window: the values that are black and white; by default the 0.5th and 99.5th percentile.

    >>> VolumeContent(Volume(np.zeros((4, 6, 8)), np.eye(4))).shape
    (4, 6, 8)
    """

    volume: Volume | Scan
    window: tuple[float, float] | None = None
    kind: ClassVar[str] = "volume"
    has_time: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.volume, Volume | Scan):
            raise TypeError(f"volume: expected a Volume or a Scan; got {describe(self.volume)}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.volume.shape


Original = ImageContent | VideoContent | VolumeContent


@dataclass(frozen=True, eq=False)
class Regions:
    """What is localized in the main map of one class.

    Args:
        boxes: one for each frame of a video, ``localization.frame_boxes(maps)[i]``; an image or a
            volume is one, ``localization.boxes(maps)[i:i + 1]``.
        tubes, segments: of a video, with frames counted from the first one that is shown.

    Boxes and tubes are in pixels or voxels of the original, all of which are (x0, y0, ...), the
    last axis first.
    """

    boxes: Sequence[Boxes] = ()
    tubes: Sequence[Tube] = ()
    segments: Sequence[Segment] = ()

    def __post_init__(self) -> None:
        for name, kind in (("boxes", Boxes), ("tubes", Tube), ("segments", Segment)):
            items = getattr(self, name)
            if isinstance(items, Boxes):
                raise TypeError("boxes: expected a Boxes for each frame; an image is one, [boxes].")
            for item in check_sequence(name, items, of=kind.__name__):
                check_instance(f"an item of {name}", item, kind)


@dataclass(frozen=True, eq=False)
class ViewerContent:
    """All that one page shows of one input.

    Args:
        maps: the first is the main one, of which the regions are.
        regions: one for each class, or none.
        warnings: shown above the viewer.

    Raises ValueError for maps and regions that do not fit the original and the classes.

    >>> content = ViewerContent(
    ...     "cat.png",
    ...     ImageContent(np.zeros((64, 64, 3), np.uint8)),
    ...     [ViewerClass("tabby", 9.1, 0.62)],
    ...     [ViewerMap("Grad-CAM", "method", np.ones((1, 7, 7)))],
    ... )
    >>> content.maps[0].name
    'Grad-CAM'
    """

    title: str
    original: Original
    classes: Sequence[ViewerClass]
    maps: Sequence[ViewerMap] = field(repr=False)
    regions: Sequence[Regions] = field(default=(), repr=False)
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_text("title", self.title)
        if not self.classes or not self.maps:
            raise ValueError(
                "The viewer needs a class and a map at least; got "
                f"{len(self.classes)} classes and {len(self.maps)} maps."
            )
        if self.regions and len(self.regions) != len(self.classes):
            raise ValueError(
                f"Expected regions for each of {len(self.classes)} classes, or none; got "
                f"{len(self.regions)}."
            )
        for heat in self.maps:
            self._check_map(heat)
        for region in self.regions:
            self._check_regions(region)

    @property
    def images(self) -> int:
        """How many images are shown one after the other: the frames of a video, or one."""
        return self.original.shape[0] if self.original.has_time else 1

    def _check_map(self, heat: ViewerMap) -> None:
        shape, size = heat.values.shape, self.original.shape
        fixed = (len(self.classes), *size[: self.original.has_time])
        if len(shape) != len(size) + 1 or 0 in shape or shape[: len(fixed)] != fixed:
            axes = [*map(str, fixed), *"DHW"[len(fixed) - len(size) - 1 :]]
            raise ValueError(
                f"The map {heat.name!r} must be ({', '.join(axes)}), for {len(self.classes)} "
                f"classes; got shape {shape}."
            )

    def _check_regions(self, regions: Regions) -> None:
        if regions.boxes and len(regions.boxes) != self.images:
            raise ValueError(
                f"There are boxes for {len(regions.boxes)} images, and {self.images} to show."
            )
        corners = 2 * (len(self.original.shape) - self.original.has_time)
        items: list[Boxes | Tube] = [*regions.boxes, *regions.tubes]
        for boxes in (item.boxes for item in items):
            if boxes.ndim != 2 or boxes.shape[1] != corners:
                raise ValueError(f"Expected boxes (B, {corners}); got {describe(boxes)}.")


def _check_bytes(name: str, values: Any, axes: str) -> None:
    """ValueError unless these are bytes with as many axes, the last of size 3."""
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"Expected {name} as a uint8 array {axes}; got {kind}.")
    if values.ndim != axes.count(",") + 1 or values.shape[-1] != 3 or not values.size:
        raise ValueError(f"Expected {name} as a uint8 array {axes}; got {describe(values)}.")
