"""A valid call of every public function that studies/fuzz_arguments.py calls with junk."""

from collections.abc import Callable
from inspect import isclass, isfunction
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from matplotlib.animation import Animation
from matplotlib.figure import Figure

import captum_3dcam
from captum_3dcam import functional, layers, localization, metrics, visualization

Call = tuple[Callable[..., Any], dict[str, Any]]

PACKAGES = (functional, layers, localization, metrics, visualization)
EXEMPT = {
    "rounding_noise": "is of the diagnosis, not of the documented functions",
    "VideoAnimation": "is Matplotlib's class, made by animate_video_attr",
}


def public_names() -> set[str]:
    """The classes and functions of the packages: of ``__all__``, else what the module defines."""
    names = set()
    for package in PACKAGES:
        exported = getattr(package, "__all__", None)
        if package is layers:
            exported = [name for name in captum_3dcam.__all__ if hasattr(layers, name)]
        for name in exported or vars(package):
            value = getattr(package, name)
            is_own = value.__module__.startswith(package.__name__) if _is_code(value) else False
            if is_own and not name.startswith("_"):
                names.add(name)
    return names - EXEMPT.keys()


def _is_code(value: object) -> bool:
    return isfunction(value) or isclass(value)


def valid_calls() -> dict[str, Call]:
    """By name what to call, and its arguments."""
    calls = {**_functional(), **_layers(), **_localization(), **_visualization()}
    return calls | _overlaps() | _scores() | _classes()


def _functional() -> dict[str, Call]:
    pair = {"activation": torch.rand(2, 3, 4, 4), "gradient": torch.randn(2, 3, 4, 4)}
    size = {"size": (6, 6), "mode": None, "align_corners": False}
    factors = (torch.rand(2, 1, 4, 4), torch.rand(2, 1, 2, 2))
    rules = [
        functional.global_local,
        functional.counterfactual,
        functional.grad_cam,
        functional.grad_cam_plus_plus,
        functional.x_grad_cam,
        functional.layer_cam,
        functional.hi_res_cam,
        functional.element_wise_grad_cam,
        functional.eigen_grad_cam,
        functional.effect,
        functional.effect_for,
    ]
    of_activation = [functional.eigen_cam, functional.kpca_cam, functional.fem]
    alone = {"activation": pair["activation"]}
    effects = {"effects": [functional.effect(**pair), functional.Effect(*factors)], **size}
    maps = [torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)]
    by_rule = {rule.__name__: (rule, pair) for rule in rules}
    by_rule |= {rule.__name__: (rule, alone) for rule in of_activation}
    return by_rule | {
        "le_grad": (
            functional.le_grad,
            {"attention": pair["activation"], "gradient": pair["gradient"]},
        ),
        "contrast": (functional.contrast, {"scores": torch.rand(2, 5), "rival": 1}),
        "check_rival": (functional.check_rival, {"rival": [1, 2]}),
        "channel_sum": (functional.channel_sum, {"x": pair["activation"]}),
        "upsample": (functional.upsample, {"x": pair["activation"], **size}),
        "scale_channels": (functional.scale_channels, {"x": pair["activation"]}),
        "normalize": (functional.normalize, {"x": pair["gradient"]}),
        "layer_map": (functional.layer_map, {"factors": factors, **size}),
        "shared_layer_map": (functional.shared_layer_map, {"calls": [factors, factors], **size}),
        "fuse": (functional.fuse, {"layer_maps": maps, "count": 2, "fusion": "mean"}),
        "temporal_profile": (
            functional.temporal_profile,
            {"attribution": torch.rand(2, 1, 3, 4, 4)},
        ),
        "check_fusion": (functional.check_fusion, {"fusion": "sum"}),
        "check_interpolation": (
            functional.check_interpolation,
            {"mode": "bilinear", "align_corners": False, "rank": 2},
        ),
        "Effect": (functional.Effect, {"net": factors[0], "energy": factors[1]}),
        "what_where": (functional.what_where, effects),
        "extent": (functional.extent, effects),
        "coarsest_grid": (functional.coarsest_grid, {"sizes": [(4, 4), (2, 2)]}),
    }


def _layers() -> dict[str, Call]:
    return {
        "Layer": (
            layers.Layer,
            {"module": "0", "reshape": None, "index": 0, "calls": "last", "layout": "N L C"},
        ),
        "tokens_to_grid": (
            lambda grid, prefix_tokens, x: layers.tokens_to_grid(grid, prefix_tokens)(x),
            {"grid": (2, 2), "prefix_tokens": 1, "x": torch.rand(2, 5, 3)},
        ),
        "attention_to_grid": (
            lambda grid, prefix_tokens, x: layers.attention_to_grid(grid, prefix_tokens)(x),
            {"grid": (2, 2), "prefix_tokens": 1, "x": torch.rand(2, 3, 5, 5)},
        ),
        "frames_to_clip": (
            lambda num_frames, x: layers.frames_to_clip(num_frames)(x),
            {"num_frames": 2, "x": torch.rand(4, 3, 2, 2)},
        ),
    }


def _localization() -> dict[str, Call]:
    clip = torch.rand(2, 1, 3, 4, 4)
    mask = clip > 0.5
    frames = localization.frame_boxes(clip)
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    options = {"mask": mask, "select": "all", "connectivity": 1}
    return {
        "binarize": (localization.binarize, {"maps": clip, "method": "mean", "value": 1.0}),
        "components": (localization.components, {"mask": mask, "connectivity": 1}),
        "boxes": (localization.boxes, {"maps": clip, **options}),
        "frame_boxes": (localization.frame_boxes, {"maps": clip, **options}),
        "tubes": (localization.tubes, {"maps": clip, "mask": mask, "connectivity": 2, "fps": 5.0}),
        "link": (
            localization.link,
            {"frames": frames, "min_iou": 0.1, "max_gap": 1, "min_length": 1, "fps": 25.0},
        ),
        "segments": (
            localization.segments,
            {
                "profile": torch.rand(2, 6),
                "high": 0.6,
                "low": 0.2,
                "min_length": 1,
                "max_gap": 1,
                "fps": None,
            },
        ),
        "iou": (localization.iou, {"a": box, "b": box[0]}),
        "Boxes": (localization.Boxes, {"boxes": box, "scores": torch.rand(2)}),
        "Tube": (_seconds_of_tube, {"start": 1, "boxes": box, "score": 0.5, "fps": 5.0}),
        "Segment": (localization.Segment, {"start": 0, "end": 2, "score": 0.5, "fps": 5.0}),
    }


def _seconds_of_tube(**arguments: Any) -> Any:
    tube = localization.Tube(**arguments)
    return tube.bounds, tube.end


def _overlaps() -> dict[str, Call]:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    each, masks = [boxes[:1], boxes], torch.rand(2, 4, 4) > 0.5
    tube = torch.stack([boxes, boxes + 1])
    pair = {"preds": each, "target": each, "box_format": "xyxy"}
    return {
        "box_iou": (metrics.box_iou, {"boxes1": boxes, "boxes2": boxes}),
        "paired_iou": (metrics.paired_iou, {"boxes1": boxes, "boxes2": boxes}),
        "segment_iou": (
            metrics.segment_iou,
            {"segments1": boxes[:, ::2], "segments2": boxes[:, ::2]},
        ),
        "mask_iou": (metrics.mask_iou, {"masks1": masks, "masks2": masks}),
        "tube_iou": (metrics.tube_iou, {"tubes1": tube, "tubes2": tube[0]}),
        "best_iou": (metrics.best_iou, pair),
        "best_tube_iou": (metrics.best_tube_iou, pair | {"preds": [tube], "target": [tube[0]]}),
        "to_exclusive": (metrics.to_exclusive, {"boxes": boxes, "box_format": "xyxy_inclusive"}),
        "box_accuracy": (
            metrics.box_accuracy,
            {"preds": each, "target": each, "iou_thresholds": (0.3, 0.5)},
        ),
        "boxes_to_mask": (
            metrics.boxes_to_mask,
            {"boxes": boxes, "size": (3, 4), "box_format": "xyxy", "tolerance": 1.0},
        ),
    }


def _ignored() -> list[torch.Tensor]:
    return [torch.tensor([[5.0, 6.0]]) for _ in _videos()["target"]]


def _videos() -> dict[str, Any]:
    target = {"segments": torch.tensor([[0.0, 4.0], [5.0, 6.0]]), "labels": torch.tensor([0, 1])}
    return {"preds": [target | {"scores": torch.tensor([0.9, 0.8])}], "target": [target]}


def _scores() -> dict[str, Call]:
    maps, masks = torch.rand(2, 5, 6), torch.rand(2, 5, 6) > 0.5
    boxes = [torch.tensor([[0, 0, 2, 2]]), torch.tensor([[1, 1, 3, 3], [0, 0, 4, 4]])]
    hits = torch.tensor([True, False, True])
    taus = metrics.cam_thresholds(0.25)
    return {
        "hit_point": (
            metrics.hit_point,
            {
                "maps": maps,
                "boxes": boxes,
                "mode": "argmax",
                "tolerance": 2.0,
                "threshold": None,
                "box_format": "xyxy",
            },
        ),
        "energy_inside": (metrics.energy_inside, {"maps": maps, "masks": masks}),
        "pixel_average_precision": (
            metrics.pixel_average_precision,
            {"maps": maps, "masks": masks},
        ),
        "relevance_rank_accuracy": (
            metrics.relevance_rank_accuracy,
            {"maps": maps, "masks": masks},
        ),
        "acc2": (metrics.acc2, {"hits": hits, "correct": ~hits}),
        "temporal_hit": (
            metrics.temporal_hit,
            {
                "profiles": torch.rand(2, 6),
                "segments": [torch.tensor([[0, 2]]), torch.tensor([[3, 5]])],
                "tolerance": 1.0,
            },
        ),
        "match_detections": (
            metrics.match_detections,
            {**_videos(), "label": 1, "tiou": 0.5, "ignored": _ignored()},
        ),
        "average_precision": (metrics.average_precision, {"hits": hits, "num_ground_truths": 2}),
        "temporal_average_precision": (
            metrics.temporal_average_precision,
            {**_videos(), "tiou_thresholds": (0.3, 0.5), "ignored": _ignored()},
        ),
        "temporal_map": (
            metrics.temporal_map,
            {**_videos(), "tiou_thresholds": (0.3, 0.5), "ignored": _ignored()},
        ),
        "cam_thresholds": (metrics.cam_thresholds, {"interval": 0.1}),
        "clip_ious": (
            metrics.clip_ious,
            {
                "clip": maps,
                "boxes": torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3]]),
                "thresholds": taus,
                "box_format": "xyxy",
            },
        ),
        "contour_boxes": (
            metrics.contour_boxes,
            {
                "image": np.eye(4, dtype=np.uint8),
                "thresholds": [0, 5],
                "multi_contour": True,
            },
        ),
        "count_correct": (
            metrics.count_correct,
            {"ious": torch.rand(3, 4), "iou_thresholds": (0.3, 0.5)},
        ),
        "max_box_acc": (
            metrics.max_box_acc,
            {
                "ious": torch.rand(3, 4),
                "iou_thresholds": (0.5,),
                "threshold_selection": "per_sample",
            },
        ),
        "protocol_name": (
            metrics.protocol_name,
            {
                "iou_thresholds": (0.5,),
                "threshold_selection": "dataset",
                "multi_contour": False,
                "clips": True,
            },
        ),
        "px_ap": (
            metrics.px_ap,
            {"maps": maps, "masks": masks, "ignore": ~masks & (maps > 0.5), "interval": 0.1},
        ),
        "scoremap_boxes": (
            metrics.scoremap_boxes,
            {"scoremap": maps[0], "thresholds": taus, "multi_contour": True},
        ),
        "scoremap_ious": (
            metrics.scoremap_ious,
            {
                "maps": maps,
                "boxes": boxes,
                "thresholds": taus,
                "multi_contour": False,
                "box_format": "xyxy",
            },
        ),
    }


def _classes() -> dict[str, Call]:
    """By class, a function that makes one, updates it and computes its result."""
    scores, overlaps = _scores(), _overlaps()
    best = {
        "iou_thresholds": (0.3, 0.5),
        "threshold_selection": "dataset",
        "interval": 0.25,
        "box_format": "xyxy",
    }
    clips, tubes = torch.rand(1, 2, 4, 4), [torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3]])]
    hit, box_format = scores["hit_point"][1], {"box_format": "xyxy"}
    updates: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "MaxBoxAcc": (best | {"multi_contour": True}, _only(hit, "maps", "boxes")),
        "MaxBoxAcc3D": (best, {"maps": clips, "boxes": tubes}),
        "BoxAccuracy": (
            _only(best, "iou_thresholds", "box_format"),
            _only(overlaps["best_iou"][1], "preds", "target"),
        ),
        "PxAP": ({"interval": 0.1}, _only(scores["px_ap"][1], "maps", "masks", "ignore")),
        "HitPoint": (
            _only(hit, "mode", "tolerance", "threshold", "box_format"),
            _only(hit, "maps", "boxes"),
        ),
        "TemporalHit": (
            {"tolerance": 1.0},
            _only(scores["temporal_hit"][1], "profiles", "segments"),
        ),
        "Acc2": ({}, scores["acc2"][1]),
        "EnergyInside": (box_format, {"maps": hit["maps"], "target": hit["boxes"]}),
        "PixelAveragePrecision": (box_format, {"maps": hit["maps"], "target": hit["boxes"]}),
        "RelevanceRankAccuracy": (box_format, {"maps": hit["maps"], "target": hit["boxes"]}),
        "TubeIoU": (box_format, _only(overlaps["best_tube_iou"][1], "preds", "target")),
        "TemporalMAP": ({"tiou_thresholds": (0.5,)}, _videos()),
    }
    return {
        name: (_accumulate(getattr(metrics, name), set(options)), options | update)
        for name, (options, update) in updates.items()
    }


def _only(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: arguments[name] for name in names}


def _accumulate(metric: Callable[..., Any], options: set[str]) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        accumulated = metric(**{k: v for k, v in arguments.items() if k in options})
        accumulated.update(**{k: v for k, v in arguments.items() if k not in options})
        return accumulated.compute()

    return call


# ------------------------------------------------------------------------------------- figures


def _visualization() -> dict[str, Call]:
    heat, clip_heat, clip = torch.rand(3, 3), torch.rand(2, 3, 3), torch.rand(2, 4, 4, 3)
    volume, style = torch.rand(3, 4, 4), visualization.Style(fig_size=(3, 2))
    overlays = _overlays()
    named = {"title": "lion", "style": style}
    timed = {"fps": 5.0, "start": 1, **named}
    video = {"attr": clip_heat, "original_video": clip, "overlays": overlays, **timed}
    scan = {"attr": torch.rand(2, 3, 3), "original_volume": volume, **named}
    calls: dict[str, dict[str, Any]] = {
        "visualize_image_attr": {
            "attr": heat,
            "original_image": clip[0],
            "method": "blended_heat_map",
            "sign": "positive",
            "plt_fig_axis": None,
            "outlier_perc": 1,
            "cmap": "jet",
            "alpha_overlay": 0.5,
            "show_colorbar": False,
            "title": "lion",
            "fig_size": (3, 2),
            "use_pyplot": False,
            "vmax": 1.0,
            "base": "color",
            "raw": True,
            "overlays": visualization.Overlays(),
        },
        "render_image_attr": {"attr": heat, "original_image": clip[0], "style": style},
        "overlay_frames": {"attr": clip_heat, "original_video": clip, **timed},
        "visualize_video_attr": {"frames": [0, 1], **video},
        "animate_video_attr": video,
        "visualize_temporal_profile": {
            "attr": clip_heat,
            "segments": [localization.Segment(0, 1, 0.5)],
            **timed,
        },
        "visualize_attr_panels": {
            "attr": [clip_heat, clip_heat],
            "original": clip,
            "names": ["lion", "cat"],
            "frames": 2,
            **timed,
        },
        "visualize_volume_attr": {"at": (0, 1, 1), **scan},
        "visualize_volume_projections": scan,
        "visualize_volume_montage": {"axis": 1, "slices": 2, **scan},
    }
    drawn = {name: (_drawn(getattr(visualization, name)), given) for name, given in calls.items()}
    return drawn | _settings() | {"save_animation": _save_animation()}


def _overlays() -> visualization.Overlays:
    return visualization.Overlays(**_settings()["Overlays"][1])


def _settings() -> dict[str, Call]:
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    frame = localization.Boxes(box, torch.tensor([0.5]))
    return {
        "OverlayRenderer": (
            visualization.OverlayRenderer,
            {
                "size": (4, 6),
                "vmax": 1.0,
                "title": "lion",
                "timed": True,
                "style": visualization.Style(),
            },
        ),
        "Overlays": (
            visualization.Overlays,
            {
                "boxes": [frame, frame],
                "tubes": {"lion": localization.Tube(0, box, 0.5)},
                "segments": [localization.Segment(0, 1, 0.5)],
                "box_size": (4, 4),
            },
        ),
        "Scan": (
            visualization.Scan,
            {"data": torch.rand(3, 4, 4), "spacing": (5.0, 1.0, 1.0), "orientation": "SPL"},
        ),
        "Style": (
            visualization.Style,
            {
                "method": "heat_map",
                "sign": "all",
                "scale": "shared",
                "vmax": 1.0,
                "cmap": "jet",
                "alpha_overlay": 0.5,
                "base": "color",
                "raw": True,
                "window": (0.0, 1.0),
                "show_colorbar": True,
                "columns": 2,
                "fig_size": (3.0, 2.0),
                "plt_fig_axis": None,
                "use_pyplot": False,
            },
        ),
    }


def _drawn(function: Callable[..., Any]) -> Callable[..., Any]:
    """Draws the figure that the function makes, because Matplotlib reads its texts only then."""

    def call(**arguments: Any) -> Any:
        result = function(**arguments)
        figure = result[0] if isinstance(result, tuple) else getattr(result, "_fig", None)
        if isinstance(figure, Figure):
            figure.draw_without_rendering()
        if isinstance(result, Animation):
            result._draw_was_started = True  # else it warns that nobody saw it
        return result

    return call


def _save_animation() -> Call:
    function, given = visualization.animate_video_attr, {"style": visualization.Style("heat_map")}
    animation = function(torch.rand(1, 2, 2), **given)
    animation._draw_was_started = True
    path = Path(gettempdir()) / "fuzz_arguments.gif"
    return visualization.save_animation, {"animation": animation, "path": path, "dpi": 10}
