"""Does a map point at the truth: hit points, and the energy inside the truth."""

from collections.abc import Callable

import torch
from torch import Tensor

from captum_3dcam.metrics._inputs import Boxes, check_truth, drop_channel, to_exclusive

Region = tuple[Tensor, Tensor]


def hit_point(
    maps: Tensor,
    boxes: Boxes,
    mode: str = "argmax",
    *,
    tolerance: float | None = None,
    threshold: float | None = None,
    box_format: str = "xyxy",
) -> Tensor:
    """Whether each map points at one of its true boxes: bool (N,).

    ``"argmax"`` is the pointing game (Zhang et al., 2018, doi 10.1007/s11263-017-1059-x): the
    map's highest pixel, the first of equals, lies in a true box, or is less than ``tolerance``
    from a pixel of it (Euclidean; 15 by default). ``"intersect"``: the box around all pixels
    above ``threshold`` times the map's maximum (0.5 by default) shares a pixel with a true box.

    A constant map points at nothing, nor does one without a positive value or with NaN or Inf:
    no hit. A pixel is in a box if its centre is.

    Args:
        maps: (N, *S) or (N, 1, *S), with as many axes as the boxes have. Over the space-time of
            clips (T, H, W) a box is (x0, y0, t0, x1, y1, t1); per frame, frames are samples.
        boxes: N tensors (B_i, 2D).
        mode: ``"argmax"`` or ``"intersect"``.
        tolerance: pixels, only with ``"argmax"``.
        threshold: in [0, 1), only with ``"intersect"``.
        box_format: ``"xyxy"`` or ``"xyxy_inclusive"``.

    Raises:
        ValueError: for an unknown mode, an option of the other mode, and shapes that do not fit.

    >>> maps = torch.zeros(1, 40, 40)
    >>> maps[0, 5, 20] = 1  # y, x
    >>> truth = [torch.tensor([[0, 0, 10, 10]])]  # its last x is 9: 11 away
    >>> hit_point(maps, truth), hit_point(maps, truth, tolerance=11)
    (tensor([True]), tensor([False]))
    >>> hit_point(maps, truth, "intersect")
    tensor([False])
    """
    tolerance, threshold = check_hit_options(mode, tolerance, threshold)
    check_truth(boxes, len(maps))
    if not len(boxes):
        return torch.zeros(0, dtype=torch.bool)
    maps = drop_channel(maps, rank=boxes[0].shape[-1] // 2)
    hits = []
    for number, (one, truth) in enumerate(zip(maps, boxes, strict=True)):
        if truth.shape[-1] != 2 * one.ndim:
            raise ValueError(
                f"Sample {number} has boxes of shape {tuple(truth.shape)}; a map of shape "
                f"{tuple(one.shape)} needs {2 * one.ndim} bounds a box."
            )
        true_boxes = to_exclusive(truth.to(one.device), box_format)
        region = _MODES[mode](one, threshold) if _points(one) else None
        hits.append(region is not None and _near(region, true_boxes, tolerance))
    return torch.tensor(hits)


def _points(one: Tensor) -> bool:
    return bool(one.isfinite().all() and one.amax() > one.amin() and one.amax() > 0)


def _highest(one: Tensor, threshold: float) -> Region:
    # Bounds are x, y, t: the axes from the last to the first.
    point = torch.stack(torch.unravel_index(one.argmax(), one.shape)).flip(0)
    return point, point


def _above(one: Tensor, threshold: float) -> Region:
    places = (one > threshold * one.amax()).nonzero().flip(1)
    return places.amin(dim=0), places.amax(dim=0)


def _near(region: Region, boxes: Tensor, tolerance: float) -> bool:
    """Whether a region's box of pixels (first, last) meets a box, or is nearer than that."""
    first, last = region
    low, high = (boxes - 0.5).ceil().chunk(2, dim=-1)
    apart = torch.maximum(low - last, first - (high - 1)).clamp(min=0)
    distance = torch.linalg.vector_norm(apart, dim=-1)
    has_pixels = (high > low).all(dim=-1)
    return bool((has_pixels & ((distance == 0) | (distance < tolerance))).any())


_MODES: dict[str, Callable[[Tensor, float], Region]] = {"intersect": _above, "argmax": _highest}
HIT_MODES = tuple(_MODES)


def check_hit_options(
    mode: str, tolerance: float | None, threshold: float | None
) -> tuple[float, float]:
    """The tolerance and threshold that :func:`hit_point` goes by, or a ValueError."""
    if mode not in _MODES:
        raise ValueError(
            f"mode={mode!r} is not known. Choose one of {', '.join(map(repr, HIT_MODES))}."
        )
    options = {"intersect": ("tolerance", tolerance), "argmax": ("threshold", threshold)}
    name, given = options[mode]
    if given is not None:
        raise ValueError(f"{name}={given!r} has no meaning for mode={mode!r}. Leave it out.")
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance!r} is not a distance in pixels, 0 or more.")
    if threshold is not None and not 0 <= threshold < 1:
        raise ValueError(
            f"threshold={threshold!r} is not in [0, 1), a fraction of the map's maximum."
        )
    default_tolerance = 15.0 if mode == "argmax" else 0.0
    return (
        default_tolerance if tolerance is None else tolerance,
        0.5 if threshold is None else threshold,
    )


def boxes_to_mask(boxes: Tensor, size: tuple[int, ...], box_format: str = "xyxy") -> Tensor:
    """The union of boxes (B, 2D) as a mask of ``size`` (..., H, W): pixels with centres inside.

    Raises ValueError if the boxes have another number of dimensions.

    >>> boxes_to_mask(torch.tensor([[1, 0, 3, 1]]), (2, 4)).int()
    tensor([[0, 1, 1, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    if boxes.ndim != 2 or boxes.shape[1] != 2 * len(size):
        raise ValueError(
            f"A mask of size {tuple(size)} needs boxes (B, {2 * len(size)}); got "
            f"{tuple(boxes.shape)}."
        )
    low, high = to_exclusive(boxes, box_format).chunk(2, dim=-1)
    mask = torch.ones(len(boxes), *[1] * len(size), dtype=torch.bool, device=boxes.device)
    for axis, length in enumerate(size):
        centres = torch.arange(length, device=boxes.device) + 0.5
        bound = len(size) - 1 - axis  # x, the last axis, has the first bound
        along = (centres >= low[:, bound, None]) & (centres < high[:, bound, None])
        mask = mask & along.reshape(-1, *[1] * axis, length, *[1] * bound)
    return mask.any(dim=0)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's positive part that lies inside the truth: (N,), in [0, 1].

    Σ_inside relu(map) / Σ relu(map), in float64: the energy-based pointing game (Wang et al.,
    Score-CAM, 2020, arXiv 1910.01279). A map without a positive value, or with NaN or Inf, has 0.

    Args:
        maps: (N, *S), of any rank.
        masks: the truth, bool, of the maps' shape; of boxes see :func:`boxes_to_mask`.

    Raises:
        ValueError: for masks of another shape or dtype.

    >>> energy_inside(torch.tensor([[1.0, -5.0, 3.0]]), torch.tensor([[True, True, False]]))
    tensor([0.2500], dtype=torch.float64)
    """
    if masks.shape != maps.shape or masks.dtype != torch.bool or maps.ndim < 2:
        raise ValueError(
            f"energy_inside expects maps (N, *S) and bool masks of the same shape; got maps "
            f"{tuple(maps.shape)} and masks {tuple(masks.shape)} of {masks.dtype}. For boxes use "
            "boxes_to_mask; compare other masks: > 0."
        )
    positive = maps.detach().double().relu().flatten(1)
    finite = maps.isfinite().flatten(1).all(dim=1)
    total = positive.sum(dim=1)
    inside = torch.where(masks.flatten(1), positive, 0).sum(dim=1)
    return torch.where(finite & (total > 0), inside / total, 0)


def acc2(hits: Tensor, correct: Tensor) -> Tensor:
    """Acc2: the fraction of all samples with both a hit and the right class, in [0, 1].

    Args:
        hits: bool (N,), as of :func:`hit_point`.
        correct: bool (N,), whether the model's class was right.

    Raises:
        ValueError: for tensors that are not bool (N,), or differ in length.

    >>> acc2(torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False]))
    tensor(0.2500)
    """
    return hit_and_correct(hits, correct).float().mean()


def hit_and_correct(hits: Tensor, correct: Tensor) -> Tensor:
    """Each sample's hit, if its class was right too: bool (N,)."""
    if hits.shape != correct.shape or hits.ndim != 1 or {hits.dtype, correct.dtype} != {torch.bool}:
        raise ValueError(
            f"Acc2 expects hits and correct, both bool (N,); got {tuple(hits.shape)} of "
            f"{hits.dtype} and {tuple(correct.shape)} of {correct.dtype}. The second is "
            "predicted == labels."
        )
    return hits & correct.to(hits.device)
