"""The map of an input that is too long or too big for one pass: explained in windows, blended."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import index as to_int
from typing import Any, NamedTuple

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam._model_state import preserved_state
from captum_3dcam._restoration import interruptible
from captum_3dcam._targets import (
    per_sample_targets,
    select_output,
    select_probabilities,
    select_scores,
)
from captum_3dcam._validation import check_choice, check_integer, describe
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.sliding._windows import Patch, Position, Window, blend, patches, scene_parts

Scale = str | Callable[[Tensor], Tensor]
SCALES = ("probability", "score", "window")
WHOLE = "whole"


class WindowedAttribution(NamedTuple):
    """A map, and the windows that it was blended from."""

    attribution: Tensor
    """(N, 1, *S)"""
    windows: list[list[Window]]
    """Of each sample, in the order of their starts."""


class MapChunk(NamedTuple):
    """A finished part of the map of a stream."""

    start: int
    """Its first frame."""
    attribution: Tensor
    """(1, 1, t, *S)"""
    windows: list[Window]
    """Those that start at its first frame."""


class SlidingWindowCAM(LayerAttribution, GradientAttribution):  # type: ignore[misc]
    """Any attribution of this package over windows of its input, blended into one map.

    At each position the map is Σ_i w_i f_i M_i / Σ_i w_i, with M_i the map of window i, w_i its
    taper (the distance to the window's nearer edge, multiplied over the axes), which avoids seams,
    and f_i the factor that puts the windows on one scale. A factor is needed because M_i has its
    peak in every window, however little evidence there is. ``scale`` chooses f_i:

    - ``"probability"``: the softmax (of a single score, or a function of the output: the sigmoid)
      of the explained target, so that windows without the class stay dark; of a class of a
      segmentation its mean where that class is predicted. For models that return logits.
      One less it for :class:`RivalCAM`, and 1 for maps that are of no class.
    - ``"score"``: the score itself where it is positive. For models that return probabilities.
    - ``"window"``: 1. Shows where to look within a window, and compares no windows.
    - a function of the scores (B,) of a batch of windows that returns their factors (B,).

    Beside input and output, memory does not grow with the length of the input; :meth:`stream`
    holds neither whole. It is a Captum attribution, so NoiseTunnel and Captum's metrics take it.

    >>> from captum_3dcam import GlobalLocalCAM3D
    >>> head = [nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, 5)]
    >>> model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), *head)
    >>> sliding = SlidingWindowCAM(GlobalLocalCAM3D(model, "0"), window=8)
    >>> sliding.attribute(torch.rand(1, 3, 50, 16, 16)).shape
    torch.Size([1, 1, 50, 16, 16])
    """

    def __init__(
        self,
        cam: LayerwiseCAM,
        window: int | Sequence[int | None],
        stride: int | Sequence[int | None] | None = None,
        *,
        batch_size: int = 8,
        scale: Scale = "probability",
    ) -> None:
        """Choose the windows; the model does not run yet.

        Args:
            cam: the attribution, with its model and layers.
            window: its size along the first spatial axis, or the first few: ``16`` or ``(16,)``
                for time, ``(64, 64, 64)`` for a volume. An axis that is None or not named is not
                cut. An input shorter than the window is padded by repeating its last entry.
            stride: the step from window to window along the same axes; half a window by default.
                A whole window is fastest, a smaller step gives smoother maps.
            batch_size: how many windows the model sees at once.
            scale: what makes the maps of the windows comparable; see above.

        Raises:
            TypeError: for a ``cam`` that is not an attribution of this package.
            ValueError: for sizes below 1, a stride longer than the window, or an unknown scale.
        """
        if not isinstance(cam, LayerwiseCAM):
            raise TypeError(
                "SlidingWindowCAM wraps an attribution of this package, as GlobalLocalCAM3D(model, "
                f"layers); received {type(cam).__name__}."
            )
        if cam.input_layout is not None and not cam.input_layout.is_channels_first:
            raise ValueError(
                "SlidingWindowCAM cuts inputs (N, C, *S); the attribution has input_layout="
                f"{cam.input_layout.text!r}. Wrap the model, so that it moves the axes itself: "
                "lambda x: model(x.movedim(1, 2)) for frames first, and leave input_layout out."
            )
        if not callable(scale):
            check_choice("scale", scale, SCALES)
        LayerAttribution.__init__(self, cam.forward_func, cam.layer, cam.device_ids)
        GradientAttribution.__init__(self, cam.forward_func)
        self.cam, self.scale = cam, scale
        self.window = _per_axis("window", window)
        if all(size is None for size in self.window):
            raise ValueError(f"window={window!r} cuts no axis. Use the attribution by itself.")
        self.stride = _steps(stride, self.window)
        self.batch_size = check_integer("batch_size", batch_size)

    def __repr__(self) -> str:
        return f"SlidingWindowCAM({self.cam!r}, window={self.window}, stride={self.stride})"

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
        progress: bool = False,
    ) -> Tensor | tuple[Tensor]:
        """The map (N, 1, *S) of inputs (N, C, *S), or of a tuple of one input as a tuple.

        The arguments are those of :meth:`attribute_windows`.
        """
        single = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else inputs
        attribution = self.attribute_windows(
            single, target, additional_forward_args, boundaries=boundaries, progress=progress
        ).attribution
        return attribution if single is inputs else (attribution,)

    def attribute_windows(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
        progress: bool = False,
    ) -> WindowedAttribution:
        """The map of inputs (N, C, *S), and what the model predicted in each window.

        Args:
            inputs: the samples, explained one after the other.
            target: what to explain. None: in each window its own highest class. ``"whole"``: in
                all windows of a sample the one that :meth:`whole_target` finds, at the cost of
                another forward pass. Else a target of the attribution, for all windows, or a list
                with one for each sample.
            additional_forward_args: passed on with each batch of windows, as they are.
            boundaries: the first frame of each scene except the first scene, as
                :func:`shot_boundaries` returns them. No window contains two scenes, so that no map
                leaks from one into the other. To a detector's last frames of shots, add 1.
            progress: show a progress bar.

        Raises:
            TypeError, ValueError, IndexError: for inputs, targets or boundaries that do not fit,
                and whatever the attribution raises.
        """
        if not isinstance(inputs, Tensor) or inputs.ndim < 3 or not inputs.numel():
            raise ValueError(
                f"inputs must be a non-empty tensor (N, C, *S); received {describe(inputs)}. One "
                "sample needs a batch axis: inputs[None]."
            )
        cuts = _check_boundaries(boundaries, inputs.shape[2])
        targets = _sample_targets(target, len(inputs))
        attribution: Tensor | None = None
        windows: list[list[Window]] = [[] for _ in inputs]
        total = len(inputs) * inputs.shape[2]
        with tqdm(total=total, unit="frame", desc="explaining", disable=not progress) as bar:
            for sample, (x, own_target) in enumerate(zip(inputs, targets, strict=True)):
                if isinstance(own_target, str):
                    own_target = self.whole_target([x], additional_forward_args, boundaries=cuts)
                for chunk in self._chunks([x], own_target, additional_forward_args, cuts):
                    if attribution is None:
                        maps = chunk.attribution.shape[1]
                        shape = (len(inputs), maps, *inputs.shape[2:])
                        attribution = chunk.attribution.new_empty(shape)
                    stop = chunk.start + chunk.attribution.shape[2]
                    attribution[sample, :, chunk.start : stop] = chunk.attribution[0]
                    windows[sample] += chunk.windows
                    bar.update(stop - chunk.start)
        assert attribution is not None, "inputs are not empty"
        return WindowedAttribution(attribution, windows)

    def stream(
        self,
        chunks: Iterable[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
    ) -> Iterator[MapChunk]:
        """The map of one input that comes in chunks (C, t, *S), in chunks of its own, in order.

        Joined along time they are bitwise equal to the map of :meth:`attribute`, whatever the
        lengths of the chunks. At most ``batch_size`` windows and a chunk are held. The arguments
        are those of :meth:`attribute_windows`; for one class of the whole input, run
        :meth:`whole_target` first.

        Raises as :meth:`attribute_windows`, when the offending chunk is read.

        >>> from torch import nn
        >>> from captum_3dcam import LayerwiseGradCAM
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AvgPool1d(6), nn.Flatten())
        >>> sliding = SlidingWindowCAM(LayerwiseGradCAM(model, "0"), window=8, stride=8)
        >>> chunks = sliding.stream(torch.rand(1, 5) for _ in range(4))
        >>> [(chunk.start, chunk.attribution.shape[2]) for chunk in chunks]
        [(0, 8), (8, 4), (12, 8)]
        """
        if self.window[0] is None:
            raise ValueError(
                f"window={self.window} does not cut the first axis, along which a stream comes. "
                "Give its first entry a size."
            )
        (own_target,) = _sample_targets(target, 1)
        if own_target == WHOLE:
            raise ValueError(
                f"A stream runs once, and target={WHOLE!r} needs a pass before: target = "
                "sliding.whole_target(chunks), and then pass that and the chunks anew."
            )
        cuts = _check_boundaries(boundaries)
        return self._chunks(chunks, own_target, additional_forward_args, cuts)

    def whole_target(
        self,
        chunks: Iterable[Tensor],
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
    ) -> int:
        """The class whose softmax is highest on average over the windows of a stream.

        A forward pass over all windows, without gradients. An input in one piece is a stream of
        one chunk: ``whole_target([inputs[0]])``.

        Raises ValueError for scores that are not (windows, classes), and as :meth:`stream`.
        """
        total: Tensor | None = None
        for scene in self._scenes(chunks, _check_boundaries(boundaries)):
            for batch in scene.batches:
                output = self._output(_stacked(batch), additional_forward_args)
                if output.ndim != 2 or len(output) != len(batch):
                    raise ValueError(
                        f"target={WHOLE!r} needs scores of shape (N, classes); the model returned "
                        f"{tuple(output.shape)} for {len(batch)} windows. Pass the target itself."
                    )
                summed = output.double().softmax(dim=1).sum(dim=0)
                total = summed if total is None else total + summed
        assert total is not None, "a stream without frames is refused"
        return int(total.argmax())

    def _chunks(
        self, chunks: Iterable[Tensor], target: Any, arguments: Any, cuts: Position
    ) -> Iterator[MapChunk]:
        for scene in self._scenes(chunks, cuts):
            maps = self._window_maps(scene, target, arguments)
            for start, values, windows in blend(maps, scene.window, scene.rest):
                yield MapChunk(start, values[None], windows)

    def _scenes(self, chunks: Iterable[Tensor], cuts: Position) -> Iterator["_Scene"]:
        """Scene by scene; each is to be used up before the next one is asked for."""
        for begin, parts in groupby(scene_parts(_checked(chunks), cuts), lambda part: part[0]):
            frames = (part for _, part in parts)
            first = next(frames)
            window, stride = self._window_and_stride(first)
            every = patches(chain([first], frames), window, stride)
            batches = _batched(every, self.batch_size)
            yield _Scene(begin, window, tuple(first.shape[2:]), batches)

    def _window_and_stride(self, x: Tensor) -> tuple[Position, Position]:
        """The window and its stride along all axes of x (C, *S)."""
        size = tuple(x.shape[1:])
        uncut = [None] * (len(size) - len(self.window))
        if len(self.window) > len(size):
            raise ValueError(
                f"window={self.window} is for {len(self.window)} or more spatial axes; the input "
                f"has {len(size)}: {size}."
            )
        return (
            tuple(n if w is None else w for w, n in zip((*self.window, *uncut), size, strict=True)),
            tuple(n if s is None else s for s, n in zip((*self.stride, *uncut), size, strict=True)),
        )

    def _window_maps(
        self, scene: "_Scene", target: Any, arguments: Any
    ) -> Iterator[tuple[Window, Tensor]]:
        """Each window, and its maps (M, *window) times its factor."""
        for batch in scene.batches:
            maps, output = self.cam.attribute_with_output(_stacked(batch), target, arguments)
            predictions, factors = self._predictions(output, target, len(batch))
            scaled = maps * factors.to(maps).reshape(*factors.shape, *[1] * (maps.ndim - 2))
            for patch, each, prediction in zip(batch, scaled, predictions, strict=True):
                start, stop = ((scene.begin + p[0], *p[1:]) for p in (patch.start, patch.stop))
                yield Window(start, stop, *prediction), each

    def _predictions(
        self, output: Tensor, target: Any, count: int
    ) -> tuple[list["_Prediction"], Tensor]:
        """What the model predicts in each of ``count`` windows, and their maps' factors, (n, M)."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        multiclass = output.ndim > 1 and output.shape[1] > 1
        predicted = output.argmax(dim=1).tolist() if multiclass and output.ndim == 2 else None
        explained = predicted if target is None else target
        scores = select_scores(output, explained)
        if len(scores) != count:
            raise ValueError(
                f"The model returned an output of shape {tuple(output.shape)} for {count} windows; "
                "each needs a score of its own. Keep the batch axis in forward_func."
            )
        if self.scale == "probability":
            factors = select_probabilities(output, explained)
        else:
            factors = self._factors(scores)
        of_maps = factors[:, None]
        if self.scale in ("probability", "score"):
            of_maps = self.cam._window_factors(factors)
        predictions = [
            _Prediction(*fields)
            for fields in zip(
                predicted or [None] * count,
                explained if isinstance(explained, list) else [explained] * count,
                scores.tolist(),
                of_maps[:, 0].tolist(),
                strict=True,
            )
        ]
        return predictions, of_maps

    def _factors(self, scores: Tensor) -> Tensor:
        if self.scale == "score":
            return scores.relu()
        if not callable(self.scale):
            return torch.ones_like(scores)
        factors = self.scale(scores)
        if not isinstance(factors, Tensor) or factors.shape != scores.shape:
            raise ValueError(
                f"A scale function takes the scores of a batch of windows, {tuple(scores.shape)}, "
                f"and returns as many factors; this one returned {describe(factors)}."
            )
        return factors

    def _output(self, x: Tensor, arguments: Any) -> Tensor:
        forward_func = self.cam.forward_func
        several = arguments if isinstance(arguments, tuple) else (arguments,)
        roots = [forward_func] if isinstance(forward_func, nn.Module) else []
        with preserved_state(*roots, tensors=[x]), torch.no_grad(), interruptible():
            returned = forward_func(x, *(() if arguments is None else several))
        return select_output(returned, self.cam.output)


class _Scene(NamedTuple):
    """A stretch of the input that windows do not leave, in batches of windows."""

    begin: int
    window: Position
    rest: Position
    """The input's size without time."""
    batches: Iterator[list[Patch]]


class _Prediction(NamedTuple):
    """What the model predicts in one window: the last fields of :class:`Window`."""

    predicted: int | None
    target: Any
    score: float
    factor: float


def _batched(items: Iterator[Patch], size: int) -> Iterator[list[Patch]]:
    while batch := list(islice(items, size)):
        yield batch


def _stacked(batch: list[Patch]) -> Tensor:
    return torch.stack([patch.values for patch in batch])


# -------------------------------------------------------------------------- input validation


def _checked(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The chunks themselves, if they can be parts of one input."""
    if isinstance(chunks, Tensor):
        raise TypeError(
            "chunks must be an iterable of tensors (C, t, *S); received one tensor. Pass a list, "
            "[frames], or call attribute(frames[None])."
        )
    shape = None
    for chunk in chunks:
        if not isinstance(chunk, Tensor) or chunk.ndim < 2 or not chunk.numel():
            raise ValueError(
                f"A chunk must be a non-empty tensor (C, t, *S); received {describe(chunk)}."
            )
        others = (chunk.shape[0], *chunk.shape[2:])
        if shape not in (None, others):
            raise ValueError(
                f"Chunks may differ in length only, their second axis; received {describe(chunk)} "
                f"after chunks of {(shape[0], 't', *shape[1:])}."
            )
        shape = others
        yield chunk
    if shape is None:
        raise ValueError("The stream gave no frames.")


def _check_boundaries(boundaries: Sequence[int], length: int | None = None) -> Position:
    cuts = tuple(map(to_int, boundaries))
    if list(cuts) != sorted(set(cuts)) or min(cuts, default=1) < 1:
        raise ValueError(
            f"boundaries={list(cuts)} must rise, from 1 on: each is the first frame of a scene, "
            "and the first scene, from frame 0, is not among them."
        )
    if length is not None and max(cuts, default=0) >= length:
        raise ValueError(f"boundaries={list(cuts)} do not lie within the input's {length} frames.")
    return cuts


def _sample_targets(target: Any, count: int) -> list[Any]:
    """The target of each sample; windows get the target of their sample."""
    if isinstance(target, str):
        check_choice("target", target, (WHOLE,))
    return per_sample_targets(target, count)


def _per_axis(name: str, values: Any) -> tuple[int | None, ...]:
    several = values if isinstance(values, Sequence) else (values,)
    return tuple(None if value is None else check_integer(name, value) for value in several)


def _steps(stride: Any, window: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The stride along each axis; None where the window is."""
    steps = _per_axis("stride", stride)
    if not isinstance(stride, Sequence):
        steps *= len(window)
    if len(steps) != len(window):
        raise ValueError(
            f"stride={stride!r} must be one number, or one for each of the {len(window)} axes of "
            f"window={window}."
        )
    filled = []
    for step, size in zip(steps, window, strict=True):
        if size is not None and step is not None and step > size:
            raise ValueError(
                f"stride={stride!r} is longer than window={window}: it would leave gaps."
            )
        filled.append(None if size is None else step or max(size // 2, 1))
    return tuple(filled)
