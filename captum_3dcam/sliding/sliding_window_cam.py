"""One map of an input that is too long or too big for one pass: window by window, and blended."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import chain, groupby, islice
from operator import index as to_int
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_3dcam._capture import select_scores
from captum_3dcam._model_state import all_modules, modules_behind, unchanged
from captum_3dcam._progress import advancing
from captum_3dcam._validation import check_choice, check_integer
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.sliding._windows import Patch, Place, Window, blend, patches, scene_parts

Scale = str | Callable[[Tensor], Tensor]
SCALES = ("probability", "score", "window")
WHOLE = "whole"


class Explanation(NamedTuple):
    """A map, and what each window said."""

    attribution: Tensor
    """(N, 1, *S)"""
    windows: list[list[Window]]
    """Of each sample, in the order of their starts."""


class Piece(NamedTuple):
    """A finished part of the map of a stream."""

    start: int
    """Its first frame."""
    attribution: Tensor
    """(1, 1, t, *S)"""
    windows: list[Window]
    """Those that start at its first frame."""


class SlidingWindowCAM:
    """Any attribution of this package over windows of its input, blended into one map.

    At each place the map is Σ_i w_i f_i M_i / Σ_i w_i: M_i is the map of window i, w_i its taper
    (the distance to the window's nearer edge, multiplied over the axes), so that there are no
    seams, and f_i the factor that puts the windows on one scale. It needs one, for M_i has its
    peak in every window, of whatever little the model saw there. ``scale`` says what f_i is:

    - ``"probability"``: the softmax (of a single score: the sigmoid) of what is explained. A
      window in which the model does not say so does not glow. For models that return logits.
    - ``"score"``: the score itself where it is positive. For models that return probabilities.
    - ``"window"``: 1. It shows where to look within a window, and compares none with another.
    - a function of the scores (B,) of a batch of windows that returns their factors (B,).

    Beside input and output, memory does not grow with the length of the input; :meth:`stream`
    holds neither whole.

    >>> from torch import nn
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
                cut. An input shorter than the window is padded with its last place.
            stride: the step from window to window along the same axes; half a window by default.
                A whole window is cheapest, a smaller step gives smoother maps.
            batch_size: how many windows the model sees at once.
            scale: what makes the maps of the windows comparable; see above.

        Raises:
            TypeError: for a ``cam`` that is none of this package's.
            ValueError: for sizes below 1, a stride longer than the window, or an unknown scale.
        """
        if not isinstance(cam, LayerwiseCAM):
            raise TypeError(
                "SlidingWindowCAM wraps an attribution of this package, as GlobalLocalCAM3D(model, "
                f"layers); got {type(cam).__name__}."
            )
        if not callable(scale):
            check_choice("scale", scale, SCALES)
        self.cam, self.scale = cam, scale
        self.window = _per_axis("window", window)
        if all(size is None for size in self.window):
            raise ValueError(f"window={window!r} cuts no axis. Use the attribution by itself.")
        self.stride = _steps(stride, self.window)
        self.batch_size = _counted("batch_size", batch_size)

    def attribute(
        self,
        inputs: Tensor,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
        progress: bool = False,
    ) -> Tensor:
        """The map (N, 1, *S) of inputs (N, C, *S); all else is as in :meth:`explain`."""
        return self.explain(
            inputs, target, additional_forward_args, boundaries=boundaries, progress=progress
        ).attribution

    def explain(
        self,
        inputs: Tensor,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
        progress: bool = False,
    ) -> Explanation:
        """The map of inputs (N, C, *S), at most that of the attribution times a factor; windows.

        Args:
            inputs: the samples, taken one after the other.
            target: what to explain. None: in each window its own highest class. ``"whole"``: in
                all windows of a sample the one that :meth:`whole_target` finds, at the cost of
                another forward pass. Else any of Captum's forms, for all windows: an int, a
                tuple, or a list of these with one for each sample.
            additional_forward_args: passed on with each batch of windows, as they are.
            boundaries: the first frame of each scene but the first scene, as
                :func:`shot_boundaries` gives them; no window sees two scenes, so that no map
                smears over both. A detector that names the last frame of a shot needs 1 added.
            progress: show a bar; it needs the extra ``progress``.

        Raises:
            TypeError, ValueError, IndexError: for inputs, targets or boundaries that do not fit,
                and whatever else the attribution raises; ImportError for ``progress`` without tqdm.
        """
        if not isinstance(inputs, Tensor) or inputs.ndim < 3 or not inputs.numel():
            came = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise ValueError(
                f"inputs must be a tensor (N, C, *S) with something in it; got {came}. One sample "
                "needs a batch axis: inputs[None]."
            )
        cuts = _checked_boundaries(boundaries, inputs.shape[2])
        targets = _target_of_each(target, len(inputs))
        attribution: Tensor | None = None
        windows: list[list[Window]] = [[] for _ in inputs]
        total = len(inputs) * inputs.shape[2]
        shown = {"total": total, "unit": "frame", "desc": "explaining"}
        with advancing(progress, **shown) as advance:
            for i, (x, wanted) in enumerate(zip(inputs, targets, strict=True)):
                if isinstance(wanted, str):
                    wanted = self.whole_target([x], additional_forward_args, boundaries=cuts)
                for piece in self._pieces([x], wanted, additional_forward_args, cuts):
                    if attribution is None:
                        shape = (len(inputs), 1, *inputs.shape[2:])
                        attribution = piece.attribution.new_empty(shape)
                    frames = piece.attribution.shape[2]
                    attribution[i, :, piece.start : piece.start + frames] = piece.attribution[0]
                    windows[i] += piece.windows
                    advance(frames)
        assert attribution is not None, "inputs that hold something give at least one piece"
        return Explanation(attribution, windows)

    def stream(
        self,
        chunks: Iterable[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        boundaries: Sequence[int] = (),
    ) -> Iterator[Piece]:
        """The map in pieces, in order, of one input that comes in chunks (C, t, *S), in order.

        Joined along time the pieces are the map of :meth:`attribute`, to the bit, whatever the
        chunks' lengths. At most ``batch_size`` windows and a chunk are held. The arguments are
        those of :meth:`explain`; for one class of the whole, run :meth:`whole_target` first.

        Raises as :meth:`explain`, when the offending chunk comes.

        >>> from torch import nn
        >>> from captum_3dcam import LayerwiseGradCAM
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.AvgPool1d(6), nn.Flatten())
        >>> sliding = SlidingWindowCAM(LayerwiseGradCAM(model, "0"), window=8, stride=8)
        >>> pieces = sliding.stream(torch.rand(1, 5) for _ in range(4))
        >>> [(piece.start, piece.attribution.shape[2]) for piece in pieces]
        [(0, 8), (8, 4), (12, 8)]
        """
        self._refuse_uncut_time()
        (wanted,) = _target_of_each(target, 1)
        if wanted == WHOLE:
            raise ValueError(
                f"A stream runs once, and target={WHOLE!r} needs a pass before: target = "
                "sliding.whole_target(chunks), and then give that and the chunks anew."
            )
        cuts = _checked_boundaries(boundaries)
        return self._pieces(chunks, wanted, additional_forward_args, cuts)

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
        for scene in self._scenes(chunks, _checked_boundaries(boundaries)):
            for batch in scene.batches:
                output = self._scores(_stacked(batch), additional_forward_args)
                if output.ndim != 2 or len(output) != len(batch):
                    raise ValueError(
                        f"target={WHOLE!r} needs scores of shape (N, classes); the model returned "
                        f"{tuple(output.shape)} for {len(batch)} windows. Give the target itself."
                    )
                summed = output.double().softmax(dim=1).sum(dim=0)
                total = summed if total is None else total + summed
        assert total is not None, "a stream without frames is refused"
        return int(total.argmax())

    # ------------------------------------------------------------------------------- inside

    def _pieces(
        self, chunks: Iterable[Tensor], target: Any, arguments: Any, cuts: Place
    ) -> Iterator[Piece]:
        for scene in self._scenes(chunks, cuts):
            maps = self._explained(scene, target, arguments)
            for start, values, windows in blend(maps, scene.window, scene.rest):
                yield Piece(start, values[None, None], windows)

    def _scenes(self, chunks: Iterable[Tensor], cuts: Place) -> Iterator["_Scene"]:
        """Scene by scene; each is to be used up before the next one is asked for."""
        for begin, parts in groupby(scene_parts(_checked(chunks), cuts), lambda part: part[0]):
            frames = (part for _, part in parts)
            first = next(frames)
            window, stride = self._geometry(first)
            every = patches(chain([first], frames), window, stride)
            batches = _batched(every, self.batch_size)
            yield _Scene(begin, window, tuple(first.shape[2:]), batches)

    def _geometry(self, x: Tensor) -> tuple[Place, Place]:
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

    def _explained(
        self, scene: "_Scene", target: Any, arguments: Any
    ) -> Iterator[tuple[Window, Tensor]]:
        for batch in scene.batches:
            outputs: list[Tensor] = []
            maps = _listening(self.cam, outputs).attribute(_stacked(batch), target, arguments)
            said = self._said(outputs[-1].detach(), target, len(batch))
            for patch, each, words in zip(batch, maps[:, 0], said, strict=True):
                start, stop = (
                    (scene.begin + place[0], *place[1:]) for place in (patch.start, patch.stop)
                )
                yield Window(start, stop, *words), each * words.factor

    def _said(self, output: Tensor, target: Any, count: int) -> list["_Words"]:
        """What the model said in each of ``count`` windows."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        several = output.ndim > 1 and output.shape[1] > 1
        predicted = output.argmax(dim=1).tolist() if several and output.ndim == 2 else None
        wanted = predicted if target is None else target
        scores = select_scores(output, wanted)
        if len(scores) != count:
            raise ValueError(
                f"The model returned an output of shape {tuple(output.shape)} for {count} windows; "
                "each needs a score of its own. Keep the batch axis in forward_func."
            )
        if self.scale == "window":
            factors = torch.ones_like(scores)
        elif self.scale == "score":
            factors = scores.relu()
        elif self.scale == "probability":
            factors = select_scores(output.softmax(dim=1), wanted) if several else scores.sigmoid()
        else:
            factors = self._own_factors(scores)
        return [
            _Words(*words)
            for words in zip(
                predicted or [None] * count,
                wanted if isinstance(wanted, list) else [wanted] * count,
                scores.tolist(),
                factors.tolist(),
                strict=True,
            )
        ]

    def _own_factors(self, scores: Tensor) -> Tensor:
        assert callable(self.scale), "names are known from the start"
        factors = self.scale(scores)
        if not isinstance(factors, Tensor) or factors.shape != scores.shape:
            came = tuple(factors.shape) if isinstance(factors, Tensor) else type(factors).__name__
            raise ValueError(
                f"A scale function takes the scores of a batch of windows, {tuple(scores.shape)}, "
                f"and returns as many factors; this one returned {came}."
            )
        return factors

    @torch.no_grad()
    def _scores(self, x: Tensor, arguments: Any) -> Tensor:
        several = arguments if isinstance(arguments, tuple) else (arguments,)
        with unchanged(all_modules(modules_behind(self.cam.forward_func))):
            output = self.cam.forward_func(x, *(() if arguments is None else several))
        if not isinstance(output, Tensor):
            raise TypeError(
                f"forward_func must return a tensor of scores; it returned {type(output).__name__}."
            )
        return output

    def _refuse_uncut_time(self) -> None:
        if self.window[0] is None:
            raise ValueError(
                f"window={self.window} does not cut the first axis, along which a stream comes. "
                "Give its first entry a size."
            )


class _Scene(NamedTuple):
    """A stretch of the input that windows do not leave, in batches of windows."""

    begin: int
    window: Place
    rest: Place
    """The input's size without time."""
    batches: Iterator[list[Patch]]


class _Words(NamedTuple):
    """What the model said in one window: the last fields of :class:`Window`."""

    predicted: int | None
    target: Any
    score: float
    factor: float


def _listening(cam: LayerwiseCAM, outputs: list[Tensor]) -> LayerwiseCAM:
    """The same attribution, which puts what its model returns into ``outputs``."""
    speak = cam.forward_func

    def forward_func(*args: Any) -> Any:
        output = speak(*args)
        outputs.append(output)
        return output

    listening = copy(cam)
    listening.forward_func = forward_func
    return listening


def _batched(items: Iterator[Patch], size: int) -> Iterator[list[Patch]]:
    while batch := list(islice(items, size)):
        yield batch


def _stacked(batch: list[Patch]) -> Tensor:
    return torch.stack([patch.values for patch in batch])


# ------------------------------------------------------------------------------- at the door


def _checked(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """The chunks themselves, if they can be parts of one input."""
    if isinstance(chunks, Tensor):
        raise TypeError(
            "chunks must be an iterable of tensors (C, t, *S); got one tensor. Put it into a list, "
            "[frames], or call attribute(frames[None])."
        )
    shape = None
    for chunk in chunks:
        came = tuple(chunk.shape) if isinstance(chunk, Tensor) else type(chunk).__name__
        if not isinstance(chunk, Tensor) or chunk.ndim < 2 or not chunk.numel():
            raise ValueError(
                f"A chunk must be a tensor (C, t, *S) with something in it; got {came}."
            )
        others = (chunk.shape[0], *chunk.shape[2:])
        if shape not in (None, others):
            raise ValueError(
                f"Chunks may differ along time alone, their second axis; got {came} after chunks "
                f"of {(shape[0], 't', *shape[1:])}."
            )
        shape = others
        yield chunk
    if shape is None:
        raise ValueError("The stream gave no frames.")


def _checked_boundaries(boundaries: Sequence[int], length: int | None = None) -> Place:
    cuts = tuple(map(to_int, boundaries))
    if list(cuts) != sorted(set(cuts)) or min(cuts, default=1) < 1:
        raise ValueError(
            f"boundaries={list(cuts)} must rise, from 1 on: each is the first frame of a scene, "
            "and the first scene, from frame 0, is not among them."
        )
    if length is not None and max(cuts, default=0) >= length:
        raise ValueError(f"boundaries={list(cuts)} do not lie within the input's {length} frames.")
    return cuts


def _target_of_each(target: Any, count: int) -> list[Any]:
    """The target of each sample."""
    if isinstance(target, str):
        check_choice("target", target, (WHOLE,))
    if hasattr(target, "tolist"):
        target = torch.as_tensor(target)
        target = target.item() if target.numel() == 1 else target.tolist()
    if not isinstance(target, list):
        return [target] * count
    if len(target) != count:
        raise ValueError(
            f"target has {len(target)} entries for {count} samples; give one for each sample, or "
            "a single one for all. Windows get the target of their sample."
        )
    return target


def _counted(name: str, value: Any) -> int:
    check_integer(name, value)
    return int(value)


def _per_axis(name: str, values: Any) -> tuple[int | None, ...]:
    several = values if isinstance(values, Sequence) else (values,)
    return tuple(None if value is None else _counted(name, value) for value in several)


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
    found = []
    for step, size in zip(steps, window, strict=True):
        if size is not None and step is not None and step > size:
            raise ValueError(
                f"stride={stride!r} is longer than window={window}: it would leave gaps."
            )
        found.append(None if size is None else step or max(size // 2, 1))
    return tuple(found)
