"""Whether inputs have the range of the training: what batch normalisation says about it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captum_3dcam._model_state import preserved_state
from captum_3dcam._validation import check_tensor, describe

# studies/evaluate_input_ranges.py: of right inputs the size is 2.0 at most, and of bytes that were
# not divided by 255 it is 14 at least; the span of right inputs is 0.8 at least, and of those that
# were divided by 255 twice 0.007 at most. One grey level of 255 is about 1/64 of a deviation.
_MAX_SIZE, _MIN_SPAN = 5, 1 / 32
_MAX_CHANNELS = 4  # that are described one by one
_ADVICE = (
    "Check the mean and the standard deviation of the preprocessing, and whether values from 0 to "
    "255 are divided by 255: --preprocessing, --mean and --std on the command line; of volumes "
    "--clip and --normalize."
)


def check_input_range(model: nn.Module, inputs: Tensor) -> str | None:
    """Why the values of ``inputs`` (N, C, *S) cannot be those that the model was trained on.

    The first batch normalisation that runs has the mean and the variance of each of its channels
    in training. If the inputs deviate from these by far, in the median over the channels, the
    result is a message, otherwise None. It is also None for a model without trained batch
    normalisation in eval mode, and for wrong inputs of a similar range: values in [0, 1] instead
    of [-1, 1], another mean, BGR. The model runs up to that module, and is left as it was.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=0.5))
    >>> images = torch.rand(4, 3, 16, 16)
    >>> for _ in range(20):
    ...     output = model(images)
    >>> print(check_input_range(model.eval(), images))
    None
    >>> check_input_range(model, 255 * images).split(":")[0]
    'The input is probably not preprocessed as in the training of the model'
    """
    check_tensor("inputs", inputs)
    if inputs.ndim < 2 or not inputs.numel():
        raise ValueError(f"Expected inputs (N, C, *S), not empty; received {describe(inputs)}.")
    statistics = first_statistics(model, inputs)
    if statistics is None:
        return None
    name, size, span = statistics
    if size > _MAX_SIZE:
        deviation = f"is {size:.2g} times as large as in training"
    elif 0 < span < _MIN_SPAN:  # a constant frame may be right
        deviation = f"varies by {span:.1g} standard deviations of the training"
    else:
        return None
    return (
        "The input is probably not preprocessed as in the training of the model: "
        f"{_description(inputs)}. What {name!r}, its first batch normalisation, receives "
        f"{deviation}. {_ADVICE}"
    )


class _EndError(Exception):
    """The statistics are there: the rest of the model need not run."""


class Statistics(NamedTuple):
    """What the first batch normalisation that runs receives, in units of its training."""

    name: str
    """Of the module."""
    size: float
    """Root mean square of what is normalised: 1 in training."""
    span: float
    """Range of the model's input, in standard deviations."""


def first_statistics(model: nn.Module, inputs: Tensor) -> Statistics | None:
    """The statistics for inputs (N, C, *S); None without trained batch normalisation."""
    names = {module: name for name, module in model.named_modules() if _has_statistics(module)}
    results: list[Statistics] = []

    def record(module: nn.Module, args: Any) -> None:
        size, spread = _ratios(module, args[0])
        x = inputs.double()
        scale = spread / x.std(correction=0).clamp(min=1e-300)  # constant inputs have a span of 0
        results.append(Statistics(names[module], size, float(scale * (x.max() - x.min()))))
        raise _EndError

    handles = []
    with preserved_state(model, tensors=[inputs]), torch.no_grad():
        try:
            handles += [module.register_forward_pre_hook(record) for module in names]
            if handles:
                model(inputs)
        except _EndError:
            pass
        finally:
            for handle in handles:
                handle.remove()
    return results[0] if results else None


def _has_statistics(module: nn.Module) -> bool:
    """Whether it normalises with statistics of a training."""
    if not isinstance(module, _BatchNorm) or module.training or module.running_mean is None:
        return False
    assert module.running_var is not None, "it is tracked with the mean"
    # The counter of batches does not tell: checkpoints of the time before it leave it at 0.
    return bool((module.running_mean != 0).any() or (module.running_var != 1).any())


def _ratios(module: Any, x: Tensor) -> tuple[float, float]:
    """The medians over the channels of the root mean square, and of the standard deviation, of
    what is normalised."""
    axes = [0, *range(2, x.ndim)]
    scale = (module.running_var.double() + module.eps).sqrt()
    x = x.double()
    shift = (x.mean(axes) - module.running_mean.double()) / scale
    spread = x.var(axes, correction=0).sqrt() / scale
    return float((shift**2 + spread**2).median().sqrt()), float(spread.median())


def _description(inputs: Tensor) -> str:
    x = inputs.double()
    several = 1 < inputs.shape[1] <= _MAX_CHANNELS
    axes = [0, *range(2, inputs.ndim)] if several else list(range(inputs.ndim))
    mean, std = (
        ", ".join(f"{value:.3g}" for value in values.reshape(-1).tolist())
        for values in (x.mean(axes), x.var(axes, correction=0).sqrt())
    )
    per = " of its channels" if several else ""
    return (
        f"its values are from {float(x.min()):.3g} to {float(x.max()):.3g}, with mean{per} {mean} "
        f"and standard deviation {std}"
    )
