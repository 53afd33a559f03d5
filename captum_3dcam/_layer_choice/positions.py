"""Whether a layer changes where the input does, which is changed at a few positions."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._inputs import format_inputs, input_sizes, reference_input
from captum_3dcam._layer_choice.grids import GridLayer, on_grid
from captum_3dcam._layer_choice.trial_run import ChannelAxes, Key, Shape, Trace
from captum_3dcam._layout import Layout

_logger = logging.getLogger(__name__)

Centre = tuple[float, ...]
Changes = Mapping[Key, list[Tensor]]
"""Of each layer, by how much its channel sums change, squared, in each of its calls."""

_CENTRES = ((0.1, 0.6, 0.9), (0.9, 0.1, 0.6), (0.6, 0.9, 0.1))
"""Of the changes, relative to the input's size: along time, height and width, no two alike."""
_INNER_CENTRES = ((0.27, 0.4, 0.45), (0.45, 0.27, 0.4), (0.4, 0.45, 0.27))
_EXTENT = 1 / 8
_WIDE = 1 / 4  # no stride of a grid of four positions passes over it
_SLACK = 0.1  # by which convolutions without padding move a position, and tokens do not
_MAX_SHARE = 0.34  # of an axis may change, or the change does not tell where it came from
_MIN_HIT = 0.5  # of the change lies where the input was changed
_MIN_VOTES = 2
_MAX_PRECISE = 16  # tokens may change, or their centroid is not known to one token
_OTHER_ORDERS = {
    "N L C": "N (H W T) C",
    "(N T) C H W": "(T N) C H W",
    "(N T) H W C": "(T N) H W C",
    "(N T) (H W) C": "(T N) (H W) C",
}


def at_their_positions(
    layers: Sequence[GridLayer],
    first: Trace,
    inputs: Any,
    input_layout: Layout | None,
    run: Callable[[Any, ChannelAxes], Trace],
) -> list[GridLayer]:
    """The layers that change where the first sample of the input is changed.

    Those whose axes or tokens are in another order that a layout names come with that layout. Left
    out are layers that change elsewhere, as tokens in units (Hiera) or a frame that the model turns
    round; tokens of which no change tells the position, as latents and queries; and what does not
    depend on the input, as a table of positions. Where a change spreads over most of a layer, its
    positions are taken for those of the layers before.

    ``run`` is a trial run that measures: four of them, one with the input as it is, and two more
    if a layer did not change at all. If the model refuses the changed input, or none of the changes
    reaches a layer, the layers are returned as they are.
    """
    batch_size, size = input_sizes(reference_input(inputs), input_layout)
    if not 0 < len(size) <= len(_CENTRES[0]):
        return list(layers)
    centres = [centre[-len(size) :] for centre in _CENTRES]
    try:
        changes_at = _measuring(layers, inputs, input_layout, run)
        changes = [changes_at(centre, _EXTENT) for centre in centres]
        if not any(map(_is_any_changed, changes)):  # behind a mask or in a crop, perhaps
            centres = [centre[-len(size) :] for centre in _INNER_CENTRES]
            changes = [changes_at(centre, _EXTENT) for centre in centres]
    except Exception as error:  # the model takes the user's input, and may refuse another
        _logger.info("The positions of the layers are not tried out: %s", error)
        return list(layers)
    if not any(map(_is_any_changed, changes)):
        return list(layers)
    unchanged = _unchanged(layers, changes, changes_at, centres[0])
    kept: list[GridLayer] = []
    tokens: dict[Shape, int] = {}  # which order those so far have, by their grid
    for layer in layers:
        of_layer = [change[_key(layer)] for change in changes if _key(layer) in change]
        if _key(layer) in unchanged or len(of_layer) < len(centres):
            continue
        candidates = [layer, *_others(layer, first, batch_size, size)]
        default = _order_before(tokens, layer.grid) if _has_tokens(layer) else 0
        order = _order(candidates, of_layer, centres, default)
        if order is not None:
            kept.append(candidates[order])
        if _has_tokens(layer) and order is not None:
            tokens[layer.grid] = order
        elif _has_tokens(layer) and default is not None:  # from here on it is another order
            tokens.pop(layer.grid, None)
    return kept


def _order_before(tokens: dict[Shape, int], grid: Shape) -> int | None:
    """That of the tokens on the same grid, or on one of which these are merged, 2 x 2 to one."""
    order = tokens.get(grid)
    for before, order_before in reversed(list(tokens.items())):
        if order is None and grid[-2:] == tuple(-(-length // 2) for length in before[-2:]):
            order = order_before
    return order


def _has_tokens(layer: GridLayer) -> bool:
    return len(layer.call.shape) == 3 and len(layer.grid) > 1


def _key(layer: GridLayer) -> Key:
    return layer.name, layer.call.index


def _channel_axis(layer: GridLayer) -> int:
    layout = layer.layer.layout
    return 1 if layout is None else Layout.from_text(layout).axes.index(("C",))


def _others(layer: GridLayer, first: Trace, batch_size: int, size: Shape) -> Iterator[GridLayer]:
    """The layer with its axes in another order."""
    layout = _OTHER_ORDERS.get(layer.layer.layout or "")
    if layout is not None:
        other = on_grid(layer.call, replace(layer.layer, layout=layout), first, batch_size, size)
        if other is not None:
            yield other


# ---------------------------------------------------------------------------- what is changed


def _changed(inputs: Any, layout: Layout | None, centre: Centre, extent: float) -> Any:
    """The inputs, filled around the centre in the first sample; ``extent`` is a share."""
    reference = reference_input(inputs)
    tensors = [
        _filled(x, layout, centre, extent)
        if x is reference or (x.ndim == reference.ndim and x.is_floating_point())
        else x
        for x in format_inputs(inputs)
    ]
    return tensors[0] if isinstance(inputs, Tensor) else type(inputs)(tensors)


def _filled(x: Tensor, layout: Layout | None, centre: Centre, extent: float) -> Tensor:
    """With its lowest or highest value, for the model may refuse others."""
    x = x.detach().clone(memory_format=torch.contiguous_format)
    batch_size, size = input_sizes(x, layout)
    grid = x if layout is None else layout.arrange(x, batch_size, len(size))
    region = grid[:1]
    for axis, (position, length) in enumerate(zip(centre, size, strict=True), start=2):
        count = max(1, round(length * extent))
        start = min(max(0, round(position * length - count / 2)), length - count)
        region = region.narrow(axis, start, count)
    low, high = float(x.amin()), float(x.amax())
    if low == high:  # as of air in a scan
        low, high = min(low, 0), max(high, int(low == 0))
    region.fill_(high if float(region.float().mean()) <= (low + high) / 2 else low)
    return x


# ----------------------------------------------------------------------------- where it arrives


def _measuring(
    layers: Sequence[GridLayer],
    inputs: Any,
    input_layout: Layout | None,
    run: Callable[[Any, ChannelAxes], Trace],
) -> Callable[[Centre, float], Changes]:
    """What the layers change by if the inputs are filled around a centre, to an extent."""
    axes = {_key(each): _channel_axis(each) for each in layers}
    before = _sums(run(inputs, axes))

    def changes_at(centre: Centre, extent: float) -> Changes:
        after = _sums(run(_changed(inputs, input_layout, centre, extent), axes))
        return {
            key: [_scaled(a - b).square() for a, b in zip(sums, after[key], strict=True)]
            for key, sums in before.items()
            if key in after and [a.shape for a in sums] == [b.shape for b in after[key]]
        }

    return changes_at


def _sums(run: Trace) -> dict[Key, list[Tensor]]:
    return {(call.name, call.index): call.sums for call in run.calls}


def _unchanged(
    layers: Sequence[GridLayer],
    changes: Sequence[Changes],
    changes_at: Callable[[Centre, float], Changes],
    centre: Centre,
) -> set[Key]:
    """The layers that nothing changes, or only what lies elsewhere, as in a crop.

    Behind large strides, positions lie apart, and a small change may pass between them.
    """
    silent = [each for each in layers if not any(_is_changed(c, _key(each)) for c in changes)]
    if not silent:
        return set()
    wide, whole = changes_at(centre, _WIDE), changes_at((0.5,) * len(centre), 1.0)
    return {
        _key(each)
        for each in silent
        if not _is_changed(wide if min(each.grid) >= 1 / _WIDE else whole, _key(each))
    }


def _is_any_changed(changes: Changes) -> bool:
    return any(_is_changed(changes, key) for key in changes)


def _is_changed(changes: Changes, key: Key) -> bool:
    return any(bool(each.any()) for each in changes.get(key, ()))


def _scaled(x: Tensor) -> Tensor:
    """To at most 1: the squares of small numbers would be zero."""
    peak = x.abs().amax()
    return x / peak if peak > 0 else x


def _order(
    candidates: Sequence[GridLayer],
    changes: Sequence[list[Tensor]],
    centres: Sequence[Centre],
    default: int | None,
) -> int | None:
    """The number of the candidate whose positions are right; the default if none tells.

    None if the layer changes elsewhere in all of them.
    """
    votes = [_votes(candidate, changes, centres) for candidate in candidates]
    if default is not None and not _most(votes[default], False):
        return default
    return next((number for number, each in enumerate(votes) if _most(each, True)), None)


def _votes(
    layer: GridLayer, changes: Sequence[list[Tensor]], centres: Sequence[Centre]
) -> list[bool | None]:
    """Of each change, whether it is where the input was changed; None if it does not tell."""
    if _comes_last(layer, changes, centres):
        return [False] * len(changes)
    return [
        _is_at(_energy(layer, change), centre, layer)
        for change, centre in zip(changes, centres, strict=True)
    ]


def _comes_last(
    layer: GridLayer, changes: Sequence[list[Tensor]], centres: Sequence[Centre]
) -> bool:
    """Whether tokens in excess, which a layout drops before the grid, come after it."""
    excess = layer.call.shape[1] - prod(layer.grid)
    if not _has_tokens(layer) or excess <= 0:
        return False
    if not all(_number(change[-1].sum(dim=-1)) <= _MAX_PRECISE for change in changes):
        return False

    def misplaced(shift: int) -> float:
        """By how much all changes are misplaced in one direction, with the tokens rolled."""
        grids = [layer.arrange(change[-1].roll(shift, dims=1)).sum(dim=1)[0] for change in changes]
        centroids = torch.stack([_centroid(grid) for grid in grids])
        return float((centroids - torch.tensor(centres)).sum(dim=0).abs().sum())

    return misplaced(excess) < misplaced(0)


def _centroid(energy: Tensor) -> Tensor:
    """Its mean position along each axis, relative to the size."""
    return torch.stack([(x * _positions(x)).sum() / x.sum() for x in _marginals(energy)])


def _marginals(energy: Tensor) -> list[Tensor]:
    """The sums over all other axes, along each axis."""
    along = (energy.movedim(axis, 0) for axis in range(energy.ndim))
    return [x.reshape(len(x), -1).sum(dim=1).cpu() for x in along]


def _positions(along: Tensor) -> Tensor:
    """Of the cells along an axis, relative to its length."""
    return (torch.arange(len(along)) + 0.5) / len(along)


def _number(energy: Tensor) -> float:
    """How many entries change: as many as would if they changed alike."""
    return float(energy.sum().square() / energy.square().sum())


def _most(votes: Sequence[bool | None], answer: bool) -> bool:
    """Whether several votes, and more than for the contrary, give the answer."""
    return votes.count(answer) >= max(_MIN_VOTES, votes.count(not answer) + 1)


def _energy(layer: GridLayer, change: Sequence[Tensor]) -> Tensor:
    """The change at each position, (N, *S_k)."""
    calls = change if layer.layer.calls == "stack" else change[-1:]
    on_grids = [layer.arrange(each).sum(dim=1) for each in calls]
    return torch.stack(on_grids, dim=1) if layer.layer.calls == "stack" else on_grids[0]


def _is_at(energy: Tensor, centre: Centre, layer: GridLayer) -> bool | None:
    """Whether the change is around the centre; None if it spreads too far to tell."""
    total = energy.sum()
    if not total:
        return None
    if energy[0].sum() < _MIN_HIT * total:
        return False  # in other samples
    slack = 0.0 if _has_tokens(layer) else _SLACK
    is_spread = False
    for along, position in zip(_marginals(energy[0]), centre, strict=True):
        near = (_positions(along) - position).abs() <= _EXTENT / 2 + 0.5 / len(along) + slack
        if not _number(along) <= max(_MAX_SHARE * len(along), 1.5):
            is_spread = True
        elif along[near].sum() < _MIN_HIT * along.sum():
            return False
    return None if is_spread else True
