"""The order of a layer's tokens, found by changing the input at a few positions."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._inputs import input_sizes, reference_input
from captum_3dcam._layer_choice.grids import GridLayer, on_grids
from captum_3dcam._layer_choice.trial_run import Trace
from captum_3dcam._layout import Layout

_CENTRES = ((0.2, 0.3, 0.7), (0.8, 0.8, 0.2), (0.5, 0.15, 0.45))
"""Of the changes, relative to the input's size: along time, height and width, no two alike."""
_SIZE = 1 / 8
_MAX_SHARE = 0.25  # of the tokens may change, or the change does not tell where it came from


def in_order(
    layers: Sequence[GridLayer],
    first: Trace,
    inputs: Any,
    input_layout: Layout | None,
    run: Callable[[Any], Trace],
) -> list[GridLayer]:
    """The layers, those of tokens in the order of positions that they have.

    Left out are layers of tokens in an order that no layout names, as Hiera's, which come unit by
    unit. A token belongs to the position where it changes most with the input: ``run`` is a trial
    run on changed inputs, of which there are three, if there are tokens at all.
    """
    if not any(map(_has_tokens, layers)):
        return list(layers)
    batch_size, size = input_sizes(reference_input(inputs), input_layout)
    centres = [centre[-len(size) :] for centre in _CENTRES]
    changes = [_changes(first, run(each)) for each in _changed(inputs, input_layout, centres)]
    others = {_key(each): each for each in on_grids(first, batch_size, size, time_is_fastest=True)}
    ordered = []
    orders: dict[int, int | None] = {}  # of the layers so far, by the number of their tokens
    for layer in layers:
        if not _has_tokens(layer):
            ordered.append(layer)
            continue
        candidates = [layer, others.get(_key(layer), layer)]
        count = layer.call.shape[1]
        orders[count] = _order(candidates, changes, centres, orders.get(count, 0))
        if (order := orders[count]) is not None:
            ordered.append(candidates[order])
    return ordered


def _has_tokens(layer: GridLayer) -> bool:
    return len(layer.call.shape) == 3 and len(layer.grid) in (2, 3)


def _key(layer: GridLayer) -> tuple[int, int | None]:
    return layer.call.order, layer.call.index


def _changed(
    inputs: Any, layout: Layout | None, centres: Sequence[tuple[float, ...]]
) -> Iterator[Any]:
    """The inputs, brighter around each of the centres."""
    reference = reference_input(inputs)
    for centre in centres:
        x = reference.detach().clone(memory_format=torch.contiguous_format)
        batch_size, size = input_sizes(x, layout)
        grid = x if layout is None else layout.arrange(x, batch_size, len(size))
        for axis, (position, length) in enumerate(zip(centre, size, strict=True), start=2):
            extent = max(1, round(length * _SIZE))
            start = min(max(0, round(position * length - extent / 2)), length - extent)
            grid = grid.narrow(axis, start, extent)
        grid += x.amax() - x.amin() + 1
        if isinstance(inputs, Tensor):
            yield x
        else:
            yield type(inputs)(x if each is reference else each for each in inputs)


def _changes(before: Trace, after: Trace) -> dict[tuple[int, int | None], Tensor]:
    """By order and index of a call: the squared change of each token, (rows, L, 1)."""
    return {
        (a.order, a.index): (a.token_sums - b.token_sums).square().sum(dim=2, keepdim=True)
        for a, b in zip(before.calls, after.calls, strict=True)
        if a.token_sums is not None and b.token_sums is not None
    }


def _order(
    candidates: Sequence[GridLayer],
    changes: Sequence[dict[tuple[int, int | None], Tensor]],
    centres: Sequence[tuple[float, ...]],
    earlier: int | None,
) -> int | None:
    """The candidate that has the tokens where they belong; the ``earlier`` one if none tells.

    None if the tokens change elsewhere in all of them.
    """
    votes = [
        [
            _is_at(candidate.arrange(change[_key(candidate)])[:, 0].sum(dim=0), centre)
            for change, centre in zip(changes, centres, strict=True)
        ]
        for candidate in candidates
    ]
    if all(vote is None for vote in votes[0]):
        return earlier
    for number, of_candidate in enumerate(votes):
        if of_candidate.count(True) > of_candidate.count(False):
            return number
    return None


def _is_at(energy: Tensor, centre: tuple[float, ...]) -> bool | None:
    """Whether the change is largest at the centre; None if it is spread over many tokens."""
    number_of_tokens = energy.sum().square() / energy.square().sum()  # not a number without change
    if not number_of_tokens <= _MAX_SHARE * energy.numel():
        return None
    peak = torch.unravel_index(energy.argmax(), energy.shape)
    return all(
        abs((int(i) + 0.5) / n - position) <= _SIZE / 2 + 0.5 / n
        for i, n, position in zip(peak, energy.shape, centre, strict=True)
    )
