"""A video of any length explained, decoded piece by piece: map, tubes, segments, overlay, figure.

A video that fits into one window is explained in one pass. Of a longer one, neither frames nor
map are ever in memory whole: the map goes through a file without a name.
"""

from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

from captum_3dcam import localization
from captum_3dcam.cli import _progress as progress
from captum_3dcam.cli._errors import WrongUseError
from captum_3dcam.cli._explained import Explained, map_metadata, name_of_file
from captum_3dcam.cli._explainer import Explainer, Said
from captum_3dcam.cli._model import Prepare, preparation
from captum_3dcam.cli._writing import rounded, save_figure, spread
from captum_3dcam.functional import temporal_profile
from captum_3dcam.io import VideoFile, open_video, save_map, write_video
from captum_3dcam.localization import Segment, Tube
from captum_3dcam.sliding import shot_boundaries
from captum_3dcam.visualization import visualize_classes_attr, visualize_video_attr
from captum_3dcam.visualization.style import Look, pictures

Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]

_WINDOW = 16  # frames
_CHUNK = 16  # frames that are decoded and prepared at once
_SHOTS_HEIGHT = 64  # pixels, of the frames in which shots are told apart
_OVERLAY_HEIGHT = 480  # at most
_FIGURE_HEIGHT = 240
_FIGURE_FRAMES = 256  # at most; of a longer video every second, third, ... frame
_MAX_TUBES = 20  # in the report
_MIN_IOU, _MAX_GAP = 0.1, 2  # of boxes that are joined to tubes: maps flicker
_SHOWN_TUBES = 3  # in the figure
_FASTEST_GIF = 50


def explain(options: Namespace, explainer: Explainer, folder: Path) -> Explained:
    """Write ``map.npz`` (classes, T, H, W), of the model's size, a figure, and overlays."""
    prepare = preparation(explainer.module, options)
    footage = _Footage(options, prepare, explainer)
    with TemporaryFile(dir=folder) as file:
        said, maps = footage.explained(_Store(file))
        files = {"map": folder / "map.npz"}
        metadata = map_metadata(options, explainer, said) | {"fps": footage.fps}
        save_map(maps, files["map"], metadata)
        places = [_Places.of(heat, footage) for heat in maps]
        files["figure"] = folder / "figure.png"
        save_figure(_figure(maps, said, places, footage), files["figure"])
        overlay = options.overlay or "mp4"
        for each, heat in zip(said, maps, strict=True):
            if overlay != "none":
                name = name_of_file("overlay", each, len(said) > 1)
                files[name] = folder / f"{name}.{overlay}"
                _write_overlay(heat, footage, files[name])
        about = {
            "size": list(footage.size),
            "frames": maps.shape[1],
            "fps": footage.fps,
            "boundaries": footage.boundaries,
            "model_size": list(maps.shape[2:]),
        }
        results = [(s, place.report(footage.fps)) for s, place in zip(said, places, strict=True)]
        return Explained(about, results, files)


class _Store:
    """The maps (t, H, W) that come one after the other, on disk."""

    def __init__(self, file: Any) -> None:
        self.file, self.size = file, (0, 0)

    def keep(self, heat: Tensor) -> None:
        array = np.ascontiguousarray(heat.float().numpy())
        self.size = array.shape[1:]
        self.file.write(array.data)

    def maps(self, count: int) -> Heat:
        """All of them as (count, T, H, W)."""
        self.file.flush()
        stored = np.memmap(self.file, np.float32, "r")
        return stored.reshape(count, -1, *self.size)


class _Footage:
    """The video, where its scenes begin, and how the model sees it."""

    def __init__(self, options: Namespace, prepare: Prepare, explainer: Explainer) -> None:
        self.options, self.prepare, self.explainer = options, prepare, explainer
        self.video = open_video(options.input)
        self.fps, self.size = self.video.fps, self.video.size
        self.boundaries = self._boundaries()

    def explained(self, store: _Store) -> tuple[list[Said], Heat]:
        """The classes, and their maps (classes, T, H, W)."""
        explainer = self.explainer
        if explainer.window is None:
            explainer = replace(explainer, window=(_WINDOW,))
        length = explainer.window[0] if explainer.window else _WINDOW
        # One more than a window, to see whether there is more.
        head = self._prepared(next(self.video.chunks(length + 1)))[None]
        if explainer.fits(head.shape[2:]) and not self.boundaries:
            found = explainer.once(head)
            for _, heat in found:
                store.keep(heat)
            return [said for said, _ in found], store.maps(len(found))
        total = self.video.frame_count and self.video.frame_count * explainer.passes()
        with progress.bar(self.options, "explaining", total, "frame") as advance:
            first = head[:, :, :length]
            said = explainer.slide(first, self._chunks, self.boundaries, store.keep, advance)
        return said, store.maps(len(said))

    def _chunks(self) -> Iterator[Tensor]:
        return (self._prepared(chunk) for chunk in self.video.chunks(_CHUNK))

    def _prepared(self, frames: Pixels) -> Tensor:
        """(T, H, W, 3) bytes -> (C, T, H', W') as the model takes it."""
        x = self.prepare(torch.from_numpy(frames).movedim(-1, 0))
        if x.ndim != 4 or x.shape[1] != len(frames):
            raise WrongUseError(
                f"The model's PREPROCESSING makes {tuple(x.shape)} of {len(frames)} frames; "
                "expected (C, T, H, W) with as many."
            )
        return x.to(self.explainer.device)

    def _boundaries(self) -> list[int]:
        given = self.options.boundaries or "auto"
        if isinstance(given, list):
            return given
        if given == "none":
            return []
        small = open_video(self.options.input, (min(_SHOTS_HEIGHT, self.size[0]), None))
        with progress.bar(self.options, "finding scenes", small.frame_count, "frame") as advance:

            def chunks() -> Iterator[Tensor]:
                for chunk in small.chunks(_CHUNK):
                    yield torch.from_numpy(chunk).movedim(-1, 0)
                    advance(len(chunk))

            return shot_boundaries(chunks())

    def thinned(self, step: int) -> Pixels:
        """Every so many frames, small."""
        small = self.small(_FIGURE_HEIGHT)
        return np.stack([frame for number, frame in enumerate(small) if number % step == 0])

    def small(self, height: int) -> VideoFile:
        return open_video(self.options.input, (min(height, self.size[0]), None))


# ------------------------------------------------------------------------------------ results


@dataclass(frozen=True)
class _Places:
    """Where and when a map is high; tubes and boxes in its own pixels."""

    size: tuple[int, int]
    """Of the map's frames."""
    scale: Tensor
    """From its pixels to the video's: x0, y0, x1, y1."""
    tubes: list[Tube]
    segments: list[Segment]

    @classmethod
    def of(cls, heat: Heat, footage: _Footage) -> "_Places":
        """A chunk at a time, so that a long map need not lie in memory."""
        highest = float(heat.max())
        profile: list[Tensor] = []
        boxes: list[localization.Boxes] = []
        for start in range(0, len(heat), _CHUNK):
            part = torch.from_numpy(np.array(heat[start : start + _CHUNK]))[None, None]
            profile.append(temporal_profile(part))
            # Half the maximum of the whole, as localization has it for a clip.
            inside = part > max(highest / 2, 0.0)
            boxes += localization.frame_boxes(part, inside, select="all")[0]
        height, width = (n / m for n, m in zip(footage.size, heat.shape[1:], strict=True))
        return cls(
            heat.shape[1:],
            torch.tensor([width, height, width, height]),
            localization.link([boxes], _MIN_IOU, _MAX_GAP, fps=footage.fps)[0],
            localization.segments(torch.cat(profile, dim=1), fps=footage.fps)[0],
        )

    def report(self, fps: float) -> dict[str, Any]:
        """In pixels of the video, frames and seconds; the best come first."""
        return {
            "segments": [
                {
                    "start": segment.start,
                    "end": segment.end,
                    "seconds": rounded(segment.seconds),
                    "score": segment.score,
                }
                for segment in self.segments
            ],
            "tubes": [
                {
                    "start": tube.start,
                    "end": tube.end,
                    "seconds": rounded(tube.seconds),
                    "score": tube.score,
                    "boxes": rounded((tube.boxes * self.scale).tolist()),
                }
                for tube in self.tubes[:_MAX_TUBES]
            ],
        }


# ----------------------------------------------------------------------------------- pictures


def _figure(maps: Heat, said: list[Said], places: list[_Places], footage: _Footage) -> Any:
    step = -(-maps.shape[1] // _FIGURE_FRAMES)
    frames = footage.thinned(step)
    shown, fps = np.array(maps[:, ::step]), footage.fps / step
    names, scores = [each.name for each in said], [each.probability for each in said]
    peak = int(shown[0].max(axis=(1, 2)).argmax())
    at: dict[str, Any] = {"frames": spread(len(frames), peak), "fps": fps}
    if len(said) > 1:
        return visualize_classes_attr(shown, frames, names, scores, **at)[0]
    (place,) = places
    return visualize_video_attr(
        shown[0],
        frames,
        **at,
        # A thinned clip has no frame for each of a tube's boxes.
        tubes=place.tubes[:_SHOWN_TUBES] if step == 1 else None,
        segments=[_thinned(segment, step) for segment in place.segments],
        class_name=names[0],
        class_score=scores[0],
    )[0]


def _thinned(segment: Segment, step: int) -> Segment:
    return replace(segment, start=segment.start // step, end=-(-segment.end // step), fps=None)


def _write_overlay(heat: Heat, footage: _Footage, path: Path) -> None:
    """The video with the map over it, under one colour scale."""
    look = Look("blended_heat_map", "positive", None, 0.8, None).over([heat])
    step = -(-int(footage.fps) // _FASTEST_GIF) if path.suffix == ".gif" else 1
    video = footage.small(_OVERLAY_HEIGHT)
    frames = (
        _blended(values, frame, look)
        for number, (values, frame) in enumerate(zip(heat, video, strict=False))
        if number % step == 0
    )
    with progress.bar(footage.options, path.name, len(heat) // step, "frame") as advance:
        write_video(_counted(frames, advance), path, footage.fps / step)


def _counted(frames: Iterable[Pixels], advance: progress.Advance) -> Iterator[Pixels]:
    for frame in frames:
        yield frame
        advance(1)


def _blended(values: Heat, frame: Pixels, look: Look) -> Pixels:
    """The frame (H, W, 3) as visualization draws it, as bytes."""
    size = frame.shape[:2]
    low = torch.from_numpy(np.array(values))[None, None]
    heat = F.interpolate(low, size, mode="bilinear")[0, 0].numpy()
    drawn = np.zeros((*size, 3), np.float32)
    for picture in pictures(heat, frame.astype(np.float32) / 255, look):
        colours = colormaps.get_cmap(picture.cmap)(picture.norm(picture.data))[..., :3]
        alpha = 1.0 if picture.alpha is None else picture.alpha[..., None]
        drawn += (colours - drawn) * alpha
    pixels: Pixels = (drawn * 255).round().astype(np.uint8)
    return pixels
