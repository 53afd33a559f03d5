"""Does a map rank the pixels of the ground truth first? No monotone change of it matters."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_3dcam.metrics._inputs import check_masks


def pixel_average_precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Average precision of each map's pixels as scores of being inside: (N,), in [0, 1].

    Σ_v (R_v - R_{v+}) P_v over the distinct values v of a map, v+ the next higher one: P_v and R_v
    are precision and recall of the pixels with values >= v, as in scikit-learn's
    ``average_precision_score``. A constant map has the share of pixels inside, which is chance. A
    map with NaN or Inf, and a mask without a pixel, have 0.

    Unlike :func:`px_ap` it neither quantises the maps nor joins the pixels of several samples.

    Takes maps (N, *S) and bool masks of their shape; for boxes see :func:`boxes_to_mask`. Raises
    ValueError for others. In float64.

    >>> maps = torch.tensor([[0.9, 0.7, 0.7, 0.1]])
    >>> masks = torch.tensor([[True, True, False, False]])
    >>> pixel_average_precision(maps, masks)  # (1 + 2 / 3) / 2
    tensor([0.8333], dtype=torch.float64)
    """
    check_masks(maps, masks)
    values, inside = _by_falling_value(maps, masks)
    hits = inside.double().cumsum(dim=1)
    rank = torch.arange(1, values.shape[1] + 1, device=values.device)
    # Pixels of equal values are taken together: the precision is that at the last of them.
    is_last = pad(values[:, 1:] != values[:, :-1], (0, 1), value=True)
    last = torch.where(is_last, rank - 1, values.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    precision = (hits / rank).gather(1, last)
    return _defined((precision * inside).sum(dim=1) / hits[:, -1].clamp(min=1), maps)


def relevance_rank_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of the K highest pixels that are inside, K the size of the mask: (N,), in [0, 1].

    |top K ∩ mask| / K (Arras et al., 2022, arXiv 2003.07258). Of pixels that are equal at the K-th
    value, each counts in part, so that their order does not matter: a constant map has the share of
    pixels inside. A map with NaN or Inf, and a mask without a pixel, have 0.

    Takes maps (N, *S) and bool masks of their shape; for boxes see :func:`boxes_to_mask`. Raises
    ValueError for others. In float64.

    >>> masks = torch.tensor([[True, True, False, False]])
    >>> relevance_rank_accuracy(torch.tensor([[0.9, 0.2, 0.7, 0.1]]), masks)
    tensor([0.5000], dtype=torch.float64)
    """
    check_masks(maps, masks)
    values, inside = _by_falling_value(maps, masks)
    size = inside.sum(dim=1, keepdim=True)
    lowest = values.gather(1, (size - 1).clamp(min=0))
    above, equal = values > lowest, values == lowest
    open_ranks = size - above.sum(dim=1, keepdim=True)
    share = open_ranks.double() / equal.sum(dim=1, keepdim=True).clamp(min=1)  # NaN equals nothing
    hits = (above & inside).sum(dim=1) + share[:, 0] * (equal & inside).sum(dim=1)
    return _defined(hits / size[:, 0].clamp(min=1), maps)


def _by_falling_value(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The values of each map in descending order, and whether each is inside: (N, V) twice."""
    maps = maps.detach().byte() if maps.dtype == torch.bool else maps.detach()
    values, order = maps.flatten(1).sort(dim=1, descending=True)
    return values, masks.to(maps.device).flatten(1).gather(1, order)


def _defined(scores: Tensor, maps: Tensor) -> Tensor:
    """The scores in float64, 0 for maps with NaN or Inf."""
    return torch.where(maps.isfinite().flatten(1).all(dim=1), scores.double(), 0)
