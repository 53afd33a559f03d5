"""Compute several attribution maps with the same inputs, target and random numbers."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_3dcam._inputs import Inputs, format_inputs
from captum_3dcam._model_state import ModelState, preserve_generators
from captum_3dcam._restoration import Restoration, interruptible
from captum_3dcam._targets import predicted_target, select_output
from captum_3dcam.sanity.comparison import MapComparison


@dataclass
class SeededRequest:
    """What each attribution is called with."""

    inputs: tuple[Tensor, ...]
    is_tuple: bool
    comparison: MapComparison
    target: Any = None

    @classmethod
    def from_inputs(cls, inputs: Inputs, comparison: MapComparison | None) -> "SeededRequest":
        is_tuple = isinstance(inputs, tuple)
        return cls(format_inputs(inputs), is_tuple, comparison or MapComparison())

    @contextmanager
    def seeded_inputs(
        self, model: Any = None, on_new_module: Callable[[nn.Module], object] | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Copies of the inputs, which a model may modify in place; see :func:`seeded`."""
        tensors = (*self.inputs, *tensors_of(model))
        with seeded(self.comparison.seed, tensors, on_new_module):
            yield tuple(tensor.detach().clone() for tensor in self.inputs)

    def output_of(self, forward_func: Callable[..., Any]) -> Any:
        """What the model returns for the inputs, without gradients."""
        arguments = as_tuple(self.comparison.additional_forward_args)
        with self.seeded_inputs(forward_func) as inputs, torch.no_grad(), interruptible():
            return forward_func(*inputs, *arguments)

    def map_on_copy(
        self, make_attribution: Callable[[nn.Module], Any], copy: nn.Module, model: nn.Module
    ) -> Tensor:
        """The map of the attribution that is made of a copy of the model."""
        with self.seeded_inputs(copy), interruptible():
            attribution = make_attribution(copy)
        ran: list[nn.Module] = []
        result = self.map_of(attribution, copy, ran.append)
        if {*model.modules()}.intersection(ran) and not {*copy.modules()}.intersection(ran):
            raise ValueError(
                "make_attribution returned an attribution of the original model. Build it on the "
                "model that it receives, a copy: lambda m: Saliency(m)."
            )
        return result

    def map_of(
        self,
        attribution: Any,
        model: Any = None,
        on_new_module: Callable[[nn.Module], object] | None = None,
    ) -> Tensor:
        """One map (N, ...), detached, on the CPU."""
        attribute = getattr(attribution, "attribute", attribution)
        if not callable(attribute):
            raise TypeError(
                "Expected a Captum attribution, with .attribute(), or a function of (inputs, "
                f"target=...); got {type(attribution).__name__}."
            )
        options = dict(self.comparison.attribute_kwargs)
        if self.comparison.additional_forward_args is not None:
            options["additional_forward_args"] = self.comparison.additional_forward_args
        with (
            self.seeded_inputs(model, on_new_module) as tensors,
            warnings.catch_warnings(),
            interruptible(),
        ):
            # Captum's warning that it sets the inputs to require gradients: they are copies.
            warnings.filterwarnings("ignore", ".*did not already require gradients")
            inputs = tensors if self.is_tuple else tensors[0]
            result = attribute(inputs, target=self.target, **options)
        if isinstance(result, tuple) and len(result) == 1:
            result = result[0]
        if not isinstance(result, Tensor):
            raise TypeError(
                f"An attribution must return one tensor; this one returned "
                f"{type(result).__name__}. Select one in a function: lambda inputs, target: "
                "attribution.attribute(inputs, target=target)[0]."
            )
        return result.detach().cpu()


def as_tuple(additional_forward_args: Any) -> tuple[Any, ...]:
    if additional_forward_args is None or isinstance(additional_forward_args, tuple):
        return additional_forward_args or ()
    return (additional_forward_args,)


def scores_in(returned: Any) -> Tensor:
    """The tensor of scores that a model returned."""
    try:
        return select_output(returned)
    except TypeError as error:
        raise TypeError(
            "The model must return a tensor of scores, or a container with one; it returned "
            f"{type(returned).__name__}. Pass a model or function that selects one."
        ) from error


def explicit_target(returned: Any, target: Any) -> Any:
    """The target; instead of None the class that the model predicts for each sample."""
    return predicted_target(scores_in(returned)) if target is None else target


def stack_steps(similarities: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of each metric the values (N,) of all steps: (steps, N)."""
    return {name: torch.stack([step[name] for step in similarities]) for name in similarities[0]}


def copy_model(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"Expected model as a torch.nn.Module; got {type(model).__name__}.")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ValueError(
            "The model has lazy modules whose parameters are not initialised. Run it once first."
        )
    try:
        return deepcopy(model)
    except RuntimeError as error:
        raise TypeError(
            f"The maps are computed on copies, but copy.deepcopy cannot copy this "
            f"{type(model).__name__}: {error} The usual cause is the older weight or spectral "
            "normalisation; use torch.nn.utils.parametrizations."
        ) from error


def tensors_of(model: Any) -> Iterable[Tensor]:
    """Parameters and buffers, if the model is a module."""
    return (*model.parameters(), *model.buffers()) if isinstance(model, nn.Module) else ()


@contextmanager
def seeded(
    seed: int,
    tensors: Iterable[Tensor],
    on_new_module: Callable[[nn.Module], object] | None = None,
) -> Iterator[None]:
    """Seed NumPy and torch on the CPU and the tensors' devices, and restore their state on exit.

    NumPy too, because Captum's GradientShap draws from it. The state of the modules that run
    inside is restored as well, see :class:`ModelState`.
    """
    tensors = list(tensors)
    with Restoration() as restoration:
        restoration.add(partial(np.random.set_state, np.random.get_state()))
        preserve_generators(restoration, tensors)
        ModelState(tensors, on_new_module).preserve(restoration)
        seed_generators(seed, {tensor.device for tensor in tensors})
        yield


def seed_generators(seed: int, devices: Iterable[torch.device]) -> None:
    """Seed NumPy, the CPU and these devices, and no other device: only these are restored."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    for device in devices:
        if device.type not in ("cpu", "meta"):
            backend = torch.get_device_module(device)
            with getattr(backend, "device", nullcontext)(device):
                backend.manual_seed(seed)
