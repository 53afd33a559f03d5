"""The least and largest values at the layers: whether all is finite, and more than rounding."""

import math
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from captum_3dcam._capture.layer_calls import LayerCalls

Extremes = dict[str, list[tuple[float, float]]]
"""Of a layer's "activation" and "gradient": those of each sample, call after call."""

# Of the score's rounding error: layers of less influence on it are looked at more closely. Of real
# networks no layer is, but for those at their initial values.
_MARGIN, _MARGIN_OF_16_BITS = 2**12, 4


def read_extremes(
    layers: Sequence[LayerCalls], scores: Tensor
) -> tuple[list[Extremes], list[float]]:
    """The extremes of each layer after a backward pass, and the scores.

    Raises RuntimeError for NaN and Inf, which ReLU would silently zero and the maximum spread.
    """
    noted = [
        (of_layer, kind, pair)
        for of_layer, calls in enumerate(layers)
        for call in calls
        for kind, pair in call.extremes.items()
    ]
    # One transfer for all layers: on a GPU each would wait for the device.
    tensors = [scores.flatten(), *(each for *_, pair in noted for each in pair)]
    values = iter(torch.cat([each.to(scores.device) for each in tensors]).tolist())
    own_scores = list(islice(values, scores.numel()))
    extremes = [Extremes() for _ in layers]
    for number, kind, (low, high) in noted:
        lowest, highest = list(islice(values, len(low))), list(islice(values, len(high)))
        extremes[number].setdefault(kind, []).extend(zip(lowest, highest, strict=True))
    _check_finite(layers, extremes)
    return extremes, own_scores


def _check_finite(layers: Sequence[LayerCalls], extremes: Sequence[Extremes]) -> None:
    broken = [
        f"the {kind} of {calls.layer.name!r}"
        for calls, of_layer in zip(layers, extremes, strict=True)
        for kind, pairs in of_layer.items()
        if not all(math.isfinite(value) for pair in pairs for value in pair)
    ]
    if broken:
        raise RuntimeError(
            f"NaN or Inf in {', '.join(broken)}. Check the input and weights for NaN; in half "
            "precision, use bfloat16 or float32."
        )


def doubtful_layers(
    layers: Sequence[LayerCalls], extremes: Sequence[Extremes], scores: Sequence[float]
) -> list[int]:
    """The layers whose gradient may be what rounding leaves of zero.

    Their gradient times activation is hardly more than the rounding error of the scores.
    """
    highest = max(map(abs, scores))
    return [
        number
        for number, (calls, of_layer) in enumerate(zip(layers, extremes, strict=True))
        if 0 < _influence(calls, of_layer) <= _rounding(calls) * highest
    ]


def _influence(calls: LayerCalls, extremes: Extremes) -> float:
    """The least over samples of gradient times activation, summed as if of random signs."""
    activations, gradients = (
        [max(-low, high) for low, high in extremes[kind]] for kind in ("activation", "gradient")
    )
    products = [a * g for a, g in zip(activations, gradients, strict=False) if a * g]
    return min(products, default=0.0) * math.sqrt(math.prod(calls.shapes[0][2:]))


def _rounding(calls: LayerCalls) -> float:
    precision = torch.finfo(next(iter(calls)).token.dtype)
    return precision.eps * (_MARGIN_OF_16_BITS if precision.bits == 16 else _MARGIN)


def changed(first: Extremes, second: Extremes) -> list[int]:
    """The samples whose gradients' extremes differ by more than an eighth of the larger ones."""
    pairs = zip(first["gradient"], second["gradient"], strict=True)
    return [
        sample
        for sample, (a, b) in enumerate(pairs)
        if math.dist(a, b) > max(math.hypot(*a), math.hypot(*b)) / 8
    ]


def unscaled(extremes: Extremes, scale: float) -> Extremes:
    """Those of the gradient of the score itself, given those of ``scale`` times the score."""
    return {"gradient": [(low / scale, high / scale) for low, high in extremes["gradient"]]}
