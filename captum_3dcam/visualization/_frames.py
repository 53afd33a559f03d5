"""Frames of a video, and an image as a single one, as views of a grid."""

from dataclasses import dataclass

from matplotlib.axes import Axes

from captum_3dcam.visualization._colors import ColorScale, draw_map
from captum_3dcam.visualization._figures import hide_frame
from captum_3dcam.visualization._inputs import Array


@dataclass(frozen=True)
class FrameView:
    """A frame (H, W[, 3]), and its number in the map."""

    image: Array
    index: int = 0
    label: str = ""
    margins: tuple[float, float] = (0.0, 0.0)

    @property
    def aspect(self) -> float:
        return float(self.image.shape[0] / self.image.shape[1])

    def cut(self, values: Array) -> Array:
        image: Array = values[self.index]
        return image

    def draw(self, ax: Axes, heat: Array, colors: ColorScale) -> None:
        hide_frame(ax)
        draw_map(ax, heat, self.image, colors)
