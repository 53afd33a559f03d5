"""The margins of an overlay video, as pixels: title, time and colour bar."""

from math import ceil, sqrt

import numpy as np
from matplotlib import colormaps
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from captum_3dcam.visualization._colors import ColorScale
from captum_3dcam.visualization._inputs import Array
from captum_3dcam.visualization._text import wrap_text

_FONT_SHARE = 0.032  # of the mean side of a frame
_MIN_FONT = 11  # pixels
# In heights of the font.
_MIN_WIDTH = 11  # of a canvas
_MIN_BAR, _MAX_BAR = 5, 15  # of a colour bar
_LONGEST_TIME = "00000.00 s"


class Canvas:
    """What is the same around all frames, drawn once; the time is drawn into it for each.

    The title is above the frame, wrapped to its width. Below are the time and the colour bar, or a
    note in place of it; on two lines if one is too short for both. Nothing covers the frame. Height
    and width are even, as H.264 needs them.

    Args:
        size: (H, W) of the video's frames; with ``raw`` two of them are side by side.
        timed: leave space for the time.
    """

    def __init__(
        self, size: tuple[int, int], colors: ColorScale, title: str | None, timed: bool, note: str
    ) -> None:
        height, width = size[0], size[1] * (1 + colors.style.raw)
        self._pen = pen = _Pen(max(_MIN_FONT, round(_FONT_SHARE * sqrt(size[0] * size[1]))))
        full = _even(max(width, _MIN_WIDTH * pen.size))
        inside = full - 2 * pen.gap
        titles = wrap_text(title or "", lambda text: pen.measure(text) <= inside).split("\n")
        self._time_width = pen.measure(_LONGEST_TIME) if timed else 0
        beside = inside - (self._time_width + 2 * pen.gap) * timed
        bar = pen.write(note) if note else pen.draw_bar(colors, beside)
        bar_line = int(timed and bar is not None and bar.width > beside)
        top = pen.line * len(titles) if title else 0
        self._bottom, left = top + height, (full - width) // 2
        lines = bar_line + (timed or bar is not None)
        image = Image.new("RGB", (full, _even(self._bottom + pen.line * lines)), "white")
        for number, text in enumerate(titles):
            image.paste(pen.write(text), (pen.gap, pen.line * number))
        if bar is not None:
            corner = max(full - pen.gap - bar.width, 0), self._bottom + pen.line * bar_line
            image.paste(bar, corner)
        self._pixels = np.asarray(image)
        self._frame = np.s_[top : self._bottom, left : left + width]

    @property
    def size(self) -> tuple[int, int]:
        return self._pixels.shape[0], self._pixels.shape[1]

    def fill(self, pixels: Array, time: float | None) -> Array:
        """The canvas with a frame and, if there is space for one, its time in seconds."""
        canvas: Array = self._pixels.copy()
        canvas[self._frame] = pixels
        if time is not None and self._time_width:
            text = np.asarray(self._pen.write(f"{time:.2f} s"))[:, : self._time_width]
            rows = slice(self._bottom, self._bottom + self._pen.line)
            canvas[rows, self._pen.gap : self._pen.gap + text.shape[1]] = text
        return canvas


class _Pen:
    """Draws texts and colour bars of the height of a line, in Matplotlib's font."""

    def __init__(self, size: int) -> None:
        self.size, self.gap, self.line = size, size // 2, round(1.6 * size)
        self._font = ImageFont.truetype(findfont(FontProperties()), size)

    def measure(self, text: str) -> int:
        return ceil(self._font.getlength(text))

    def write(self, text: str) -> Image.Image:
        image = Image.new("RGB", (max(self.measure(text), 1), self.line), "white")
        ImageDraw.Draw(image).text((0, self.line / 2), text, "black", self._font, anchor="lm")
        return image

    def draw_bar(self, colors: ColorScale, width: int) -> Image.Image | None:
        """A colour bar between its lowest and highest value, and if it fits its label before."""
        if not (colors.style.show_colorbar and colors.has_bar):
            return None
        ends = [f"{end:.3g}" for end in (colors.norm.vmin, colors.norm.vmax)]
        label, low, high = (self.write(text) for text in (colors.label, *ends))
        length = width - low.width - high.width - 2 * self.gap
        with_label = length - label.width - 2 * self.gap
        has_label = with_label >= _MIN_BAR * self.size
        length = max(with_label if has_label else length, _MIN_BAR * self.size)
        bar = self._draw_colors(colors, min(length, _MAX_BAR * self.size))
        return self._join([label, low, bar, high] if has_label else [low, bar, high])

    def _draw_colors(self, colors: ColorScale, length: int) -> Image.Image:
        image = Image.new("RGB", (length, self.line), "white")
        rgba = colormaps.get_cmap(colors.cmap)(np.linspace(0, 1, length), bytes=True)
        height = self.line // 2
        stripe = np.broadcast_to(rgba[:, :3], (height, length, 3))
        image.paste(Image.fromarray(np.ascontiguousarray(stripe)), (0, (self.line - height) // 2))
        return image

    def _join(self, images: list[Image.Image]) -> Image.Image:
        width = sum(image.width for image in images) + self.gap * (len(images) - 1)
        joined = Image.new("RGB", (width, self.line), "white")
        left = 0
        for image in images:
            joined.paste(image, (left, 0))
            left += image.width + self.gap
        return joined


def _even(length: int) -> int:
    return length + length % 2
