"""Videos of any length: tubes, segments, a figure, and the video under its map.

A video that fits into one window is explained in one pass. A longer one is decoded chunk by chunk,
once for each pass; its maps are kept in a temporary file. Frames are counted among those that are
sampled; their times are their own, in the report, on the axes and in the overlay.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam import localization
from captum_3dcam._files import check_size, max_bytes
from captum_3dcam.cli._errors import UsageError, usage_errors
from captum_3dcam.cli._explainer import Explainer, Stream
from captum_3dcam.cli._explanation import Explanation
from captum_3dcam.cli._model import make_preprocessing, name_preprocessing
from captum_3dcam.cli._output import save_figure, shows_progress, spread_frames
from captum_3dcam.cli._prediction import Prediction
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import (
    Sampling,
    VideoFile,
    dicom_kind,
    open_video,
    read_cine,
    write_video,
)
from captum_3dcam.models import Preprocessing
from captum_3dcam.sliding import shot_boundaries
from captum_3dcam.visualization import (
    Overlays,
    Style,
    render_image_attr,
    visualize_attr_panels,
    visualize_video_attr,
)

_CHUNK = 16  # frames at once
_MEMORY_SHARE = 4  # what is decoded at once takes this fraction of the limit, as floats
_BOUNDARY_HEIGHT = 64  # pixels, of the frames that scenes are found in
_FIGURE_HEIGHT = 240
_OVERLAY_HEIGHT = 480
_MAX_ASPECT = 4  # of resized frames: wider ones are less high
_MIN_GIF_DURATION = 0.02 - 1e-6  # seconds; browsers slow down what is faster
_MAX_FIGURE_FRAMES = 256  # of a longer video every second, third, ... frame
_MAX_TUBES = 20
_MAX_FIGURE_TUBES = 3
_MIN_IOU, _MAX_GAP = 0.1, 2  # of boxes that are linked to a tube: maps flicker

_ADVICE = "Pass a smaller --size or --window. "


class VideoSource:
    """A video file."""

    def __init__(self, options: Namespace, model: nn.Module) -> None:
        self.options = options
        self.preprocess = make_preprocessing(model, options)
        self.preprocessing = name_preprocessing(self.preprocess)
        self.video = _open(options)
        self.boundaries = self._boundaries()

    def explain(self, explainer: Explainer, folder: Path) -> tuple[list[Prediction], Any]:
        length = explainer.window[0] + 1 if explainer.window else _CHUNK
        stream = Stream(lambda: self._chunks(length), self.boundaries, self.video.frame_count)
        with TemporaryFile(dir=folder) as file:
            maps = _MapFile(file)
            predictions = explainer.explain_stream(
                stream, lambda part: maps.append(self._over_frames(part))
            )
            return predictions, maps.read(len(predictions))

    def localize(self, heat_map: NDArray[np.float32]) -> dict[str, Any]:
        """Tubes, in pixels of the video, and segments, both above half the maximum."""
        threshold = max(float(heat_map.max()) / 2, 0.0)
        profile: list[Tensor] = []
        boxes: list[localization.Boxes] = []
        for start in range(0, len(heat_map), _CHUNK):  # the map need not fit in memory
            part = torch.from_numpy(np.array(heat_map[start : start + _CHUNK]))[None, None]
            profile.append(temporal_profile(part))
            boxes += localization.frame_boxes(part, part > threshold, select="all")[0]
        times = self.video.times
        tubes = localization.link([boxes], _MIN_IOU, _MAX_GAP, fps=times)[0][:_MAX_TUBES]
        height, width = (n / m for n, m in zip(self.video.size, heat_map.shape[1:], strict=True))
        scale = torch.tensor([width, height, width, height])
        return {
            "segments": localization.segments(torch.cat(profile, dim=1), fps=times)[0],
            "tubes": [replace(tube, boxes=tube.boxes * scale) for tube in tubes],
        }

    def describe(self, maps: Any) -> dict[str, Any]:
        times, size = self.video.times, self.video.size
        model_size = tuple(maps.shape[2:])
        if isinstance(self.preprocess, Preprocessing):
            model_size = self.preprocess.input_size(size)
        return {
            "size": list(size),
            "frames": maps.shape[1],
            "fps": round(times.fps, 6),
            "times": times.edges.round(6).tolist(),
            "damage": self.video.damage,
            "boundaries": self.boundaries,
            "model_size": list(model_size),
        }

    def write(self, explanation: Explanation, folder: Path) -> dict[str, Path]:
        files = {"figure": folder / "figure.png"}
        save_figure(self._figure(explanation), files["figure"])
        suffix = self.options.overlay or "mp4"
        if suffix == "none":
            return files
        for stem, heat_map in zip(explanation.file_stems("overlay"), explanation.maps, strict=True):
            files[stem] = folder / f"{stem}.{suffix}"
            self._write_overlay(heat_map, files[stem])
        return files

    def _chunks(self, length: int) -> Iterator[Tensor]:
        """The model's input in chunks (C, T, H', W') of ``length`` frames or a few more.

        If the decoded frames are large, a chunk is decoded and preprocessed in several parts.
        """
        size = length * _float_bytes(self.video.size)
        parts = min(-(-_MEMORY_SHARE * size // max_bytes()), length)
        if isinstance(self.preprocess, Preprocessing):  # another callable may return any size
            frame = _float_bytes(self.preprocess.geometry(self.video.size).resized)
            self._check_memory(length, frame * min(length, self.video.frame_count or length))
        inputs = map(self._preprocessed, self.video.chunks(-(-length // parts)))
        while chunk := self._take(inputs, parts, length):
            yield torch.cat(chunk, dim=1) if len(chunk) > 1 else chunk[0]

    def _take(self, inputs: Iterator[Tensor], parts: int, length: int) -> list[Tensor]:
        taken: list[Tensor] = []
        for part in islice(inputs, parts):
            taken.append(part)
            self._check_memory(length, sum(part.nbytes for part in taken))
        return taken

    def _check_memory(self, length: int, size: int) -> None:
        check_size(self.options.input, size, f"windows of {length - 1} frames as floats", _ADVICE)

    def _preprocessed(self, frames: NDArray[np.uint8]) -> Tensor:
        """Frames (T, H, W, 3) as the model's input (C, T, H', W')."""
        inputs = self.preprocess(torch.from_numpy(frames).movedim(-1, 0))
        if inputs.ndim != 4 or inputs.shape[1] != len(frames):
            raise UsageError(
                f"The model's PREPROCESSING turns {len(frames)} frames into "
                f"{tuple(inputs.shape)}; expected (C, T, H, W) with as many frames."
            )
        return inputs.to(self.options.device)

    def _over_frames(self, maps: Tensor) -> Tensor:
        """Maps (t, h, w) of the model's input over the whole frames, which it may crop."""
        if isinstance(self.preprocess, Preprocessing):
            return self.preprocess.maps_to_frame(maps, self.video.size)
        return maps

    def _boundaries(self) -> list[int]:
        if isinstance(self.options.boundaries, list):
            return self.options.boundaries
        if self.options.boundaries == "none":
            return []
        small = self._resized(_BOUNDARY_HEIGHT)
        disable = not shows_progress(self.options)
        frames = tqdm(small, "finding scenes", small.frame_count, unit="frame", disable=disable)
        return shot_boundaries(torch.from_numpy(frame).movedim(-1, 0)[:, None] for frame in frames)

    def _resized(self, height: int) -> VideoFile:
        own_height, own_width = self.video.size
        if own_width > _MAX_ASPECT * own_height:
            return self.video.resized((None, min(_MAX_ASPECT * height, own_width)))
        return self.video.resized((min(height, own_height), None))

    def _figure(self, explanation: Explanation) -> Any:
        maps, captions = explanation.maps, explanation.captions
        fitting = max_bytes() // (_MEMORY_SHARE * maps[:, 0].nbytes)
        step = -(-maps.shape[1] // max(min(_MAX_FIGURE_FRAMES, fitting), 1))
        frames = np.stack(list(islice(self._resized(_FIGURE_HEIGHT), 0, None, step)))
        shown = np.array(maps[:, ::step])
        peak = int(shown[0].max(axis=(1, 2)).argmax())
        times: dict[str, Any] = {"fps": self.video.times.take(range(0, maps.shape[1], step))}
        if len(captions) > 1:
            times["frames"] = spread_frames(len(frames), peak)
            return visualize_attr_panels(shown, frames, captions, **times)[0]
        regions = explanation.regions[0]
        tubes = [_every(step, tube) for tube in regions["tubes"] if _is_shown(tube, step)]
        tubes = tubes[:_MAX_FIGURE_TUBES]
        middles = [(tube.start + tube.end) // 2 for tube in tubes]
        times["frames"] = spread_frames(len(frames), peak, *middles)
        overlays = Overlays(
            tubes=tubes,
            segments=[_every(step, segment) for segment in regions["segments"]],
            box_size=self.video.size,
        )
        return visualize_video_attr(
            shown[0], frames, **times, overlays=overlays, title=captions[0]
        )[0]

    def _write_overlay(self, heat_map: NDArray[np.float32], path: Path) -> None:
        """The video with a map (T, H, W) over it, on one colour scale; at 0 what ``--start`` is."""
        chosen: Sequence[int] = range(len(heat_map))
        if path.suffix == ".gif":
            chosen = _frames_of_gif(self.video.times)
        is_chosen = np.isin(range(len(heat_map)), chosen)
        style = Style(sign="positive", vmax=float(heat_map.max()) or None)
        pairs = zip(heat_map, self._resized(_OVERLAY_HEIGHT), strict=True)
        frames = (render_image_attr(*pair, style) for pair in compress(pairs, is_chosen))
        disable = not shows_progress(self.options)
        bar = tqdm(frames, path.name, len(chosen), unit="frame", disable=disable)
        edges = self.video.times.edges
        start = min(self.video.sampling.start, edges[0])
        starts = edges[:-1][is_chosen]
        write_video(bar, path, FrameTimes([start, *starts[1:], edges[-1]]))


def _open(options: Namespace) -> VideoFile:
    with usage_errors():
        sampling = Sampling(options.frames, options.every, options.start or 0.0, options.end)
    path: Path = options.input
    if dicom_kind(path) is None:
        return open_video(path, sampling=sampling, fps=options.fps)
    return open_video(read_cine(path, options.series, options.fps), sampling=sampling)


def _float_bytes(size: tuple[int, int]) -> int:
    """The memory of an RGB frame of the size (H, W), as float32."""
    return 3 * size[0] * size[1] * torch.float32.itemsize


def _frames_of_gif(times: FrameTimes) -> list[int]:
    """The frames that leave each one shown for long enough."""
    chosen = [0]
    for frame, start in enumerate(times.edges[:-1]):
        if start - times.edges[chosen[-1]] >= _MIN_GIF_DURATION:
            chosen.append(frame)
    if times.edges[-1] - times.edges[chosen[-1]] < _MIN_GIF_DURATION and len(chosen) > 1:
        chosen.pop()
    return chosen


def _is_shown(tube: localization.Tube, step: int) -> bool:
    """Whether a tube covers one of every ``step``-th frames."""
    return -(-tube.start // step) * step < tube.end


def _every(step: int, region: Any) -> Any:
    """A segment or tube in a video of every ``step``-th frame."""
    start, end = region.start // step, -(-region.end // step)
    if isinstance(region, localization.Tube):
        start = -(-region.start // step)
        boxes = region.boxes[start * step - region.start :: step]
        return replace(region, start=start, boxes=boxes, fps=None)
    return replace(region, start=start, end=end, fps=None)


class _MapFile:
    """Maps (t, H, W), appended one by one to a file."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.size: tuple[int, ...] = ()

    def append(self, heat_map: Tensor) -> None:
        array = np.ascontiguousarray(heat_map.float().numpy())
        self.size = array.shape[1:]
        self.file.write(array.data)

    def read(self, count: int) -> NDArray[np.float32]:
        """All maps, as ``count`` of equal length: (count, T, H, W), memory-mapped."""
        self.file.flush()
        return np.memmap(self.file, np.float32, "r").reshape(count, -1, *self.size)
