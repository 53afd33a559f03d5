"""Text that fits where it stands: long names are wrapped, and read as they were given."""

import re
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path

# White with a black edge is legible on any image.
OUTLINED: dict[str, Any] = {
    "color": "white",
    "path_effects": [withStroke(linewidth=2, foreground="black")],
}
# For what a user wrote: matplotlib would read what stands between dollar signs as a formula.
LITERAL: dict[str, Any] = {"parse_math": False, "usetex": False}

# A word with what follows it. No line ends within "D = 3" or before "mm".
_PART = re.compile(r"(?:[^\s_/]|(?<==) | (?=mm\b|= ))*[\s_/]*")


def wrap_text(text: str, fits: Callable[[str], bool]) -> str:
    """The text with line breaks after words, or at worst within one, so that all lines fit.

    >>> wrap_text("riding or walking_with_horse (0.93)", lambda line: len(line) <= 12).split("\\n")
    ['riding or', 'walking_', 'with_horse', '(0.93)']
    """
    lines = []
    for line in text.split("\n"):
        wrapped = ""
        for part in [line] if fits(line) else _PART.findall(line):
            if wrapped and not fits((wrapped + part).rstrip()):
                lines.append(wrapped.rstrip())
                wrapped = ""
            while len(part) > 1 and not fits(part.rstrip()):
                end = next((n for n in range(len(part) - 1, 1, -1) if fits(part[:n])), 1)
                lines.append(part[:end])
                part = part[end:]
            wrapped += part
        lines.append(wrapped)
    return "\n".join(lines)


def wrap_to(text: str, inches: float, size: str = "medium") -> str:
    """Wrapped to a width in inches, in Matplotlib's font."""
    font = FontProperties(size=size)

    def fits(line: str) -> bool:
        width: float = text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]
        return width <= 72 * inches

    return wrap_text(text, fits)


def size_of(ax: Axes) -> tuple[float, float]:
    """Width and height in inches, before the layout makes them a little smaller."""
    return float(ax.bbox.width / ax.figure.dpi), float(ax.bbox.height / ax.figure.dpi)


def write_note(ax: Axes, note: str) -> None:
    """Write a few words on an image, below its middle."""
    if note:
        options: dict[str, Any] = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.3, wrap_to(note, size_of(ax)[0]), **options, **OUTLINED, **LITERAL)
