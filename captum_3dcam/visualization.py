"""Maps over images and videos. Each function returns its figure and axes, and shows nothing.

Arguments are named as in :mod:`captum.attr.visualization`. Images and videos are channels-last,
(H, W[, 3]) and (T, H, W[, 3]), as bytes or as floats in [0, 1]; maps may be smaller, and are
drawn over the whole picture.
"""

from collections.abc import Sequence
from typing import Any

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

METHODS = ("blended_heat_map", "heat_map", "alpha_scaling", "original_image")
_CMAP = "inferno"  # perceptually uniform, and legible in every kind of colour blindness


def visualize_image_attr(
    attr: Tensor | Array,
    original_image: Tensor | Array,
    method: str = "blended_heat_map",
    plt_fig_axis: FigureAxis | None = None,
    cmap: str = _CMAP,
    alpha_overlay: float = 0.5,
    show_colorbar: bool = False,
    title: str | None = None,
    fig_size: tuple[float, float] = (6, 6),
    vmax: float | None = None,
) -> FigureAxis:
    """Draw one map over its image.

    Args:
        attr: the map, (H', W') or with leading axes of size 1.
        original_image: (H, W), (H, W, 1) or (H, W, 3).
        method: "blended_heat_map" (the map over the grey image), "heat_map" (the map alone),
            "alpha_scaling" (the image, dark where the map is low) or "original_image".
        plt_fig_axis: the figure and axis to draw on; a new one by default.
        alpha_overlay: opacity of a blended heat map, 0 to 1.
        vmax: the map's value at the top of the colour scale, its maximum by default. Give the
            same one to compare several maps.

    Raises:
        ValueError: for an unknown method, or shapes that are none of these.

    >>> fig, ax = visualize_image_attr(torch.rand(1, 1, 7, 7), torch.rand(28, 28, 3))
    >>> len(ax.images)
    2
    """
    heat, image = _as_maps(attr, 2), _as_pictures(original_image, 2)
    fig, ax = plt_fig_axis or _new_figure(fig_size)
    norm = _norm(heat, vmax)
    _draw(ax, heat, image, method, cmap, alpha_overlay, norm)
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
    alpha_overlay: float = 0.5,
    show_colorbar: bool = True,
    title: str | None = None,
    fig_size: tuple[float, float] = (12, 4),
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
    heat, video = _as_clip(attr, original_video)
    shown = _evenly(len(heat), frames) if isinstance(frames, int) else list(frames)
    fig = Figure(figsize=fig_size, layout="constrained")
    grid = fig.add_gridspec(2, len(shown), height_ratios=(2, 1))
    norm = _norm(heat, vmax)
    strip = [fig.add_subplot(grid[0, column]) for column in range(len(shown))]
    for ax, t in zip(strip, shown, strict=True):
        _draw(ax, heat[t], video[t], method, cmap, alpha_overlay, norm)
        ax.set_title(_time_label(start + t, fps), fontsize="medium")
    profile_ax = fig.add_subplot(grid[1, :])
    time, profile = _draw_profile(profile_ax, heat, fps, start)
    profile_ax.plot(time[shown], profile[shown], "o", color="black")
    if title is not None:
        fig.suptitle(title)
    if show_colorbar:
        _colorbar(fig, strip, norm, cmap)
    return fig, [*strip, profile_ax]


def animate_video_attr(
    attr: Tensor | Array,
    original_video: Tensor | Array,
    method: str = "blended_heat_map",
    fps: float = 10.0,
    start: int = 0,
    cmap: str = _CMAP,
    alpha_overlay: float = 0.5,
    title: str | None = None,
    fig_size: tuple[float, float] = (6, 5),
    vmax: float | None = None,
) -> FuncAnimation:
    """Animate the map over its video, with a cursor that runs along the temporal profile.

    The arguments are those of :func:`visualize_video_attr`. Save what it returns with
    ``animation.save("map.gif", writer="pillow")``; in a notebook, show ``animation.to_jshtml()``.

    >>> animation = animate_video_attr(torch.rand(4, 2, 2), torch.rand(4, 8, 8))
    >>> _ = animation.save(getfixture("tmp_path") / "map.gif", writer="pillow")
    """
    heat, video = _as_clip(attr, original_video)
    fig = Figure(figsize=fig_size, layout="constrained")
    grid = fig.add_gridspec(2, 1, height_ratios=(3, 1))
    picture_ax, profile_ax = fig.add_subplot(grid[0]), fig.add_subplot(grid[1])
    norm = _norm(heat, vmax)
    drawn = _draw(picture_ax, heat[0], video[0], method, cmap, alpha_overlay, norm)
    time, _ = _draw_profile(profile_ax, heat, fps, start)
    cursor = profile_ax.axvline(time[0], color="black", linewidth=1)
    _colorbar(fig, [picture_ax], norm, cmap)
    if title is not None:
        fig.suptitle(title)

    def show(t: int) -> list[Any]:
        for artist, data in zip(drawn, _layers(heat[t], video[t], method, norm), strict=True):
            artist.set_data(data)
        cursor.set_xdata([time[t], time[t]])
        return [*drawn, cursor]

    return FuncAnimation(fig, show, frames=len(heat), interval=1000 / fps, blit=False)


# ------------------------------------------------------------------------------- what to draw


def _layers(heat: Array, image: Array, method: str, norm: Normalize) -> list[Array]:
    """The pictures that ``method`` lays over each other, from the bottom up."""
    if method == "blended_heat_map":
        return [image.mean(axis=-1) if image.ndim == 3 else image, heat]
    if method == "heat_map":
        return [heat]
    if method == "original_image":
        return [image]
    if method == "alpha_scaling":
        opacity = np.clip(norm(heat), 0, 1)
        return [image, np.dstack([np.zeros((*heat.shape, 3)), 1 - opacity])]
    raise ValueError(f"method={method!r} is not known. Choose one of {', '.join(METHODS)}.")


def _draw(
    ax: Axes,
    heat: Array,
    image: Array,
    method: str,
    cmap: str,
    alpha_overlay: float,
    norm: Normalize,
) -> list[AxesImage]:
    layers = _layers(heat, image, method, norm)
    height, width = image.shape[:2]
    extent = (
        -0.5,
        width - 0.5,
        height - 0.5,
        -0.5,
    )  # the map covers the picture, whatever its size
    drawn = []
    for data in layers:
        is_heat = data is heat
        opacity = alpha_overlay if is_heat and len(layers) > 1 else None
        drawn.append(
            ax.imshow(
                data,
                extent=extent,
                cmap=cmap if is_heat else "gray",
                norm=norm if is_heat else Normalize(0, 1),
                alpha=opacity,
                interpolation="bilinear",
            )
        )
    ax.set_axis_off()
    return drawn


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
    fig.colorbar(ScalarMappable(norm, cmap), ax=axes, label="attribution", shrink=0.8, pad=0.01)


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
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


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
    return heat.astype(np.float32)


def _as_pictures(pictures: Tensor | Array, rank: int) -> Array:
    """Grey or RGB floats in [0, 1], channels last."""
    array = _as_array(pictures)
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (rank, rank + 1) or (array.ndim == rank + 1 and array.shape[-1] != 3):
        shape = "(H, W), (H, W, 1) or (H, W, 3)" if rank == 2 else "(T, H, W) or (T, H, W, 3)"
        raise ValueError(
            f"The picture must be channels-last, {shape}; got shape {array.shape}. Move the "
            "channels: tensor.movedim(0, -1)."
        )
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if array.size and (array.min() < 0 or array.max() > 1):
        raise ValueError(
            f"The picture must be bytes, or floats in [0, 1]; got {array.dtype} from "
            f"{array.min():.4g} to {array.max():.4g}. Undo the model's preprocessing first."
        )
    return array.astype(np.float32)


def _as_clip(attr: Tensor | Array, original_video: Tensor | Array) -> tuple[Array, Array]:
    heat, video = _as_maps(attr, 3), _as_pictures(original_video, 3)
    if len(heat) != len(video):
        raise ValueError(
            f"The map has {len(heat)} frames and the video {len(video)}. Pass the clip that was "
            "explained, or give attribute() output_size=(T, H, W)."
        )
    return heat, video
