"""The metrics as :class:`torchmetrics.Metric`: accumulated, reset, moved and synchronised.

Each ``update`` takes what the pure function of its name takes, and adds to states that are summed
over processes. ``**kwargs`` are torchmetrics' own, which rejects those it does not know.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from captum_3dcam.metrics import overlap, pointing, temporal, wsol
from captum_3dcam.metrics._inputs import Boxes, check_box_format, check_truth, drop_channel


class _Score(Metric):
    """A metric that is better the higher it is."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False


class _MeanScore(_Score):
    """The mean over samples of a number or a bool each."""

    total: Tensor
    samples: Tensor

    def __init__(self, dtype: torch.dtype = torch.int64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=dtype), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, scores: Tensor) -> None:
        self.total += scores.sum().to(self.total)
        self.samples += len(scores)

    def compute(self) -> Tensor:
        """The mean over all samples so far, in [0, 1]."""
        return self.total / self.samples


class _BoxAccuracy(_Score):
    """Counts of what is correct at each δ and each threshold, the best of which is the score."""

    def __init__(self, iou_thresholds: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iou_thresholds = wsol.check_iou_thresholds(iou_thresholds)

    def _add_counts(self, name: str, thresholds: int) -> None:
        correct = torch.zeros(len(self.iou_thresholds), thresholds, dtype=torch.int64)
        self.add_state(f"{name}_correct", correct, dist_reduce_fx="sum")
        self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _count(self, name: str, ious: Tensor, threshold_selection: str = "dataset") -> None:
        """The IoUs (F, K) of one sample."""
        counts = wsol.count_correct(ious, self.iou_thresholds, threshold_selection)
        getattr(self, f"{name}_correct").add_(counts.to(self.device))
        getattr(self, name).add_(len(ious))

    def _best(self, name: str) -> Tensor:
        best: Tensor = getattr(self, f"{name}_correct").amax(dim=1) / getattr(self, name)
        return best


class MaxBoxAcc(_BoxAccuracy):
    """Localisation accuracy at the best threshold (Choe et al., CVPR 2020, arXiv 2001.07437).

    The defaults are the reference's V1; ``iou_thresholds=(0.3, 0.5, 0.7), multi_contour=True`` is
    its V2. With ``threshold_selection="dataset"`` one threshold τ serves all samples, as in the
    reference; with ``"per_sample"`` each has its own, which is never lower and not comparable.

    Args:
        iou_thresholds: the δ that an IoU must reach.
        multi_contour: take the best box of all contours, holes too, instead of the largest's.
        threshold_selection: ``"dataset"`` or ``"per_sample"``.
        interval: the step between thresholds.
        box_format: of the true boxes: ``"xyxy_inclusive"``, the reference's, or ``"xyxy"``.

    ``update(maps, boxes)`` takes maps (N, H, W) or (N, 1, H, W) and a list of N tensors (B_i, 4).

    >>> metric = MaxBoxAcc()
    >>> metric.update(torch.eye(4)[None], [torch.tensor([[0, 0, 3, 3]])])
    >>> metric.compute()
    {'max_box_acc': tensor(1.), 'per_iou': [tensor(1.)],
     'protocol': 'MaxBoxAcc V1: largest contour, IoU 0.5, one threshold for the dataset'}
    """

    def __init__(
        self,
        iou_thresholds: Sequence[float] = (0.5,),
        multi_contour: bool = False,
        threshold_selection: str = "dataset",
        *,
        interval: float = 0.01,
        box_format: str = "xyxy_inclusive",
        **kwargs: Any,
    ) -> None:
        super().__init__(iou_thresholds, **kwargs)
        self.multi_contour = multi_contour
        self.threshold_selection = wsol.check_threshold_selection(threshold_selection)
        self.interval = interval
        self.box_format = check_box_format(box_format)
        chosen = len(wsol.cam_thresholds(interval)) if threshold_selection == "dataset" else 1
        self._add_counts("samples", chosen)

    def update(self, maps: Tensor, boxes: Boxes) -> None:
        """Count maps (N, H, W) or (N, 1, H, W) with their true boxes, N tensors (B_i, 4)."""
        thresholds = wsol.cam_thresholds(self.interval)
        ious = wsol.scoremap_ious(maps, boxes, thresholds, self.multi_contour, self.box_format)
        for row in ious:
            self._count("samples", row[None], self.threshold_selection)

    def compute(self) -> dict[str, Any]:
        """``max_box_acc``, the mean over δ, in [0, 1]; ``per_iou``, one value a δ; ``protocol``."""
        per_iou = self._best("samples")
        return {
            "max_box_acc": per_iou.mean(),
            "per_iou": list(per_iou),
            "protocol": wsol.protocol_name(
                self.iou_thresholds, self.multi_contour, self.threshold_selection
            ),
        }


class MaxBoxAcc3D(_BoxAccuracy):
    """:class:`MaxBoxAcc` over clips with a box a frame: accuracy over frames, and over tubes.

    A clip is normalised and thresholded as a whole; a frame's box is that of its largest contour.
    Frames are counted where the truth has a box; tubes are held together by
    :func:`~captum_3dcam.metrics.overlap.tube_iou`. Frames and tubes each have their own best τ,
    one for the dataset or one a clip. With clips of one frame, of maps that are not constant, the
    frames' score is MaxBoxAcc's.

    ``update(maps, boxes)`` takes maps (N, T, H, W) or (N, 1, T, H, W) and a list of N tensors
    (T, 4), or (B_i, T, 4) for several tubes; NaN where a tube is absent.

    >>> metric = MaxBoxAcc3D()
    >>> metric.update(torch.eye(4).expand(1, 2, 4, 4), [torch.tensor([[0, 0, 3, 3], [0, 0, 1, 1]])])
    >>> found = metric.compute()
    >>> found["frame_acc"], found["tube_acc"]
    (tensor(0.5000), tensor(1.))
    >>> found["protocol"]
    'MaxBoxAcc of clips: largest contour of each frame, IoU 0.5, one threshold for the dataset'
    """

    def __init__(
        self,
        iou_thresholds: Sequence[float] = (0.5,),
        threshold_selection: str = "dataset",
        *,
        interval: float = 0.01,
        box_format: str = "xyxy_inclusive",
        **kwargs: Any,
    ) -> None:
        super().__init__(iou_thresholds, **kwargs)
        self.threshold_selection = wsol.check_threshold_selection(threshold_selection)
        self.interval = interval
        self.box_format = check_box_format(box_format)
        chosen = len(wsol.cam_thresholds(interval)) if threshold_selection == "dataset" else 1
        self._add_counts("frames", chosen)
        self._add_counts("tubes", chosen)

    def update(self, maps: Tensor, boxes: Boxes) -> None:
        """Count clips (N, T, H, W) or (N, 1, T, H, W) with their boxes, N tensors (T, 4)."""
        maps = drop_channel(maps, rank=3)
        if len(maps) != len(boxes):
            raise ValueError(
                f"Expected true boxes (T, 4) for each of {len(maps)} clips; got {len(boxes)}."
            )
        thresholds = wsol.cam_thresholds(self.interval)
        found = [
            wsol.clip_ious(clip, truth, thresholds, self.box_format)
            for clip, truth in zip(maps, boxes, strict=True)
        ]
        for frames, tube in found:
            self._count("frames", frames, self.threshold_selection)
            self._count("tubes", tube, self.threshold_selection)

    def compute(self) -> dict[str, Any]:
        """``frame_acc`` and ``tube_acc``, means over δ; each ``_per_iou``; ``protocol``."""
        frames, tubes = self._best("frames"), self._best("tubes")
        return {
            "frame_acc": frames.mean(),
            "frame_per_iou": list(frames),
            "tube_acc": tubes.mean(),
            "tube_per_iou": list(tubes),
            "protocol": wsol.clip_protocol_name(self.iou_thresholds, self.threshold_selection),
        }


class BoxAccuracy(_BoxAccuracy):
    """The fraction of samples with a predicted box of IoU >= δ with a true one.

    ``update(predicted, truth)`` takes N tensors (P_i, 2D), or one tensor (N, 2D), and a list of N
    tensors (B_i, 2D), all in ``box_format``.

    >>> metric = BoxAccuracy((0.5, 0.7))
    >>> metric.update(torch.tensor([[0, 0, 2, 2]]), [torch.tensor([[0, 0, 4, 2]])])
    >>> metric.compute()
    {'box_accuracy': tensor(0.5000), 'per_iou': [tensor(1.), tensor(0.)]}
    """

    def __init__(
        self, iou_thresholds: Sequence[float] = (0.5,), *, box_format: str = "xyxy", **kwargs: Any
    ) -> None:
        super().__init__(iou_thresholds, **kwargs)
        self.box_format = check_box_format(box_format)
        self._add_counts("samples", 1)

    def update(self, predicted: Boxes | Tensor, truth: Boxes) -> None:
        """Count each sample's best pair of boxes."""
        self._count("samples", overlap.best_iou(predicted, truth, self.box_format)[:, None])

    def compute(self) -> dict[str, Any]:
        """``box_accuracy``, the mean over δ, in [0, 1]; and ``per_iou``, one value a δ."""
        per_iou = self._best("samples")
        return {"box_accuracy": per_iou.mean(), "per_iou": list(per_iou)}


class PxAP(_Score):
    """Pixel average precision over the dataset (Choe et al., CVPR 2020, eq. 4).

    ``update(maps, masks, ignore=None)`` is as :func:`~captum_3dcam.metrics.wsol.px_ap`.

    >>> metric = PxAP()
    >>> maps = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    >>> metric.update(maps, torch.tensor([[[False, True], [False, True]]]))
    >>> metric.compute()
    tensor(0.8333)
    """

    counts: Tensor

    def __init__(self, *, interval: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.interval = interval
        bins = len(wsol.cam_thresholds(interval)) + 1
        self.add_state("counts", torch.zeros(2, bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Count the pixels of maps (N, *S) inside and outside the bool masks, by score."""
        self.counts += wsol.px_ap_counts(maps, masks, ignore, self.interval).to(self.device)

    def compute(self) -> Tensor:
        """PxAP in [0, 1]."""
        return wsol.px_ap_from_counts(self.counts).float().to(self.device)


class HitPoint(_MeanScore):
    """The fraction of maps that point at a true box; see
    :func:`~captum_3dcam.metrics.pointing.hit_point` for the modes and options.

    ``update(maps, boxes)`` takes maps (N, *S) or (N, 1, *S) and a list of N tensors (B_i, 2D).

    >>> metric = HitPoint("argmax", tolerance=0)
    >>> metric.update(torch.eye(3)[None].cumsum(1), [torch.tensor([[0, 0, 1, 1]])])
    >>> metric.compute()
    tensor(1.)
    """

    def __init__(
        self,
        mode: str = "argmax",
        *,
        tolerance: float | None = None,
        threshold: float | None = None,
        box_format: str = "xyxy",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        pointing.check_hit_options(mode, tolerance, threshold)
        self.mode, self.tolerance, self.threshold = mode, tolerance, threshold
        self.box_format = check_box_format(box_format)

    def update(self, maps: Tensor, boxes: Boxes) -> None:
        """Count the maps (N, *S) that hit one of their true boxes, N tensors (B_i, 2D)."""
        self._add(
            pointing.hit_point(
                maps,
                boxes,
                self.mode,
                tolerance=self.tolerance,
                threshold=self.threshold,
                box_format=self.box_format,
            )
        )


class TemporalHit(_MeanScore):
    """The fraction of temporal profiles (N, T) that are highest within a true segment.

    ``update(profiles, segments)`` is as :func:`~captum_3dcam.metrics.temporal.temporal_hit`.
    """

    def __init__(self, *, tolerance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pointing.check_hit_options("argmax", tolerance, None)
        self.tolerance = tolerance

    def update(self, profiles: Tensor, segments: Boxes) -> None:
        """Count the profiles (N, T) with their segments, N tensors (B_i, 2)."""
        self._add(temporal.temporal_hit(profiles, segments, self.tolerance))


class Acc2(_MeanScore):
    """The fraction of all samples with both a hit and the right class.

    ``update(hits, correct)`` takes two bool tensors (N,).
    """

    def update(self, hits: Tensor, correct: Tensor) -> None:
        """Count the samples with both."""
        self._add(pointing.hit_and_correct(hits, correct))


class EnergyInside(_MeanScore):
    """The mean share of a map's positive part that lies inside the truth, (0 for a zero map).

    ``update(maps, truth)`` takes maps (N, *S) or (N, 1, *S), of any rank, and either bool masks
    of their shape or a list of N tensors (B_i, 2D) in ``box_format``.

    >>> metric = EnergyInside()
    >>> metric.update(torch.tensor([[[1.0, 3.0]]]), [torch.tensor([[1, 0, 2, 1]])])
    >>> metric.compute()
    tensor(0.7500, dtype=torch.float64)
    """

    def __init__(self, *, box_format: str = "xyxy", **kwargs: Any) -> None:
        super().__init__(dtype=torch.float64, **kwargs)
        self.box_format = check_box_format(box_format)

    def update(self, maps: Tensor, truth: Tensor | Boxes) -> None:
        """Add the shares of maps inside masks (N, *S), or inside N tensors of boxes."""
        if not isinstance(truth, Tensor):
            check_truth(truth, len(maps))
            maps = drop_channel(maps, truth[0].shape[-1] // 2) if len(maps) else maps
            size = tuple(maps.shape[1:])
            masks = [pointing.boxes_to_mask(boxes, size, self.box_format) for boxes in truth]
            truth = torch.stack(masks).to(maps.device)
        self._add(pointing.energy_inside(maps, truth))


class TubeIoU(_MeanScore):
    """The mean IoU of tubes: ``update(predicted, truth)``, N tensors (T, 4) or (B_i, T, 4) each.

    Of several tubes in a clip the best pair counts. NaN where a tube is absent; in ``box_format``.

    >>> metric = TubeIoU()
    >>> tube = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    >>> metric.update([tube], [tube * torch.tensor([[1.0], [torch.nan]])])
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    def __init__(self, *, box_format: str = "xyxy", **kwargs: Any) -> None:
        super().__init__(dtype=torch.float64, **kwargs)
        self.box_format = check_box_format(box_format)

    def update(self, predicted: Boxes, truth: Boxes) -> None:
        """Add each clip's best IoU."""
        self._add(overlap.best_tube_iou(predicted, truth, self.box_format))


class TemporalMAP(_Score):
    """Temporal mAP at tIoU, in ActivityNet's protocol.

    ``update(predicted, truth)`` takes a list of videos each, as
    :func:`~captum_3dcam.metrics.temporal.temporal_average_precision` does. Precision needs all
    detections at once, so they are kept, in the metric's dtype (float32, or ``set_dtype``).

    >>> metric = TemporalMAP()
    >>> truth = {"segments": torch.tensor([[0, 4], [6, 9]]), "labels": torch.tensor([0, 1])}
    >>> metric.update([truth | {"scores": torch.tensor([0.9, 0.8])}], [truth])
    >>> metric.compute()
    {'map': tensor(1.), 'per_tiou': [tensor(1.)]}
    """

    rows: list[Tensor]
    sizes: list[Tensor]

    def __init__(self, tiou_thresholds: Sequence[float] = (0.5,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tiou_thresholds = wsol.check_iou_thresholds(tiou_thresholds)
        # One axis each: torchmetrics gathers what a process without data has as shape (0,).
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("sizes", [], dist_reduce_fx="cat")

    def update(
        self, predicted: Sequence[temporal.Detections], truth: Sequence[temporal.Detections]
    ) -> None:
        """Keep the detections and true segments of some videos."""
        temporal.check_detections(predicted, truth)
        for found, true in zip(predicted, truth, strict=True):
            for video in (found, true):
                scores = video.get("scores", torch.zeros(len(video["labels"])))
                columns = (video["segments"], scores[:, None], video["labels"][:, None])
                rows = torch.cat([column.to(self.device, self.dtype) for column in columns], dim=1)
                self.rows.append(rows.flatten())
                self.sizes.append(torch.tensor([len(rows)], dtype=self.dtype, device=self.device))

    def compute(self) -> dict[str, Any]:
        """``map``, the mean over tIoU thresholds, in [0, 1]; and ``per_tiou``, one value a tIoU."""
        rows = dim_zero_cat(self.rows).reshape(-1, 4).cpu()
        parts = [
            {"segments": part[:, :2], "scores": part[:, 2], "labels": part[:, 3]}
            for part in rows.split(dim_zero_cat(self.sizes).long().tolist())
        ]
        found = temporal.temporal_map(parts[::2], parts[1::2], self.tiou_thresholds)
        per_tiou = found.float().to(self.device)
        return {"map": per_tiou.mean(), "per_tiou": list(per_tiou)}
