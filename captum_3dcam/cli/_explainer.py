"""The class to explain, and its map: in one pass, or window by window."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_3dcam._capture import select_scores, top_classes
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.cli._errors import FailedError, WrongUseError, in_a_line
from captum_3dcam.cli._model import load_model, make_cam, named_layers
from captum_3dcam.cli._parser import Target
from captum_3dcam.sliding import SlidingWindowCAM, Window

Chunks = Callable[[], Iterable[Tensor]]


class Said(NamedTuple):
    """One class, and what the model says of it."""

    target: Any
    """An index; None for each window's own class, or a model of a single score."""
    name: str
    score: float
    """As the model returns it; over windows, the mean."""
    probability: float
    windows: list[Window]
    """Empty where there was one pass."""

    def report(self) -> dict[str, Any]:
        found = {
            "class": self.target,
            "name": self.name,
            "score": self.score,
            "probability": self.probability,
        }
        if self.windows:
            found["windows"] = [
                {
                    "start": list(window.start),
                    "stop": list(window.stop),
                    "class": window.target,
                    "score": window.score,
                    "probability": window.factor,
                }
                for window in self.windows
            ]
        return found


@dataclass(frozen=True)
class Explainer:
    """A model, an attribution of it, and which class to explain."""

    module: nn.Module
    cam: LayerwiseCAM
    target: Target
    names: list[str]
    """Of the classes; empty where they are not known."""
    logits: bool
    """Whether the model returns logits; otherwise probabilities."""
    device: torch.device
    window: tuple[int, ...] | None
    stride: tuple[int, ...] | int | None
    """One number is for all axes of the window."""
    batch_size: int

    @classmethod
    def of(cls, options: Namespace) -> "Explainer":
        names = _read_names(options.classes)
        target = _named(options.target, names)
        module = load_model(options)
        layers = named_layers(module, options.layers)
        return cls(
            module,
            make_cam(module, layers, options.method, options.fusion),
            target,
            names,
            options.returns == "logits",
            torch.device(options.device),
            options.window and tuple(options.window),
            _one_or_several(options.stride),
            options.batch_size,
        )

    # --------------------------------------------------------------------------- one pass

    def once(self, x: Tensor) -> list[tuple[Said, Tensor]]:
        """The classes of an input (1, C, *S), each with its map (*S)."""
        output = self.scores(x)
        targets = self._targets(output)
        if len(targets) > 1:
            maps = self.cam.attribute_top_k(x, k=len(targets))[0][0]
        else:
            maps = self.cam.attribute(x, target=targets[0])[0]
        return [
            (self._said(output, target), heat.cpu())
            for target, heat in zip(targets, maps, strict=True)
        ]

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """What the model returns."""
        try:
            output = self.module(x)
        except Exception as error:  # the user's code may raise anything
            raise FailedError(
                f"The model failed on an input of shape {tuple(x.shape)}: {in_a_line(error)}"
            ) from error
        if not isinstance(output, Tensor) or output.ndim < 1 or len(output) != len(x):
            came = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise WrongUseError(
                f"The model must return a tensor of scores, one row a sample; for an input of "
                f"shape {tuple(x.shape)} it returned {came}. Wrap it in a module that does."
            )
        return output.to(torch.promote_types(output.dtype, torch.float32))

    def _targets(self, output: Tensor) -> list[Any]:
        """What is to be explained of scores (1, ...)."""
        wanted = self.target
        try:
            if wanted.index is not None:
                select_scores(output, wanted.index)
                return [wanted.index]
            if output.numel() == 1 and wanted.top == 1:
                return [None]
            return list(top_classes(output, wanted.top)[0].tolist())
        except (ValueError, IndexError, TypeError) as error:
            raise WrongUseError(f"--target: {error}") from error

    def _said(self, output: Tensor, target: Any) -> Said:
        score = select_scores(output, target).item()
        probability = select_scores(self._likely(output), target).item()
        return Said(target, self._name(target), score, probability, [])

    def _likely(self, output: Tensor) -> Tensor:
        """Probabilities of scores (N, ...)."""
        if not self.logits:
            return output
        several = output.ndim > 1 and output.shape[1] > 1
        return output.softmax(dim=1) if several else output.sigmoid()

    def _name(self, target: Any) -> str:
        if target is None:
            return "score"
        if isinstance(target, int) and target < len(self.names):
            return self.names[target]
        return f"class {target}"

    # ---------------------------------------------------------------------------- windows

    def fits(self, size: Sequence[int]) -> bool:
        """Whether a spatial size needs no windows."""
        return self.window is None or all(
            length <= window for length, window in zip(size, self.window, strict=False)
        )

    def slide(
        self,
        first: Tensor,
        chunks: Chunks,
        boundaries: Sequence[int],
        keep: Callable[[Tensor], None],
        advance: Callable[[int], object],
    ) -> list[Said]:
        """The classes of an input in chunks (C, t, *S); their maps (t, *S) go to ``keep``.

        ``first``, (1, C, *S), is enough of it to see what the model returns.
        """
        assert self.window is not None, "fits() has said no"
        scale = "probability" if self.logits else "score"
        try:
            sliding = SlidingWindowCAM(
                self.cam, self.window, self.stride, batch_size=self.batch_size, scale=scale
            )
        except ValueError as error:
            raise WrongUseError(str(error)) from error
        output = self.scores(first)
        if self.target.each:
            targets = [None]
        elif self.target.index is not None or output.numel() == 1:
            targets = self._targets(output)
        else:
            targets = self._targets(self._mean_output(sliding, chunks, boundaries, advance))
        return [
            self._explained(sliding, chunks, target, boundaries, keep, advance)
            for target in targets
        ]

    def passes(self) -> int:
        """About how often :meth:`slide` goes through the input."""
        chosen = self.target.each or self.target.index is not None
        return self.target.top + (0 if chosen else 1)

    def _explained(
        self,
        sliding: SlidingWindowCAM,
        chunks: Chunks,
        target: Any,
        boundaries: Sequence[int],
        keep: Callable[[Tensor], None],
        advance: Callable[[int], object],
    ) -> Said:
        windows: list[Window] = []
        for piece in sliding.stream(chunks(), target, boundaries=boundaries):
            windows += piece.windows
            keep(piece.attribution[0, 0].cpu())
            advance(piece.attribution.shape[2])
        name = "each window's own class" if self.target.each else self._name(target)
        score = sum(window.score for window in windows) / len(windows)
        probability = sum(window.factor for window in windows) / len(windows)
        return Said(target, name, score, probability, windows)

    def _mean_output(
        self,
        sliding: SlidingWindowCAM,
        chunks: Chunks,
        boundaries: Sequence[int],
        advance: Callable[[int], object],
    ) -> Tensor:
        """The mean of all windows' probabilities, (1, classes), by a pass without gradients."""
        sums: list[Tensor] = []
        count = 0

        def add(module: nn.Module, args: Any, output: Tensor) -> None:
            nonlocal count
            count += len(output)
            sums[:] = [self._likely(output.double()).sum(dim=0) + sum(sums)]

        def counted() -> Iterator[Tensor]:
            for chunk in chunks():
                yield chunk
                advance(chunk.shape[1])

        handle = self.module.register_forward_hook(add)
        try:
            sliding.whole_target(counted(), boundaries=boundaries)
        except ValueError as error:
            raise WrongUseError(f"--target: {error}") from error
        finally:
            handle.remove()
        return sums[0][None] / count


# ------------------------------------------------------------------------------------ options


def _one_or_several(numbers: list[int] | None) -> tuple[int, ...] | int | None:
    if numbers is None:
        return None
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _read_names(path: Path | None) -> list[str]:
    if path is None:
        return []
    if not path.is_file():
        raise WrongUseError(f"--classes: there is no file {str(path)!r}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FailedError(f"--classes: {str(path)!r} is no text in UTF-8: {error}") from error
    return [line.strip() for line in text.rstrip().splitlines()]


def _named(target: Target, names: list[str]) -> Target:
    """With the index of a name."""
    if target.name is None:
        return target
    if target.name in names:
        return replace(target, index=names.index(target.name), name=None)
    known = f"a name in --classes ({', '.join(names[:5])}, ...)" if names else "a name (--classes)"
    raise WrongUseError(
        f"--target {target.name}: expected a number, top3 or another count, each, an index as "
        f"1,4,8, or {known}."
    )
