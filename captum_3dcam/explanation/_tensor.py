"""Tensors: the model's input as it is, or raw values that are preprocessed."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._validation import describe, warn
from captum_3dcam.explanation._errors import ArgumentError
from captum_3dcam.explanation._explainer import Explainer
from captum_3dcam.explanation._preprocessing import Preprocess, name_preprocessing
from captum_3dcam.explanation._scores import Prediction
from captum_3dcam.explanation._video import describe_times
from captum_3dcam.explanation._volume import describe_scan
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Video, Volume, open_video
from captum_3dcam.models import Preprocessing
from captum_3dcam.visualization import Scan

_DEFAULT_FPS = 25.0
_RANK = {"image": 2, "video": 3, "volume": 3}


class TensorSource:
    """A batch (N, C, *S).

    Without a preprocessing it is the model's input, and what is shown below its maps is
    ``original`` or else the input itself, each sample stretched to its range. With one, it is
    what is preprocessed, and shown.
    """

    def __init__(
        self,
        inputs: Tensor,
        kind: str,
        preprocess: Preprocess | None,
        original: Any,
        fps: float | None,
        device: Any,
    ) -> None:
        self.kind, self.raw, self.preprocess = kind, inputs, preprocess
        self.preprocessing = "none" if preprocess is None else name_preprocessing(preprocess)
        if preprocess is not None:
            inputs = torch.stack([preprocess(sample) for sample in inputs])
        self.inputs = inputs.to(device)
        self.times = self._make_times(fps) if kind == "video" else None
        shown = list(self.raw) if original is None else _as_list(original, len(inputs))
        self.originals = [self._show(each) for each in shown]

    def explain(self, explainer: Explainer) -> tuple[list[list[Prediction]], Tensor]:
        predictions, maps = explainer.explain(self.inputs)
        if isinstance(self.preprocess, Preprocessing):
            height, width = self.raw.shape[-2:]
            maps = self.preprocess.maps_to_frame(maps, (height, width))
        return predictions, maps

    def describe(self, maps: Tensor) -> dict[str, Any]:
        """Facts for the report."""
        size = {"size": list(self.raw.shape[2:]), "model_size": list(self.inputs.shape[2:])}
        first = self.originals[0]
        if isinstance(first, Volume):
            return {**describe_scan(first), **size}
        times = {} if self.times is None else describe_times(self.times)
        frame = {} if self.times is None else {"size": list(first.size)}
        return {**size, **times, **frame}

    def advise(self, expected: int, received: int) -> str:
        """What to do about an input of other channels than the model's first convolution takes."""
        return " The axes of a tensor are (N, C, *S)."

    def _make_times(self, fps: float | None) -> FrameTimes:
        if fps is None:
            warn(
                f"The frame rate of a tensor is not known: {_DEFAULT_FPS:g} frames per second are "
                "assumed. Pass reading=Reading(fps=...)."
            )
        return FrameTimes.from_rate(self.raw.shape[2], fps or _DEFAULT_FPS)

    def _show(self, original: Any) -> Any:
        """One sample as what figures and the viewer show."""
        if self.kind == "volume":
            return original if isinstance(original, (Volume, Scan)) else _scan(original)
        if self.times is None:
            return _pixels(original, 2)
        if isinstance(original, Video) or not isinstance(original, (Tensor, np.ndarray)):
            return open_video(original)
        frames = _pixels(original, 3)
        times = FrameTimes.from_rate(len(frames), self.times.fps)
        return open_video(Video(frames, times.fps, times))


def check_tensor(inputs: Tensor, kind: str | None) -> str:
    """The kind of a tensor; by default, of three spatial axes, a video if it has three channels.

    Raises ArgumentError for other tensors than (N, C, H, W), (N, C, T, H, W), (N, C, D, H, W).
    """
    rank = inputs.ndim - 2
    if rank not in (2, 3) or not inputs.numel():
        raise ArgumentError(
            "Expected a tensor (N, C, H, W), (N, C, T, H, W) or (N, C, D, H, W); received "
            f"{describe(inputs)}. One sample needs a batch axis: inputs[None]."
        )
    default = "image" if rank == 2 else "video" if inputs.shape[1] == 3 else "volume"
    kind = kind or default
    if _RANK[kind] != rank:
        raise ArgumentError(f"kind={kind!r}: {describe(inputs)} has {rank} spatial axes.")
    return kind


def _as_list(original: Any, count: int) -> list[Any]:
    is_batch = isinstance(original, (Tensor, np.ndarray)) and count > 1
    several = list(original) if is_batch or isinstance(original, list) else [original]
    if len(several) != count:
        raise ArgumentError(
            f"original: expected one for each of the {count} samples; received {len(several)}."
        )
    return several


def _scan(values: Any) -> Scan:
    """The first channel of a volume (C, D, H, W)."""
    array = _array(values)
    return Scan(array[0] if array.ndim == 4 else array)


def _pixels(values: Any, rank: int) -> NDArray[np.uint8]:
    """RGB bytes, channels last, of an image or a video with its channels first or last."""
    array = _array(values)
    is_first = array.ndim == rank + 1 and (isinstance(values, Tensor) or array.shape[-1] != 3)
    array = np.moveaxis(array, 0, -1) if is_first else array
    if array.ndim == rank:
        array = array[..., None]
    if array.shape[-1] != 3:  # grey, or channels that have no colour: their mean
        array = np.repeat(array.mean(axis=-1, keepdims=True, dtype=np.float64), 3, axis=-1)
    return array if array.dtype == np.uint8 else _stretched(array)


def _stretched(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 1] as they are, others from their minimum to their maximum."""
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (array.astype(np.float64) - low) / ((high - low) or 1.0)
    pixels: NDArray[np.uint8] = (scaled * 255).round().astype(np.uint8)
    return pixels


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.is_floating_point() else values)
    return np.asarray(values)
