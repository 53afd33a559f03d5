"""The model's inputs, and one call of the model with them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_3dcam._captum import format_tensor_into_tuples, run_forward
from captum_3dcam._layout import Layout

Inputs = Tensor | tuple[Tensor, ...] | list[Tensor]


def format_inputs(inputs: Any) -> tuple[Tensor, ...]:
    """Captum's ``inputs`` as a tuple of tensors; a TypeError for anything else."""
    # A list of one is a mistake more often than what the model takes.
    several = isinstance(inputs, tuple) or (isinstance(inputs, list) and len(inputs) > 1)
    tensors = tuple(inputs) if several else (inputs,)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        received = ", ".join(type(tensor).__name__ for tensor in tensors) or "an empty tuple"
        raise TypeError(
            f"inputs must be a tensor or a tuple of tensors, batch first; received {received}. "
            "Other arguments go into additional_forward_args. A list of several tensors is for a "
            "model that takes a list."
        )
    if tensors[0].ndim == 0 or tensors[0].shape[0] == 0:
        raise ValueError(
            "inputs needs a batch of at least one sample; received shape "
            f"{tuple(tensors[0].shape)}."
        )
    formatted: tuple[Tensor, ...] = format_tensor_into_tuples(tensors)
    return formatted


def scale_inputs(inputs: Inputs, factor: float) -> Inputs:
    """The inputs with floating-point tensors multiplied by a factor, in the same container."""
    scaled = [x * factor if x.is_floating_point() else x for x in format_inputs(inputs)]
    if isinstance(inputs, Tensor):
        return scaled[0]
    return scaled if isinstance(inputs, list) else tuple(scaled)


def reference_input(inputs: Any) -> Tensor:
    """The input over which the map lies: the first; of a list of pathways, the largest."""
    tensors = format_inputs(inputs)
    if isinstance(inputs, list):
        return max(tensors, key=Tensor.numel)
    return tensors[0]


def input_sizes(x: Tensor, layout: Layout | None) -> tuple[int, tuple[int, ...]]:
    """The number of samples, and the spatial size, of an input (N, C, *S) without a layout."""
    if layout is None:
        return x.shape[0], tuple(x.shape[2:])
    return layout.sizes(tuple(x.shape))


def over_channels(grid: Tensor, x: Tensor, layout: Layout | None) -> Tensor:
    """What lies over an input's positions, (N, *S), so that it broadcasts to the input."""
    if layout is None:
        return grid[:, None]
    channels = x.numel() // grid.numel()
    return layout.restore(grid[:, None].expand(-1, channels, *grid.shape[1:]))


def run_model(
    forward_func: Callable[..., Any], inputs: tuple[Tensor, ...], arguments: Any, as_list: bool
) -> Any:
    """What the model returns. ``as_list``: it takes its inputs as one list.

    Raises what the model raises, with advice if it refuses the shape or type of its input.
    """
    try:
        if as_list:  # a list of its own, for the model may write into it
            return forward_func(list(inputs), *(arguments or ()))
        return run_forward(forward_func, inputs, None, arguments)
    except RuntimeError as error:
        if advice := _input_advice(inputs[0], str(error)):
            raise RuntimeError(f"{str(error).rstrip('. ')}. {advice}") from error
        raise


def _input_advice(x: Tensor, error: str) -> str | None:
    """What to do about an input that the model refuses."""
    if "type" in error and not x.is_floating_point():
        return (
            f"The first input has dtype {x.dtype}; networks take floating-point numbers, scaled as "
            "in training: e.g. inputs.float() / 255."
        )
    if "channels" in error:
        return (
            f"The first input has shape {tuple(x.shape)}; (N, C, *S) is usual. Move the channels, "
            "e.g. inputs.movedim(-1, 1) if they are last, or inputs.movedim(2, 1) if frames are "
            "first."
        )
    return None
