"""What a network says about an input, and where it looked: one object for all that shows it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_3dcam._files import StrPath
from captum_3dcam._validation import check_integer, describe, show
from captum_3dcam.explanation import _regions as regions
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.functional import upsample
from captum_3dcam.io import Volume
from captum_3dcam.localization import Boxes, Segment, Tube
from captum_3dcam.sliding import Window


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The maps of the classes of N samples, with their scores; :func:`captum_3dcam.explain`.

    In a notebook it shows as the viewer. ``explanation[i]`` is that of one sample. It can be
    pickled, and :meth:`save` and :meth:`load` run no code.
    """

    attribution: Tensor
    """(N, k, *S): of each sample the maps of k classes, over the whole of the original."""
    classes: list[list[Any]]
    """N lists of k targets: class indices, tuples, or None for a model of one score."""
    class_names: list[list[str]]
    """Likewise."""
    scores: Tensor
    """(N, k), as the model returns them; over windows, the mean."""
    probabilities: Tensor
    """(N, k); NaN where there is none: of values, and of functions of the output."""
    kind: str
    """"image", "video" or "volume"."""
    originals: list[Any]
    """N: pixels (H, W, 3), an ``io.VideoFile``, an ``io.Volume`` or a ``visualization.Scan``; None
    after :meth:`load` without one."""
    method: str
    layers: list[str]
    times: FrameTimes | None = None
    """Of the frames of a video."""
    layer_maps: dict[str, Tensor] = field(default_factory=dict)
    """By layer, maps (N, k, *S) of the method, if they were requested."""
    method_maps: dict[str, Tensor] = field(default_factory=dict)
    """By method, those of the others that were requested."""
    windows: list[list[Sequence[Window]]] = field(default_factory=list)
    """N lists of k: the windows that were explained; empty for one pass."""
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """The input's: size, times, affine and so on, for the report."""
    model: dict[str, Any] = field(default_factory=dict)
    """Its name, its preprocessing, and what else the report says of it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Those of the call."""
    fingerprint: str = ""
    """What tells the input from others, without its name."""
    _regions: dict[Any, Any] = field(default_factory=dict, init=False)
    """Those that were found: the report, the figure and the viewer ask for them."""

    def __repr__(self) -> str:
        names = ", ".join(map(repr, dict.fromkeys(n for row in self.class_names for n in row)))
        shape = tuple(self.attribution.shape)
        return f"Explanation({self.kind}, {self.method} of {names}, attribution={shape})"

    def __len__(self) -> int:
        return len(self.attribution)

    def __getitem__(self, sample: int) -> "Explanation":
        number = range(len(self))[index(sample)]
        part = slice(number, number + 1)
        fingerprint = self.fingerprint if len(self) == 1 else f"{self.fingerprint}-{number}"
        return replace(
            self,
            fingerprint=fingerprint,
            attribution=self.attribution[part],
            classes=self.classes[part],
            class_names=self.class_names[part],
            scores=self.scores[part],
            probabilities=self.probabilities[part],
            originals=self.originals[part],
            layer_maps={name: maps[part] for name, maps in self.layer_maps.items()},
            method_maps={name: maps[part] for name, maps in self.method_maps.items()},
            windows=self.windows[part],
            warnings=[text for text in self.warnings if is_of_sample(text, number)],
        )

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: without the other maps and samples that a map's storage holds."""
        return {
            **vars(self),
            "attribution": self.attribution.clone(),
            "layer_maps": {name: maps.clone() for name, maps in self.layer_maps.items()},
            "method_maps": {name: maps.clone() for name, maps in self.method_maps.items()},
            "scores": self.scores.clone(),
            "probabilities": self.probabilities.clone(),
            # Functions are not pickled: their names stand for them.
            "classes": [
                [name if callable(target) else target for target, name in zip(*pair, strict=True)]
                for pair in zip(self.classes, self.class_names, strict=True)
            ],
        }

    def with_maps(self, name: str, maps: Tensor) -> "Explanation":
        """The explanation with the maps of another method beside its own, as Captum's.

        ``maps`` are (N, k, *S') of the same classes, over the whole of the original, on any grid.
        Raises ValueError for another number of samples, classes or axes.
        """
        own = self.attribution
        maps = torch.as_tensor(maps)
        if name in (self.method, *self.method_maps, *self.layer_maps):
            raise ValueError(f"name={name!r}: there are maps of this name. Choose another one.")
        if maps.shape[:2] != own.shape[:2] or maps.ndim != own.ndim:
            raise ValueError(
                f"Expected maps (N, k, *S) = ({len(self)}, {own.shape[1]}, ...) with "
                f"{own.ndim - 2} spatial axes; received {describe(maps)}."
            )
        drawn = upsample(maps.detach().float().cpu(), own.shape[2:])
        return replace(self, method_maps={**self.method_maps, name: drawn})

    # --------------------------------------------------------------------------- localisation

    def boxes(self, rank: int = 0, sample: int = 0) -> Boxes:
        """Around the components above half of the maximum, in pixels or voxels of the original.

        ``rank`` is the number of the class among the k, ``sample`` that of the sample among the N,
        as in the other methods. Of a volume a box is (x0, y0, z0, x1, y1, z1), in W, H, D.

        Raises ValueError for a video, whose frames have tubes, and for numbers out of range.
        """
        if self.kind == "video":
            raise ValueError("A video has no boxes of its own: see tubes().")
        return self._find("boxes", rank, sample, self.size)  # type: ignore[no-any-return]

    def tubes(self, rank: int = 0, sample: int = 0) -> list[Tube]:
        """Boxes above half of the maximum, linked over the frames of a video, the best first.

        Raises ValueError for an image or a volume.
        """
        self._check_video("tubes")
        return list(self._find("tubes", rank, sample, self.size, self.times))

    def segments(self, rank: int = 0, sample: int = 0) -> list[Segment]:
        """The times of a video in which its profile is above half of the maximum.

        Raises ValueError for an image or a volume.
        """
        self._check_video("segments")
        return list(self._find("segments", rank, sample, self.times))

    def profile(self, rank: int = 0, sample: int = 0) -> Tensor:
        """The map's mean over space in each frame of a video, (T,).

        Raises ValueError for an image or a volume.
        """
        self._check_video("profile")
        return regions.find_profile(self.heat_map(rank, sample))

    def peak(self, rank: int = 0, sample: int = 0) -> tuple[int, ...] | None:
        """The index of the map's maximum; None if the map is zero."""
        return regions.find_peak(self.heat_map(rank, sample))

    def peak_mm(self, rank: int = 0, sample: int = 0) -> list[float] | None:
        """The patient's coordinates (R, A, S) of the maximum, in mm; None if the map is zero.

        Raises ValueError for what is no ``io.Volume``.
        """
        grid = self.grid
        if grid is None:
            kind = type(self.originals[sample]).__name__
            raise ValueError(f"mm are those of an io.Volume; this is {kind}.")
        voxel = self.peak(rank, sample)
        return None if voxel is None else grid.to_mm(voxel)

    @property
    def grid(self) -> Volume | None:
        """The scan, or zeros on its grid if it was not loaded; None without an affine."""
        scan = self.originals[0]
        if isinstance(scan, Volume):
            return scan
        affine = self.facts.get("affine") if self.kind == "volume" and scan is None else None
        return None if affine is None else Volume(np.zeros(self.size, np.float32), affine)

    def heat_map(self, rank: int = 0, sample: int = 0) -> Tensor:
        """One map, (*S)."""
        for name, value, count in (
            ("rank", rank, self.attribution.shape[1]),
            ("sample", sample, len(self)),
        ):
            if check_integer(name, value, minimum=0) >= count:
                raise ValueError(f"{name}={show(value)}: there are {count}, from 0.")
        return self.attribution[sample, rank]

    def _find(self, name: str, rank: int, sample: int, *arguments: Any) -> Any:
        key = (name, rank, sample)
        if key not in self._regions:
            find = getattr(regions, f"find_{name}")
            self._regions[key] = find(self.heat_map(rank, sample), *arguments)
        return self._regions[key]

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of an image or of frames, (D, H, W) of a volume."""
        return tuple(self.facts["size"])

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W)"""
        return self.size[-2], self.size[-1]

    def _check_video(self, name: str) -> None:
        if self.kind != "video":
            raise ValueError(f"{name}() is of videos, and this is of kind {self.kind!r}.")

    # ----------------------------------------------------------------------------- what shows it

    @property
    def captions(self) -> list[list[str]]:
        """N lists of k class names with their probabilities, or scores where there is none."""
        rows = zip(self.class_names, self.scores.tolist(), self.probabilities.tolist(), strict=True)
        return [list(map(_caption, *row)) for row in rows]

    def figure(self, sample: int = 0) -> Any:
        """A matplotlib figure: of one class its regions too, of several a row each."""
        from captum_3dcam.explanation._figures import draw

        return next(draw(self[sample]))[1]

    def html(self, sample: int = 0) -> str:
        """The viewer as a page of HTML that needs no other file, and no network."""
        from captum_3dcam.explanation import _content, viewer

        return viewer.viewer_page(_content.viewer_content(self[sample]))

    def widget(self, sample: int = 0) -> Any:
        """The viewer as an anywidget (extra ``notebook``)."""
        from captum_3dcam.explanation import _content, viewer

        return viewer.make_widget(_content.viewer_content(self[sample]))

    def _repr_html_(self) -> str:
        from captum_3dcam.explanation import _content, viewer

        shown = (_content.viewer_content(self[number]) for number in range(len(self)))
        return "\n".join(map(viewer.notebook_html, shown))

    # --------------------------------------------------------------------------------- files

    def save(self, folder: StrPath, *, overlay: str = "mp4", command: str = "") -> dict[str, Path]:
        """Write the viewer and all results of an input to a folder; the paths by their names.

        ``report.html`` with the viewer, ``report.json``, figures, and the map: ``map.npz``, and of
        a scan a NIfTI or its own format that lies on it; of a video the overlay (``overlay`` is
        "mp4", "gif" or "none"). Nothing holds the input's name. The folder has a complete result,
        or what it had before. Of several samples each has a folder of its own in it, and they are
        written one after the other.

        Raises ValueError for a folder that holds the result of another input, or other files of
        these names.
        """
        from captum_3dcam.explanation._saving import save

        return save(self, Path(folder), overlay, command)

    @classmethod
    def load(cls, folder: StrPath, original: Any = None) -> "Explanation":
        """The explanation of one input that :meth:`save` wrote; no code in it is run.

        ``original`` is what was explained, for figures and the viewer: pixels, an ``io.VideoFile``
        of the same frames, an ``io.Volume``. The folder does not hold it.

        Raises FileNotFoundError, and ValueError for other files and another original.
        """
        from captum_3dcam.explanation._saving import load

        return load(Path(folder), original)


def _caption(name: str, score: float, probability: float) -> str:
    is_known = not math.isnan(probability)
    return f"{name} ({probability:.2f})" if is_known else f"{name} (score {score:.3g})"


def is_of_sample(warning: str, sample: int) -> bool:
    """Whether a warning names no sample, or this one."""
    named = re.search(r"sample\(s\) (\d+(?:, \d+)*)", warning)
    return named is None or str(sample) in named[1].split(", ")
