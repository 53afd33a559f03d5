"""Maps over images and videos. Each function returns its figure and axes, and shows nothing.

Arguments are named as in :mod:`captum.attr.visualization`. Images and videos are channels-last,
(H, W[, 3]) and (T, H, W[, 3]), as bytes or as floats in [0, 1]; maps may be smaller, and are
drawn over the whole picture.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam.cam import temporal_profile

Array = NDArray[Any]
FigureAxis = tuple[Figure | SubFigure, Axes]

_CMAP = "inferno"  # perceptually uniform, and legible in every kind of colour blindness
_UNIT = Normalize(0, 1)


def visualize_image_attr(
    attr: Tensor | Array,
    original_image: Tensor | Array,
    method: str = "blended_heat_map",
    plt_fig_axis: FigureAxis | None = None,
    cmap: str = _CMAP,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = False,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    vmax: float | None = None,
) -> FigureAxis:
    """Draw one map over its image.

    Args:
        attr: the map, (H', W') or with leading axes of size 1.
        original_image: (H, W), (H, W, 1) or (H, W, 3).
        method: "blended_heat_map" (the map over the grey image, the more opaque the higher),
            "heat_map" (the map alone), "alpha_scaling" (the image, dark where the map is low) or
            "original_image".
        plt_fig_axis: the figure and axis to draw on; a new one by default.
        alpha_overlay: opacity of a blended heat map at the top of the scale, 0 to 1.
        vmax: the map's value at the top of the colour scale, its maximum by default. Give the
            same one to compare several maps.

    Raises:
        ValueError: for an unknown method, or shapes that are none of these.

    >>> fig, ax = visualize_image_attr(torch.rand(1, 1, 7, 7), torch.rand(28, 28, 3))
    >>> len(ax.images)
    2
    """
    heat, image = _as_maps(attr, 2), _as_pictures(original_image, 2)
    fig, ax = plt_fig_axis or _new_figure(fig_size or (6, 6 * _aspect(image)))
    norm = _norm(heat, vmax)
    _draw(ax, _pictures(heat, image, method, norm, cmap, alpha_overlay))
    if title is not None:
        ax.set_title(title)
    if show_colorbar:
        _colorbar(fig, [ax], norm, cmap)
    return fig, ax


def visualize_video_attr(
    attr: Tensor | Array,
    original_video: Tensor | Array,
    method: str = "blended_heat_map",
    frames: int | Sequence[int] = 8,
    fps: float | None = None,
    start: int = 0,
    cmap: str = _CMAP,
    alpha_overlay: float = 0.8,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    vmax: float | None = None,
) -> tuple[Figure, list[Axes]]:
    """Draw a strip of frames under one colour scale, and below it the temporal profile.

    The profile is the map's mean over space in each frame; dots mark the frames of the strip.

    Args:
        attr: the map, (T, H', W') or with leading axes of size 1.
        original_video: (T, H, W), (T, H, W, 1) or (T, H, W, 3).
        frames: how many frames to show, evenly spaced, or which, counted within the clip.
        fps: frames per second, to give the time axis in seconds instead of frames.
        start: the number in its video of the clip's first frame, for the labels.

    The other arguments are those of :func:`visualize_image_attr`. Returns the figure and its
    axes, the frames' first and the profile's last. Raises ValueError as that does.

    >>> attr, clip = torch.rand(1, 1, 8, 4, 4), torch.rand(8, 16, 16, 3)
    >>> fig, axes = visualize_video_attr(attr, clip, frames=4)
    >>> [ax.get_title() for ax in axes]
    ['0', '2', '5', '7', '']
    """
    heat, video = _as_clip(attr, original_video, fps)
    shown = _evenly(len(heat), frames) if isinstance(frames, int) else list(frames)
    if not shown or not all(0 <= t < len(heat) for t in shown):
        raise ValueError(
            f"frames={frames!r} must be a positive number, or frames from 0 to {len(heat) - 1}."
        )
    height = 12 / len(shown) * _aspect(video[0])
    fig = Figure(figsize=fig_size or (12, height + 2), layout="constrained")
    grid = fig.add_gridspec(2, len(shown), height_ratios=(height, 1.3))
    norm = _norm(heat, vmax)
    strip = [fig.add_subplot(grid[0, column]) for column in range(len(shown))]
    for ax, t in zip(strip, shown, strict=True):
        _draw(ax, _pictures(heat[t], video[t], method, norm, cmap, alpha_overlay))
        ax.set_title(_time_label(start + t, fps), fontsize="medium")
    profile_ax = fig.add_subplot(grid[1, :])
    time, profile = _draw_profile(profile_ax, heat, fps, start)
    profile_ax.plot(time[shown], profile[shown], "o", color="black")
    if title is not None:
        fig.suptitle(title)
    if show_colorbar:
        _colorbar(fig, [*strip, profile_ax], norm, cmap)
    return fig, [*strip, profile_ax]


def animate_video_attr(
    attr: Tensor | Array,
    original_video: Tensor | Array,
    method: str = "blended_heat_map",
    fps: float = 10.0,
    start: int = 0,
    cmap: str = _CMAP,
    alpha_overlay: float = 0.8,
    title: str | None = None,
    fig_size: tuple[float, float] | None = None,
    vmax: float | None = None,
) -> FuncAnimation:
    """Animate the map over its video, with a cursor that runs along the temporal profile.

    The arguments are those of :func:`visualize_video_attr`. Save what it returns with
    ``animation.save("map.gif", writer="pillow")``; in a notebook, show ``animation.to_jshtml()``.

    >>> animation = animate_video_attr(torch.rand(4, 2, 2), torch.rand(4, 8, 8))
    >>> _ = animation.save(getfixture("tmp_path") / "map.gif", writer="pillow")
    """
    heat, video = _as_clip(attr, original_video, fps)
    height = 5 * _aspect(video[0])
    fig = Figure(figsize=fig_size or (6, height + 1.6), layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=(height, 1.1))
    picture_ax, profile_ax = fig.add_subplot(grid[0]), fig.add_subplot(grid[1])
    norm = _norm(heat, vmax)

    def pictures(t: int) -> list[_Picture]:
        return _pictures(heat[t], video[t], method, norm, cmap, alpha_overlay)

    drawn = _draw(picture_ax, pictures(0))
    time, _ = _draw_profile(profile_ax, heat, fps, start)
    cursor = profile_ax.axvline(time[0], color="black", linewidth=1)
    _colorbar(fig, [picture_ax], norm, cmap)
    if title is not None:
        fig.suptitle(title)

    def show(t: int) -> list[Any]:
        for artist, picture in zip(drawn, pictures(t), strict=True):
            artist.set_data(picture.data)
            artist.set_alpha(picture.alpha)
        cursor.set_xdata([time[t], time[t]])
        return [*drawn, cursor]

    return FuncAnimation(fig, show, frames=len(heat), interval=1000 / fps, blit=False)


# ------------------------------------------------------------------------------- what to draw


class _Picture(NamedTuple):
    """One picture of those that lie over each other: values, colours, opacity."""

    data: Array
    cmap: str
    norm: Normalize
    alpha: Array | None = None


def _pictures(
    heat: Array, image: Array, method: str, norm: Normalize, cmap: str, alpha_overlay: float
) -> list[_Picture]:
    """The pictures that ``method`` lays over each other, from the bottom up."""
    opacity = np.clip(np.asarray(norm(heat)), 0, 1)
    grey = image.mean(axis=-1) if image.ndim == 3 else image
    methods = {
        # The square root, because low values would vanish twice: dark and transparent.
        "blended_heat_map": [
            _Picture(grey, "gray", _UNIT),
            _Picture(heat, cmap, norm, alpha_overlay * np.sqrt(opacity)),
        ],
        "heat_map": [_Picture(heat, cmap, norm)],
        "alpha_scaling": [
            _Picture(image, "gray", _UNIT),
            _Picture(np.zeros_like(heat), "gray", _UNIT, 1 - opacity),
        ],
        "original_image": [_Picture(image, "gray", _UNIT)],
    }
    if method not in methods:
        raise ValueError(f"method={method!r} is not known. Choose one of {', '.join(methods)}.")
    return methods[method]


def _draw(ax: Axes, pictures: list[_Picture]) -> list[AxesImage]:
    height, width = pictures[0].data.shape[:2]
    # The map covers the picture, whatever its own size.
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.set_axis_off()
    return [
        ax.imshow(
            picture.data,
            extent=extent,
            cmap=picture.cmap,
            norm=picture.norm,
            alpha=picture.alpha,
            interpolation="bilinear",
        )
        for picture in pictures
    ]


def _aspect(picture: Array) -> float:
    return float(picture.shape[0] / picture.shape[1])


def _draw_profile(ax: Axes, heat: Array, fps: float | None, start: int) -> tuple[Array, Array]:
    time = (start + np.arange(len(heat))) / (fps or 1)
    profile = temporal_profile(torch.as_tensor(heat)[None, None])[0].numpy()
    ax.fill_between(time, profile, alpha=0.3, color="tab:blue")
    ax.plot(time, profile, color="tab:blue")
    ax.set_xlabel("time (s)" if fps else "frame")
    ax.set_ylabel("mean attribution")
    ax.set_ylim(bottom=0)
    ax.margins(x=0.01)
    ax.spines[["top", "right"]].set_visible(False)
    return time, profile


def _colorbar(fig: Figure | SubFigure, axes: list[Axes], norm: Normalize, cmap: str) -> None:
    fig.colorbar(ScalarMappable(norm, cmap), ax=axes, label="attribution", pad=0.01)


def _norm(heat: Array, vmax: float | None) -> Normalize:
    """From zero to the maximum of the whole clip: one scale for all its frames."""
    top = float(heat.max()) if vmax is None else vmax
    return Normalize(0, top if top > 0 else 1)


def _new_figure(fig_size: tuple[float, float]) -> FigureAxis:
    fig = Figure(figsize=fig_size, layout="constrained")
    return fig, fig.add_subplot()


def _evenly(length: int, count: int) -> list[int]:
    return [round(t) for t in np.linspace(0, length - 1, min(count, length))]


def _time_label(frame: int, fps: float | None) -> str:
    return f"{frame / fps:.2f} s" if fps else str(frame)


# ------------------------------------------------------------------------------ at the door


def _as_array(values: Tensor | Array) -> Array:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    # NumPy has no bfloat16.
    return (values.float() if values.is_floating_point() else values).numpy()


def _as_maps(attr: Tensor | Array, rank: int) -> Array:
    heat = _as_array(attr)
    while heat.ndim > rank and heat.shape[0] == 1:
        heat = heat[0]
    if heat.ndim != rank:
        axes = ("H", "W") if rank == 2 else ("T", "H", "W")
        raise ValueError(
            f"attr must be one map ({', '.join(axes)}), with leading axes of size 1 at most; got "
            f"shape {_as_array(attr).shape}. Choose one sample: attr[i]."
        )
    if not np.isfinite(heat).all():
        raise ValueError("attr holds NaN or Inf. Look at the map before it is drawn.")
    return heat.astype(np.float32)


def _as_pictures(pictures: Tensor | Array, rank: int) -> Array:
    """Grey or RGB floats in [0, 1], channels last."""
    array = _as_array(pictures)
    while array.ndim > rank + 1 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (rank, rank + 1) or (array.ndim == rank + 1 and array.shape[-1] != 3):
        shape = "(H, W), (H, W, 1) or (H, W, 3)" if rank == 2 else "(T, H, W) or (T, H, W, 3)"
        channels = next((axis for axis, size in enumerate(array.shape) if size in (1, 3)), 0)
        raise ValueError(
            f"The picture must be channels-last, {shape}; got shape {array.shape}. Move the "
            f"channels: tensor.movedim({channels}, -1)."
        )
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    # Undoing a normalisation leaves [0, 1] by rounding.
    if array.size and not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError(
            f"The picture must be bytes, or floats in [0, 1]; got {array.dtype} from "
            f"{array.min():.4g} to {array.max():.4g}. Undo the model's preprocessing first; window "
            "a scan: ((x - low) / (high - low)).clip(0, 1)."
        )
    return np.clip(array, 0, 1).astype(np.float32)


def _as_clip(
    attr: Tensor | Array, original_video: Tensor | Array, fps: float | None
) -> tuple[Array, Array]:
    heat, video = _as_maps(attr, 3), _as_pictures(original_video, 3)
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be positive; got {fps}.")
    if len(heat) != len(video):
        raise ValueError(
            f"The map has {len(heat)} frames and the video {len(video)}. Pass the clip that was "
            "explained, or give attribute() output_size=(T, H, W)."
        )
    return heat, video
