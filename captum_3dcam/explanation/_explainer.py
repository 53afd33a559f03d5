"""Explain inputs in one pass, or over windows: predictions, and the maps of all methods."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam._errors import ArgumentError, ModelError, argument_errors
from captum_3dcam._input_range import check_input_range
from captum_3dcam._joint_cam import JointCAM
from captum_3dcam._model_state import preserved_state
from captum_3dcam._restoration import interruptible
from captum_3dcam._targets import select_output
from captum_3dcam._validation import warn
from captum_3dcam.explanation._methods import describe_classless
from captum_3dcam.explanation._scores import Prediction, Scores, check_scores
from captum_3dcam.explanation._target import Target
from captum_3dcam.explanation._windows import Windows
from captum_3dcam.sliding import SlidingWindowCAM, Window

Keep = Callable[[Tensor], object]
"""Receives the next part (M, t, *S) of the maps."""
Advise = Callable[[int, int], str]
"""What to do about an input of so many channels, where the model's first convolution expects so
many others."""


class Stream(NamedTuple):
    """An input that is read in chunks along its first axis."""

    chunks: Callable[[], Iterable[Tensor]]
    """Starts a pass over the input; a chunk is (C, t, *S). The first one is longer than the
    window, unless it is the whole input."""
    boundaries: Sequence[int] = ()
    """The first frames of scenes, which no window crosses."""
    length: int | None = None
    """For the progress bar."""


@dataclass(frozen=True)
class Explainer:
    """A model, the methods, the target, and the windows."""

    model: nn.Module
    cam: JointCAM
    scores: Scores
    target: Target
    windows: Windows
    progress: bool = False
    advise: Advise = lambda expected, received: ""

    def explain(self, inputs: Tensor) -> tuple[list[list[Prediction]], Tensor]:
        """Of inputs (N, C, *S): the k predictions of each, and their M maps (N, k, M, *S)."""
        size = tuple(inputs.shape[2:])
        boundaries = self.windows.known_boundaries
        if not boundaries and self._fits(size):
            return self._explain_in_one_pass(inputs)
        predictions, maps = [], []
        for sample in inputs:
            parts: list[Tensor] = []
            stream = Stream(partial(iter, [sample]), boundaries, size[0])
            predictions.append(self.explain_stream(stream, parts.append))
            # Class after class, each in chunks along the first axis.
            joined = torch.cat(parts, dim=1).unflatten(1, (-1, size[0]))
            maps.append(joined.movedim(1, 0))
        return predictions, torch.stack(maps)

    def explain_stream(self, stream: Stream, keep: Keep) -> list[Prediction]:
        """The predictions for a stream; ``keep`` receives their maps, class after class."""
        first = next(iter(stream.chunks()))[None]
        size = tuple(first.shape[2:])
        if not stream.boundaries and self._fits(size):
            predictions, maps = self._explain_in_one_pass(first)
            for of_class in maps[0]:
                keep(of_class)
            return predictions[0]
        for axis, (length, window) in enumerate(zip(size, self.windows.sizes, strict=False), 2):
            first = first.narrow(axis, 0, min(length, window))
        sliding = self._sliding_cam()
        if self.target.classes:
            return self._explain_known(sliding, first, stream, keep)
        scores = self._run(first)
        self._check(first, scores)
        targets = self._window_targets(scores, stream)
        return [self._explain_windows(sliding, target, stream, keep) for target in targets]

    def _fits(self, size: Sequence[int]) -> bool:
        return all(n <= window for n, window in zip(size, self.windows.sizes, strict=False))

    # ------------------------------------------------------------------------------ one pass

    def _explain_in_one_pass(self, inputs: Tensor) -> tuple[list[list[Prediction]], Tensor]:
        targets: list[Any] = []

        def choose(output: Tensor) -> list[Any]:
            self._check_output(inputs, output)
            targets[:] = self.scores.targets(_float(output), self.target)
            return targets

        with self._errors_explained(inputs):
            maps, output = self.cam.explain(inputs, choose)
        if maps.shape[3:] != inputs.shape[2:]:
            raise ArgumentError(
                f"The model takes an input of shape {tuple(inputs.shape)} as frames first. Pass "
                'clips (N, C, T, H, W), and input_layout="N T C H W".'
            )
        scores = _float(output)
        self._check(inputs, scores)
        return self.scores.predictions(scores, targets), maps.cpu()

    @contextmanager
    def _errors_explained(self, inputs: Tensor) -> Iterator[None]:
        """If an error is the model's, or due to the target, raise one that says so."""
        try:
            yield
        except (ArgumentError, ModelError):
            raise
        except Exception:
            scores = self._run(inputs)
            self._check(inputs, scores)
            self.scores.targets(scores, self.target)
            raise

    def _run(self, inputs: Tensor) -> Tensor:
        """The model's scores, without gradients; ModelError if it fails."""
        try:
            with preserved_state(self.model, tensors=[inputs]), torch.no_grad(), interruptible():
                returned = self.model(inputs)
        except Exception as error:  # the user's code may raise anything
            reason = " ".join(str(error).split()).rstrip(".")
            raise ModelError(
                f"The model failed on an input of shape {tuple(inputs.shape)}: "
                f"{type(error).__name__}: {reason}.{self._advice(inputs, reason)}"
            ) from error
        try:
            output = select_output(returned, self.cam.output)
        except TypeError as error:
            text = str(error).replace("forward_func", "The model")
            raise ModelError(f"{text} Or wrap the model in a module that returns it.") from error
        self._check_output(inputs, output)
        return _float(output)

    def _advice(self, inputs: Tensor, reason: str) -> str:
        expected, received = input_channels(self.model), inputs.shape[1]
        if inputs.ndim == 5 and "channel" in reason and expected in (None, received):
            return ' If it takes frames first, pass input_layout="N T C H W".'
        if expected is None or expected == received:
            is_size = re.search("size|match|shape|dimension", reason)
            return " Pass a preprocessing of the size that the model takes." if is_size else ""
        return (
            f" Its first convolution takes {expected} channels; the input has {received}."
            f"{self.advise(expected, received)}"
        )

    def _check_output(self, inputs: Tensor, output: Tensor) -> None:
        if output.ndim < 1 or len(output) != len(inputs):
            raise ModelError(
                "The model must return scores, one row per sample; for an input of shape "
                f"{tuple(inputs.shape)} it returned {tuple(output.shape)}. Wrap it in a module "
                "that does, or choose them with output=."
            )

    def _check(self, inputs: Tensor, scores: Tensor) -> None:
        """Warn if the inputs or the scores are absurd, and of maps that are of no class."""
        message = check_input_range(self.model, inputs)
        message = message or check_scores(scores, self.scores.returns)
        for each in (message, self.scores.check_names(scores), describe_classless(self.cam.cams)):
            if each is not None:
                warn(each)

    # ------------------------------------------------------------------------------- windows

    def _sliding_cam(self) -> SlidingWindowCAM:
        with argument_errors():
            return SlidingWindowCAM(
                self.cam,
                self.windows.sizes,
                self.windows.stride,
                batch_size=self.windows.batch_size,
                scale=self.scores.scale,
            )

    def _explain_known(
        self, sliding: SlidingWindowCAM, first: Tensor, stream: Stream, keep: Keep
    ) -> list[Prediction]:
        """For classes that are known no window is run before; the checks are of the first batch."""
        outputs: list[Tensor] = []

        def note(module: nn.Module, args: Any, returned: Any) -> None:
            if not outputs:
                outputs.append(_float(select_output(returned, self.cam.output).detach()))

        with self._errors_explained(first), self.model.register_forward_hook(note):
            predictions = [
                self._explain_windows(sliding, target, stream, keep)
                for target in self.target.classes
            ]
        self._check(first, outputs[0])
        return predictions

    def _window_targets(self, scores: Tensor, stream: Stream) -> list[Any]:
        """The targets for all windows, given the scores (1, ...) of the first one."""
        if self.target.each:
            return [None]
        if scores.numel() > 1:
            scores = self._mean_probabilities(stream)
        targets = self.scores.targets(scores, self.target)
        return [target[0] if isinstance(target, list) else target for target in targets]

    def _explain_windows(
        self, sliding: SlidingWindowCAM, target: Any, stream: Stream, keep: Keep
    ) -> Prediction:
        windows: list[Window] = []
        peak = 0.0
        with self._bar("explaining", stream) as bar:
            for piece in sliding.stream(stream.chunks(), target, boundaries=stream.boundaries):
                windows += piece.windows
                peak = max(peak, float(piece.attribution[0, 0].max()))
                keep(piece.attribution[0].cpu())
                bar.update(piece.attribution.shape[2])
        each = "highest class of each window"
        name = each if self.target.each else self.scores.class_name(target)
        if not peak:
            warn(f"The map of {name!r} is zero in all {len(windows)} windows.")
        return Prediction(
            target,
            name,
            fmean(window.score for window in windows),
            self.scores.mean_probability(target, windows),
            tuple(windows),
        )

    def _mean_probabilities(self, stream: Stream) -> Tensor:
        """The mean probabilities over all windows, (1, classes), by a pass without gradients."""
        probabilities: list[Tensor] = []

        def keep(module: nn.Module, args: Any, returned: Any) -> None:
            output = select_output(returned, self.cam.output)
            probabilities.append(self.scores.normalize(output.double()))

        def chunks() -> Iterator[Tensor]:
            with self._bar("choosing classes", stream) as bar:
                for chunk in stream.chunks():
                    yield chunk
                    bar.update(chunk.shape[1])

        with self.model.register_forward_hook(keep), argument_errors("target: "):
            self._sliding_cam().whole_target(chunks(), boundaries=stream.boundaries)
        return torch.cat(probabilities).mean(dim=0, keepdim=True)

    def _bar(self, description: str, stream: Stream) -> Any:
        disable = not self.progress
        return tqdm(desc=description, total=stream.length, unit="frame", disable=disable)


def input_channels(model: nn.Module) -> int | None:
    """The channels that the model's first convolution takes; None without one."""
    convolutions = (nn.Conv2d, nn.Conv3d)
    first = next((m for m in model.modules() if isinstance(m, convolutions)), None)
    return first.in_channels if first is not None else None


def _float(output: Tensor) -> Tensor:
    return output.to(torch.promote_types(output.dtype, torch.float32))
