"""An input that lies in memory: explained in one pass or, with ``--window``, in windows."""

from argparse import Namespace

import torch
from torch import Tensor

from captum_3dcam.cli import _progress as progress
from captum_3dcam.cli._explainer import Explainer, Said


def explain_whole(options: Namespace, explainer: Explainer, x: Tensor) -> list[tuple[Said, Tensor]]:
    """The classes of an input (1, C, *S), each with its map (*S)."""
    size = x.shape[2:]
    if explainer.fits(size):
        return explainer.once(x)
    assert explainer.window is not None, "without a window, everything fits"
    corner = x
    for axis, length in enumerate(explainer.window, start=2):
        corner = corner.narrow(axis, 0, min(length, x.shape[axis]))
    parts: list[Tensor] = []
    total = size[0] * explainer.passes()
    with progress.bar(options, "explaining", total, "row") as advance:
        said = explainer.slide(corner, lambda: [x[0]], [], parts.append, advance)
    maps = torch.cat(parts).reshape(len(said), *size)
    return list(zip(said, maps, strict=True))
