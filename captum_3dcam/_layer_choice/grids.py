"""What the modules of a trial run returned, as layers on a grid over the input."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch

from captum_3dcam._diagnosis import fits
from captum_3dcam._layer_choice.trial_run import Call, Shape, Trace
from captum_3dcam.layers import Layer, Reshape

_MAX_PREFIX_TOKENS = 9  # class, distillation and register tokens; with more it is another grid


@dataclass(frozen=True)
class GridLayer:
    """A layer whose tensor lies on a grid over the input."""

    call: Call
    layer: Layer
    channels: int
    grid: Shape
    arrange: Reshape
    """What brings the tensor to (N, C, *S_k); of a stacked layer, that of one call."""

    @property
    def name(self) -> str:
        return self.call.name


def frames_come_first(trace: Trace, shape: Shape) -> bool:
    """Whether the first convolution shows that a clip is (N, T, C, H, W), and not (N, C, T, H, W).

    It does if it takes the second axis of the clip as its channels, frame by frame or after a
    transposition, and could not take the first.
    """
    if trace.first_convolution is None or len(shape) != 5:
        return False
    channels, received = trace.first_convolution
    batch, frames, second, *size = shape
    if channels != second or channels == frames or frames == 1:
        return False
    return received in ((batch, second, frames, *size), (batch * frames, second, *size))


def on_grids(trace: Trace, batch_size: int, size: Shape) -> list[GridLayer]:
    """The calls that lie on a grid of several positions over an input of this size."""
    layers = []
    for call in trace.calls:
        for layer in _layers(call, trace, batch_size, size):
            each = on_grid(call, layer, trace, batch_size, size)
            if each is not None:
                layers.append(each)
                break
    return layers


def _layers(call: Call, trace: Trace, batch_size: int, size: Shape) -> Iterator[Layer]:
    """The ways in which a call's tensor may lie on a grid."""
    rank, rows, ndim, count = len(size), call.shape[0], len(call.shape), len(call.shapes)
    # For calls of one shape, as in a siamese network, a warning says that the last one is taken.
    calls = "last" if len(set(call.shapes)) > 1 else None
    letters = " ".join("THW"[-rank:] if rank > 1 else "T")
    if _relates_tokens(call, trace):
        return
    if rows == batch_size and ndim == rank + 2:
        axis = _channel_axis(call, trace, size)
        if axis == 1:
            yield Layer(call.name, index=call.index, calls=calls)
        elif axis == -1 and rank <= 3:
            if rank == 1:  # there may be a class token among them
                yield Layer(call.name, index=call.index, calls=calls, layout="N L C")
            yield Layer(call.name, index=call.index, calls=calls, layout=f"N {letters} C")
    elif rows == batch_size and ndim == 3 and rank > 1 and call.channel_axis != 1:
        yield Layer(call.name, index=call.index, calls=calls, layout="N L C")
    if rank != 3:
        return
    frames = rows // batch_size if rows > batch_size and rows % batch_size == 0 else 0
    if ndim == 4 and (rows == batch_size and 1 < count <= size[0] and len(set(call.shapes)) == 1):
        axis = _channel_axis(call, trace, size[1:])
        if axis is not None:
            last = None if axis == 1 else "N H W C"
            yield Layer(call.name, index=call.index, calls="stack", layout=last)
    elif ndim == 4 and 0 < frames <= size[0] and size[0] % frames == 0:
        axis = _channel_axis(call, trace, size[1:])
        if axis is not None:
            layout = "(N T) C H W" if axis == 1 else "(N T) H W C"
            yield Layer(call.name, index=call.index, calls=calls, layout=layout)
    elif ndim == 3 and 0 < frames <= size[0] and size[0] % frames == 0:
        yield Layer(call.name, index=call.index, calls=calls, layout="(N T) (H W) C")


def _relates_tokens(call: Call, trace: Trace) -> bool:
    """Whether the tensor has an entry for each pair of tokens, as attention has: no grid."""
    tokens = [shape[1] for shape in trace.shapes[: call.grids_before] if len(shape) == 3][-1:]
    is_square = len(call.shape) == 4 and call.shape[2] in (call.shape[1], call.shape[3])
    return is_square and call.channel_axis != 1 and [call.shape[2]] == tokens


def _channel_axis(call: Call, trace: Trace, size: Shape) -> int | None:
    if call.channel_axis is not None:
        return call.channel_axis
    axes = trace.axes.get(call.shape, set())
    if len(axes) == 1:
        return next(iter(axes))
    if call.is_leaf and not call.has_parameters and not axes:
        return None  # as attention weights (N, heads, L, L)
    first, last = fits(call.shape[2:], size), fits(call.shape[1:-1], size)
    if first or last:
        return 1 if first else -1
    return 1 if axes else None


def on_grid(
    call: Call, layer: Layer, trace: Trace, batch_size: int, size: Shape
) -> GridLayer | None:
    """The call on its grid as the layer says; None if it has none."""
    shapes = trace.shapes[: call.grids_before]
    try:
        arrange = layer.arrangement(batch_size, len(size), shapes)
        shape = tuple(arrange(torch.empty(call.shape, device="meta")).shape)
    except ValueError:
        return None
    stacked = (len(call.shapes),) if layer.calls == "stack" else ()
    grid = (*stacked, *shape[2:])
    excess = (prod(call.shape) - prod(shape)) // max(shape[1] * shape[0], 1)
    if shape[0] != batch_size or len(grid) != len(size) or prod(grid) < 2:
        return None
    if excess > _MAX_PREFIX_TOKENS or any(k > 2 * n for k, n in zip(grid, size, strict=True)):
        return None
    if layer.layout is not None and not fits(grid, size):
        return None  # tokens of windows or of several scales, which are no grid over the input
    return GridLayer(call, layer, shape[1], grid, arrange)
