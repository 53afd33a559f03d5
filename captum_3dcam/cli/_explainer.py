"""Choose the classes of an input, and compute their maps in one pass or over windows."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.cli._errors import usage_errors
from captum_3dcam.cli._model import choose_layers, make_cam
from captum_3dcam.cli._output import shows_progress
from captum_3dcam.cli._parser import Target
from captum_3dcam.cli._prediction import Classifier, Prediction, read_class_names, resolve_name
from captum_3dcam.sliding import SlidingWindowCAM, Window

Keep = Callable[[Tensor], object]
"""Receives the next part (t, *S) of the maps."""


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
    """An attribution, the target to explain, and the windows."""

    classifier: Classifier
    cam: LayerwiseCAM
    target: Target
    window: tuple[int, ...] | None
    stride: tuple[int, ...] | int | None
    """One number holds for all axes of the window."""
    batch_size: int
    progress: bool

    def explain(self, inputs: Tensor) -> tuple[list[Prediction], Tensor]:
        """The predictions for inputs (1, C, *S), and their maps (classes, *S)."""
        parts: list[Tensor] = []
        size = inputs.shape[2:]
        stream = Stream(lambda: [inputs[0]], length=size[0])
        predictions = self.explain_stream(stream, parts.append)
        return predictions, torch.cat(parts).reshape(len(predictions), *size)

    def explain_stream(self, stream: Stream, keep: Keep) -> list[Prediction]:
        """The predictions for a stream; ``keep`` receives their maps, class after class."""
        first = next(iter(stream.chunks()))[None]
        sizes = list(zip(first.shape[2:], self.window or (), strict=False))
        if not stream.boundaries and all(size <= window for size, window in sizes):
            return self._explain_in_one_pass(first, keep)
        for axis, (size, window) in enumerate(sizes, start=2):
            first = first.narrow(axis, 0, min(size, window))
        sliding = self._sliding_cam()
        targets = self._window_targets(sliding, self.classifier.checked_scores(first), stream)
        return [self._explain_windows(sliding, target, stream, keep) for target in targets]

    def _explain_in_one_pass(self, inputs: Tensor, keep: Keep) -> list[Prediction]:
        scores = self.classifier.checked_scores(inputs)
        targets = self.classifier.targets(scores, self.target)
        if len(targets) > 1:
            maps = self.cam.attribute_top_k(inputs, k=len(targets))[0][0]
        else:
            maps = self.cam.attribute(inputs, target=targets[0])[0]
        for heat_map in maps:
            keep(heat_map.cpu())
        return [self.classifier.prediction(scores, target) for target in targets]

    # ------------------------------------------------------------------------------- windows

    def _sliding_cam(self) -> SlidingWindowCAM:
        assert self.window is not None, "without windows there is one pass"
        scale = "probability" if self.classifier.returns_logits else "score"
        options: dict[str, Any] = {"batch_size": self.batch_size, "scale": scale}
        with usage_errors():
            return SlidingWindowCAM(self.cam, self.window, self.stride, **options)

    def _window_targets(
        self, sliding: SlidingWindowCAM, scores: Tensor, stream: Stream
    ) -> list[Any]:
        """The targets for all windows, given the scores of the first one."""
        if self.target.each:
            return [None]
        if self.target.index is None and scores.numel() > 1:
            scores = self._mean_probabilities(sliding, stream)
        return self.classifier.targets(scores, self.target)

    def _explain_windows(
        self, sliding: SlidingWindowCAM, target: Any, stream: Stream, keep: Keep
    ) -> Prediction:
        windows: list[Window] = []
        with self._bar("explaining", stream) as bar:
            for piece in sliding.stream(stream.chunks(), target, boundaries=stream.boundaries):
                windows += piece.windows
                keep(piece.attribution[0, 0].cpu())
                bar.update(piece.attribution.shape[2])
        each = "highest class of each window"
        return Prediction(
            target,
            each if self.target.each else self.classifier.class_name(target),
            fmean(window.score for window in windows),
            fmean(window.factor for window in windows),
            windows,
        )

    def _mean_probabilities(self, sliding: SlidingWindowCAM, stream: Stream) -> Tensor:
        """The mean probabilities over all windows, (1, classes), by a pass without gradients."""
        probabilities: list[Tensor] = []

        def keep(module: nn.Module, args: Any, output: Tensor) -> None:
            probabilities.append(self.classifier.probabilities(output.double()))

        def chunks() -> Iterator[Tensor]:
            with self._bar("choosing classes", stream) as bar:
                for chunk in stream.chunks():
                    yield chunk
                    bar.update(chunk.shape[1])

        with self.classifier.model.register_forward_hook(keep), usage_errors("--target: "):
            sliding.whole_target(chunks(), boundaries=stream.boundaries)
        return torch.cat(probabilities).mean(dim=0, keepdim=True)

    def _bar(self, description: str, stream: Stream) -> Any:
        disable = not self.progress
        return tqdm(desc=description, total=stream.length, unit="frame", disable=disable)


def make_explainer(
    options: Namespace, model: nn.Module, default_window: tuple[int, ...] | None
) -> Explainer:
    """The explainer of ``captum-3dcam explain``."""
    class_names = read_class_names(options.classes)
    stride = options.stride and tuple(options.stride)
    return Explainer(
        Classifier(model, class_names, options.returns == "logits"),
        make_cam(model, choose_layers(model, options.layers), options.method, options.fusion),
        resolve_name(options.target, class_names),
        tuple(options.window) if options.window else default_window,
        stride[0] if stride and len(stride) == 1 else stride,
        options.batch_size,
        shows_progress(options),
    )
