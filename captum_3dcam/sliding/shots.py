"""Where a video's shots begin, by the plainest of detectors."""

from collections.abc import Iterable, Iterator
from statistics import median

import torch
from torch import Tensor

NEIGHBOURS = 8
_CHUNK = 64  # frames: what is worked on at once, however long the chunks that come


def shot_boundaries(
    frames: Tensor | Iterable[Tensor], threshold: float = 0.5, prominence: float = 2.0
) -> list[int]:
    """The first frame of each shot but the first, for ``boundaries`` of a sliding window.

    Frame t begins a shot where its change r_t is above ``threshold`` and above ``prominence``
    times the median change of the eight frames before it and the eight after:

        r_t = mean |x_t - x_(t-1)| / max(c_t, c_(t-1)),   c_t = mean |x_t - mean x_t|

    over channels and pixels. Two frames that have nothing in common but their contrast c change
    by 1 or more, whatever the scale of their values; fast motion changes many frames in a row.
    Hard cuts only: it misses dissolves and fades, and takes a flash for two cuts.

    Args:
        frames: a video (C, T, *S), or an iterable of such chunks of it, read once and not kept.
        threshold: the least change, from 0.
        prominence: the least ratio to the change around it.

    Raises:
        ValueError: for frames of other shapes.

    >>> day, night = torch.rand(2, 3, 1, 8, 8)
    >>> shot_boundaries(torch.cat([day.expand(3, 12, 8, 8), night.expand(3, 20, 8, 8)], dim=1))
    [12]
    """
    changes = list(_changes([frames] if isinstance(frames, Tensor) else frames))
    boundaries = []
    for i, change in enumerate(changes):
        around = changes[max(i - NEIGHBOURS, 0) : i] + changes[i + 1 : i + 1 + NEIGHBOURS]
        usual = median(around) if around else 0.0
        if change > threshold and change > prominence * usual:
            boundaries.append(i + 1)
    return boundaries


def _changes(chunks: Iterable[Tensor]) -> Iterator[float]:
    """r_t of each frame but the very first."""
    last: Tensor | None = None
    for part in _short(chunks):
        if last is not None and last[:, 0].shape != part[:, 0].shape:
            raise ValueError(
                "Chunks may differ along time alone, their second axis; got shape "
                f"{tuple(part.shape)} after {tuple(last.shape)}."
            )
        x = part if last is None else torch.cat([last, part], dim=1)
        last = part[:, -1:]
        x = x.movedim(1, 0).flatten(1)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        contrast = (x - x.mean(dim=1, keepdim=True)).abs().mean(dim=1)
        change = x.diff(dim=0).abs().mean(dim=1)
        most = torch.maximum(contrast[1:], contrast[:-1])
        # Of two plain frames the same again changes nothing: 0 / 0 is 0.
        yield from torch.where(change > 0, change / most, 0).tolist()


def _short(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    for chunk in chunks:
        if chunk.ndim < 3 or not chunk.numel():
            raise ValueError(
                "frames must be (C, T, *S) with something in it, or an iterable of such chunks; "
                f"got shape {tuple(chunk.shape)}."
            )
        yield from chunk.split(_CHUNK, dim=1)
