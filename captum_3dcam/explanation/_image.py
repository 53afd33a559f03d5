"""Images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._errors import ArgumentError
from captum_3dcam._validation import describe
from captum_3dcam.explanation._cropping import find_placement
from captum_3dcam.explanation._explainer import Explainer
from captum_3dcam.explanation._preprocessing import Preprocess, name_preprocessing
from captum_3dcam.explanation._scores import Prediction
from captum_3dcam.explanation._transfer import move_like


class ImageSource:
    """An image, (H, W, 3) uint8."""

    kind = "image"
    times = None

    def __init__(self, pixels: NDArray[np.uint8], preprocess: Preprocess, like: Tensor) -> None:
        self.originals = [np.array(pixels)]  # the caller may write to theirs
        self.preprocessing = name_preprocessing(preprocess)
        frame = torch.from_numpy(self.originals[0]).movedim(-1, 0)
        inputs = preprocess(frame.clone())
        if not isinstance(inputs, Tensor) or inputs.ndim != 3:
            raise ArgumentError(
                f"The preprocessing turns an image (3, H, W) into {describe(inputs)}; expected a "
                "tensor (C, H, W)."
            )
        self.inputs = move_like(inputs[None], like)
        self.over_image = find_placement(preprocess, frame)
        """Puts maps (..., h, w) of the model's input over the whole image."""

    def explain(self, explainer: Explainer) -> tuple[list[list[Prediction]], Tensor]:
        predictions, maps = explainer.explain(self.inputs)
        return predictions, self.over_image(maps)

    def describe(self, maps: Tensor) -> dict[str, Any]:
        """Facts for the report."""
        size = self.originals[0].shape[:2]
        return {"size": list(size), "model_size": list(self.inputs.shape[2:])}

    def advise(self, expected: int, received: int) -> str:
        """What to do about an input of other channels than the model's first convolution takes."""
        return frame_advice(expected)


def frame_advice(expected: int) -> str:
    if expected not in (1, 3):
        return ""
    return f" Pass a Preprocessing with channels={expected}: --channels on the command line."
