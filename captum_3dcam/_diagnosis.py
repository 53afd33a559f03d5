"""Why a map is zero, and signs that a layer's axes were misread: what to warn of."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from captum_3dcam._capture import Recording
from captum_3dcam._layer_calls import LayerCalls
from captum_3dcam._reduction import LayerFactors

Factors = Sequence[Sequence[LayerFactors]]
"""Of each layer, those of each of its calls."""


def empty_maps(recording: Recording, factors: Factors, maps: Sequence[Tensor]) -> Iterator[str]:
    """Why samples have no map at all. ``maps`` are one or several of the same, (N, 1, *S) each."""
    peaks = _peaks(maps)
    empty = [sample for sample, peak in enumerate(peaks) if peak == 0]
    if not empty:
        return
    layers = zip(recording.layers, factors, strict=True)
    reasons = "; ".join(_reason(calls, of_layer, empty) for calls, of_layer in layers)
    training = " The model is in train mode; call model.eval() to explain it as it predicts."
    yield (
        f"The map of sample(s) {', '.join(map(str, empty))} is zero everywhere. {reasons}."
        f"{training if recording.training else ''}"
    )


def check_finite(maps: Sequence[Tensor]) -> None:
    """RuntimeError for NaN, which a rule makes of finite numbers that are too large."""
    if not all(peak < float("inf") for peak in _peaks(maps)):
        raise RuntimeError(
            "NaN or Inf in the map, though activations and gradients are finite: their products "
            "are too large for the precision. Explain the model in double precision, or scale its "
            "input or score down."
        )


def _peaks(maps: Sequence[Tensor]) -> list[float]:
    peaks: list[float] = torch.stack([m.flatten(1).amax(dim=1) for m in maps]).amax(dim=0).tolist()
    return peaks


def _reason(calls: LayerCalls, of_layer: Sequence[LayerFactors], empty: Sequence[int]) -> str:
    name = repr(calls.layer.name)
    gradients = [extreme for call in calls for extreme in call.extremes.get("gradient", ())]
    if not any(extreme.item() for extreme in gradients):
        return (
            f"At layer {name} the gradient is zero everywhere: the score does not depend on it "
            "there (a saturated softmax: explain the logits; a class that no position is "
            "predicted as; tokens of the last block beside the class token; a dead ReLU)"
        )
    positive = [
        _has_positive(parts, empty) for parts in zip(*(f.factors for f in of_layer), strict=True)
    ]
    if len(positive) == 2 and positive[0] and not positive[1]:
        return (
            f"At layer {name} the sum of the activation over channels is positive nowhere: take "
            "the layer after its ReLU"
        )
    if not positive[0]:
        constant = all(_is_constant(f.factors[0][empty]) for f in of_layer)
        pooling = (
            "; it is constant over space, as before global average pooling, where the layer's map "
            "does not depend on the class: choose layers before it"
        )
        return (
            f"At layer {name} nothing speaks for the score (its gradient, weighed as this class "
            "does, is positive nowhere): see CounterfactualCAM, or explain another class"
            f"{pooling if constant and len(positive) == 2 else ''}"
        )
    return f"At layer {name} the factors of the map are positive at no common position"


def _has_positive(parts: Sequence[Tensor], samples: Sequence[int]) -> bool:
    return any(bool((part[list(samples)] > 0).any()) for part in parts)


def _is_constant(x: Tensor) -> bool:
    flat = x.flatten(1)
    return bool(torch.allclose(flat, flat[:, :1].expand_as(flat)))


def cancelled_sums(recording: Recording, factors: Factors) -> Iterator[str]:
    """Layers at which a sum that the rule takes is rounding noise."""
    ratios = [
        (repr(calls.layer.name), name, ratio)
        for calls, of_layer in zip(recording.layers, factors, strict=True)
        for call in of_layer
        for name, ratio in call.cancellations.items()
    ]
    if not ratios:
        return
    # One transfer for all layers: on a GPU each would wait for the device.
    device = ratios[0][-1].device
    noise = (torch.stack([ratio.to(device) for *_, ratio in ratios]) <= 1).any(dim=1).tolist()
    names: dict[str, list[str]] = {}
    for (layer, name, _), is_noise in zip(ratios, noise, strict=True):
        if is_noise:
            names.setdefault(layer, []).append(name)
    for layer, sums in names.items():
        yield (
            f"At layer {layer} the sum of the {' and that of the '.join(sums)} cancels, so its map "
            "is zero or rounding noise. Normalisation does this to the gradient of its input and "
            "to its own output, over channels (layer normalisation) or positions (instance "
            "normalisation): take a layer between two of them, e.g. the hidden layer of an MLP "
            "block. A softmax over these channels does it too: explain the logits."
        )


def unchosen_calls(recording: Recording) -> Iterator[str]:
    """Layers that ran several times, without a word on which call is explained."""
    for calls in recording.layers:
        if calls.layer.calls is None and calls.count > 1:
            yield (
                f"Layer {calls.layer.name!r} ran {calls.count} times in one forward pass, and the "
                "map is of its last call. Choose with Layer(..., calls=...): 'last', 'stack' for "
                "frames in a loop, 'sum' for a head shared by feature levels, or the number of a "
                "call."
            )


def misread_axes(
    recording: Recording, size: Sequence[int], input_size: Sequence[int]
) -> Iterator[str]:
    """Layers whose shape fits the map's size with other axes than (N, C, *S)."""
    if tuple(size) != tuple(input_size):
        return  # the map's size was chosen
    for calls in recording.layers:
        shape = calls.shapes[0]
        grid, channels_last = shape[2:], shape[1:-1]
        if fits(channels_last, size) and not fits(grid, size):
            yield (
                f"Layer {calls.layer.name!r} gives shape {shape}, which fits a map of "
                f"{tuple(size)} as channels last, and was read as channels first, a grid of "
                f"{tuple(grid)}. Name its axes in their order: Layer(..., layout='N H W C'), or "
                "layout='N C H W' if that is right."
            )
        elif any(k > n for k, n in zip(grid, size, strict=True)) and not calls.layer.layout:
            yield (
                f"Layer {calls.layer.name!r} has a grid of {tuple(grid)}, longer on an axis than "
                f"the map, {tuple(size)}. For inputs with frames first, pass "
                "input_layout='N T C H W'; for layers with other axes, Layer(..., layout=...)."
            )


def fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether one stride leads to the grid's last two axes, and none is longer than the map's."""
    if any(k > n for k, n in zip(grid, size, strict=True)):
        return False
    axes = list(zip(grid[-2:], size[-2:], strict=True))
    # Rounded up or down, n pixels at stride s give k positions: n / (k + 1) < s < n / (k - 1).
    least = max(n / (k + 1) for k, n in axes)
    return all(k == 1 or least < n / (k - 1) for k, n in axes)
