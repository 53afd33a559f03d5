"""An image explained: its map, boxes, and a figure."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_3dcam import localization
from captum_3dcam.cli._explained import Explained, map_metadata
from captum_3dcam.cli._explainer import Explainer, Said
from captum_3dcam.cli._in_memory import explain_whole
from captum_3dcam.cli._model import preparation
from captum_3dcam.cli._writing import rounded, save_figure
from captum_3dcam.io import read_image, save_map
from captum_3dcam.visualization import visualize_classes_attr, visualize_image_attr


def explain(options: Namespace, explainer: Explainer, folder: Path) -> Explained:
    """Write ``map.npz`` (classes, H, W), of the model's size, and ``figure.png``."""
    prepare = preparation(explainer.module, options)
    pixels = read_image(options.input)
    x = prepare(torch.from_numpy(pixels).movedim(-1, 0))[None].to(explainer.device)
    found = explain_whole(options, explainer, x)
    maps = torch.stack([heat for _, heat in found])
    size = pixels.shape[:2]
    files = {"map": folder / "map.npz", "figure": folder / "figure.png"}
    said = [each for each, _ in found]
    save_map(maps, files["map"], map_metadata(options, explainer, said))
    save_figure(_figure(maps, said, pixels), files["figure"])
    return Explained(
        {"size": list(size), "model_size": list(x.shape[2:])},
        [(each, {"boxes": _boxes(heat, size)}) for each, heat in found],
        files,
    )


def _boxes(heat: Tensor, size: tuple[int, ...]) -> list[dict[str, Any]]:
    """Around all components above half the maximum, in pixels of the image."""
    (found,) = localization.boxes(heat[None, None], select="all")
    height, width = (n / m for n, m in zip(size, heat.shape, strict=True))
    boxes = found.boxes * torch.tensor([width, height, width, height])
    return [
        {"box": rounded(box.tolist()), "score": score.item()}
        for box, score in zip(boxes, found.scores, strict=True)
    ]


def _figure(maps: Tensor, said: list[Said], pixels: np.ndarray) -> Any:
    names, scores = [each.name for each in said], [each.probability for each in said]
    if len(said) > 1:
        return visualize_classes_attr(maps, pixels, names, scores)[0]
    (boxes,) = localization.boxes(maps[:, None])
    return visualize_image_attr(
        maps[0],
        pixels,
        boxes=boxes,
        class_name=names[0],
        class_score=scores[0],
        show_colorbar=True,
    )[0]
