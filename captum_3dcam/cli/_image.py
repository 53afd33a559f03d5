"""Images: boxes, and a figure."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_3dcam import localization
from captum_3dcam.cli._errors import UsageError
from captum_3dcam.cli._explainer import Explainer
from captum_3dcam.cli._explanation import Explanation, list_boxes, to_boxes
from captum_3dcam.cli._model import make_preprocessing, name_preprocessing
from captum_3dcam.cli._output import save_figure
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.io import dicom_kind, read_dicom_image, read_image
from captum_3dcam.io.image import count_pages
from captum_3dcam.models import Preprocessing
from captum_3dcam.visualization import Overlays, visualize_attr_panels, visualize_image_attr


class ImageSource:
    """An image file."""

    def __init__(self, options: Namespace, model: nn.Module) -> None:
        self.preprocess = make_preprocessing(model, options)
        self.preprocessing = name_preprocessing(self.preprocess)
        self.pixels = _read(options.input, options.series)
        image = torch.from_numpy(self.pixels).movedim(-1, 0)
        self.inputs = self.preprocess(image)[None].to(options.device)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def explain(self, explainer: Explainer, folder: Path) -> tuple[list[Prediction], Tensor]:
        predictions, maps = explainer.explain(self.inputs)
        if isinstance(self.preprocess, Preprocessing):
            maps = self.preprocess.maps_to_frame(maps, self.size)
        return predictions, maps

    def localize(self, heat_map: Tensor) -> dict[str, Any]:
        """Boxes around all components above half the maximum, in pixels of the image."""
        (boxes,) = localization.boxes(heat_map[None, None], select="all")
        height, width = (n / m for n, m in zip(self.size, heat_map.shape, strict=True))
        scale = torch.tensor([width, height, width, height])
        return {"boxes": list_boxes(boxes._replace(boxes=boxes.boxes * scale))}

    def describe(self, maps: Tensor) -> dict[str, Any]:
        return {"size": list(self.size), "model_size": list(self.inputs.shape[2:])}

    def write(self, explanation: Explanation, folder: Path) -> dict[str, Path]:
        files = {"figure": folder / "figure.png"}
        save_figure(self._figure(explanation), files["figure"])
        return files

    def _figure(self, explanation: Explanation) -> Any:
        maps, captions = explanation.maps, explanation.captions
        if len(captions) > 1:
            return visualize_attr_panels(maps, self.pixels, captions)[0]
        boxes = to_boxes(explanation.regions[0]["boxes"])
        return visualize_image_attr(
            maps[0],
            self.pixels,
            show_colorbar=True,
            title=captions[0],
            overlays=Overlays(boxes, box_size=self.size),
        )[0]


def _read(path: Path, series: str | None) -> NDArray[np.uint8]:
    """The image of a file, or of DICOM files."""
    if path.is_file() and count_pages(path):  # whatever its suffix
        return read_image(path)
    if not dicom_kind(path):
        if path.is_dir():
            raise UsageError(f"--kind image: the folder {str(path)!r} has no DICOM image.")
        return read_image(path)
    return read_dicom_image(path, series)
