"""The model's output and Captum's ``target`` -> one score per sample; top classes."""

from collections.abc import Callable, Mapping
from numbers import Integral
from reprlib import repr as shorten
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._captum import select_targets
from captum_3dcam._validation import describe


def select_output(returned: Any, output: Any = None) -> Tensor:
    """The tensor of scores in what a model returned.

    ``output`` is a key, an attribute, an index, or a function of what was returned. None takes the
    tensor itself, the only tensor in a container, or the one named "logits" or "out".

    Raises TypeError for anything else.

    >>> select_output({"features": torch.zeros(1, 8), "logits": torch.zeros(1, 5)}).shape
    torch.Size([1, 5])
    """
    if output is None:
        selected = _default_output(returned)
    elif callable(output):
        selected = output(returned)
    else:
        selected = _item(returned, output)
    if isinstance(selected, Tensor):
        return selected
    fields = _fields(returned)
    names = f" with {list(fields)}" if fields else ""
    asked = "" if output is None else f"; output={output!r} selects {type(selected).__name__}"
    raise TypeError(
        f"forward_func must return a tensor of scores; it returned {type(returned).__name__}"
        f"{names}{asked}. Choose the tensor with output=: a key, an attribute, an index, or a "
        "function of what the model returns."
    )


def _default_output(returned: Any) -> Any:
    if isinstance(returned, Tensor):
        return returned
    fields = _fields(returned)
    tensors = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    named = (_item(returned, name) for name in ("logits", "out"))
    return next((value for value in named if isinstance(value, Tensor)), None)


def _item(returned: Any, key: Any) -> Any:
    """What a container holds at a key or index, or as an attribute; None if nothing."""
    if isinstance(returned, Tensor):
        return None
    try:
        return returned[key]
    except (LookupError, TypeError):
        return getattr(returned, key, None) if isinstance(key, str) else None


def _fields(returned: Any) -> dict[Any, Any]:
    """What a container holds, by key, attribute or index."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, (tuple, list)):
        return dict(zip(getattr(returned, "_fields", range(len(returned))), returned, strict=True))
    if isinstance(returned, Tensor):
        return {}
    return dict(getattr(returned, "__dict__", {}))


def select_scores(output: Tensor, target: Any = None) -> Tensor:
    """One score per sample, by Captum's ``target`` or a function: (N, ...) -> (N,).

    ``target=None`` on (N, C) takes each sample's arg-max, the lowest index on ties. It needs no
    choice where there is one value per sample, or one for the batch. A class of a segmentation
    (N, C, *S) means the sum of its scores over the positions where it is predicted: where it has
    the highest score of all classes or, of a single channel, a positive one.

    Raises IndexError for a target out of range, ValueError for one that does not select exactly
    one value per sample, TypeError for one that is not in Captum's forms.
    """
    if target is None:
        return _predicted_scores(output)
    if callable(target):
        return _computed_scores(output, target)
    target = normalize_target(target)
    _check_target(output, target)
    if output.ndim > 2 and _is_class(target):
        return _segmentation_scores(output, target)
    scores: Tensor = select_targets(output, target)
    if scores.numel() != output.shape[0]:
        raise ValueError(
            f"target={shorten(target)} selects {tuple(scores.shape)} values from an output of "
            f"shape {tuple(output.shape)}; one per sample is expected. Pass a tuple with an index "
            "for each axis after the batch, or reduce the output in forward_func."
        )
    return scores.reshape(-1)


def _computed_scores(output: Tensor, target: Callable[[Tensor], Any]) -> Tensor:
    scores = target(output)
    if not isinstance(scores, Tensor) or scores.shape != output.shape[:1]:
        raise ValueError(
            f"A target function takes the output, of shape {tuple(output.shape)}, and returns one "
            f"score per sample, shape {tuple(output.shape[:1])}; it returned {describe(scores)}."
        )
    return scores


def _is_class(target: Any) -> bool:
    """An int for all samples, or one for each."""
    return all(
        isinstance(entry, int) for entry in (target if isinstance(target, list) else [target])
    )


def _segmentation_scores(output: Tensor, target: Any) -> Tensor:
    """Σ over the positions predicted as the class of its scores: (N, C, *S) -> (N,)."""
    scores = _of_class(output, target)
    return scores.where(_is_predicted(output, target), 0).sum(dim=1)


def _of_class(output: Tensor, target: Any) -> Tensor:
    """The scores of the class at each position: (N, C, *S) -> (N, positions)."""
    classes = _classes(output, target)
    return output.flatten(2).take_along_dim(classes[..., None], dim=1)[:, 0]


def _is_predicted(output: Tensor, target: Any) -> Tensor:
    """Where the class is predicted: (N, positions)."""
    if output.shape[1] == 1:
        return output.flatten(1) > 0
    return output.flatten(2).argmax(dim=1) == _classes(output, target)


def _classes(output: Tensor, target: Any) -> Tensor:
    """The class of each sample, (N, 1)."""
    classes = torch.as_tensor(per_sample_targets(target, len(output)), device=output.device)
    return (classes % output.shape[1]).reshape(-1, 1)


def select_probabilities(output: Tensor, target: Any = None) -> Tensor:
    """How probable what is explained is, in logits (N, ...): (N,), in [0, 1].

    Of a class its softmax, of a single score the sigmoid. Of a class of a segmentation its mean
    over the positions that are predicted as that class, 0 without any. Of a function of the
    output the sigmoid of its value. Raises as :func:`select_scores`.

    >>> select_probabilities(torch.tensor([[0.0, 0.0], [1.0, -1.0]]), 1)
    tensor([0.5000, 0.1192])
    """
    if callable(target):
        return select_scores(output, target).sigmoid()
    several = output.ndim > 1 and output.shape[1] > 1
    probabilities = output.softmax(dim=1) if several else output.sigmoid()
    target = normalize_target(target)
    if output.ndim <= 2 or target is None or not _is_class(target):
        return select_scores(probabilities, target)
    select_scores(output, target)  # its errors
    predicted = _is_predicted(output, target)
    likely = _of_class(probabilities, target).where(predicted, 0).sum(dim=1)
    return likely / predicted.sum(dim=1).clamp(min=1)


def _predicted_scores(output: Tensor) -> Tensor:
    if output.numel() == 1 or output.numel() == output.shape[0]:
        return output.reshape(-1)
    if output.ndim != 2:
        raise ValueError(
            f"An output of shape {tuple(output.shape)} needs a target: of a segmentation, a class "
            "or a tuple (class, y, x) for one pixel; a function of the output that returns one "
            "score per sample; or reduce it to (N, classes), e.g. by a mean over time."
        )
    return output.gather(1, output.argmax(dim=1, keepdim=True)).reshape(-1)


def top_classes(output: Tensor, k: Any) -> Tensor:
    """Indices (N, k) of the k highest scores of (N, C), the lowest index first on ties."""
    if output.ndim != 2:
        raise ValueError(
            f"attribute_top_k needs scores of shape (N, classes); forward_func returned "
            f"{tuple(output.shape)}. Reduce its other axes in forward_func."
        )
    if not isinstance(k, Integral) or int(k) not in range(1, output.shape[1] + 1):
        raise ValueError(f"k must be from 1 to the {output.shape[1]} classes; received {k!r}.")
    return output.detach().argsort(dim=1, descending=True, stable=True)[:, : int(k)]


def normalize_target(target: Any) -> Any:
    """NumPy's and torch's integers and arrays as Python's ints and lists of ints.

    >>> normalize_target(torch.tensor([3, 1])), normalize_target((torch.tensor(2), 0))
    ([3, 1], (2, 0))
    """
    if isinstance(target, list):
        return [normalize_target(entry) for entry in target]
    if isinstance(target, tuple):
        return tuple(normalize_target(entry) for entry in target)
    if not hasattr(target, "tolist"):
        return target
    array = torch.as_tensor(target)
    return array.item() if array.numel() == 1 else array.tolist()


def per_sample_targets(target: Any, batch_size: int) -> list[Any]:
    """The target of each sample, from a target in any of Captum's forms.

    Raises ValueError for a list of another length than the batch.

    >>> per_sample_targets((1, 2), 2), per_sample_targets(torch.tensor([4, 5]), 2)
    ([(1, 2), (1, 2)], [4, 5])
    """
    target = normalize_target(target)
    if not isinstance(target, list):
        return [target] * batch_size
    if len(target) != batch_size:
        raise ValueError(_wrong_length(target, batch_size))
    return target


def predicted_target(output: Tensor) -> Any:
    """The target that ``target=None`` explains, as an explicit one.

    An int for a batch of one, the list of each sample's arg-max for more, and None where the
    output is one score per sample.

    >>> predicted_target(torch.tensor([[0.1, 0.9], [0.8, 0.2]]))
    [1, 0]
    """
    if _predicted_scores(output).numel() == output.numel():
        return None
    return simplest_target(output.argmax(dim=1).tolist())


def pinned_target(target: Any, output: Tensor) -> Any:
    """The target for outputs that differ a little from this one: what it leaves open is settled.

    None is the class that is predicted, and a function may have a method ``pinned``.
    """
    if target is None:
        return predicted_target(output)
    return target.pinned(output) if hasattr(target, "pinned") else target


def repeated_target(target: Any, copies: int) -> Any:
    """The target for so many copies of the batch; it is pinned."""
    if callable(target):
        return target.repeated(copies) if hasattr(target, "repeated") else target
    target = normalize_target(target)
    return target * copies if isinstance(target, list) else target


def simplest_target(classes: list[Any]) -> Any:
    """A list with a target per sample; of one sample the target itself.

    Captum repeats a list for the steps of its algorithms only if it is longer than one.
    """
    return classes[0] if len(classes) == 1 else classes


def _wrong_length(target: list[Any], batch_size: int) -> str:
    return (
        f"target has {len(target)} entries for a batch of {batch_size}; pass one for each sample, "
        "or a single int or tuple for all."
    )


def _check_target(output: Tensor, target: Any) -> None:
    """Raise before indexing does: on CUDA an index out of range ends the process's context."""
    shape = tuple(output.shape)
    per_sample = isinstance(target, list)
    entries = target if per_sample else [target]
    indices = [entry if isinstance(entry, tuple) else (entry,) for entry in entries]
    types = {type(index) for entry in indices for index in entry}
    if types - {int} or len({isinstance(entry, tuple) for entry in entries}) > 1:
        raise TypeError(
            "target must be None, an int, a tuple of ints, a 1D tensor of ints, or a list of ints "
            f"or of tuples; received {shorten(target)}."
        )
    if not shape:
        raise ValueError("The output is a single number, so it takes no target; pass target=None.")
    if per_sample and len(entries) != shape[0]:
        raise ValueError(_wrong_length(target, shape[0]))
    for entry in indices:
        gathered = len(shape) == 2 and per_sample and not isinstance(entries[0], tuple)
        _check_index(entry, shape, gathered=gathered)


def _check_index(entry: tuple[int, ...], shape: tuple[int, ...], *, gathered: bool) -> None:
    axes = len(shape) - 1
    if axes == 0:
        raise ValueError(
            f"target {entry} is not needed: the output, of shape {shape}, has one score per "
            "sample. Pass target=None."
        )
    if len(entry) > axes:
        raise ValueError(
            f"target {entry} does not fit an output of shape {shape}: it has {axes} axes after "
            "the batch. Pass a tuple with an index for each, or a list of such tuples."
        )
    for axis, (index, size) in enumerate(zip(entry, shape[1:], strict=False), start=1):
        # Captum gathers a list of ints, and gather cannot count from the end.
        if not (0 if gathered else -size) <= index < size:
            raise IndexError(
                f"target {index} is out of range: axis {axis} of the output, of shape {shape}, "
                f"takes 0 to {size - 1}."
            )
