"""Tensors: the model's input as it is, or raw values that are preprocessed."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam._errors import ArgumentError
from captum_3dcam._validation import describe
from captum_3dcam.explanation._cropping import find_placement
from captum_3dcam.explanation._explainer import Explainer
from captum_3dcam.explanation._preprocessing import Preprocess, VolumeSteps, name_preprocessing
from captum_3dcam.explanation._resemblance import check_resemblance
from captum_3dcam.explanation._scores import Prediction
from captum_3dcam.explanation._transfer import move_like
from captum_3dcam.explanation._video import describe_times, known_rate, make_video, resized
from captum_3dcam.explanation._volume import describe_scan
from captum_3dcam.io import Video, VideoFile, Volume, open_video
from captum_3dcam.visualization import Scan

_COMPARED_HEIGHT = 64  # pixels
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
        like: Tensor,
    ) -> None:
        self.kind, self.raw, self.preprocess = kind, inputs, preprocess
        self.preprocessing = "none" if preprocess is None else name_preprocessing(preprocess)
        self.inputs = move_like(self._preprocessed(), like)
        self.is_other = original is not None
        samples = list(inputs) if original is None else _as_list(original, inputs)
        self.originals = _SHOW[kind](samples, fps)
        self.size = self._check_originals()
        self.times = self.originals[0].times if kind == "video" else None

    def explain(self, explainer: Explainer) -> tuple[list[list[Prediction]], Tensor]:
        predictions, maps = explainer.explain(self.inputs)
        if self.kind == "volume":
            return predictions, maps
        if self.preprocess is None and self.is_other:
            for sample, original in zip(self.raw, self.originals, strict=True):
                check_resemblance(sample, _small_pixels(original))
        pairs = zip(self.raw, maps, strict=True)
        placed = [find_placement(self.preprocess, raw)(each) for raw, each in pairs]
        if len({each.shape for each in placed}) > 1:
            raise ArgumentError(
                "The preprocessing function crops the samples differently: explain them one by one."
            )
        return predictions, torch.stack(placed)

    def describe(self, maps: Tensor) -> dict[str, Any]:
        """Facts for the report."""
        first = self.originals[0]
        return {
            **(describe_scan(first) if isinstance(first, Volume) else {}),
            **({} if self.times is None else describe_times(self.times)),
            "size": list(self.size),
            "model_size": list(self.inputs.shape[2:]),
        }

    def advise(self, expected: int, received: int) -> str:
        """What to do about an input of other channels than the model's first convolution takes."""
        return " The axes of a tensor are (N, C, *S); one sample needs a batch axis: inputs[None]."

    def _preprocessed(self) -> Tensor:
        if self.preprocess is None:
            if not self.raw.is_floating_point():
                raise ArgumentError(
                    "A tensor without a preprocessing is the model's input, floats; received "
                    f'{self.raw.dtype}. Pass floats, or preprocessing="none" for bytes as RGB in '
                    "[0, 1], or another one."
                )
            return self.raw
        if isinstance(self.preprocess, VolumeSteps) and self.preprocess.values.resamples:
            raise ArgumentError(
                "preprocessing: a tensor has no spacing to resample by. Pass an io.Volume, or "
                "leave orientation, spacing and size out."
            )
        inputs = torch.stack([self.preprocess(sample.clone()) for sample in self.raw])
        if inputs.ndim != self.raw.ndim or self._frames(inputs) != self._frames(self.raw):
            raise ArgumentError(
                f"The preprocessing turns samples {tuple(self.raw.shape[1:])} into "
                f"{tuple(inputs.shape[1:])}; expected as many axes, and frames."
            )
        return inputs

    def _frames(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[2:3]) if self.kind == "video" else ()

    def _check_originals(self) -> tuple[int, ...]:
        """The size that they all have."""
        first, *others = map(_size, self.originals)
        for other in others:
            if other != first:
                raise ArgumentError(
                    f"original: expected samples of one size; received {first} and {other}."
                )
        if self.kind == "volume" and first != tuple(self.raw.shape[2:]):
            raise ArgumentError(
                f"original: expected the grid of the input, {tuple(self.raw.shape[2:])}; received "
                f"{first}."
            )
        for original in self.originals if self.kind == "video" else ():
            if len(original.times) != self.raw.shape[2]:
                raise ArgumentError(
                    f"original: expected {self.raw.shape[2]} frames, as the input has; received "
                    f"{len(original.times)}."
                )
        self._check_same()
        return first

    def _check_same(self) -> None:
        """ArgumentError for samples of other times or affines: an explanation has one of each."""
        first, *others = map(_frame_of_reference, self.originals)
        if any(not np.array_equal(first, other) for other in others):
            what = "times" if self.kind == "video" else "affine"
            raise ArgumentError(
                f"original: expected samples of one {what}. Explain those of another one by one."
            )


def _small_pixels(original: Any) -> Tensor:
    """(3, [T,] h, w) of an image or a video."""
    if isinstance(original, VideoFile):
        frames = np.stack(list(resized(original, _COMPARED_HEIGHT)))
        return torch.from_numpy(frames).movedim(-1, 0)
    return torch.from_numpy(original).movedim(-1, 0)


def _frame_of_reference(original: Any) -> NDArray[Any]:
    """The times of a video, the affine of a scan."""
    if isinstance(original, VideoFile):
        return original.times.edges
    return original.affine if isinstance(original, Volume) else np.zeros(0)


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


def _as_list(original: Any, inputs: Tensor) -> list[Any]:
    count = len(inputs)
    is_batch = isinstance(original, (Tensor, np.ndarray)) and (
        count > 1 or original.ndim == inputs.ndim
    )
    several = list(original) if is_batch or isinstance(original, list) else [original]
    if len(several) != count:
        raise ArgumentError(
            f"original: expected one for each of the {count} samples; received {len(several)}."
        )
    return several


def _size(original: Any) -> tuple[int, ...]:
    """(H, W) of pixels and of the frames of a video, (D, H, W) of a scan."""
    if isinstance(original, VideoFile):
        return original.size
    shape: tuple[int, ...] = tuple(original.shape)
    return shape[:2] if isinstance(original, np.ndarray) else shape


def _show_images(samples: list[Any], fps: float | None) -> list[Any]:
    return [_pixels(sample, 2) for sample in samples]


def _show_videos(samples: list[Any], fps: float | None) -> list[Any]:
    timed = (Video, VideoFile)
    are_timed = all(isinstance(sample, timed) for sample in samples)
    if are_timed and fps is not None:
        raise ArgumentError("reading: fps is of videos without times; the original has its own.")
    rate = 1.0 if are_timed else known_rate(fps)
    return [_video(sample, rate) for sample in samples]


def _video(sample: Any, rate: float) -> VideoFile:
    if isinstance(sample, VideoFile):
        return sample
    return open_video(sample if isinstance(sample, Video) else make_video(_pixels(sample, 3), rate))


def _show_volumes(samples: list[Any], fps: float | None) -> list[Any]:
    return [each if isinstance(each, (Volume, Scan)) else _scan(each) for each in samples]


_SHOW = {"image": _show_images, "video": _show_videos, "volume": _show_volumes}


def _scan(values: Any) -> Scan:
    """The first channel of a volume (C, D, H, W)."""
    array = _array(values)
    return Scan(array[0] if array.ndim == 4 else array)


def _pixels(values: Any, rank: int) -> NDArray[np.uint8]:
    """RGB bytes, channels last, of an image or a video with its channels first or last."""
    array = _array(values)
    is_last = array.shape[-1] in (1, 3, 4) and not isinstance(values, Tensor)
    is_first = array.ndim == rank + 1 and not is_last
    array = np.moveaxis(array, 0, -1) if is_first else array
    if array.ndim == rank:
        array = array[..., None]
    if array.shape[-1] == 4 and array.dtype == np.uint8:  # RGBA
        array = array[..., :3]
    if array.shape[-1] != 3:  # grey, or channels that have no colour: their mean
        mean = array.mean(axis=-1, keepdims=True, dtype=np.float64)
        mean = mean.round().astype(np.uint8) if array.dtype == np.uint8 else mean
        array = np.repeat(mean, 3, axis=-1)
    return np.array(array) if array.dtype == np.uint8 else _stretched(array)


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
    if isinstance(values, np.ndarray):
        return values
    raise ArgumentError(
        "original: expected a tensor, an array, an io.Video, an io.VideoFile, an io.Volume or a "
        f"visualization.Scan; received {type(values).__name__}."
    )
