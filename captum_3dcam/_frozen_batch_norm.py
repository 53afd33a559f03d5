"""Batch normalisation that keeps nothing for the backward pass."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SMALLEST, _SMALLEST_ON_ACCELERATORS = 2**18, 2**23
"""Elements of a tensor below which storing it takes less time than a call of Python functions."""


def lean_graph(inputs: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """:class:`LeanBatchNorm` for a network's passes, if its inputs are large enough to gain."""
    inputs = list(inputs)
    large = sum(x.numel() for x in inputs) >= _smallest(inputs[0])
    return LeanBatchNorm() if large else nullcontext()


def _smallest(x: Tensor) -> int:
    return _SMALLEST if x.device.type == "cpu" else _SMALLEST_ON_ACCELERATORS


class LeanBatchNorm(TorchFunctionMode):
    """Inside, batch normalisation by running statistics does not keep its input.

    y = (x - mean) / sqrt(var + eps) · weight + bias is linear in x, and its gradient there needs no
    x: dL/dx = dL/dy · weight / sqrt(var + eps). PyTorch keeps x all the same, for the gradients of
    weight and bias, and it is about half of what the graph of a ResNet holds. The values of the
    forward pass are PyTorch's own.

    >>> norm, x = torch.nn.BatchNorm2d(3).eval(), torch.rand(2, 3, 256, 256, requires_grad=True)
    >>> with LeanBatchNorm():
    ...     norm(x).grad_fn.name()
    '_FrozenBatchNormBackward'
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    frozen = (running_mean, running_var, weight, bias)
    if (
        not training
        and running_var is not None  # else PyTorch says what is missing
        and _worth_it(input)
        # A weight that was computed, from a layer of ours perhaps, leads a gradient on.
        and all(tensor is None or tensor.is_leaf for tensor in frozen)
    ):
        output: Tensor = _FrozenBatchNorm.apply(input, *frozen, eps)
        return output
    return F.batch_norm(input, *frozen, training, momentum, eps)


def _worth_it(x: Tensor) -> bool:
    return type(x) is Tensor and x.requires_grad and x.numel() >= _smallest(x)


class _FrozenBatchNorm(torch.autograd.Function):
    generate_vmap_rule = True  # the model may use torch.func

    @staticmethod
    def forward(
        x: Tensor,
        mean: Tensor | None,
        var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, var, weight, _, eps = inputs
        scale = var.detach().to(torch.promote_types(var.dtype, torch.float32)).add(eps).rsqrt()
        ctx.save_for_backward(scale if weight is None else scale * weight.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        per_channel = scale.reshape(-1, *[1] * (gradient.ndim - 2))
        return gradient * per_channel, None, None, None, None, None
