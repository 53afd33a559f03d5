"""The metrics as :class:`torchmetrics.Metric`: accumulated, reset, moved and synchronised.

``update`` takes what the pure function of the metric takes, and adds to states that are summed
over processes. ``**kwargs`` are torchmetrics' own, which rejects unknown ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from captum_3dcam._validation import check_choice, check_flag, check_sequence
from captum_3dcam.metrics import overlap, pointing, ranking, temporal, wsol
from captum_3dcam.metrics._inputs import (
    BOX_FORMATS,
    check_boxes,
    check_iou_thresholds,
    check_samples,
    drop_channel,
)


class _Score(Metric):
    """A metric in [0, 1] that is better the higher it is."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    thresholds: tuple[float, ...] = ()
    """Those of the lists in the result."""

    def _add_count(self, name: str, *shape: int, dtype: torch.dtype = torch.int64) -> None:
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def plot(self, val: Any = None, ax: Any = None) -> tuple[Any, Any]:
        """Draw a result as a point, or several over time as a line, as torchmetrics does.

        Of a result with several scores, each has a point or line of its own, named in the legend;
        those at several thresholds too.

        Args:
            val: a result of ``compute`` or ``forward``, or a list of them; by default
                ``compute()``.
            ax: Matplotlib axes to draw on, by default those of a new pyplot figure.

        Returns the figure and the axes.

        >>> from matplotlib.figure import Figure
        >>> metric = EnergyInside()
        >>> maps, boxes = torch.eye(4)[None], [torch.tensor([[0, 0, 2, 4]])]
        >>> values = [metric(maps, boxes) for _ in range(3)]
        >>> fig, ax = metric.plot(values, Figure().subplots())
        >>> ax.get_ylabel()
        'EnergyInside'
        """
        result = self.compute() if val is None else val
        is_series = isinstance(result, (list, tuple))
        if is_series and not result:
            raise ValueError("plot: val is an empty list. Pass results of compute() or forward().")
        shown = [self._shown(each) for each in result] if is_series else self._shown(result)
        fig, ax = self._plot(shown, ax)
        return fig or ax.figure, ax

    def _shown(self, result: Any) -> Any:
        """A number, or those of a dict by their labels: a list has one for each threshold."""
        if not isinstance(result, dict):
            return result
        numbers = {}
        for name, value in result.items():
            label = name.replace("_", " ")
            if isinstance(value, Tensor):
                numbers[label] = value
            elif isinstance(value, list) and len(value) > 1:  # else it is the mean
                kind = label.replace("per ", "").replace("iou", "IoU")
                labels = (f"{kind} {threshold}" for threshold in self.thresholds)
                numbers.update(zip(labels, value, strict=True))
        return numbers


class _MeanScore(_Score):
    """The mean of a number or bool per sample."""

    total: Tensor
    samples: Tensor

    def __init__(self, dtype: torch.dtype = torch.int64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_count("total", dtype=dtype)
        self._add_count("samples")

    def _add(self, scores: Tensor) -> None:
        self.total += scores.sum().to(self.total)
        self.samples += len(scores)

    def compute(self) -> Tensor:
        """The mean over all samples so far, in [0, 1]."""
        return self.total / self.samples


class _BestThreshold(_Score):
    """The accuracy at each IoU threshold δ, at the map threshold τ that is best for it."""

    counted: tuple[str, ...] = ("samples",)

    def __init__(
        self,
        iou_thresholds: Sequence[float] = (0.5,),
        threshold_selection: str = "dataset",
        *,
        interval: float = 0.01,
        box_format: str = "xyxy_inclusive",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("threshold_selection", threshold_selection, wsol.THRESHOLD_SELECTIONS)
        check_choice("box_format", box_format, BOX_FORMATS)
        self.iou_thresholds = self.thresholds = check_iou_thresholds(iou_thresholds)
        self.threshold_selection = threshold_selection
        self.cam_thresholds = wsol.cam_thresholds(interval)
        self.box_format = box_format
        selected = len(self.cam_thresholds) if threshold_selection == "dataset" else 1
        for name in self.counted:
            self._add_count(f"{name}_correct", len(self.iou_thresholds), selected)
            self._add_count(name)

    def _count(self, name: str, ious: Tensor) -> None:
        """Add the IoUs (F, K) of one sample: an image, or the frames of a clip."""
        correct = wsol.count_correct(ious, self.iou_thresholds)
        if self.threshold_selection == "per_sample":
            correct = correct.amax(dim=1, keepdim=True)
        getattr(self, f"{name}_correct").add_(correct.to(self.device))
        getattr(self, name).add_(len(ious))

    def _accuracy(self, name: str) -> Tensor:
        """At the best threshold, for each δ: (D,)."""
        best: Tensor = getattr(self, f"{name}_correct").amax(dim=1) / getattr(self, name)
        return best


class MaxBoxAcc(_BestThreshold):
    """Localisation accuracy at the best threshold (Choe et al., CVPR 2020, arXiv 2001.07437).

    The defaults are the reference's V1; ``iou_thresholds=(0.3, 0.5, 0.7), multi_contour=True`` is
    its V2. With ``threshold_selection="dataset"`` one threshold τ serves all samples, as in the
    reference; with ``"per_sample"`` each has its own, which is never lower and not comparable.

    Args:
        iou_thresholds: the IoU thresholds δ.
        multi_contour: take the best box of all contours, holes too, instead of the largest's.
        threshold_selection: ``"dataset"`` or ``"per_sample"``.
        interval: the step between thresholds.
        box_format: of the ground truth: ``"xyxy_inclusive"``, the reference's, or ``"xyxy"``.

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
        super().__init__(
            iou_thresholds, threshold_selection, interval=interval, box_format=box_format, **kwargs
        )
        check_flag("multi_contour", multi_contour)
        self.multi_contour = multi_contour

    def update(self, maps: Tensor, boxes: Sequence[Tensor]) -> None:
        """Add maps (N, H, W) or (N, 1, H, W) and their boxes, N tensors (B_i, 4)."""
        options = self.cam_thresholds, self.multi_contour, self.box_format
        for ious in wsol.scoremap_ious(maps, boxes, *options):
            self._count("samples", ious[None])

    def compute(self) -> dict[str, Any]:
        """``max_box_acc``, the mean over δ, in [0, 1]; ``per_iou``, one for each; ``protocol``."""
        accuracy = self._accuracy("samples")
        protocol = wsol.protocol_name(
            self.iou_thresholds, self.threshold_selection, self.multi_contour
        )
        return {"max_box_acc": accuracy.mean(), "per_iou": list(accuracy), "protocol": protocol}


class MaxBoxAcc3D(_BestThreshold):
    """:class:`MaxBoxAcc` over clips with a box per frame: accuracy over frames, and over tubes.

    A clip is normalised and thresholded as a whole; a frame's box is that of its largest contour.
    Frames without a ground-truth box do not count; tubes are compared by
    :func:`~captum_3dcam.metrics.tube_iou`. Frames and tubes each have their own best τ, one for
    the dataset or one per clip. On clips of one frame, of maps that are not constant, the frames'
    accuracy is MaxBoxAcc's. Options as for :class:`MaxBoxAcc`.

    >>> metric = MaxBoxAcc3D()
    >>> metric.update(torch.eye(4).expand(1, 2, 4, 4), [torch.tensor([[0, 0, 3, 3], [0, 0, 1, 1]])])
    >>> result = metric.compute()
    >>> result["frame_acc"], result["tube_acc"]
    (tensor(0.5000), tensor(1.))
    >>> result["protocol"]
    'MaxBoxAcc of clips: largest contour of each frame, IoU 0.5, one threshold for the dataset'
    """

    counted = ("frames", "tubes")

    def update(self, maps: Tensor, boxes: Sequence[Tensor]) -> None:
        """Add clips (N, T, H, W) or (N, 1, T, H, W) and their boxes, as in :func:`clip_ious`."""
        maps = drop_channel(maps, rank=3)
        check_sequence("boxes", boxes, of="tensors (T, 4), one per clip")
        if len(maps) != len(boxes):
            raise ValueError(
                f"Expected ground-truth boxes (T, 4) for each of {len(maps)} clips; received "
                f"{len(boxes)}."
            )
        ious = [
            wsol.clip_ious(clip, tubes, self.cam_thresholds, self.box_format)
            for clip, tubes in zip(maps, boxes, strict=True)
        ]
        for frames, tube in ious:
            self._count("frames", frames)
            self._count("tubes", tube)

    def compute(self) -> dict[str, Any]:
        """``frame_acc`` and ``tube_acc``, means over δ; each ``_per_iou``; ``protocol``."""
        frames, tubes = self._accuracy("frames"), self._accuracy("tubes")
        return {
            "frame_acc": frames.mean(),
            "frame_per_iou": list(frames),
            "tube_acc": tubes.mean(),
            "tube_per_iou": list(tubes),
            "protocol": wsol.protocol_name(
                self.iou_thresholds, self.threshold_selection, clips=True
            ),
        }


class BoxAccuracy(_BestThreshold):
    """The fraction of samples whose :func:`~captum_3dcam.metrics.best_iou` is >= δ."""

    def __init__(
        self, iou_thresholds: Sequence[float] = (0.5,), *, box_format: str = "xyxy", **kwargs: Any
    ) -> None:
        super().__init__(iou_thresholds, interval=1.0, box_format=box_format, **kwargs)

    def update(self, preds: Sequence[Tensor] | Tensor, target: Sequence[Tensor]) -> None:
        """Add N tensors (P_i, 2D), or one tensor (N, 2D), and N tensors (B_i, 2D)."""
        self._count("samples", overlap.best_iou(preds, target, self.box_format)[:, None])

    def compute(self) -> dict[str, Any]:
        """``box_accuracy``, the mean over δ, in [0, 1]; and ``per_iou``, one for each."""
        accuracy = self._accuracy("samples")
        return {"box_accuracy": accuracy.mean(), "per_iou": list(accuracy)}


class PxAP(_Score):
    """:func:`~captum_3dcam.metrics.px_ap` over the dataset."""

    counts: Tensor

    def __init__(self, *, interval: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.interval = interval
        self._add_count("counts", 2, len(wsol.cam_thresholds(interval)) + 1)

    def update(self, maps: Tensor, masks: Tensor, ignore: Tensor | None = None) -> None:
        """Add maps (N, *S) and bool masks of their shape, as in :func:`px_ap`."""
        self.counts += wsol.px_ap_counts(maps, masks, ignore, self.interval).to(self.device)

    def compute(self) -> Tensor:
        """PxAP in [0, 1]."""
        return wsol.px_ap_from_counts(self.counts).float().to(self.device)


class HitPoint(_MeanScore):
    """The fraction of maps with a :func:`~captum_3dcam.metrics.hit_point`; its options."""

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
        check_choice("box_format", box_format, BOX_FORMATS)
        self.mode, self.box_format = mode, box_format
        self.tolerance, self.threshold = tolerance, threshold

    def update(self, maps: Tensor, boxes: Sequence[Tensor]) -> None:
        """Add maps (N, *S) or (N, 1, *S) and their boxes, N tensors (B_i, 2D)."""
        options = {"tolerance": self.tolerance, "threshold": self.threshold}
        self._add(pointing.hit_point(maps, boxes, self.mode, box_format=self.box_format, **options))


class TemporalHit(_MeanScore):
    """The fraction of profiles with a :func:`~captum_3dcam.metrics.temporal_hit`."""

    def __init__(self, *, tolerance: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pointing.check_tolerance(tolerance)
        self.tolerance = tolerance

    def update(self, profiles: Tensor, segments: Sequence[Tensor]) -> None:
        """Add profiles (N, T) and their segments, N tensors (B_i, 2)."""
        self._add(temporal.temporal_hit(profiles, segments, self.tolerance))


class Acc2(_MeanScore):
    """The fraction of all samples with both a hit and the right class."""

    def update(self, hits: Tensor, correct: Tensor) -> None:
        """Add samples by two bool tensors (N,)."""
        pointing.acc2(hits, correct)  # validates them
        self._add(hits & correct.to(hits.device))


class _MaskScore(_MeanScore):
    """The mean of a score of maps against masks, or boxes."""

    def __init__(self, *, box_format: str = "xyxy", **kwargs: Any) -> None:
        super().__init__(dtype=torch.float64, **kwargs)
        check_choice("box_format", box_format, BOX_FORMATS)
        self.box_format = box_format

    @staticmethod
    def _score(maps: Tensor, masks: Tensor) -> Tensor:
        """Of each sample: (N,)."""
        raise NotImplementedError

    def update(self, maps: Tensor, target: Tensor | Sequence[Tensor]) -> None:
        """Add maps (N, *S) or (N, 1, *S), with bool masks of their shape or N tensors of boxes."""
        if not isinstance(target, Tensor):
            check_boxes(target, check_samples(maps))
            maps = drop_channel(maps, target[0].shape[-1] // 2) if len(maps) else maps
            size = tuple(maps.shape[1:])
            masks = [pointing.boxes_to_mask(boxes, size, self.box_format) for boxes in target]
            target = torch.stack(masks).to(maps.device)
        self._add(self._score(maps, target))


class EnergyInside(_MaskScore):
    """The mean of :func:`~captum_3dcam.metrics.energy_inside`, by masks or boxes.

    >>> metric = EnergyInside()
    >>> metric.update(torch.tensor([[[1.0, 3.0]]]), [torch.tensor([[1, 0, 2, 1]])])
    >>> metric.compute()
    tensor(0.7500, dtype=torch.float64)
    """

    _score = staticmethod(pointing.energy_inside)


class PixelAveragePrecision(_MaskScore):
    """The mean of :func:`~captum_3dcam.metrics.pixel_average_precision`, by masks or boxes.

    >>> metric = PixelAveragePrecision()
    >>> metric.update(torch.tensor([[[1.0, 3.0]]]), [torch.tensor([[0, 0, 1, 1]])])
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    _score = staticmethod(ranking.pixel_average_precision)


class RelevanceRankAccuracy(_MaskScore):
    """The mean of :func:`~captum_3dcam.metrics.relevance_rank_accuracy`, by masks or boxes."""

    _score = staticmethod(ranking.relevance_rank_accuracy)


class TubeIoU(_MeanScore):
    """The mean of :func:`~captum_3dcam.metrics.best_tube_iou` over clips."""

    def __init__(self, *, box_format: str = "xyxy", **kwargs: Any) -> None:
        super().__init__(dtype=torch.float64, **kwargs)
        check_choice("box_format", box_format, BOX_FORMATS)
        self.box_format = box_format

    def update(self, preds: Sequence[Tensor], target: Sequence[Tensor]) -> None:
        """Add clips by N tensors (T, 4) or (P_i, T, 4) each; NaN where a tube is absent."""
        self._add(overlap.best_tube_iou(preds, target, self.box_format))


class TemporalMAP(_Score):
    """Temporal mAP at tIoU, in ActivityNet's protocol.

    Precision needs all detections at once, so they are kept, in the metric's dtype (float32, or
    ``set_dtype``).

    >>> metric = TemporalMAP()
    >>> target = {"segments": torch.tensor([[0, 4], [6, 9]]), "labels": torch.tensor([0, 1])}
    >>> metric.update([target | {"scores": torch.tensor([0.9, 0.8])}], [target])
    >>> metric.compute()
    {'map': tensor(1.), 'per_tiou': [tensor(1.)]}
    """

    rows: list[Tensor]
    sizes: list[Tensor]

    def __init__(self, tiou_thresholds: Sequence[float] = (0.5,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tiou_thresholds = check_iou_thresholds(tiou_thresholds, "tiou_thresholds")
        self.thresholds = self.tiou_thresholds
        # One axis each: torchmetrics gathers shape (0,) from a process without data.
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("sizes", [], dist_reduce_fx="cat")

    def update(
        self, preds: Sequence[temporal.Detections], target: Sequence[temporal.Detections]
    ) -> None:
        """Add videos, as in :func:`~captum_3dcam.metrics.temporal_average_precision`."""
        temporal.check_detections(preds, target)
        for pair in zip(preds, target, strict=True):
            for video in pair:
                scores = video.get("scores", torch.zeros(len(video["labels"])))
                columns = (video["segments"], scores[:, None], video["labels"][:, None])
                rows = torch.cat([column.to(self.device, self.dtype) for column in columns], dim=1)
                self.rows.append(rows.flatten())
                self.sizes.append(torch.tensor([len(rows)], dtype=self.dtype, device=self.device))

    def compute(self) -> dict[str, Any]:
        """``map``, the mean over tIoU thresholds, in [0, 1]; and ``per_tiou``, one for each."""
        if not len(self.sizes):  # a list, or one tensor after synchronising processes
            raise ValueError("TemporalMAP has no video: call update() with one before compute().")
        rows = dim_zero_cat(self.rows).reshape(-1, 4).cpu()
        videos = [
            {"segments": video[:, :2], "scores": video[:, 2], "labels": video[:, 3]}
            for video in rows.split(dim_zero_cat(self.sizes).long().tolist())
        ]
        precision = temporal.temporal_map(videos[::2], videos[1::2], self.tiou_thresholds)
        per_tiou = precision.float().to(self.device)
        return {"map": per_tiou.mean(), "per_tiou": list(per_tiou)}
