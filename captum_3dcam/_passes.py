"""What the backward passes of several targets leave, and their maps, drawn together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from captum_3dcam._capture.reduction import LayerFactors

Factors = Sequence[Sequence[LayerFactors]]
"""Of each layer, those of each call that is explained."""


class Pass(NamedTuple):
    """What the backward pass of one target leaves."""

    factors: Factors
    gradient_extremes: Sequence[Mapping[torch.device, Sequence[Tensor]]]
    """Of each layer and device, the least and largest entries of its gradients, (N,) each."""
    notes: dict[str, None]
    """What to warn of."""


def draw_maps(
    passes: Sequence[Pass], draw: Callable[[Factors], Sequence[Tensor]]
) -> Iterator[Sequence[Tensor]]:
    """The maps (N, 1, *S) of each pass, all drawn as one batch, which takes fewer operations."""
    # A layer that runs several times may have reached one target more often than another.
    for _, group in groupby(passes, lambda each: [len(calls) for calls in each.factors]):
        targets = [each.factors for each in group]
        if len(targets) == 1:
            yield draw(targets[0])
        else:
            drawn = draw(_as_one_batch(targets))
            yield from zip(*(maps.chunk(len(targets)) for maps in drawn), strict=True)


def _as_one_batch(targets: Sequence[Factors]) -> Factors:
    """The factors of several targets as those of one, of as many times the samples."""
    return [
        [
            LayerFactors(tuple(map(torch.cat, zip(*(c.factors for c in same), strict=True))), {})
            for same in zip(*calls, strict=True)
        ]
        for calls in zip(*targets, strict=True)
    ]
