"""The figures of one sample: its classes, its layers, and the methods side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._files import max_bytes
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._video import every_nth_frame
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.localization import Tube
from captum_3dcam.visualization import (
    Overlays,
    Scan,
    Style,
    visualize_attr_panels,
    visualize_image_attr,
    visualize_video_attr,
    visualize_volume_attr,
    visualize_volume_montage,
)

Figures = Iterator[tuple[str, Any]]
_MAX_FRAMES = 256  # of a longer video every second, third, ... frame
_MEMORY_SHARE = 4  # frames and maps of a figure take this fraction of the limit
_MAX_TUBES = 3
_FRAMES, _ROW, _MONTAGE = 8, 4, 12  # frames or slices


class _Sample(NamedTuple):
    """Every ``step``-th frame of a video."""

    step: int
    frames: NDArray[np.uint8] | None
    """None without the original."""
    times: FrameTimes


def draw(explanation: Explanation) -> Figures:
    """The figures of one sample, one after the other, each with its name.

    "figure" is of the classes, "montage" of more slices; "layers" and "methods" are of the first
    class, if there are such maps.
    """
    maps = explanation.attribution[0]
    sample = _sample(explanation) if explanation.kind == "video" else None
    if len(maps) > 1:
        yield "figure", _draw_rows(explanation, sample, dict(enumerate(maps)))
    elif sample is not None:
        yield "figure", _draw_video(explanation, sample)
    else:
        yield from _DRAW[explanation.kind](explanation)
    others = {"layers": explanation.layer_maps, "methods": explanation.method_maps}
    for name, named_maps in others.items():
        if named_maps:
            named = {explanation.method: explanation.attribution, **named_maps}
            of_class = {key: each[0, 0] for key, each in named.items()}
            title = explanation.captions[0][0]
            yield name, _draw_rows(explanation, sample, of_class, title, scale="row")


def _draw_image(explanation: Explanation) -> Figures:
    (pixels,) = explanation.originals
    figure, _ = visualize_image_attr(
        explanation.heat_map(),
        pixels,
        method="heat_map" if pixels is None else "blended_heat_map",
        show_colorbar=True,
        title=explanation.captions[0][0],
        overlays=Overlays(explanation.boxes(), box_size=explanation.frame_size),
    )
    yield "figure", figure


def _draw_video(explanation: Explanation, sample: _Sample) -> Any:
    heat_map = explanation.heat_map()
    step, frames, times = sample
    shown = heat_map[::step].numpy().copy()  # it may be on disk
    tubes = every_nth(step, explanation.tubes())[:_MAX_TUBES]
    middles = [(tube.start + tube.end) // 2 for tube in tubes]
    peak = int(shown.max(axis=(1, 2)).argmax())
    overlays = Overlays(
        tubes=tubes,
        segments=every_nth(step, explanation.segments()),
        box_size=explanation.frame_size,
    )
    figure, _ = visualize_video_attr(
        shown,
        frames,
        frames=spread(len(shown), peak, *middles, count=_FRAMES),
        fps=times,
        overlays=overlays,
        title=explanation.captions[0][0],
        style=_style(explanation),
    )
    return figure


def _draw_volume(explanation: Explanation) -> Figures:
    heat_map, peak = explanation.heat_map(), explanation.peak()
    (scan,) = explanation.originals
    common: dict[str, Any] = {
        "boxes": explanation.boxes(),
        "title": explanation.captions[0][0],
        "style": _style(explanation),
    }
    shown = spread(len(heat_map), *([peak[0]] if peak else ()), count=_MONTAGE)
    figure, _ = visualize_volume_attr(heat_map, scan, at=peak, **common)
    yield "figure", figure
    montage, _ = visualize_volume_montage(heat_map, scan, slices=shown, **common)
    yield "montage", montage


_DRAW = {"image": _draw_image, "volume": _draw_volume}


def _draw_rows(
    explanation: Explanation,
    sample: _Sample | None,
    maps: dict[Any, Tensor],
    title: str | None = None,
    scale: str | None = None,
) -> Any:
    """A row of frames or slices for each map; ``maps`` are named, or numbered by class."""
    captions = explanation.captions[0]
    names = [captions[key] if isinstance(key, int) else str(key) for key in maps]
    (original,) = explanation.originals
    style = replace(_style(explanation), scale=scale)
    options: dict[str, Any] = {"title": title, "style": style}
    if original is None:  # the panels tell images, videos and volumes apart by it
        blank = np.zeros(next(iter(maps.values())).shape, np.uint8)
        original = Scan(blank) if explanation.kind == "volume" else blank
    if sample is not None:
        step, frames, times = sample
        rows = [each[::step].numpy().copy() for each in maps.values()]
        peak = int(rows[0].max(axis=(1, 2)).argmax())
        shown = spread(len(rows[0]), peak, count=_ROW)
        original = frames if frames is not None else np.zeros((*rows[0].shape, 3), np.uint8)
        return visualize_attr_panels(rows, original, names, frames=shown, fps=times, **options)[0]
    if explanation.kind == "volume":
        peaks = [explanation.peak(rank) for rank in range(len(captions))]
        slices = list(dict.fromkeys(peak[0] for peak in peaks if peak))[:_ROW]
        options["frames"] = spread(explanation.size[0], *slices, count=max(_ROW, len(slices)))
    return visualize_attr_panels(list(maps.values()), original, names, **options)[0]


def _style(explanation: Explanation) -> Style:
    window = explanation.facts.get("window")
    method = "heat_map" if explanation.originals[0] is None else "blended_heat_map"
    return Style(method=method, window=tuple(window) if window else None)


def _sample(explanation: Explanation) -> _Sample:
    """The frames for all figures of a video, which is decoded once."""
    heat_map, times = explanation.heat_map(), explanation.times
    assert times is not None, "a video has times"
    fitting = max_bytes() // (_MEMORY_SHARE * 4 * explanation.attribution[0, :, 0].numel())
    step = -(-len(heat_map) // max(min(_MAX_FRAMES, fitting), 1))
    (video,) = explanation.originals
    frames = None
    if video is not None:
        frames = every_nth_frame(video, step)
    return _Sample(step, frames, times.take(range(0, len(heat_map), step)))


def every_nth(step: int, regions: Sequence[Any]) -> list[Any]:
    """Segments or tubes in a video of every ``step``-th frame; tubes between them are left out."""
    shown = [each for each in regions if not isinstance(each, Tube) or _is_shown(each, step)]
    return [_every(step, each) for each in shown]


def _is_shown(tube: Tube, step: int) -> bool:
    """Whether a tube covers one of every ``step``-th frames."""
    return -(-tube.start // step) * step < tube.end


def _every(step: int, region: Any) -> Any:
    start, end = region.start // step, -(-region.end // step)
    if isinstance(region, Tube):
        start = -(-region.start // step)
        boxes = region.boxes[start * step - region.start :: step]
        return replace(region, start=start, boxes=boxes, fps=None)
    return replace(region, start=start, end=end, fps=None)


def spread(length: int, *required: int, count: int) -> list[int]:
    """``count`` frames out of ``length``, evenly spaced, but with the nearest moved to those given.

    >>> spread(16, 9, count=8), spread(4, 2, count=8)
    ([0, 2, 4, 6, 9, 11, 13, 15], [0, 1, 2, 3])
    """
    frames = {round(i * (length - 1) / max(count - 1, 1)) for i in range(count)}
    for number, frame in enumerate(required):
        if frame not in frames:
            movable = frames - set(required[:number])
            frames.remove(min(movable, key=lambda other: abs(other - frame)))
            frames.add(frame)
    return sorted(frames)
