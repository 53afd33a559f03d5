"""Why a map is zero, and signs that a layer's axes were misread: what to warn of."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from captum_3dcam._capture.extremes import Extremes, changed
from captum_3dcam._capture.layer_calls import gather
from captum_3dcam._capture.recording import Recording
from captum_3dcam._capture.reduction import LayerFactors
from captum_3dcam._passes import Factors, Pass


def sample_peaks(maps: Sequence[Tensor]) -> list[float]:
    """The largest value of each sample over its maps, (N, 1, *S) each.

    Raises RuntimeError for NaN, which a rule makes of finite numbers that are too large.
    """
    peaks: list[float] = torch.stack([m.flatten(1).amax(dim=1) for m in maps]).amax(dim=0).tolist()
    if not all(peak < float("inf") for peak in peaks):
        raise RuntimeError(
            "NaN or Inf in the map, though activations and gradients are finite: their products "
            "are too large for the precision. Explain the model in double precision, or scale its "
            "input or score down."
        )
    return peaks


def empty_maps(
    recording: Recording, result: Pass, map_peaks: Sequence[float], evidence: str
) -> Iterator[str]:
    """Why samples have no map at all: those whose :func:`sample_peaks` are 0.

    ``evidence`` is what the maps show, that "for" or "against" the score.
    """
    empty = [sample for sample, peak in enumerate(map_peaks) if peak == 0]
    if not empty:
        return
    peaks = [_gradient_peaks(each, recording.device_ids) for each in result.gradient_extremes]
    samples: dict[str, list[str]] = {}
    for sample in empty:
        reasons = [
            f"At layer {calls.layer.name!r} {_reason(of_layer, sample, evidence, peak[sample])}"
            for calls, of_layer, peak in zip(recording.layers, result.factors, peaks, strict=True)
        ]
        samples.setdefault("; ".join(reasons), []).append(str(sample))
    training = " The model is in train mode; call model.eval() to explain it as it predicts."
    for reason, numbers in samples.items():
        yield (
            f"The map of sample(s) {', '.join(numbers)} is zero everywhere. {reason}."
            f"{training if recording.training else ''}"
        )


def featureless_samples(recording: Recording, map_peaks: Sequence[float]) -> Iterator[str]:
    """Why samples have no map by a rule that takes no gradient."""
    empty = [str(sample) for sample, peak in enumerate(map_peaks) if peak == 0]
    if empty:
        names = ", ".join(repr(calls.layer.name) for calls in recording.layers)
        yield (
            f"The map of sample(s) {', '.join(empty)} is zero everywhere. At layer(s) {names} the "
            "method finds no position that stands out: the activation is the same everywhere or on "
            "one position only, or no channel counts for the score, or all of them speak against "
            "it. Explain another layer, or another class."
        )


def _gradient_peaks(
    extremes: Mapping[torch.device, Sequence[Tensor]], device_ids: list[int] | None
) -> list[float]:
    """The largest magnitude of each sample's gradient at a layer, over all calls."""
    largest = {
        device: torch.stack([part.abs() for part in parts]).amax(dim=0)
        for device, parts in extremes.items()
    }
    peaks: list[float] = gather(largest, device_ids).tolist()
    return peaks


def _reason(calls: Sequence[LayerFactors], sample: int, evidence: str, peak: float) -> str:
    """Why a layer's map of a sample is zero; ``peak`` is the largest magnitude of its gradient."""
    first, *others = [
        [factor[sample] for factor in same]
        for same in zip(*(call.factors for call in calls), strict=True)
    ]
    if peak == 0:
        return (
            "the gradient is zero everywhere: the score does not depend on it there (a saturated "
            "softmax: explain the logits; a class that no position is predicted as; tokens of the "
            "last block beside the class token; a dead ReLU)"
        )
    if peak < torch.finfo(first[0].dtype).tiny ** 0.5 and not any(map(torch.any, first)):
        return (
            f"the gradient is at most {peak:.0e}, and its products are too small for the "
            "precision: explain the model in double precision, or scale its score up"
        )
    if not _is_positive(first):
        sign, other = (
            ("positive", "CounterfactualCAM")
            if evidence == "for"
            else ("negative", "LayerwiseGlobalLocalCAM")
        )
        pooling = (
            "; it is constant over space, as before global average pooling, where the layer's map "
            "does not depend on the class: choose layers before it"
        )
        return (
            f"nothing speaks {evidence} the score (its gradient, weighed as this method does, is "
            f"{sign} nowhere): see {other}, or explain another class"
            f"{pooling if others and all(map(_is_constant, first)) else ''}"
        )
    if others and not _is_positive(others[0]):
        return (
            "the sum of the activation over channels is positive nowhere: take the layer after "
            "its ReLU"
        )
    return "the factors of the map are positive, but nowhere together, or not with other layers'"


def _is_positive(calls: Sequence[Tensor]) -> bool:
    return any(bool((factor > 0).any()) for factor in calls)


def _is_constant(factor: Tensor) -> bool:
    """Whether it has one value, which is not zero, at all positions of several."""
    values = factor.flatten()
    return len(values) > 1 and bool(values[0] != 0) and bool(values.isclose(values[0]).all())


def flat_layers(recording: Recording, factors: Factors) -> Iterator[str]:
    """The names of the layers whose first factor, that of the class, is the same everywhere."""
    for calls, of_layer in zip(recording.layers, factors, strict=True):
        if all(_is_constant(x) for call in of_layer for x in call.factors[0]):
            yield calls.layer.name


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


def unstable_gradients(recording: Recording, others: Iterable[Sequence[Extremes]]) -> Iterator[str]:
    """Layers in doubt whose gradient is noise: another one in runs that explain the same."""
    samples: dict[int, set[int]] = {number: set() for number in recording.doubtful}
    for other in others:
        for number, unstable in samples.items():
            unstable.update(changed(recording.extremes[number], other[number]))
    for number, unstable in samples.items():
        if unstable:
            yield (
                f"At layer {recording.layers[number].layer.name!r} the gradient, at least of "
                f"sample(s) {', '.join(map(str, sorted(unstable)))}, is rounding noise, and so is "
                "the map: the gradient is another one if the last digits of the input are. The "
                "score does not depend on the layer there. Normalisation whose output is averaged "
                "over the same axes does this. Explain another layer, or look for why the score "
                "is constant."
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


def misread_layers(recording: Recording, size: Sequence[int]) -> Iterator[str]:
    """Layers whose shape fits the map's size as (N, *S, C), and not as (N, C, *S)."""
    for calls in recording.layers:
        layer, shape = calls.layer, calls.shapes[0]
        if layer.layout or layer.reshape or shape[1:] in recording.channels_first:
            continue
        if fits(shape[1:-1], size) and not fits(shape[2:], size):
            yield (
                f"Layer {layer.name!r} gives shape {shape}, which fits a map of "
                f"{tuple(size)} as channels last, and was read as channels first, a grid of "
                f"{shape[2:]}. Name its axes in their order: Layer(..., layout='N H W C'), or "
                "layout='N C H W' if that is right."
            )


def misread_input(recording: Recording, size: Sequence[int]) -> Iterator[str]:
    """Signs that the first input is not (N, C, *S), as the size of the map supposes."""
    shape, taken = tuple(recording.inputs[0].shape), recording.first_grid
    spatial = [*"THW"[-len(size) :]]
    frames_first = (shape[0], shape[2], shape[1], *shape[3:])
    folded = (shape[0] * shape[1], *shape[2:])
    channels_last = (shape[0], shape[-1], *shape[1:-1])
    for others, names in (
        ((frames_first, folded), ["N", spatial[0], "C", *spatial[1:]]),
        ((channels_last,), ["N", *spatial, "C"]),
    ):
        if taken in others and taken != shape and shape[1] != shape[2]:
            yield (
                f"The model turns an input of shape {shape} into {taken} before its "
                f"first convolution, so a map of {tuple(size)} mixes channels and positions. Pass "
                f"input_layout={' '.join(names)!r}, or 'N C {' '.join(spatial)}' if that is right."
            )
            return
    if taken[:2] == shape[:2] and len(taken) == len(shape):
        return
    for calls in recording.layers:
        grid = calls.shapes[0][2:]
        longer = [k > n for k, n in zip(grid, size, strict=True)]
        # Longer on all axes is what padding and upsampling give.
        if any(longer) and not all(longer):
            yield (
                f"Layer {calls.layer.name!r} has a grid of {grid}, longer on an axis than the map, "
                f"{tuple(size)}. For inputs with frames first, pass input_layout='N T C H W', or "
                f"'N C {' '.join(spatial)}' if that is right; for layers with other axes, "
                "Layer(..., layout=...)."
            )


def fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether one stride leads to the grid's last two axes, and none is longer than the map's."""
    if any(k > n for k, n in zip(grid, size, strict=True)):
        return False
    axes = list(zip(grid[-2:], size[-2:], strict=True))
    # Rounded up or down, n pixels at stride s give k positions: n / (k + 1) < s < n / (k - 1).
    least = max(n / (k + 1) for k, n in axes)
    return all(k == 1 or least < n / (k - 1) for k, n in axes)
