"""How an input is cut into windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._validation import check_integer, check_integers, show

VIDEO_WINDOW = (16,)  # frames


@dataclass(frozen=True)
class Windows:
    """How inputs too large for one pass are cut; see :class:`captum_3dcam.SlidingWindowCAM`.

    Raises ValueError for values other than described.

    >>> Windows((64, 64, 64), stride=32).sizes
    (64, 64, 64)
    """

    size: int | Sequence[int] | None = None
    """Frames of a video, by default 16; or the size along each spatial axis, by default all."""
    stride: int | Sequence[int] | None = None
    """The step, one number for all axes or one each; by default half a window."""
    batch_size: int = 4
    """Windows at once."""
    boundaries: str | Sequence[int] = "auto"
    """Of videos, the first frames of scenes, which no window crosses; "auto" finds them, "none" is
    one scene."""

    def __post_init__(self) -> None:
        with argument_errors("windows: ", TypeError):
            for name in ("size", "stride"):
                value: Any = getattr(self, name)
                if isinstance(value, Sequence):
                    check_integers(name, value)
                elif value is not None:
                    check_integer(name, value)
            check_integer("batch_size", self.batch_size)
            if not isinstance(self.boundaries, str):
                check_integers("boundaries", self.boundaries)
            elif self.boundaries not in ("auto", "none"):
                raise ValueError(
                    f'boundaries={show(self.boundaries)}: expected "auto", "none", or the first '
                    "frames of scenes, as [120, 345]."
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The size along the first spatial axes; the others are not cut."""
        if self.size is None:
            return ()
        return tuple(self.size) if isinstance(self.size, Sequence) else (self.size,)

    @property
    def known_boundaries(self) -> Sequence[int]:
        """Those that are given, not found."""
        return () if isinstance(self.boundaries, str) else self.boundaries

    def check_axes(self, kind: str, axes: int) -> None:
        """ArgumentError for more numbers than axes, and for what needs a size."""
        for name in ("size", "stride"):
            value = getattr(self, name)
            if isinstance(value, Sequence) and len(value) > axes:
                raise ArgumentError(f"windows: {name}={show(value)}: {kind} has {axes} axes.")
        for name, value in (("stride", self.stride), ("boundaries", self.known_boundaries)):
            if value and self.size is None:
                raise ArgumentError(f"windows: {name} needs size.")
