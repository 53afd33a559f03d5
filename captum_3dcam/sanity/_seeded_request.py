"""Asking an attribution for one map, always with the same random numbers; progress."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_3dcam._capture import Inputs, format_inputs
from captum_3dcam._model_state import preserved_state
from captum_3dcam._progress import load_tqdm
from captum_3dcam._targets import select_scores


@dataclass
class Question:
    """What is asked of each attribution: the same inputs, target and random numbers."""

    inputs: tuple[Tensor, ...]
    wrapped: bool
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    seed: int
    target: Any = None

    @classmethod
    def of(
        cls, inputs: Inputs, arguments: Any, options: Mapping[str, Any] | None, seed: int
    ) -> "Question":
        every = dict(options or {})
        if arguments is not None:
            every["additional_forward_args"] = arguments
        wrapped = isinstance(inputs, tuple)
        return cls(format_inputs(inputs), wrapped, as_arguments(arguments), every, seed)

    @contextmanager
    def asked(self, modules: Sequence[nn.Module]) -> Iterator[tuple[Tensor, ...]]:
        """Fresh inputs, since a model may write into its own; state put back at the end."""
        with randomness_kept(modules):
            seed_generators(modules, self.seed)
            yield tuple(tensor.detach().clone() for tensor in self.inputs)

    def map_of(
        self, make_attribution: Callable[[nn.Module], Any], subject: nn.Module, model: nn.Module
    ) -> Tensor:
        """The map that is made on ``subject``, a copy of ``model``."""
        attribution = make_attribution(subject)
        held = set(held_modules(attribution))
        if held.intersection(model.modules()) and not held.intersection(subject.modules()):
            raise ValueError(
                "make_attribution gave an attribution of the original model. Build it on the "
                "model that it is passed, a copy: lambda m: Saliency(m)."
            )
        return self.explain(attribution, list(subject.modules()))

    def explain(self, attribution: Any, modules: Sequence[nn.Module]) -> Tensor:
        """One map (N, ...), without gradient, on the CPU."""
        attribute = getattr(attribution, "attribute", attribution)
        if not callable(attribute):
            raise TypeError(
                "An attribution is Captum's, with .attribute(), or a function of (inputs, "
                f"target=...); got {type(attribution).__name__}."
            )
        with self.asked(modules) as tensors, warnings.catch_warnings():
            # Captum's word on inputs that it sets to require gradients; these are our own.
            warnings.filterwarnings("ignore", ".*did not already require gradients")
            inputs = tensors if self.wrapped else tensors[0]
            found = attribute(inputs, target=self.target, **self.options)
        if isinstance(found, tuple) and len(found) == 1:
            found = found[0]
        if not isinstance(found, Tensor):
            raise TypeError(
                f"An attribution must give one tensor; this one gave {type(found).__name__}. "
                "Choose one in a function: lambda inputs, target: attribution.attribute(inputs, "
                "target=target)[0]."
            )
        return found.detach().cpu()


def as_arguments(additional_forward_args: Any) -> tuple[Any, ...]:
    if additional_forward_args is None:
        return ()
    several = isinstance(additional_forward_args, tuple)
    return additional_forward_args if several else (additional_forward_args,)


def modules_of(model: Any) -> list[nn.Module]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    return list(model.modules())


def held_modules(attribution: Any) -> list[nn.Module]:
    forward_func = getattr(attribution, "forward_func", None)
    roots = [each for each in (attribution, forward_func) if isinstance(each, nn.Module)]
    return list(dict.fromkeys(module for root in roots for module in root.modules()))


def check_scores(output: Any) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"The model must return a tensor of scores; it returned {type(output).__name__}. Pass "
            "a model that picks one."
        )


def kept_target(output: Any, target: Any) -> Any:
    """The target, or each sample's highest class; None where there is one score per sample."""
    if target is not None:
        return target
    check_scores(output)
    scores = select_scores(output)  # it says what else an output may need
    if output.numel() == scores.numel():
        return None
    return simplest_target(output.argmax(dim=1).tolist())


def simplest_target(classes: list[int]) -> int | list[int]:
    # Captum repeats a list for its steps only if it is longer than one.
    return classes[0] if len(classes) == 1 else classes


def target_of_each(target: Any, size: int) -> list[Any]:
    if hasattr(target, "tolist"):
        array = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
        target = array.item() if array.size == 1 else array.tolist()
    if not isinstance(target, list):
        return [target] * size
    return [entry.item() if hasattr(entry, "item") else entry for entry in target]


# ---------------------------------------------------------------- random numbers and progress


@contextmanager
def randomness_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Buffers, torch's random generators and NumPy's, which Captum's GradientShap draws from."""
    before = np.random.get_state()
    try:
        with preserved_state(*modules):
            yield
    finally:
        np.random.set_state(before)


def seed_generators(modules: Iterable[nn.Module], seed: int) -> None:
    """Seed the generators that :func:`randomness_kept` puts back, and no others."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    tensors = (t for m in modules for t in (*m._parameters.values(), *m._buffers.values()))
    devices = {tensor.device for tensor in tensors if tensor is not None}
    for device in devices:
        if device.type not in ("cpu", "meta"):
            backend = torch.get_device_module(device)
            with getattr(backend, "device", nullcontext)(device):
                backend.manual_seed(seed)


def tracker(progress: bool, description: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """What goes through a sequence, under a bar if one is wanted."""
    if not progress:
        return iter
    tqdm = load_tqdm()
    return lambda items: tqdm(items, desc=description)


def shape_of(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def check_choice(name: str, choice: str, known: tuple[str, ...]) -> None:
    if choice not in known:
        raise ValueError(f"{name}={choice!r} is not known. Choose one of {', '.join(known)}.")
