"""``captum-3dcam layers``: which layers a model has, and which to choose."""

import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_3dcam.cli import _progress as progress
from captum_3dcam.cli._errors import FailedError, WrongUseError, in_a_line
from captum_3dcam.cli._model import load_model
from captum_3dcam.cli._writing import as_json

_RUNS = 2  # on different numbers: a ReLU or a maximum may hide an edge of the field from one
_NEW_STAGE = 1.5  # a stride halves; padding changes a size by less
_FLAT = 1e-4  # of the gradient's largest magnitude: rounding


@dataclass(frozen=True, eq=False)
class Found:
    """What one layer gave, when it ran last."""

    name: str
    type: str
    shape: tuple[int, ...]
    """(C, *S_k)"""
    depth: int
    """How many layers it ran inside of."""
    rectified: bool
    """Whether none of its values was negative."""
    leaf: bool
    """Whether it has no layers in it."""
    output: Tensor
    """(1, C, *S_k), with its graph."""
    receptive: tuple[int, ...] = ()
    cut: bool = False
    """Whether the field reaches an edge of the input, and may go on beyond."""
    reaches: bool = True
    """Whether the highest score depends on it."""
    flat: bool = False
    """Whether the score's gradient is the same at each place."""
    recommended: bool = False

    @property
    def size(self) -> tuple[int, ...]:
        return self.shape[1:]

    def report(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "shape": list(self.shape),
            "receptive": list(self.receptive),
            "receptive_cut_by_input": self.cut,
            "reaches_score": self.reaches,
            "gradient_is_flat": self.flat,
            "rectified": self.rectified,
            "recommended": self.recommended,
        }


def run(options: Namespace) -> None:
    """Print the table, or JSON."""
    model = load_model(options)
    size = tuple(options.input_size)
    if len(size) < 2:
        raise WrongUseError(f"--input-size {size[0]}: expected C and one spatial axis or more.")
    found = survey(model, size, torch.device(options.device), options)
    if options.json:
        report = {
            "model": options.model,
            "input_size": list(size),
            "layers": [layer.report() for layer in found],
            "advice": advice(found),
        }
        print(as_json(report))
    else:
        print("\n".join([*table(found), "", *advice(found)]))


def survey(
    model: nn.Module, size: tuple[int, ...], device: torch.device, options: Namespace
) -> list[Found]:
    """The layers worth choosing, or all, in the order in which they end."""
    runs = []
    for seed in range(_RUNS):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, *size, generator=generator).to(device).requires_grad_()
        runs.append((x, *_run(model, x)))
    x, output, layers = runs[0]
    outside = main_line(layers)
    marked = {layer.name for layer in ends(outside)}
    layers = [replace(layer, recommended=layer.name in marked) for layer in layers]
    chosen = {layer.name for layer in (layers if options.all else outside)}
    layers = _with_gradients([layer for layer in layers if layer.name in chosen], output)
    others = [{layer.name: layer.output for layer in run[2]} for run in runs]
    inputs = [run[0] for run in runs]
    found = []
    with progress.bar(options, "receptive fields", len(layers), "layer") as advance:
        for layer in layers:
            pairs = [
                (x, outputs[layer.name])
                for x, outputs in zip(inputs, others, strict=True)
                if layer.name in outputs
            ]
            found.append(_with_field(layer, pairs))
            advance(1)
    return found


# ---------------------------------------------------------------------------------- one forward


def _run(model: nn.Module, x: Tensor) -> tuple[Any, list[Found]]:
    """The output, and the layers that gave a grid of several places, in the order they ended."""
    names = {module: name for name, module in model.named_modules() if name}
    found: dict[str, Found] = {}
    depth = 0
    weighed = False  # until some weights have been used, there is but the input, padded or scaled

    def before(module: nn.Module, args: Any) -> None:
        nonlocal depth
        depth += 1

    def after(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth, weighed
        depth -= 1
        weighed = weighed or next(module.parameters(recurse=False), None) is not None
        if not isinstance(output, Tensor) or output.ndim != x.ndim or len(output) != 1:
            return
        if not weighed or math.prod(output.shape[2:]) < 2 or not output.requires_grad:
            return
        name = names[module]
        found.pop(name, None)  # the last call counts
        found[name] = Found(
            name,
            type(module).__name__,
            tuple(output.shape[1:]),
            depth,
            bool(output.amin() >= 0),
            next(module.children(), None) is None,
            output,
        )

    handles = [
        handle
        for module in names
        for handle in (
            module.register_forward_pre_hook(before),
            module.register_forward_hook(after),
        )
    ]
    try:
        with torch.enable_grad():
            output = model(x.clone())  # which it may write into
    except Exception as error:  # the user's code may raise anything
        raise FailedError(
            f"The model failed on an input of shape {tuple(x.shape)} (--input-size): "
            f"{in_a_line(error)}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise WrongUseError(
            "No layer of this model gives a grid of several places, (1, C, *S) with "
            f"{x.ndim - 2} spatial axes. Tokens become one with captum_3dcam.Layer(..., "
            "reshape=tokens_to_grid(...)), which the model can name in its LAYERS."
        )
    return output, list(found.values())


# -------------------------------------------------------------------------------------- advice


def main_line(layers: Sequence[Found]) -> list[Found]:
    """The layers at the depth of nesting at which the resolution changes most often.

    In a ResNet that is layer1 to layer4, in a Sequential of convolutions the convolutions; neither
    a network's wrapper nor the inside of its blocks.
    """
    octaves: dict[int, set[tuple[int, ...]]] = {}
    for layer in layers:
        # Padding, and convolutions without it, change a size by little.
        octave = tuple(round(math.log2(n)) for n in layer.size)
        octaves.setdefault(layer.depth, set()).add(octave)
    depth = max(octaves, key=lambda d: (len(octaves[d]), -d))
    return [layer for layer in layers if layer.depth == depth]


def ends(layers: Sequence[Found]) -> list[Found]:
    """The last layer at each resolution; of single operations, the last that is rectified."""
    found = []
    for stage in _stages(layers):
        last = stage[-1]
        for layer in reversed(stage):
            if layer.rectified:
                last = layer
            if layer.rectified or not layer.leaf:
                break
        found.append(last)
    return found


def _stages(layers: Sequence[Found]) -> list[list[Found]]:
    """The layers in a row that are of one resolution, or nearly."""
    stages: list[list[Found]] = []
    for layer in layers:
        first = stages[-1][0] if stages else None
        if first is None or any(
            max(m, n) >= _NEW_STAGE * min(m, n) for m, n in zip(layer.size, first.size, strict=True)
        ):
            stages.append([])
        stages[-1].append(layer)
    return stages


def advice(layers: Sequence[Found]) -> list[str]:
    """What to give as ``--layers``, and what to beware of."""
    lines = [f"--layers {' '.join(layer.name for layer in layers if layer.recommended)}"]
    flat = [layer.name for layer in layers if layer.flat and layer.recommended]
    if flat:
        lines.append(
            f"{', '.join(flat)}: the score's gradient is the same at each place, as average "
            "pooling and a linear head make it. The map there is the same for every class that "
            "does not switch it off: do not rely on it alone."
        )
    signed = [layer.name for layer in layers if not layer.rectified and layer.recommended]
    if signed:
        lines.append(
            f"{', '.join(signed)}: not after a ReLU, so that channels can cancel. If the map is "
            "poor, look for one inside (--all)."
        )
    lost = [layer.name for layer in layers if not layer.reaches and layer.recommended]
    if lost:
        lines.append(f"{', '.join(lost)}: the highest score does not depend on it. Leave it out.")
    return lines


def table(layers: Sequence[Found]) -> list[str]:
    """Lines of a table; a star marks what is recommended."""
    rows = [["", "layer", "type", "output", "receptive size"]]
    for layer in layers:
        field = (">= " if layer.cut else "") + _by(layer.receptive)
        star = "*" if layer.recommended else ""
        rows.append([star, layer.name, layer.type, _by(layer.shape), field])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "none"


# ----------------------------------------------------------------------------------- gradients


def _with_gradients(layers: list[Found], output: Any) -> list[Found]:
    """Whether the highest score depends on each layer, and alike at each of its places."""
    if not isinstance(output, Tensor) or not output.requires_grad:
        return layers
    gradients = torch.autograd.grad(
        output.max(), [layer.output for layer in layers], allow_unused=True, retain_graph=True
    )
    found = []
    for layer, gradient in zip(layers, gradients, strict=True):
        if gradient is None or not gradient.any():
            found.append(replace(layer, reaches=False))
            continue
        places = gradient.flatten(2)
        spread = places.amax(dim=2) - places.amin(dim=2)
        found.append(replace(layer, flat=bool(spread.max() <= _FLAT * gradient.abs().max())))
    return found


def _with_field(layer: Found, runs: list[tuple[Tensor, Tensor]]) -> Found:
    """The extent of the input that the layer's middle place has a gradient in."""
    axes = range(2, runs[0][0].ndim)
    seen = [torch.zeros(runs[0][0].shape[axis], dtype=torch.bool) for axis in axes]
    for x, output in runs:
        middle = [n // 2 for n in output.shape[2:]]
        channels = output[0].movedim(0, -1)
        for place in middle:
            channels = channels[place]
        # Weights of their own: a plain sum of channels that cancel does not depend on x.
        weights = torch.linspace(1, 2, len(channels), device=channels.device)
        (gradient,) = torch.autograd.grad(
            (channels * weights).sum(), x, retain_graph=True, materialize_grads=True
        )
        for axis, places in zip(axes, seen, strict=True):
            others = [other for other in range(gradient.ndim) if other != axis]
            places |= _shadow(gradient, others)
    spans = [places.nonzero()[:, 0] for places in seen]
    if not all(len(span) for span in spans):
        return layer
    lows, highs = [int(span[0]) for span in spans], [int(span[-1]) + 1 for span in spans]
    receptive = tuple(high - low for low, high in zip(lows, highs, strict=True))
    cut = any(
        low == 0 or high == len(places) for low, high, places in zip(lows, highs, seen, strict=True)
    )
    return replace(layer, receptive=receptive, cut=cut)


def _shadow(gradient: Tensor, others: list[int]) -> Tensor:
    """Along one axis, where anything is not zero."""
    return (gradient != 0).float().amax(dim=others).bool().cpu()
