"""The parts of an explanation, and what an image, a video and a volume have in common."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from captum_3dcam.cli._explainer import Explainer
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.localization import Boxes


class Explanation(NamedTuple):
    """The maps of one or several classes of an input, and the regions where they are high."""

    predictions: list[Prediction]
    maps: Any
    """(classes, *S), a tensor or an array."""
    regions: list[dict[str, Any]]
    """Of each map: boxes, tubes, segments, peak."""

    @property
    def captions(self) -> list[str]:
        """The classes' names with their probabilities."""
        return [f"{p.name} ({p.probability:.2f})" for p in self.predictions]

    def file_stems(self, stem: str) -> list[str]:
        """A file name for each class: the stem, with the class index if there are several."""
        several = len(self.predictions) > 1
        return [f"{stem}_{p.target}" if several else stem for p in self.predictions]


class Source(Protocol):
    """An input file: how the model receives it, and how its maps are localised and written."""

    preprocessing: str
    """For the report."""

    def explain(self, explainer: Explainer, folder: Path) -> tuple[list[Prediction], Any]:
        """The predictions and their maps (classes, *S); ``folder`` is for temporary files."""

    def localize(self, heat_map: Any) -> dict[str, Any]:
        """The regions of a map (*S)."""

    def describe(self, maps: Any) -> dict[str, Any]:
        """Facts of the input for the report and the metadata of the maps."""

    def write(self, explanation: Explanation, folder: Path) -> dict[str, Path]:
        """Write figures and all else that shows the maps; the paths by their names."""


def list_boxes(boxes: Boxes) -> list[dict[str, Any]]:
    """One dict per box."""
    pairs = zip(boxes.boxes, boxes.scores.tolist(), strict=True)
    return [{"box": box, "score": score} for box, score in pairs]


def to_boxes(boxes: list[dict[str, Any]]) -> Boxes:
    """The inverse of :func:`list_boxes`, for figures; without boxes (0, 4)."""
    corners = [each["box"] for each in boxes]
    scores = torch.tensor([each["score"] for each in boxes])
    return Boxes(torch.stack(corners) if corners else torch.zeros(0, 4), scores)
