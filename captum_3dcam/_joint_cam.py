"""Several methods over the same layers of a model, from one forward pass."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from captum_3dcam._capture.recording import Recording
from captum_3dcam._capture.reduction import LayerFactors, Parts, Reduction
from captum_3dcam._diagnosis import flat_layers, sample_peaks
from captum_3dcam._layerwise_cam import Geometry, LayerwiseCAM, Options, Request
from captum_3dcam._passes import Factors, Pass


class JointCAM(LayerwiseCAM):
    """The maps of several attributions of one model as the channels of one: (N, M, *S).

    The channels are the fused map of each attribution and, if ``per_layer``, each layer's map of
    the first one. The attributions have the same model, layers and options.

    >>> from torch import nn
    >>> from captum_3dcam import CounterfactualCAM, LayerwiseGradCAM
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    >>> cams = [method(model, ["0", "1"]) for method in (LayerwiseGradCAM, CounterfactualCAM)]
    >>> joint = JointCAM(cams, per_layer=True)
    >>> maps, output = joint.explain(torch.rand(2, 3, 8, 8), lambda output: [0, 3])
    >>> maps.shape, output.shape
    (torch.Size([2, 2, 4, 8, 8]), torch.Size([2, 5]))
    """

    def __init__(self, cams: Sequence[LayerwiseCAM], per_layer: bool = False) -> None:
        _check_scores(cams)
        first = cams[0]
        super().__init__(
            first.forward_func,
            list(first.layers) or "auto",
            interpolate_mode=first.interpolate_mode,
            align_corners=first.align_corners,
            output=first.output,
            input_layout=None if first.input_layout is None else first.input_layout.text,
        )
        self.cams, self.per_layer = tuple(cams), per_layer
        self._repeats = any(cam._repeats for cam in cams)
        self.flat_layers: set[str] | None = None
        """Those of which a factor of the first map was flat in all calls; None before the first."""
        self._ends = list(accumulate((_count_factors(cam.reduction) for cam in cams), initial=0))

    @property
    def reduction(self) -> Reduction:
        """That of a single method; for several, whole tensors are held, once for all."""
        of_methods = [cam.reduction for cam in self.cams]
        if len(of_methods) == 1:
            return of_methods[0]

        def join(activation: Parts, gradient: Parts) -> LayerFactors:
            each = [
                method.join(method.of_activation(*activation), _own_parts(method, gradient))
                for method in of_methods
            ]
            cancellations = {k: v for of_one in each for k, v in of_one.cancellations.items()}
            return LayerFactors(tuple(f for of_one in each for f in of_one.factors), cancellations)

        return Reduction(
            lambda a: (a.clone(),),
            lambda g: (g,),
            join,
            uses_gradient=any(method.uses_gradient for method in of_methods),
            second_order=any(method.second_order for method in of_methods),
            over_all_uses=any(method.over_all_uses for method in of_methods),
        )

    def explain(
        self, inputs: Tensor, choose: Callable[[Tensor], Sequence[Any]]
    ) -> tuple[Tensor, Tensor]:
        """Maps (N, k, M, *S) of the k targets that ``choose`` returns for the output; the output.

        One forward pass, and a backward pass for each target.
        """
        maps, output = self._explain(
            inputs, Options(), lambda recording: choose(recording.output), self._fused
        )
        return torch.stack(maps, dim=1), output

    @property
    def _targets_together(self) -> int:
        """One, because a layer is flat if it is so for each target."""
        return 1

    def choose_layers(self, inputs: Tensor) -> None:
        """Choose the layers that "auto" stands for, by a trial run."""
        self._choose_layers(inputs, None)

    def _choose_layers(self, inputs: Any, additional_forward_args: Any) -> None:
        super()._choose_layers(inputs, additional_forward_args)
        for cam in self.cams:
            cam.layers = self.layers

    def _fused(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        of_methods = list(self._split(factors))
        if self.flat_layers != set():  # else no later call can make a layer flat
            flat = set(flat_layers(recording, of_methods[0]))
            self.flat_layers = flat if self.flat_layers is None else self.flat_layers & flat
        maps = [
            fused
            for cam, own in zip(self.cams, of_methods, strict=True)
            for fused in cam._fused(own, recording, geometry)
        ]
        if self.per_layer:
            maps += self.cams[0]._layer_maps(of_methods[0], recording, geometry)
        yield torch.cat(maps, dim=1)

    def _score(self, target: Any) -> Any:
        """That of a single method; several share the score of the target itself."""
        return self.cams[0]._score(target) if len(self.cams) == 1 else target

    def _window_factors(self, probabilities: Tensor) -> Tensor:
        of_methods = [cam._window_factors(probabilities) for cam in self.cams]
        of_layers = of_methods[:1] * len(self.layers) if self.per_layer else []
        return torch.cat([*of_methods, *of_layers], dim=1)

    def _refined(self, factors: Factors, request: Request, position: int) -> Factors:
        of_methods = [
            cam._refined(own, request, position)
            for cam, own in zip(self.cams, self._split(factors), strict=True)
        ]
        return [
            [
                LayerFactors(tuple(f for each in same for f in each.factors), same[0].cancellations)
                for same in zip(*of_layer, strict=True)
            ]
            for of_layer in zip(*of_methods, strict=True)
        ]

    def _split(self, factors: Factors) -> Iterator[Factors]:
        """The factors of each method."""
        for start, stop in pairwise(self._ends):
            yield [
                [LayerFactors(call.factors[start:stop], call.cancellations) for call in calls]
                for calls in factors
            ]

    def _empty_maps(
        self,
        recording: Recording,
        result: Pass,
        drawn: Sequence[Tensor],
        peaks: Sequence[float],
    ) -> Iterator[str]:
        of_methods = self._split(result.factors)
        for number, (cam, own) in enumerate(zip(self.cams, of_methods, strict=True)):
            own_peaks = sample_peaks([maps[:, number : number + 1] for maps in drawn])
            prefix = f"{type(cam).__name__}: " if number else ""
            own_result = result._replace(factors=own)
            for reason in cam._empty_maps(recording, own_result, drawn, own_peaks):
                yield f"{prefix}{reason}"


def _check_scores(cams: Sequence[LayerwiseCAM]) -> None:
    """ValueError for several methods of which one explains another score than the target's."""
    own = [type(cam).__name__ for cam in cams if type(cam)._score is not LayerwiseCAM._score]
    if own and len(cams) > 1:
        raise ValueError(
            f"{own[0]} explains another score than the target's, and shares no backward pass with "
            "other methods. Explain with it alone."
        )


def _count_factors(reduction: Reduction) -> int:
    zeros = torch.zeros(1, 1, 1)
    gradient = (zeros, *([zeros] if reduction.second_order else []))
    parts = _own_parts(reduction, gradient)
    return len(reduction.join(reduction.of_activation(zeros), parts).factors)


def _own_parts(method: Reduction, gradient: Parts) -> Parts:
    """What a method's rule takes of the gradient, and of what follows it."""
    if not method.uses_gradient:
        return ()
    return (*method.of_gradient(gradient[0]), *(gradient[1:] if method.second_order else ()))
