"""From an input of any kind to its source: how it is read, preprocessed and shown."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_3dcam._errors import ArgumentError
from captum_3dcam.explanation._explainer import input_channels
from captum_3dcam.explanation._identity import fingerprint, identify
from captum_3dcam.explanation._image import ImageSource
from captum_3dcam.explanation._preprocessing import frame_preprocessing, volume_preprocessing
from captum_3dcam.explanation._reading import (
    Reading,
    find_kind,
    read_frames,
    read_pixels,
    read_scan,
)
from captum_3dcam.explanation._tensor import TensorSource, check_tensor
from captum_3dcam.explanation._video import VideoSource, known_rate, make_video
from captum_3dcam.explanation._volume import VolumeSource
from captum_3dcam.explanation._windows import Windows
from captum_3dcam.io import Sampling, Video, VideoFile, Volume, open_video
from captum_3dcam.io.medical import map_suffix

Source = ImageSource | VideoSource | VolumeSource | TensorSource


def open_source(
    model: nn.Module,
    input: Any,
    kind: str | None,
    preprocessing: Any,
    reading: Reading,
    sampling: Sampling,
    windows: Windows,
    original: Any,
    progress: bool,
) -> tuple[Source, str]:
    """The source of an input, and its fingerprint.

    Its arguments are those of :func:`captum_3dcam.explain` that concern the input, hence their
    number.
    """
    floating = (p for p in model.parameters() if p.is_floating_point())
    like = next(floating, torch.empty(0))  # inputs get its device and precision
    is_group = isinstance(input, (tuple, list)) and not isinstance(input, Video)
    if is_group and any(isinstance(each, Tensor) for each in input):
        raise ArgumentError(
            "input: expected one input. A model of several inputs is explained by the attribution "
            "classes: LayerwiseWhatWhereCAM(model, layers).attribute((first, second))."
        )
    if isinstance(input, Tensor):
        kind = check_tensor(input, kind)
        _check_use(kind, input, sampling, reading)
        preprocess = None if preprocessing is None else _preprocess(preprocessing, model, kind)
        source = TensorSource(input, kind, preprocess, original, reading.fps, like)
        return source, identify(input)
    if original is not None:
        raise ArgumentError("original is for tensors: what is explained is shown.")
    content = _read(input, kind, sampling, reading, input_channels(model))
    if kind not in (None, _KINDS[type(content)]):
        raise ArgumentError(f"kind={kind!r}: the input is of kind {_KINDS[type(content)]!r}.")
    kind = _KINDS[type(content)]
    _check_use(kind, input, sampling, reading)
    is_path = isinstance(input, (str, PathLike))
    read = [Path(each) for each in (input, *reading.channel_files)] if is_path else []
    identity = fingerprint(read) if is_path else identify(input)
    preprocess = _preprocess(preprocessing, model, kind)
    if kind == "image":
        return ImageSource(content, preprocess, like), identity
    if kind == "volume":
        suffix = map_suffix(Path(input)) if isinstance(input, (str, PathLike)) else ".nii.gz"
        return VolumeSource(content, preprocess, like, suffix), identity
    return VideoSource(content, preprocess, like, windows.boundaries, progress), identity


_TIMED = (Video, VideoFile)
_KINDS = {np.ndarray: "image", VideoFile: "video", Volume: "volume"}


def _preprocess(requested: Any, model: nn.Module, kind: str) -> Any:
    if isinstance(requested, Mapping):
        if kind not in requested:
            raise ArgumentError(
                f"preprocessing: there is none for {kind}s among {list(requested)}."
            )
        requested = requested[kind]
    if kind == "volume":
        return volume_preprocessing(requested, model)
    return frame_preprocessing(requested, model)


def _read(
    input: Any, kind: str | None, sampling: Sampling, reading: Reading, channels: int | None
) -> Any:
    """Pixels (H, W, 3), a VideoFile or a Volume."""
    if isinstance(input, (VideoFile, Volume)):
        return input
    if isinstance(input, Video):
        return open_video(input, sampling=sampling)
    if not isinstance(input, (str, PathLike)):
        return _from_array(input, sampling, reading.fps)
    path = Path(input)
    kind = find_kind(path, kind)
    if kind == "image":
        return read_pixels(path, reading)
    if kind == "video":
        return read_frames(path, sampling, reading)
    return read_scan(path, channels, reading)


def _from_array(input: Any, sampling: Sampling, fps: float | None) -> Any:
    array = np.array(input)  # the caller may write to theirs
    if not array.size:
        raise ArgumentError(f"input: received an empty array of shape {array.shape}.")
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        received = f"{array.dtype} of shape {array.shape}" if array.ndim else type(input).__name__
        raise ArgumentError(
            "input: expected a path, a tensor (N, C, *S), an io.Video, an io.Volume, or RGB bytes "
            f"(H, W, 3) or (T, H, W, 3); received {received}. Floats in [0, 1] become bytes by "
            "(255 * x).round().astype('uint8')."
        )
    if array.ndim == 3:
        return array
    return open_video(make_video(array, known_rate(fps)), sampling=sampling)


def _check_use(kind: str, input: Any, sampling: Sampling, reading: Reading) -> None:
    """ArgumentError for what says how to read something else than the input."""
    is_path = isinstance(input, (str, PathLike))
    if sampling != Sampling() and (kind != "video" or isinstance(input, (Tensor, VideoFile))):
        raise ArgumentError("sampling is of videos that are opened here: open_video() takes it.")
    uses = {
        "fps": ("videos without times", kind == "video" and not isinstance(input, _TIMED)),
        "series": ("DICOM files", is_path),
        **dict.fromkeys(("index", "channel_files", "nan"), ("scans", is_path and kind == "volume")),
    }
    for name, (inputs, is_used) in uses.items():
        if getattr(reading, name) not in (None, ()) and not is_used:
            raise ArgumentError(f"reading: {name} is of {inputs} that are read here.")


def paths_of(input: Any, original: Any, reading: Reading) -> list[Path]:
    """The files that were read."""
    files = [each.path for each in (input, original) if isinstance(each, VideoFile)]
    paths = [input] if isinstance(input, (str, PathLike)) else []
    return [*files, *map(Path, (*paths, *reading.channel_files))]
